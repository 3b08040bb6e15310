"""Python's operators, and the methods that are not simply their functions."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentRangeError
from ..tensor import Tensor, register
from ._table import INPLACE, NUMBERS, named
from .elementary import abs, absolute, bitwise_not, clamp, clip, neg, negative, positive, round
from .pointwise import (
    _add,
    _addcdiv,
    _addcmul,
    _lerp,
    _sub,
    _true_div,
    add,
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    div,
    eq,
    floor_divide,
    ge,
    gt,
    le,
    lt,
    mul,
    ne,
    pow,
    remainder,
    rounding,
    scaled,
    sub,
)


def _operator(function: Any) -> Any:
    """A Python operator gives way (NotImplemented) to types that it knows nothing of."""

    def method(self: Tensor, other: Any) -> Any:
        if isinstance(other, (Tensor, *NUMBERS)) or hasattr(other, "__array__") or hasattr(other, "__dlpack__"):
            return function(self, other)
        return NotImplemented

    return method


def _reflected(function: Any) -> Any:
    return lambda self, other: function(other, self)


def _sum_in_place(name: str) -> Any:
    writing = INPLACE[name]

    def write(self: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
        return writing(self, other if alpha == 1 else scaled(self, other, alpha, name))

    write.__name__ = name
    write.__doc__ = f"``{name[:-1]}``, written into this tensor."
    return write


def _div_(self: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``div``, written into this tensor."""
    name = {None: "div_", "floor": "floor_divide_", "trunc": "div_trunc_"}[rounding(rounding_mode)]
    return INPLACE[name](self, other)


def _clamp_(self: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """``clamp``, written into this tensor."""
    if min is None and max is None:
        raise ArgumentRangeError("clamp_: At least one of 'min' or 'max' must not be None")
    if max is None:
        return INPLACE["clamp_min_"](self, min)
    return INPLACE["clamp_max_"](self, max) if min is None else INPLACE["clamp_"](self, min, max)


def _with_value(function: Any, doc: str) -> Any:
    def method(self: Tensor, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Tensor:
        return function(self, tensor1, tensor2, value)

    method.__doc__ = doc
    return method


_METHODS: dict[str, Any] = {
    "add": add,
    "sub": sub,
    "subtract": sub,
    "div": div,
    "divide": div,
    "true_divide": div,
    "multiply": mul,
    "round": round,
    "clamp": clamp,
    "clip": clip,
    "absolute": absolute,
    "negative": negative,
    "addcmul": _with_value(_addcmul, "``self + value * tensor1 * tensor2``."),
    "addcdiv": _with_value(_addcdiv, "``self + value * tensor1 / tensor2``."),
    "lerp": _lerp,
    "add_": _sum_in_place("add_"),
    "sub_": _sum_in_place("sub_"),
    "div_": _div_,
    "clamp_": _clamp_,
    "clip_": _clamp_,
    "addcmul_": _with_value(INPLACE["addcmul_"], "``addcmul``, written into this tensor."),
    "addcdiv_": _with_value(INPLACE["addcdiv_"], "``addcdiv``, written into this tensor."),
    "lerp_": INPLACE["lerp_"],
    "__neg__": neg,
    "__pos__": positive,
    "__abs__": abs,
    "__invert__": bitwise_not,
    "__ror__": _operator(_reflected(bitwise_or)),
}
for _name, _function, _writing in (
    ("add", _add, "add_"),
    ("sub", _sub, "sub_"),
    ("mul", mul, "mul_"),
    ("truediv", _true_div, "div_"),
    ("floordiv", floor_divide, "floor_divide_"),
    ("mod", remainder, "remainder_"),
    ("pow", pow, "pow_"),
    ("and", bitwise_and, "bitwise_and_"),
    ("or", bitwise_or, "bitwise_or_"),
    ("xor", bitwise_xor, "bitwise_xor_"),
):
    _METHODS[f"__{_name}__"] = _operator(_function)
    _METHODS[f"__r{_name}__"] = _operator(_reflected(_function))
    _METHODS[f"__i{_name}__"] = _operator(INPLACE[_writing])
_METHODS["__rsub__"] = _operator(lambda self, other: named(_sub(other, self), "RsubBackward1"))
for _name, _function in (("lt", lt), ("le", le), ("gt", gt), ("ge", ge), ("eq", eq), ("ne", ne)):
    _METHODS[f"__{_name}__"] = _operator(_function)
register({**_METHODS, "__hash__": Tensor.__hash__})
