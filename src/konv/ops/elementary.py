"""Functions of one operand: a table, one row a function.

A row is: name, NumPy's forward, and the gradient expression (see ``_table``). ``rule`` says in which dtype to compute,
``result`` which dtype comes out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentRangeError
from ..tensor import Tensor, register
from ._table import (
    as_tensor_operand,
    integers,
    pointwise,
    refuse_bool,
    refuse_complex,
    refuse_overflow,
    to_bool,
    to_float,
)

__all__ = [
    "positive",
    "abs",
    "absolute",
    "acos",
    "asin",
    "atan",
    "bitwise_not",
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "cos",
    "cosh",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "frac",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log10",
    "log1p",
    "log2",
    "logical_not",
    "neg",
    "negative",
    "reciprocal",
    "round",
    "rsqrt",
    "sgn",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "trunc",
]


_LN2, _LN10 = math.log(2.0), math.log(10.0)


def _counted(dtype: dtypes.dtype) -> dtypes.dtype:
    return dtypes.int64 if dtype is dtypes.bool else dtype


neg = pointwise("neg", np.negative, lambda g: -g, rule=refuse_bool("neg", "use ~x or logical_not()"))
_plus = refuse_bool("positive", "the `+` operator has no meaning there")
abs = pointwise("abs", np.absolute, lambda g, a: g * a.sgn(), result=dtypes.dtype.to_real)
square = pointwise("square", lambda a: a * a, lambda g, a: g * (2 * a.conj()), rule=_counted, node="PowBackward0")
exp = pointwise("exp", np.exp, lambda g, y: g * y.conj(), rule=to_float)
exp2 = pointwise("exp2", np.exp2, lambda g, y: g * y.conj() * _LN2, rule=to_float)
expm1 = pointwise("expm1", np.expm1, lambda g, y: g * (y.conj() + 1), rule=to_float)
log = pointwise("log", np.log, lambda g, a: g / a.conj(), rule=to_float)
log2 = pointwise("log2", np.log2, lambda g, a: g / (a.conj() * _LN2), rule=to_float)
log10 = pointwise("log10", np.log10, lambda g, a: g / (a.conj() * _LN10), rule=to_float)
log1p = pointwise("log1p", np.log1p, lambda g, a: g / (a.conj() + 1), rule=to_float)
sqrt = pointwise("sqrt", np.sqrt, lambda g, y: g / (2 * y.conj()), rule=to_float)
rsqrt = pointwise("rsqrt", lambda a: 1 / np.sqrt(a), lambda g, y: -0.5 * g * y.conj() ** 3, rule=to_float)
reciprocal = pointwise("reciprocal", lambda a: 1 / a, lambda g, y: -g * (y * y).conj(), rule=to_float)
sin = pointwise("sin", np.sin, lambda g, a: g * a.cos().conj(), rule=to_float)
cos = pointwise("cos", np.cos, lambda g, a: -g * a.sin().conj(), rule=to_float)
tan = pointwise("tan", np.tan, lambda g, y: g * (1 + y * y).conj(), rule=to_float)
asin = pointwise("asin", np.arcsin, lambda g, a: g * (1 - a * a).rsqrt().conj(), rule=to_float)
acos = pointwise("acos", np.arccos, lambda g, a: -g * (1 - a * a).rsqrt().conj(), rule=to_float)
atan = pointwise("atan", np.arctan, lambda g, a: g / (1 + a * a).conj(), rule=to_float)
sinh = pointwise("sinh", np.sinh, lambda g, a: g * a.cosh().conj(), rule=to_float)
cosh = pointwise("cosh", np.cosh, lambda g, a: g * a.sinh().conj(), rule=to_float)
tanh = pointwise("tanh", np.tanh, lambda g, y: g * (1 - y * y).conj(), rule=to_float)


def flat(g: Tensor) -> Tensor:
    """The gradient of a step function: zero, where defined."""
    return g * 0


def _sign(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # NaN is neither above nor below zero, so its sign is 0.
    return a if a.dtype.kind == "b" else np.subtract(a > 0, a < 0, dtype=a.dtype)


def _sgn(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if a.dtype.kind != "c":
        return _sign(a)
    size = np.absolute(a)
    return np.where(size == 0, 0, a / np.where(size == 0, 1, size)).astype(a.dtype)


def _sgn_gradient(g: Tensor, a: Tensor, y: Tensor) -> Tensor:
    if not a.is_complex():
        return g * 0
    # z / |z| only turns: what is left of g is its part across z, scaled by 1 / |z|.
    across = g - (y * (y.conj() * g).real)
    return (across / a.abs()).masked_fill(a == 0, 0)


def _steps(name: str, ufunc: np.ufunc) -> Any:
    """Integers are whole already; NumPy would turn them into floats."""
    return lambda a: a if a.dtype.kind in "iub" else ufunc(a)


sign = pointwise("sign", _sign, flat, rule=refuse_complex("sign; use sgn()"))
sgn = pointwise("sgn", _sgn, _sgn_gradient)
floor = pointwise("floor", _steps("floor", np.floor), flat, rule=refuse_complex("floor"))
ceil = pointwise("ceil", _steps("ceil", np.ceil), flat, rule=refuse_complex("ceil"))
trunc = pointwise("trunc", _steps("trunc", np.trunc), flat, rule=refuse_complex("trunc"))
_round = pointwise("round", _steps("round", np.rint), flat, rule=refuse_complex("round"))
frac = pointwise("frac", lambda a: a - np.trunc(a), lambda g: g, rule=refuse_complex("frac"))
logical_not = pointwise("logical_not", np.logical_not, result=to_bool)
bitwise_not = pointwise("bitwise_not", np.invert, rule=integers("bitwise_not"))


def _test(name: str, ufunc: np.ufunc) -> Any:
    """A question that only floating and complex numbers answer differently."""

    def compute(a: np.ndarray[Any, Any]) -> Any:
        return ufunc(a) if a.dtype.kind not in "iub" else np.full(a.shape, name == "isfinite")

    return pointwise(name, compute, result=to_bool, inplace=False)


isnan, isinf, isfinite = _test("isnan", np.isnan), _test("isinf", np.isinf), _test("isfinite", np.isfinite)


def positive(input: Any) -> Tensor:
    """The tensor itself, as ``+x`` gives it."""
    input = as_tensor_operand(input, "positive")
    _plus(input._dtype)
    return input


def sigmoid(input: Any) -> Tensor:
    """1 / (1 + exp(-x)) of each element."""
    return _sigmoid(input)


def _logistic(a: np.ndarray[Any, Any]) -> Any:
    return 1 / (1 + np.exp(-a))


_sigmoid = pointwise("sigmoid", _logistic, lambda g, y: g * (y * (1 - y)).conj(), rule=to_float)


def round(input: Any, *, decimals: int = 0) -> Tensor:
    """Round to the nearest whole number (halves to even), or to ``decimals`` digits after the point."""
    if decimals == 0:
        return _round(input)
    scale = 10.0**decimals
    return _round(input * scale) / scale


# ---- limits ----


def _clamp_keeps(g: Tensor, a: Tensor, b: Any, c: Any) -> Tensor:
    inside: Any = None
    if b is not None:
        inside = a >= b
    if c is not None:
        inside = a <= c if inside is None else inside & (a <= c)
    return g.masked_fill(inside.logical_not(), 0)


def clamp(input: Any, min: Any = None, max: Any = None) -> Tensor:
    """Each element limited to ``[min, max]``; each bound is a number, a tensor or None.

    Raises:
        ArgumentRangeError: Neither bound is given.

    Example:
        >>> import konv
        >>> konv.tensor([-1.0, 0.5, 3.0]).clamp(0, 1)
        tensor([0.0000, 0.5000, 1.0000])
    """
    if min is None and max is None:
        raise ArgumentRangeError("clamp: At least one of 'min' or 'max' must not be None")
    if max is None:
        return clamp_min(input, min)
    if min is None:
        return clamp_max(input, max)
    return _clamp(input, min, max)


def _above(g: Tensor, a: Any, b: Any) -> Tensor:
    return g.masked_fill((a >= b).logical_not(), 0)


def _below(g: Tensor, a: Any, b: Any) -> Tensor:
    return g.masked_fill((a <= b).logical_not(), 0)


def _bounds_fit(operands: tuple[Any, ...], dtype: dtypes.dtype) -> None:
    for bound in operands[1:]:
        refuse_overflow(bound, dtype, "clamp")


_no = refuse_complex("clamp")
clamp_min = pointwise(
    "clamp_min",
    np.maximum,
    _above,
    lambda g, a, b: g.masked_fill(a >= b, 0),
    rule=_no,
    check=_bounds_fit,
    node="ClampMinBackward0",
)
clamp_max = pointwise(
    "clamp_max",
    np.minimum,
    _below,
    lambda g, a, b: g.masked_fill(a <= b, 0),
    rule=_no,
    check=_bounds_fit,
    node="ClampMaxBackward0",
)
_clamp = pointwise(
    "clamp",
    lambda a, b, c: np.minimum(np.maximum(a, b), c),
    _clamp_keeps,
    lambda g, a, b, c: g.masked_fill(((a < b) & (b < c)).logical_not(), 0),
    lambda g, a, b, c: g.masked_fill(((a > c) | (b > c)).logical_not(), 0),
    rule=_no,
    check=_bounds_fit,
)


absolute, negative, clip = abs, neg, clamp
register({"positive": positive})
