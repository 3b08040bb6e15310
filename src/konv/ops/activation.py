"""Activations: the nonlinear functions of networks, as rows of the pointwise table, and the softmax family."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentError, ArgumentRangeError, DtypeError, ShapeError, UnsupportedError, text
from ..kernels import layers as kernels
from ..tensor import Tensor, normalize_dim, register
from ._table import as_tensor_operand, pointwise, refuse_overflow, to_float
from .special import erf_array

__all__ = ["erf", "log_softmax", "prelu", "relu", "softmax"]

Array = np.ndarray[Any, Any]
_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_PI = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715  # of the tanh form of gelu


def _real(who: str) -> Any:
    """The rule of functions that need an order: no complex numbers, no truth values."""

    def rule(dtype: dtypes.dtype) -> dtypes.dtype:
        if dtype.is_complex or dtype is dtypes.bool:
            raise DtypeError(text(who, f"got {dtype}", "it takes real numbers"))
        return dtype

    return rule


def _floating(who: str) -> Any:
    """The rule of functions without whole results: integers are refused, as PyTorch does."""

    def rule(dtype: dtypes.dtype) -> dtypes.dtype:
        if not dtype.is_floating_point:
            rule = "it takes floating point numbers"
            raise UnsupportedError(text(who, f"not implemented for {dtype}", rule, "convert with .float()"))
        return dtype

    return rule


def _where(condition: Tensor, yes: Tensor, no: Any) -> Tensor:
    from .choose import where  # gradients alone need it, and it imports nothing from here

    return where(condition, yes, no)


# --- rows: name, forward, gradient of each operand ---


def _sigmoid_array(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def _silu_gradient(g: Tensor, a: Tensor) -> Tensor:
    s = a.sigmoid()
    return g * (s * (1 + a * (1 - s)))


def _gelu_gradient(g: Tensor, a: Tensor) -> Tensor:
    density = (a * a * -0.5).exp() * (1.0 / math.sqrt(2.0 * math.pi))
    return g * ((1 + erf(a * _SQRT_HALF)) * 0.5 + a * density)


def _gelu_tanh_array(a: Array) -> Array:
    return 0.5 * a * (1 + np.tanh(_SQRT_2_PI * (a + _CUBIC * a * a * a)))


def _gelu_tanh_gradient(g: Tensor, a: Tensor) -> Tensor:
    inner = (a + a * a * a * _CUBIC) * _SQRT_2_PI
    t = inner.tanh()
    slope = (1 + a * a * (3 * _CUBIC)) * _SQRT_2_PI
    return g * ((1 + t) * 0.5 + a * 0.5 * (1 - t * t) * slope)


def _hardswish_gradient(g: Tensor, a: Tensor) -> Tensor:
    middle = g * (a * (1.0 / 3) + 0.5)
    return _where(a >= 3, g, _where(a > -3, middle, g * 0))


def _softplus_array(a: Array, b: Array, c: Array) -> Array:
    scaled = a * b
    return np.where(scaled > c, a, np.log1p(np.exp(np.minimum(scaled, c))) / b)


def _mish_gradient(g: Tensor, a: Tensor) -> Tensor:
    t = softplus(a).tanh()
    return g * (t + a * a.sigmoid() * (1 - t * t))


class ReluGradient(Function):
    """(*), (*) -> (*): the gradient where the output of relu is positive, 0 elsewhere; linear in the gradient."""

    node_name = "ThresholdBackwardBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, grad: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        if grad._meta:
            return Tensor._wrap_meta(grad._array.shape, grad._dtype)
        return Tensor._wrap(kernels.relu_gradient(grad._array, y._array), grad._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return ReluGradient.apply(grad, y), None


relu = pointwise(
    "relu",
    lambda a: np.maximum(a, 0) if a.dtype.kind in "iu" else kernels.relu(a),
    lambda g, y: ReluGradient.apply(g, y),
    rule=_real("relu"),
    doc="max(x, 0).",
    wide=False,  # the kernel computes half types in float32 itself
)
relu6 = pointwise(
    "relu6",
    lambda a: np.clip(a, 0, 6),
    lambda g, y: g.masked_fill((y <= 0) | (y >= 6), 0),
    rule=_real("relu6"),
    node="HardtanhBackward0",
    doc="min(max(x, 0), 6).",
)
hardtanh_row = pointwise(
    "hardtanh",
    lambda a, b, c: np.clip(a, b, c),
    lambda g, a, b, c: g.masked_fill((a <= b) | (a >= c), 0),
    None,
    None,
    rule=_real("hardtanh"),
    method=False,
)
leaky_relu_row = pointwise(
    "leaky_relu",
    lambda a, b: np.where(a > 0, a, a * b),
    lambda g, a, b: _where(a > 0, g, g * b),
    None,
    rule=_floating("leaky_relu"),
    node="LeakyReluBackward0",
    method=False,
)
prelu_row = pointwise(
    "prelu",
    lambda a, b: np.where(a > 0, a, a * b),
    lambda g, a, b: _where(a > 0, g, g * b),
    lambda g, a: (g * a).masked_fill(a > 0, 0),
    rule=_floating("prelu"),
    node="PreluKernelBackward0",
    method=False,
)
elu_row = pointwise(
    "elu",
    lambda a, b: np.where(a > 0, a, b * np.expm1(np.minimum(a, 0))),
    lambda g, a, b: _where(a > 0, g, g * b * a.clamp(max=0).exp()),
    None,
    rule=_floating("elu"),
    method=False,
)
erf = pointwise("erf", erf_array, lambda g, a: g * (-(a * a)).exp() * (2 / math.sqrt(math.pi)), rule=to_float)
silu = pointwise("silu", lambda a: a * _sigmoid_array(a), _silu_gradient, rule=_floating("silu"), doc="x * sigmoid(x).")
mish = pointwise(
    "mish",
    lambda a: a * np.tanh(np.logaddexp(a, 0)),
    _mish_gradient,
    rule=_floating("mish"),
    doc="x * tanh(softplus(x)).",
)
_gelu = pointwise(
    "_gelu",
    lambda a: 0.5 * a * (1 + erf_array(a * _SQRT_HALF)),
    _gelu_gradient,
    rule=_floating("gelu"),
    node="GeluBackward0",
    method=False,
)
_gelu_tanh = pointwise(
    "_gelu_tanh", _gelu_tanh_array, _gelu_tanh_gradient, rule=_floating("gelu"), node="GeluBackward0", method=False
)
hardswish = pointwise(
    "hardswish",
    lambda a: a * np.clip(a + 3, 0, 6) / 6,
    _hardswish_gradient,
    rule=_floating("hardswish"),
    doc="x * relu6(x + 3) / 6.",
)
hardsigmoid = pointwise(
    "hardsigmoid",
    lambda a: np.clip(a + 3, 0, 6) / 6,
    lambda g, a: (g * (1.0 / 6)).masked_fill((a <= -3) | (a >= 3), 0),
    rule=_floating("hardsigmoid"),
    doc="relu6(x + 3) / 6.",
)
softplus_row = pointwise(
    "softplus",
    _softplus_array,
    lambda g, a, b, c: _where(a * b > c, g, g * (a * b).sigmoid()),
    None,
    None,
    rule=_floating("softplus"),
    method=False,
)
logsigmoid = pointwise(
    "logsigmoid",
    lambda a: np.minimum(a, 0) - np.log1p(np.exp(-np.abs(a))),
    lambda g, a: g * (-a).sigmoid(),
    rule=_floating("logsigmoid"),
    node="LogSigmoidBackward0",
    doc="log(sigmoid(x)), without overflow.",
)


# --- spellings with options ---


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """X times the normal distribution function of x; 'tanh' approximates it.

    Raises:
        ArgumentRangeError: for another word.

    Source: D. Hendrycks and K. Gimpel, Gaussian error linear units (2016).

    Example:
        >>> import konv
        >>> konv.nn.functional.gelu(konv.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.1587,  0.0000,  0.8413])
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentRangeError(text("gelu", f"approximate={approximate!r}", "it is 'none' or 'tanh'"))
    return _gelu(input) if approximate == "none" else _gelu_tanh(input)


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Tensor:
    """X where positive, else negative_slope * x."""
    return leaky_relu_row(input, negative_slope)


