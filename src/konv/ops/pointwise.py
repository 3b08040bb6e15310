"""Arithmetic, comparison and elementary functions of each element: a table, one row an operation.

A row is: name, NumPy's forward, and one gradient expression an operand (see ``_table``). ``rule`` says in which dtype
to compute, ``result`` which dtype comes out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentError, ArgumentRangeError, ArgumentTypeError, DtypeError
from ..tensor import Tensor, register
from ._table import METHODS, NUMBERS, begin_write, common_dtype, operand, pointwise, to_bool, to_float

__all__ = [
    "abs",
    "absolute",
    "acos",
    "add",
    "asin",
    "atan",
    "atan2",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "cos",
    "cosh",
    "div",
    "divide",
    "eq",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "floor_divide",
    "fmod",
    "frac",
    "ge",
    "gt",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "log",
    "log10",
    "log1p",
    "log2",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "multiply",
    "ne",
    "neg",
    "negative",
    "pow",
    "reciprocal",
    "remainder",
    "round",
    "rsqrt",
    "sgn",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "sub",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
    "trunc",
]

_LN2, _LN10 = math.log(2.0), math.log(10.0)


def _conj(value: Any) -> Any:
    """The conjugate of an operand, which may be a Python number."""
    return value.conj() if isinstance(value, Tensor) else value.conjugate()


def _refuse_bool(who: str, fix: str) -> Any:
    def rule(dtype: dtypes.dtype) -> dtypes.dtype:
        if dtype is dtypes.bool:
            raise DtypeError(f"{who}: bool tensors are not supported; {fix}")
        return dtype

    return rule


def _refuse_complex(who: str) -> Any:
    def rule(dtype: dtypes.dtype) -> dtypes.dtype:
        if dtype.is_complex:
            raise DtypeError(f"{who}: complex numbers have no order; {dtype} is not supported")
        return dtype

    return rule


def _integers(who: str) -> Any:
    def rule(dtype: dtypes.dtype) -> dtypes.dtype:
        if dtype.kind > dtypes.INTEGER:
            raise DtypeError(f"{who}: bits of {dtype} cannot be combined; use integer or bool tensors")
        return dtype

    return rule


# ---- one operand --------------------------------------------------------------------------------------------------------

neg = pointwise("neg", np.negative, lambda g: -g, rule=_refuse_bool("neg", "use ~x or logical_not()"))
positive = pointwise("positive", np.positive, lambda g: g, rule=_refuse_bool("positive", "use the tensor itself"))
abs = pointwise("abs", np.absolute, lambda g, a: g * sgn(a), result=dtypes.dtype.to_real)  # noqa: A001
square = pointwise("square", lambda a: a * a, lambda g, a: g * (2 * a.conj()), node="PowBackward0")
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


def _flat(g: Tensor) -> Tensor:
    """The gradient of a step function: zero, where defined."""
    return g * 0


def _sgn(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if a.dtype.kind != "c":
        return np.sign(a)
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


sign = pointwise("sign", np.sign, _flat, rule=_refuse_complex("sign; use sgn()"))
sgn = pointwise("sgn", _sgn, _sgn_gradient)
floor = pointwise("floor", _steps("floor", np.floor), _flat, rule=_refuse_complex("floor"))
ceil = pointwise("ceil", _steps("ceil", np.ceil), _flat, rule=_refuse_complex("ceil"))
trunc = pointwise("trunc", _steps("trunc", np.trunc), _flat, rule=_refuse_complex("trunc"))
_round = pointwise("round", _steps("round", np.rint), _flat, rule=_refuse_complex("round"))
frac = pointwise("frac", lambda a: a - np.trunc(a), lambda g: g, rule=_refuse_complex("frac"))
logical_not = pointwise("logical_not", np.logical_not, result=to_bool)
bitwise_not = pointwise("bitwise_not", np.invert, rule=_integers("bitwise_not"))


def _test(name: str, ufunc: np.ufunc) -> Any:
    """A question that only floating and complex numbers answer differently."""

    def compute(a: np.ndarray[Any, Any]) -> Any:
        return ufunc(a) if a.dtype.kind not in "iub" else np.full(a.shape, name == "isfinite")

    return pointwise(name, compute, result=to_bool, inplace=False)


isnan, isinf, isfinite = _test("isnan", np.isnan), _test("isinf", np.isinf), _test("isfinite", np.isfinite)

# ---- two operands -------------------------------------------------------------------------------------------------------


def _power(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> Any:
    if b.dtype.kind == "i" and b.size and (b < 0).any():
        raise ArgumentRangeError("Integers to negative integer powers are not allowed; use a floating tensor")
    if b.ndim == 0 and a.dtype.kind in "fc" and b == 2:
        return a * a
    return np.power(a, b)


def _power_base(g: Tensor, a: Any, b: Any) -> Tensor:
    if not isinstance(b, Tensor):
        return g * 0 if b == 0 else g * _conj(b * a ** (b - 1))
    return (g * _conj(b * a ** (b - 1))).masked_fill(b == 0, 0)


def _power_exponent(g: Tensor, a: Any, b: Tensor, y: Tensor) -> Tensor:
    a = a if isinstance(a, Tensor) else Tensor._wrap(np.asarray(a, y._dtype.numpy), y._dtype)
    zero = a == 0
    if not b.is_complex():
        zero = zero & (b >= 0)
    return (g * (y * a.log()).conj()).masked_fill(zero, 0)


def _half_at_ties(first: bool, larger: bool) -> Any:
    """The gradient of maximum and minimum: all to the chosen operand, half to each where they are equal."""

    def gradient(g: Tensor, a: Any, b: Any) -> Tensor:
        mine, other = (a, b) if first else (b, a)
        lost = (mine < other) if larger else (mine > other)
        lost, tie = (lost if isinstance(lost, Tensor) else other > mine), _equal(mine, other)
        return (g * tie.logical_not().to(g.dtype) + g * tie.to(g.dtype) * 0.5).masked_fill(lost, 0)

    return gradient


def _equal(a: Any, b: Any) -> Tensor:
    return eq(a, b) if isinstance(a, Tensor) else eq(b, a)


def _remainder_other(g: Tensor, a: Any, b: Any) -> Tensor:
    return -g * floor_divide(a, b)


def _nonzero_divisor(compute: Any) -> Any:
    def checked(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> Any:
        if b.dtype.kind in "iu" and b.size and not b.all():
            raise ArgumentRangeError("ZeroDivisionError: integer division by zero")
        return compute(a, b)

    return checked


def _truncated(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> Any:
    if a.dtype.kind not in "iu":
        return np.trunc(a / b)
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(quotient.dtype)


_add = pointwise("_add", np.add, lambda g: g, lambda g: g, node="AddBackward0", method=False)
_sub = pointwise(
    "_sub",
    np.subtract,
    lambda g: g,
    lambda g: -g,
    rule=_refuse_bool("sub", "use ^ or logical_xor()"),
    node="SubBackward0",
    method=False,
)
mul = pointwise("mul", np.multiply, lambda g, b: g * _conj(b), lambda g, a: g * _conj(a))
_true_div = pointwise(
    "_div",
    np.true_divide,
    lambda g, b: g / _conj(b),
    lambda g, a, b: -g * _conj(a / b / b),
    rule=to_float,
    node="DivBackward0",
    method=False,
)
_trunc_div = pointwise("_div_trunc", _nonzero_divisor(_truncated), _flat, _flat, node="DivBackward1", method=False)
floor_divide = pointwise(
    "floor_divide",
    _nonzero_divisor(np.floor_divide),
    _flat,
    _flat,
    rule=_refuse_complex("floor_divide"),
)
remainder = pointwise(
    "remainder",
    _nonzero_divisor(np.remainder),
    lambda g: g,
    _remainder_other,
    rule=_refuse_complex("remainder"),
)
fmod = pointwise(
    "fmod",
    _nonzero_divisor(np.fmod),
    lambda g: g,
    lambda g, a, b: -g * _trunc_div(a, b),
    rule=_refuse_complex("fmod"),
)
pow = pointwise("pow", _power, _power_base, _power_exponent)  # noqa: A001
atan2 = pointwise(
    "atan2",
    np.arctan2,
    lambda g, a, b: g * b / (a * a + b * b),
    lambda g, a, b: -g * a / (a * a + b * b),
    rule=to_float,
)
maximum = pointwise(
    "maximum",
    np.maximum,
    _half_at_ties(True, True),
    _half_at_ties(False, True),
    rule=_refuse_complex("maximum"),
    inplace=False,
)
minimum = pointwise(
    "minimum",
    np.minimum,
    _half_at_ties(True, False),
    _half_at_ties(False, False),
    rule=_refuse_complex("minimum"),
    inplace=False,
)

eq = pointwise("eq", np.equal, result=to_bool)
ne = pointwise("ne", np.not_equal, result=to_bool)
lt = pointwise("lt", np.less, rule=_refuse_complex("lt"), result=to_bool)
le = pointwise("le", np.less_equal, rule=_refuse_complex("le"), result=to_bool)
gt = pointwise("gt", np.greater, rule=_refuse_complex("gt"), result=to_bool)
ge = pointwise("ge", np.greater_equal, rule=_refuse_complex("ge"), result=to_bool)
logical_and = pointwise("logical_and", np.logical_and, result=to_bool)
logical_or = pointwise("logical_or", np.logical_or, result=to_bool)
logical_xor = pointwise("logical_xor", np.logical_xor, result=to_bool)
bitwise_and = pointwise("bitwise_and", np.bitwise_and, rule=_integers("bitwise_and"))
bitwise_or = pointwise("bitwise_or", np.bitwise_or, rule=_integers("bitwise_or"))
bitwise_xor = pointwise("bitwise_xor", np.bitwise_xor, rule=_integers("bitwise_xor"))


# ---- spellings with options -----------------------------------------------------------------------------------------------


def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input + alpha * other``, broadcast and promoted.

    Example:
        >>> import konv
        >>> konv.add(konv.tensor([1, 2]), 0.5), konv.add(konv.tensor([1, 2]), 3, alpha=2)
        (tensor([1.5000, 2.5000]), tensor([7, 8]))
    """
    return _add(input, other if alpha == 1 else _scaled(input, other, alpha, "add"))


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input - alpha * other``, broadcast and promoted."""
    return _sub(input, other if alpha == 1 else _scaled(input, other, alpha, "sub"))


def _scaled(input: Any, other: Any, alpha: Any, who: str) -> Any:
    if not isinstance(alpha, NUMBERS):
        raise ArgumentTypeError(f"{who}: alpha must be a number, got {type(alpha).__name__}")
    other = operand(other, who)
    if isinstance(alpha, float) and common_dtype((operand(input, who), other)).kind < dtypes.FLOATING:
        raise DtypeError(f"{who}: For integral input tensors, argument alpha must not be a floating point number.")
    return other * alpha


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``input / other``; integers divide to floats unless ``rounding_mode`` is 'floor' or 'trunc'.

    Example:
        >>> import konv
        >>> konv.div(konv.tensor([-7, 7]), 2), konv.div(konv.tensor([-7, 7]), 2, rounding_mode="trunc")
        (tensor([-3.5000,  3.5000]), tensor([-3,  3]))
    """
    return _DIVISIONS[_rounding(rounding_mode)](input, other)


