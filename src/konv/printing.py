"""How a tensor looks as text: PyTorch's layout, so that printed examples read the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import dtypes
from .errors import ArgumentTypeError
from .tensor import Tensor, register


@dataclass
class _Options:
    """What ``set_printoptions`` sets."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_options = _Options()
_INDENT = len("tensor(")


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors print: digits after the point, how many elements before they are shortened, and so on.

    Example:
        >>> import konv
        >>> konv.set_printoptions(precision=2); konv.tensor([0.5])
        tensor([0.50])
        >>> konv.set_printoptions(profile="default")
    """
    profiles = {
        "default": (4, 1000, 3, 80),
        "short": (2, 1000, 2, 80),
        "full": (4, math.inf, 3, 80),
    }
    if profile is not None:
        if profile not in profiles:
            raise ArgumentTypeError(f"set_printoptions: profile={profile!r}; it can be {', '.join(profiles)}")
        _options.precision, _options.threshold, _options.edgeitems, _options.linewidth = profiles[profile]
        _options.sci_mode = None
    for name, value in (
        ("precision", precision),
        ("threshold", threshold),
        ("edgeitems", edgeitems),
        ("linewidth", linewidth),
    ):
        if value is not None:
            setattr(_options, name, value)
    if sci_mode is not None:
        _options.sci_mode = sci_mode


class _Formatter:
    """One width and one notation for all shown elements of a real tensor."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.floating = values.dtype.kind == "f"
        self.scientific = False
        self.whole = True
        self.width = 1
        flat = values.reshape(-1)
        if not self.floating:
            self.width = max([len(str(v)) for v in flat.tolist()], default=1)
            return
        finite = flat[np.isfinite(flat) & (flat != 0)].astype(np.float64)  # the others do not decide the width
        if not finite.size:
            return
        size = np.abs(finite)
        self.whole = bool((finite == np.ceil(finite)).all())
        largest, smallest = float(size.max()), float(size.min())
        spread = largest / smallest > 1000 or largest > 1e8
        self.scientific = spread if self.whole else spread or smallest < 1e-4
        if _options.sci_mode is not None:
            self.scientific = _options.sci_mode
        self.width = max([len(self._text(v)) for v in finite.tolist()])

    def _text(self, value: Any) -> str:
        if not self.floating:
            return str(value)
        if self.scientific:
            return f"{value:.{_options.precision}e}"
        if self.whole:
            return f"{value:.0f}." if math.isfinite(value) else f"{value:.0f}"
        return f"{value:.{_options.precision}f}"

    def __call__(self, value: Any) -> str:
        return self._text(value).rjust(self.width)


class _ComplexFormatter:
    """Both parts of complex numbers, each with its own width."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.real, self.imag = _Formatter(values.real), _Formatter(values.imag)
        self.width = self.real.width + self.imag.width + 1

    def __call__(self, value: Any) -> str:
        imag = self.imag(value.imag).lstrip()
        sign = "" if imag.startswith("-") else "+"
        return f"{self.real(value.real)}{sign}{imag}j"


def _summary(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The elements that a shortened print shows."""
    edge = _options.edgeitems
    for axis in range(array.ndim):
        if array.shape[axis] > 2 * edge:
            ends = [array[(slice(None),) * axis + (part,)] for part in (slice(None, edge), slice(-edge, None))]
            array = np.concatenate(ends, axis)
    return array


def _lines(array: np.ndarray[Any, Any], indent: int, short: bool, show: Any) -> str:
    """Nested brackets, one row a line, wrapped at the line width."""
    edge = _options.edgeitems
    cut = short and array.shape[0] > 2 * edge
    if array.ndim == 1:
        shown = [*array[:edge], *array[-edge:]] if cut else array
        parts = [show(v) for v in (np.asarray(shown).tolist() if len(shown) else [])]
        if cut:
            parts.insert(edge, " ...")
        per_line = max(1, (_options.linewidth - indent) // (show.width + 2))
        rows = [", ".join(parts[i : i + per_line]) for i in range(0, len(parts), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(rows) + "]"
    if cut:
        indices = [*range(edge), None, *range(len(array) - edge, len(array))]
    else:
        indices = list(range(len(array)))
    parts = ["..." if i is None else _lines(array[i], indent + 1, short, show) for i in indices]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _values(tensor: Tensor, indent: int) -> str:
    array = tensor._array
    if tensor._dtype.is_half:
        array = array.astype(np.float32)
    short = array.size > _options.threshold
    shown = _summary(array) if short else array
    show = _ComplexFormatter(shown) if array.dtype.kind == "c" else _Formatter(shown)
    if not array.ndim:
        return show(array.item())
    return _lines(array, indent, short, show)


def tensor_text(tensor: Tensor, prefix: str = "tensor(") -> str:
    """The ``repr`` of a tensor."""
    dtype, indent = tensor._dtype, len(prefix)
    facts: list[str] = []
    natural = (dtypes.get_default_dtype(), dtypes.get_default_dtype().to_complex(), dtypes.int64, dtypes.bool)
    if tensor._meta:
        body = "..."
        facts.append("device='meta'")
        facts.append(f"size={tuple(tensor._array.shape)}")
        if dtype is not dtypes.get_default_dtype():
            facts.append(f"dtype={dtype}")
    elif not tensor._array.size:
        body = "[]"
        if tensor._array.ndim != 1:
            facts.append(f"size={tuple(tensor._array.shape)}")
        if dtype is not dtypes.get_default_dtype():
            facts.append(f"dtype={dtype}")
    else:
        body = _values(tensor, indent)
        if dtype not in natural:
            facts.append(f"dtype={dtype}")
    node = tensor.grad_fn
    if node is not None:
        facts.append(f"grad_fn=<{node.node_name}>")
    elif tensor._requires_grad:
        facts.append("requires_grad=True")
    return _joined(prefix, body, facts)


def _joined(prefix: str, body: str, facts: list[str]) -> str:
    """Facts follow the values on their last line while they fit."""
    text = prefix + body
    last = len(text) - text.rfind("\n") + 1  # PyTorch counts two columns more than there are
    for fact in facts:
        if last + len(fact) + 2 > _options.linewidth:
            text += ",\n" + " " * len(prefix) + fact
            last = len(prefix) + len(fact)
        else:
            text += ", " + fact
            last += len(fact) + 2
    return text + ")"


register({"__repr__": lambda self, **_: tensor_text(self)})
