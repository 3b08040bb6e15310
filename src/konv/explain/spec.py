"""Layers written as text: ``"Conv2d(3, 64, 5, stride=2)"`` is read by Python's parser and never evaluated.

Only calls of known layers, numbers, words, tuples and lists are let through, within limits of length, depth and
count, so text from a stranger can do nothing but name a layer. Weights are made on the meta device: a layer of any
size costs no memory.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .. import dtypes
from ..errors import ArgumentError, ArgumentTypeError, text
from ..geometry import INT64_MAX

if TYPE_CHECKING:
    from ..nn.module import Module

MAX_LENGTH: Final = 20_000
MAX_DEPTH: Final = 16
MAX_NODES: Final = 5_000
PREFIXES: Final = ("nn", "konv.nn", "torch.nn")
CONTAINERS: Final = ("Sequential",)
LAYERS: Final = (
    *("Conv2d", "ConvTranspose2d", "Linear", "Flatten", "Identity", "Dropout", "Dropout2d", "Upsample"),
    *("BatchNorm2d", "GroupNorm", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d"),
    *("ReLU", "ReLU6", "LeakyReLU", "PReLU", "SiLU", "GELU", "Sigmoid", "Tanh", "Hardswish", "Hardsigmoid", "Softmax"),
    *("ZeroPad2d", "ReflectionPad2d", "ReplicationPad2d", "CircularPad2d"),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that was read: the layer's name and its arguments, which are plain values or further calls."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def parse(spec: str) -> Call:
    """Read one layer, or a ``Sequential`` of layers, from text.

    Raises:
        ArgumentError: the text is too long, too deep, is no call, or holds anything but layers and plain values.

    Example:
        >>> from konv.explain.spec import parse
        >>> parse("nn.Conv2d(3, 64, kernel_size=(5, 3), padding='same')")
        Call(name='Conv2d', args=(3, 64), kwargs={'kernel_size': (5, 3), 'padding': 'same'})
    """
    if not isinstance(spec, str):
        raise ArgumentTypeError(text("spec", f"{spec!r} is a {type(spec).__name__}", "a spec is text"))
    if len(spec) > MAX_LENGTH:
        raise _bad(f"{len(spec)} characters", f"a spec has at most {MAX_LENGTH}")
    if _brackets(spec) > MAX_DEPTH:
        raise _bad("brackets nest too deep", f"a spec nests at most {MAX_DEPTH} levels")
    try:
        tree = ast.parse(spec.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "too deep or not text"
        raise _bad(f"{_short(spec)} can't be read ({reason})", _RULE) from None
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise _bad("too many parts", f"a spec has at most {MAX_NODES}")
    if not isinstance(tree.body, ast.Call):
        raise _bad(f"{_short(spec)} is no layer", _RULE)
    return _call(tree.body)


def build(spec: str | Call) -> Module:
    """The module that a spec describes, its weights on the meta device.

    Raises:
        ArgumentError: the spec can't be read, or a layer refuses its arguments.
    """
    from .. import nn

    call = parse(spec) if isinstance(spec, str) else spec
    if call.name in CONTAINERS:
        if call.kwargs or not all(isinstance(part, Call) for part in call.args):
            raise _bad(f"{call.name} with something else than layers", "Sequential takes layers alone")
        return nn.Sequential(*(build(part) for part in call.args))
    if any(isinstance(value, Call) for value in (*call.args, *call.kwargs.values())):
        raise _bad(f"a layer inside of {call.name}", "only Sequential takes layers")
    kind = getattr(nn, call.name)
    known = inspect.signature(kind).parameters
    given = {key: value for key, value in call.kwargs.items() if key != "device"}
    if "device" in known:
        given["device"] = "meta"
    try:
        inspect.signature(kind).bind(*call.args, **given)
    except TypeError as error:
        raise _bad(f"{call.name}: {error}", f"its arguments are ({', '.join(known)})") from None
    module: Module = kind(*call.args, **given)
    return module


def parse_shape(shape: str) -> tuple[int, ...]:
    """Sizes from text: ``"8,3,28,28"`` or ``"8x3x28x28"``.

    Example:
        >>> from konv.explain.spec import parse_shape
        >>> parse_shape("8,3,28,28"), parse_shape("28x28"), parse_shape("28")
        ((8, 3, 28, 28), (28, 28), (28,))
    """
    parts = shape.strip().strip("()[]").lower().replace("x", ",").split(",")
    numbers = [part.strip() for part in parts if part.strip()]
    if not numbers or not all(part.isdecimal() and len(part) < 20 for part in numbers) or len(numbers) > 8:
        raise ArgumentError(text("input", _short(shape), "a shape is written as whole numbers such as 8,3,28,28"))
    return tuple(int(part) for part in numbers)


def parse_dtype(name: str) -> dtypes.dtype:
    """A dtype by its name, ``"float32"`` or ``"torch.float32"``.

    Raises:
        ArgumentError: there is none of that name.
    """
    found = getattr(dtypes, name.removeprefix("torch.").removeprefix("konv."), None)
    if not isinstance(found, dtypes.dtype):
        raise ArgumentError(text("dtype", _short(name), "write a name such as float32, float64, float16 or bfloat16"))
    return found


_RULE: Final = 'write a layer as in Python, such as "Conv2d(3, 64, 5, stride=2, padding=2)"'


def _bad(got: str, rule: str) -> ArgumentError:
    return ArgumentError(text("spec", got, rule))


def _short(spec: str) -> str:
    return repr(spec if len(spec) <= 60 else spec[:57] + "...")


def _brackets(spec: str) -> int:
    """The deepest nesting, counted before Python's own parser sees the text."""
    depth = deepest = 0
    for letter in spec:
        depth += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _call(node: ast.Call) -> Call:
    name = _name(node.func)
    if name not in LAYERS and name not in CONTAINERS:
        close = _closest(name)
        raise _bad(f"{_short(name)} is no layer that a spec can name", f"did you mean {close}?" if close else _RULE)
    kwargs: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise _bad(f"{name}: '**' has no place in a spec", _RULE)
        kwargs[keyword.arg] = _value(keyword.value)
    return Call(name, tuple(_value(arg) for arg in node.args), kwargs)


def _name(node: ast.expr) -> str:
    """``Conv2d`` of ``Conv2d``, ``nn.Conv2d`` or ``torch.nn.Conv2d``; other paths come back whole and are refused."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise _bad("a call of something that is no name", _RULE)
    parts.append(node.id)
    path = ".".join(reversed(parts))
    prefix, _, last = path.rpartition(".")
    return last if prefix in PREFIXES else path


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        number = _value(node.operand)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return -number
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (bool, int, float, str))):
        if isinstance(node.value, int) and node.value > INT64_MAX:
            raise _bad("a number past 64 bits", "sizes must fit in 64 bits")
        return node.value
    seen = {ast.Name: "a name", ast.BinOp: "arithmetic", ast.Attribute: "a path", ast.Dict: "a dict"}
    what = repr(node.id) if isinstance(node, ast.Name) else seen.get(type(node), f"a {type(node).__name__}")
    raise _bad(f"{what} has no place in a spec", "arguments are numbers, words, tuples and layers")


def _closest(name: str) -> str | None:
    import difflib

    found = difflib.get_close_matches(name, (*LAYERS, *CONTAINERS), n=1, cutoff=0.6)
    return found[0] if found else None