_DIVISIONS = {None: _true_div, "floor": floor_divide, "trunc": _trunc_div}


def _rounding(mode: Any) -> Any:
    if mode not in ("floor", "trunc", None):
        raise ArgumentRangeError(f"div: rounding_mode={mode!r}; it can be None, 'trunc' or 'floor'")
    return mode


def round(input: Any, *, decimals: int = 0) -> Tensor:  # noqa: A001
    """Round to the nearest whole number (halves to even), or to ``decimals`` digits after the point."""
    if decimals == 0:
        return _round(input)
    scale = 10.0**decimals
    return _round(input * scale) / scale


def sigmoid(input: Any) -> Tensor:
    """1 / (1 + exp(-x)) of each element."""
    return _sigmoid(input)


def _logistic(a: np.ndarray[Any, Any]) -> Any:
    return 1 / (1 + np.exp(-a))


_sigmoid = pointwise("sigmoid", _logistic, lambda g, y: g * (y * (1 - y)).conj(), rule=to_float)


def _clamp_keeps(g: Tensor, a: Tensor, b: Any, c: Any) -> Tensor:
    inside: Any = None
    if b is not None:
        inside = a >= b
    if c is not None:
        inside = a <= c if inside is None else inside & (a <= c)
    return g.masked_fill(inside.logical_not(), 0)