def elu(input: Any, alpha: float = 1.0) -> Tensor:
    """X where positive, else alpha * (exp(x) - 1)."""
    return elu_row(input, alpha)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """X limited to [min_val, max_val], with no gradient from the ends on."""
    input = as_tensor_operand(input, "hardtanh")
    if min_val > max_val:
        raise ArgumentError(text("hardtanh", f"min_val={min_val} > max_val={max_val}", "min_val is the smaller one"))
    for value in (min_val, max_val):
        refuse_overflow(value, input._dtype, "hardtanh")
    if input._dtype.kind == dtypes.INTEGER:
        min_val, max_val = int(min_val), int(max_val)
    return hardtanh_row(input, min_val, max_val)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""
    return softplus_row(input, beta, threshold)


def prelu(input: Any, weight: Any) -> Tensor:
    """X where positive, else weight * x.

    Args:
        input: (N, C, ...), floating.
        weight: (1,) or (C,), learned.

    Raises:
        ShapeError: if the weight fits neither.
    """
    input, weight = as_tensor_operand(input, "prelu"), as_tensor_operand(weight, "prelu")
    if weight.ndim > 1:
        raise ShapeError(text("prelu", f"weight has {weight.ndim} dimensions", "it must have 0 or 1"))
    if weight.numel() != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.numel() != channels:
            rule = "mismatch of parameter numbers and input channel size"
            raise ShapeError(text("prelu", f"weight has {weight.numel()} values for {channels} channels", rule))
        weight = weight.reshape([1, -1] + [1] * (input.ndim - 2))
    return prelu_row(input, weight)


