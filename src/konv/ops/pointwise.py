"""Arithmetic and comparison of two operands: a table, one row an operation.

A row is: name, NumPy's forward, and one gradient expression an operand (see ``_table``). ``rule`` says in which dtype
to compute, ``result`` which dtype comes out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentRangeError, ArgumentTypeError, DtypeError
from ..tensor import Tensor
from ._table import (
    NUMBERS,
    common_dtype,
    flat,
    integers,
    operand,
    pointwise,
    refuse_complex,
    refuse_overflow,
    to_bool,
    to_float,
)

__all__ = [
    "add",
    "atan2",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "div",
    "divide",
    "eq",
    "floor_divide",
    "fmod",
    "ge",
    "gt",
    "le",
    "logical_and",
    "logical_or",
    "logical_xor",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "multiply",
    "ne",
    "pow",
    "remainder",
    "sub",
    "subtract",
    "true_divide",
]


def _conj(value: Any) -> Any:
    """The conjugate of an operand, which may be a Python number."""
    return value.conj() if isinstance(value, Tensor) else value.conjugate()


# ---- two operands --------------------------------------------------------------------------------------------------


def _power(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> Any:
    if b.dtype.kind == "i" and b.size and (b < 0).any():
        # What 1 / a**-b is when cut to an integer: only 1 and -1 have something left.
        kept = np.where(np.abs(a) == 1, np.power(a, np.abs(b)), 0)
        return np.where(b < 0, kept, np.power(a, np.maximum(b, 0))).astype(a.dtype)
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
        if b.dtype.kind in "iu" and a.size and b.size and not b.all():
            raise ArgumentRangeError("ZeroDivisionError: integer division by zero")
        return compute(a, b)

    return checked


def _truncated(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> Any:
    if a.dtype.kind not in "iu":
        return np.trunc(a / b)
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(quotient.dtype)


def _no_bools(operands: tuple[Any, ...], _: dtypes.dtype) -> None:
    for value in operands:
        if (value._dtype is dtypes.bool) if isinstance(value, Tensor) else isinstance(value, (bool, np.bool_)):
            raise DtypeError(
                "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a "
                "mask, use the `~` or `logical_not()` operator instead."
            )


_add = pointwise("add", np.add, lambda g: g, lambda g: g, node="AddBackward0", method=False)
_sub = pointwise(
    "sub",
    np.subtract,
    lambda g: g,
    lambda g: -g,
    check=_no_bools,
    node="SubBackward0",
    method=False,
)
mul = pointwise("mul", np.multiply, lambda g, b: g * _conj(b), lambda g, a: g * _conj(a), scales=True)
_true_div = pointwise(
    "div",
    np.true_divide,
    lambda g, b: g / _conj(b),
    lambda g, a, b: -g * _conj(a / b / b),
    rule=to_float,
    node="DivBackward0",
    method=False,
    scales=True,
)
_trunc_div = pointwise("div_trunc", _nonzero_divisor(_truncated), flat, flat, node="DivBackward1", method=False)
floor_divide = pointwise(
    "floor_divide",
    _nonzero_divisor(np.floor_divide),
    flat,
    flat,
    rule=refuse_complex("floor_divide"),
)
remainder = pointwise(
    "remainder",
    _nonzero_divisor(np.remainder),
    lambda g: g,
    _remainder_other,
    rule=refuse_complex("remainder"),
)
fmod = pointwise(
    "fmod",
    _nonzero_divisor(np.fmod),
    lambda g: g,
    lambda g, a, b: -g * _trunc_div(a, b),
    rule=refuse_complex("fmod"),
)


def _factor_fits(operands: tuple[Any, ...], _: dtypes.dtype) -> None:
    factor, dtype = operands[3], common_dtype(operands[:3])
    if dtype.kind < dtypes.FLOATING and isinstance(factor, float):
        raise DtypeError(f"addcmul, addcdiv: value={factor} does not go with {dtype}; give an int")
    refuse_overflow(factor, dtypes.float32 if dtype.is_half else dtype, "addcmul, addcdiv")


_addcmul = pointwise(
    "addcmul",
    lambda a, b, c, d: a + d * b * c,
    lambda g: g,
    lambda g, c, d: g * _conj(c * d),
    lambda g, b, d: g * _conj(b * d),
    None,
    check=_factor_fits,
    method=False,
)
_addcdiv = pointwise(
    "addcdiv",
    lambda a, b, c, d: a + d * b / c,
    lambda g: g,
    lambda g, c, d: g * _conj(d / c),
    lambda g, b, c, d: -g * _conj(b * d / c / c),
    None,
    rule=to_float,
    check=_factor_fits,
    method=False,
)
_lerp = pointwise(
    "lerp",
    lambda a, b, c: a + c * (b - a),
    lambda g, c: g * _conj(1 - c),
    lambda g, c: g * _conj(c),
    lambda g, a, b: g * _conj(b - a),
    method=False,
)


def _fitting_exponent(operands: tuple[Any, ...], dtype: dtypes.dtype) -> None:
    exponent = operands[1]
    if dtype.kind > dtypes.INTEGER:
        if dtype.is_half:
            refuse_overflow(exponent, dtype, "pow")
        return
    refuse_overflow(exponent, dtype, "pow")
    if isinstance(exponent, (int, np.integer)) and int(exponent) < 0:
        raise ArgumentRangeError("Integers to negative integer powers are not allowed; use a floating tensor")


pow = pointwise("pow", _power, _power_base, _power_exponent, check=_fitting_exponent)
atan2 = pointwise(
    "atan2",
    np.arctan2,
    lambda g, a, b: g * b / (a * a + b * b),
    lambda g, a, b: -g * a / (a * a + b * b),
    rule=lambda dtype: to_float(refuse_complex("atan2")(dtype)),
)
maximum = pointwise(
    "maximum",
    np.maximum,
    _half_at_ties(True, True),
    _half_at_ties(False, True),
    rule=refuse_complex("maximum"),
    inplace=False,
)
minimum = pointwise(
    "minimum",
    np.minimum,
    _half_at_ties(True, False),
    _half_at_ties(False, False),
    rule=refuse_complex("minimum"),
    inplace=False,
)

eq = pointwise("eq", np.equal, result=to_bool)
ne = pointwise("ne", np.not_equal, result=to_bool)
lt = pointwise("lt", np.less, rule=refuse_complex("lt"), result=to_bool)
le = pointwise("le", np.less_equal, rule=refuse_complex("le"), result=to_bool)
gt = pointwise("gt", np.greater, rule=refuse_complex("gt"), result=to_bool)
ge = pointwise("ge", np.greater_equal, rule=refuse_complex("ge"), result=to_bool)
logical_and = pointwise("logical_and", np.logical_and, result=to_bool)
logical_or = pointwise("logical_or", np.logical_or, result=to_bool)
logical_xor = pointwise("logical_xor", np.logical_xor, result=to_bool)
bitwise_and = pointwise("bitwise_and", np.bitwise_and, rule=integers("bitwise_and"))
bitwise_or = pointwise("bitwise_or", np.bitwise_or, rule=integers("bitwise_or"))
bitwise_xor = pointwise("bitwise_xor", np.bitwise_xor, rule=integers("bitwise_xor"))


# ---- spellings with options ----------------------------------------------------------------------------------------


def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input + alpha * other``, broadcast and promoted.

    Example:
        >>> import konv
        >>> konv.add(konv.tensor([1, 2]), 0.5), konv.add(konv.tensor([1, 2]), 3, alpha=2)
        (tensor([1.5000, 2.5000]), tensor([7, 8]))
    """
    return _add(input, other if alpha == 1 else scaled(input, other, alpha, "add"))


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input - alpha * other``, broadcast and promoted."""
    return _sub(input, other if alpha == 1 else scaled(input, other, alpha, "sub"))


def scaled(input: Any, other: Any, alpha: Any, who: str) -> Any:
    """``alpha * other``, where ``alpha`` does not turn integers into floats."""
    if not isinstance(alpha, NUMBERS):
        raise ArgumentTypeError(f"{who}: alpha must be a number, got {type(alpha).__name__}")
    other = operand(other, who)
    dtype = common_dtype((operand(input, who), other))
    if isinstance(alpha, float) and dtype.kind < dtypes.FLOATING:
        raise DtypeError(f"{who}: For integral input tensors, argument alpha must not be a floating point number.")
    factor: Any = alpha
    refuse_overflow(0 - factor if who == "sub" else factor, dtype, who)  # what PyTorch multiplies by
    return other * alpha


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``input / other``; integers divide to floats unless ``rounding_mode`` is 'floor' or 'trunc'.

    Example:
        >>> import konv
        >>> konv.div(konv.tensor([-7, 7]), 2), konv.div(konv.tensor([-7, 7]), 2, rounding_mode="trunc")
        (tensor([-3.5000,  3.5000]), tensor([-3,  3]))
    """
    return _DIVISIONS[rounding(rounding_mode)](input, other)


_DIVISIONS = {None: _true_div, "floor": floor_divide, "trunc": _trunc_div}


def rounding(mode: Any) -> Any:
    """``rounding_mode`` of a division, checked."""
    if mode not in ("floor", "trunc", None):
        raise ArgumentRangeError(f"div: rounding_mode={mode!r}; it can be None, 'trunc' or 'floor'")
    return mode


multiply = mul
subtract, divide, true_divide = sub, div, div