def clamp(input: Any, min: Any = None, max: Any = None) -> Tensor:  # noqa: A002
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


_no = _refuse_complex("clamp")
clamp_min = pointwise(
    "clamp_min", np.maximum, _above, lambda g, a, b: g.masked_fill(a >= b, 0), rule=_no, node="ClampMinBackward0"
)
clamp_max = pointwise(
    "clamp_max", np.minimum, _below, lambda g, a, b: g.masked_fill(a <= b, 0), rule=_no, node="ClampMaxBackward0"
)
_clamp = pointwise(
    "clamp",
    lambda a, b, c: np.minimum(np.maximum(a, b), c),
    _clamp_keeps,
    lambda g, a, b, c: g.masked_fill(((a < b) & (b < c)).logical_not(), 0),
    lambda g, a, b, c: g.masked_fill(((a > c) | (b > c)).logical_not(), 0),
    rule=_no,
)


absolute, negative, multiply = abs, neg, mul
subtract, divide, true_divide, clip = sub, div, div, clamp

# ---- methods --------------------------------------------------------------------------------------------------------------


def _reflected(function: Any) -> Any:
    return lambda self, other: function(other, self)


def _operator(function: Any) -> Any:
    """A Python operator gives way (NotImplemented) to types that it knows nothing of."""

    def method(self: Tensor, other: Any) -> Any:
        if isinstance(other, (Tensor, *NUMBERS)) or hasattr(other, "__array__") or hasattr(other, "__dlpack__"):
            return function(self, other)
        return NotImplemented

    return method


