"""Variance and standard deviation."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import DtypeError
from ..tensor import Tensor, register
from ._table import maybe_cast
from .reduce import axes_of, count_of, folded_shape, input_of, mean_array, numpy_names, work_array

__all__ = ["std", "var"]


class Var(Function):
    """Mean squared distance from the mean, the divisor lowered by ``correction``; ``root`` gives std."""

    fresh = True
    node_name = "VarBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...], keepdim: bool, correction: float, root: bool) -> Tensor:
        dtype, shape = x._dtype.to_real(), folded_shape(x._array.shape, axes, keepdim)
        ctx.axes, ctx.shape, ctx.root = axes, x._array.shape, root
        ctx.divisor = max(count_of(x._array.shape, axes) - correction, 0)
        if root:
            ctx.node_name = "StdBackward0"
        if x._meta:
            made = Tensor._wrap_meta(shape, dtype)
        else:
            array = work_array(x)
            with np.errstate(all="ignore"):
                off = array - mean_array(array, axes, True)
                total = np.sum((off * off.conj()).real, axes, keepdims=keepdim)
                value = total / np.asarray(ctx.divisor).astype(total.dtype)
                made = Tensor._wrap(maybe_cast(np.sqrt(value) if root else value, dtype), dtype)
        ctx.save_for_backward(x, made if root else None)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, y = ctx.saved_tensors
        kept = folded_shape(ctx.shape, ctx.axes, True)
        g = grads[0].reshape(kept)
        if ctx.root:
            y = y.reshape(kept)
            g = (g / (y * 2)).masked_fill(y == 0, 0)
        divisor = ctx.divisor or float("nan")
        return (g * (x - x.mean(ctx.axes, keepdim=True)) * (2 / divisor), None, None, None, None)


def _variance(input: Any, dim: Any, unbiased: Any, keepdim: bool, correction: Any, root: bool) -> Tensor:
    input = input_of(input, "std" if root else "var")
    if isinstance(dim, bool):  # x.var(False): PyTorch's older spelling
        dim, unbiased = None, dim
    if input._dtype.kind < dtypes.FLOATING:
        raise DtypeError(
            f"{'std' if root else 'var'} only support floating point and complex dtypes, got {input._dtype}"
        )
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    return Var.apply(input, axes_of(dim, input._array.ndim), keepdim, correction, root)


@numpy_names
def var(
    input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """The variance over ``dim``; the divisor is the count less ``correction`` (1, or 0 if not ``unbiased``)."""
    return _variance(input, dim, unbiased, keepdim, correction, False)


@numpy_names
def std(
    input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """The square root of ``var``."""
    return _variance(input, dim, unbiased, keepdim, correction, True)


register({"var": var, "std": std})