# --- softmax ---


class _Softmax(Function):
    """exp(x) over its sum along a dimension."""

    node_name = "SoftmaxBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        if x._meta:
            made = Tensor._wrap_meta(x._array.shape, x._dtype)
        else:
            shifted = _shifted(x, dim)
            np.exp(shifted, out=shifted)
            shifted /= shifted.sum(dim, keepdims=True)
            made = Tensor._wrap(shifted.astype(x._array.dtype, copy=False), x._dtype)
        ctx.save_for_backward(made)
        return made

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        (y,) = ctx.saved_tensors
        gy = g * y
        return gy - y * gy.sum(ctx.dim, keepdim=True), None


class _LogSoftmax(Function):
    """x minus the logarithm of the sum of exp(x) along a dimension."""

    node_name = "LogSoftmaxBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        if x._meta:
            made = Tensor._wrap_meta(x._array.shape, x._dtype)
        else:
            shifted = _shifted(x, dim)
            with np.errstate(divide="ignore"):  # the sum of no elements
                shifted -= np.log(np.exp(shifted).sum(dim, keepdims=True))
            made = Tensor._wrap(shifted.astype(x._array.dtype, copy=False), x._dtype)
        ctx.save_for_backward(made)
        return made

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        (y,) = ctx.saved_tensors
        return g - y.exp() * g.sum(ctx.dim, keepdim=True), None


def _shifted(x: Tensor, dim: int) -> Array:
    """X minus its greatest along ``dim`` (a new array; 16-bit dtypes in float32), so that exp cannot overflow."""
    array = x._array.astype(np.float32) if x._dtype.is_half else x._array
    with np.errstate(all="ignore"):
        if array.ndim == 0:
            return np.asarray(array - array)
        return array - array.max(dim, keepdims=True) if array.shape[dim] else array.copy()


def _soft(function: type[Function], input: Any, dim: int, dtype: Any, who: str) -> Tensor:
    input = as_tensor_operand(input, who)
    if dtype is not None:
        input = input.to(dtype)
    if not input._dtype.is_floating_point:
        rule = "it takes floating point numbers"
        raise UnsupportedError(text(who, f"not implemented for {input._dtype}", rule, "pass dtype=konv.float32"))
    if input.ndim == 0:
        normalize_dim(dim, 1)
        return function.apply(input.reshape(1), 0).reshape([])
    return function.apply(input, normalize_dim(dim, input.ndim))


def softmax(input: Any, dim: int, dtype: Any = None) -> Tensor:
    """exp(x) over its sum along ``dim``: positive numbers whose sum is 1.

    Args:
        input: any shape, floating; ``dtype`` converts it first.
        dim: the dimension that sums to 1.
        dtype: of the result.

    Raises:
        UnsupportedError: for integers without dtype.

    Example:
        >>> import konv
        >>> konv.softmax(konv.tensor([0.0, 0.0]), dim=0)
        tensor([0.5000, 0.5000])
    """
    return _soft(_Softmax, input, dim, dtype, "softmax")


def log_softmax(input: Any, dim: int, dtype: Any = None) -> Tensor:
    """log(softmax(x)), exact where softmax underflows; arguments as ``softmax``."""
    return _soft(_LogSoftmax, input, dim, dtype, "log_softmax")


register({"softmax": softmax, "log_softmax": log_softmax, "prelu": prelu})