def _in_place_sum(name: str, pointwise_write: Any) -> Any:
    def write(self: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
        return pointwise_write(self, other if alpha == 1 else _scaled(self, other, alpha, name))  # type: ignore[no-any-return]

    write.__name__ = name
    write.__doc__ = f"``{name[:-1]}``, written into this tensor."
    return write


def _writer(function: Any) -> Any:
    """The in-place form of a row that was made without methods."""
    from ._table import _inplace_caller

    made = function.__closure__[0].cell_contents.__self__
    return _inplace_caller(type(made.__name__, (made,), {"inplace": True, "name": made.name}), made.__name__[1:])


_add_, _sub_, _true_div_ = _writer(_add), _writer(_sub), _writer(_true_div)


def _div_(self: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``div``, written into this tensor."""
    mode = _rounding(rounding_mode)
    return _true_div_(self, other) if mode is None else self.copy_(div(self, other, rounding_mode=mode))


def _clamp_(self: Tensor, min: Any = None, max: Any = None) -> Tensor:  # noqa: A002
    """``clamp``, written into this tensor."""
    if min is None and max is None:
        raise ArgumentError("clamp_: At least one of 'min' or 'max' must not be None")
    if max is None:
        return self.clamp_min_(min)
    return self.clamp_max_(max) if min is None else self._clamp_both_(min, max)


_MORE: dict[str, Any] = {
    "add": add,
    "sub": sub,
    "subtract": sub,
    "div": div,
    "divide": div,
    "true_divide": div,
    "multiply": mul,
    "round": round,
    "clamp": clamp,
    "clip": clamp,
    "absolute": abs,
    "negative": neg,
    "greater": gt,
    "less": lt,
    "not_equal": ne,
    "add_": _in_place_sum("add_", _add_),
    "sub_": _in_place_sum("sub_", _sub_),
    "div_": _div_,
    "_clamp_both_": METHODS["clamp_"],
    "clamp_": _clamp_,
    "__neg__": neg,
    "__pos__": positive,
    "__abs__": abs,
    "__invert__": bitwise_not,
    "__hash__": Tensor.__hash__,
}
for _name, _function in (
    ("add", _add),
    ("sub", _sub),
    ("mul", mul),
    ("truediv", _true_div),
    ("floordiv", floor_divide),
    ("mod", remainder),
    ("pow", pow),
    ("and", bitwise_and),
    ("or", bitwise_or),
    ("xor", bitwise_xor),
):
    _MORE[f"__{_name}__"] = _operator(_function)
    _MORE[f"__r{_name}__"] = _operator(_reflected(_function))
for _name, _function in (("lt", lt), ("le", le), ("gt", gt), ("ge", ge), ("eq", eq), ("ne", ne)):
    _MORE[f"__{_name}__"] = _operator(_function)
for _name, _writing in (("add", _add_), ("sub", _sub_), ("mul", METHODS["mul_"]), ("truediv", _true_div_)):
    _MORE[f"__i{_name}__"] = _operator(_writing)
for _name, _target in (("pow", "pow_"), ("mod", "remainder_"), ("floordiv", "floor_divide_"), ("and", "bitwise_and_")):
    _MORE[f"__i{_name}__"] = _operator(METHODS[_target])
_MORE["__ior__"], _MORE["__ixor__"] = _operator(METHODS["bitwise_or_"]), _operator(METHODS["bitwise_xor_"])
register({**METHODS, **_MORE})
