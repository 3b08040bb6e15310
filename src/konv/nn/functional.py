"""Layers as functions, under PyTorch's names: thin, everything is done in ``ops``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..autograd import is_grad_enabled
from ..errors import ArgumentRangeError, DtypeError, text
from ..ops import activation as _activation
from ..ops.activation import gelu, logsigmoid, prelu, softplus
from ..ops.conv import conv2d, conv_transpose2d
from ..ops.dropout import dropout, dropout2d
from ..ops.elementary import sigmoid, tanh
from ..ops.fold import fold, unfold
from ..ops.linear import linear
from ..ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from ..ops.norm import batch_norm, group_norm
from ..ops.pad import pad
from ..ops.pool import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from ..ops.resize import interpolate
from ..tensor import Tensor

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "elu",
    "fold",
    "gelu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "interpolate",
    "l1_loss",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "pad",
    "prelu",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
    "unfold",
    "upsample",
]


def _with_inplace(function: Callable[..., Any]) -> Any:
    """A function of one tensor, with ``inplace`` as its second argument."""
    name = function.__name__

    def either(input: Tensor, inplace: bool = False) -> Tensor:
        return _written(input, function) if inplace else function(input)

    either.__name__ = either.__qualname__ = name
    either.__doc__ = (
        f"{function.__doc__}\n\n    Args:\n        input: any shape.\n        inplace: write into it.\n    "
    )
    return either


def _written(input: Tensor, function: Callable[..., Tensor], *options: Any) -> Tensor:
    """Put the function's result into its input; backward sees the values of before."""
    recorded = is_grad_enabled() and input.requires_grad
    return input.copy_(function(input.clone() if recorded else input, *options))


relu = _with_inplace(_activation.relu)
relu6 = _with_inplace(_activation.relu6)
silu = _with_inplace(_activation.silu)
mish = _with_inplace(_activation.mish)
hardswish = _with_inplace(_activation.hardswish)
hardsigmoid = _with_inplace(_activation.hardsigmoid)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """X where positive, else negative_slope * x."""
    function = _activation.leaky_relu
    return _written(input, function, negative_slope) if inplace else function(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """X where positive, else alpha * (exp(x) - 1)."""
    return _written(input, _activation.elu, alpha) if inplace else _activation.elu(input, alpha)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """X limited to [min_val, max_val], with no gradient from the ends on."""
    function = _activation.hardtanh
    return _written(input, function, min_val, max_val) if inplace else function(input, min_val, max_val)


def _dim(input: Tensor, dim: int | None, who: str, stacklevel: int) -> int:
    if dim is not None:
        return dim
    warnings.warn(f"{who}: the choice of dim is deprecated; pass dim=... yourself", stacklevel=stacklevel)
    return 0 if input.ndim in (0, 1, 3) else 1


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x) over its sum along ``dim``; without dim, 0 for 0, 1 or 3 dimensions, else 1 (with a warning)."""
    return _activation.softmax(input, _dim(input, dim, "softmax", _stacklevel), dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """log(softmax(x)); arguments as ``softmax``."""
    return _activation.log_softmax(input, _dim(input, dim, "log_softmax", _stacklevel), dtype)


def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """The older name of ``interpolate``."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """(...) class numbers to (..., num_classes) with a one at each; -1 takes the greatest number.

    Raises:
        DtypeError: if the numbers are not int64.
        ArgumentRangeError: for a number below 0, or not below ``num_classes``.

    Example:
        >>> import konv
        >>> konv.nn.functional.one_hot(konv.tensor([0, 2]))
        tensor([[1, 0, 0],
                [0, 0, 1]])
    """
    if tensor.dtype.name != "int64":
        raise DtypeError(text("one_hot", f"got {tensor.dtype}", "it takes int64 class numbers"))
    from ..ops.creation import arange

    empty = not tensor.numel()
    if num_classes < (1 if empty else -1) or num_classes == 0:
        raise ArgumentRangeError(text("one_hot", f"got num_classes={num_classes}", "it is positive, or -1 to count"))
    classes = num_classes
    if not (empty or tensor.is_meta):
        least, greatest = int(tensor.min().item()), int(tensor.max().item())
        classes = greatest + 1 if num_classes == -1 else num_classes
        if least < 0 or greatest >= classes:
            rule = f"class values are from 0 to {classes - 1}" if num_classes > 0 else "class values are not negative"
            raise ArgumentRangeError(text("one_hot", f"got values from {least} to {greatest}", rule))
    return (tensor.unsqueeze(-1) == arange(classes)).to(tensor.dtype)
