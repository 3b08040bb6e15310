"""Normalisation: channels, or groups of them, brought to mean 0 and variance 1, then scaled and shifted.

Batch norm shares its statistics over the images of a batch, group norm over the channels of a group; beyond that they
are one operation. The core sums over one channel of one image; how these sums are shared is said here, in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function, is_grad_enabled
from ..errors import (
    ArgumentError,
    ArgumentRangeError,
    ArgumentTypeError,
    DeviceError,
    DtypeError,
    ShapeError,
    UnsupportedError,
    text,
)
from ..geometry import integer
from ..kernels import layers as kernels
from ..tensor import Tensor
from .creation import as_tensor

__all__ = ["batch_norm", "group_norm"]

Array = np.ndarray[Any, Any]


class Normalize(Function):
    """(N, C, *) -> (N, C, *): ``(x - mean) / sqrt(var + eps) * weight + bias``.

    ``groups`` None shares mean and var over the batch, a number over the channels of each of so many groups.
    ``fixed`` is a (mean, var) pair of (C,) arrays to use instead of the input's own; ``running`` is a pair of tensors
    that move towards the input's mean and unbiased variance by ``momentum``.

    Source: S. Ioffe, C. Szegedy, "Batch normalization", arXiv:1502.03167, algorithm 1; Y. Wu, K. He, "Group
    normalization", arXiv:1803.08494, section 3.
    """

    node_name = "NativeBatchNormBackward0"
    fresh = True

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        groups: int | None,
        eps: float,
        fixed: tuple[Tensor, Tensor] | None,
        running: tuple[Tensor, Tensor] | None,
        momentum: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.groups, ctx.eps, ctx.own = groups, eps, fixed is None
        ctx.bias_dtype = None if bias is None else bias._dtype
        if x._meta:
            return Tensor._wrap_meta(x._array.shape, x._dtype)
        if not x._array.size:
            return Tensor._wrap(np.zeros(x._array.shape, x._dtype.numpy), x._dtype)
        images = _images(x._array, groups)
        if fixed is None:
            center, m2, count = _statistics(images, groups)
            variance = m2 / count
            if running is not None:
                _move(running[0], center[0], momentum)
                _move(running[1], m2[0] / max(count - 1, 1), momentum)
        else:
            center, variance = (_double(value) for value in fixed)
        ctx.center, ctx.rstd = center, 1 / np.sqrt(variance + eps)
        scale = ctx.rstd if weight is None else ctx.rstd * _double(weight)
        shift = np.zeros((1, images.shape[1])) if bias is None else _double(bias)
        y = kernels.channel_affine(images, center, scale, shift)
        return Tensor._wrap(_as_before(y, x._array, groups), x._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        if x._meta or not x._array.size:
            return (*_no_gradients(ctx, x, weight), *(None,) * 5)
        if is_grad_enabled():
            return (*_differentiable(ctx, grad, x, weight), *(None,) * 5)
        images, gy = _images(x._array, ctx.groups), _images(grad._array, ctx.groups)
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        center, rstd = ctx.center, ctx.rstd
        scale = rstd if weight is None else rstd * _double(weight)
        if need_weight or need_bias or ctx.own:
            sums, products = kernels.channel_products(gy, images, center)
        gx = None
        if need_x and not ctx.own:
            zero = np.zeros_like(scale)
            gx = kernels.channel_affine(gy, zero, scale, zero)
        elif need_x:
            # With u = gy * weight: gx = rstd * (u - mean(u) - (x - center) * rstd^2 * mean(u * (x - center))).
            by = 1.0 if weight is None else _double(weight)
            count = _count(images, ctx.groups)
            slope = -(rstd**3) * _shared(products * by, ctx.groups) / count
            shift = -rstd * _shared(sums * by, ctx.groups) / count
            gx = kernels.channel_combine(gy, images, scale, slope, center, shift)
        return (
            None if gx is None else Tensor._wrap(_as_before(gx, x._array, ctx.groups), x._dtype),
            _vector((products * rstd).sum(0), weight._dtype) if need_weight else None,
            _vector(sums.sum(0), ctx.bias_dtype) if need_bias else None,
            *(None,) * 5,
        )


class GroupNormalize(Normalize):
    """Normalize with statistics of groups of channels."""

    node_name = "NativeGroupNormBackward0"


def _differentiable(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor | None) -> tuple[Any, ...]:
    """The gradients as operations on tensors, for when they are differentiated in turn."""
    n, c = x.shape[:2]
    wide = dtypes.float32 if x._dtype.is_half else x._dtype
    groups = ctx.groups
    split = (n, c, -1) if groups is None else (n, groups, c // groups, -1)
    dims = (0, 2) if groups is None else (2, 3)
    per_channel = (1, c, 1) if groups is None else (1, groups, c // groups, 1)
    over = tuple(d for d in range(len(split)) if per_channel[d] == 1)
    images, gy = x.to(wide).reshape(split), grad.to(wide).reshape(split)
    u = gy if weight is None else gy * weight.to(wide).reshape(per_channel)
    if ctx.own:
        centred = images - images.mean(dims, keepdim=True)
        rstd = ((centred * centred).mean(dims, keepdim=True) + ctx.eps).rsqrt()
        unit = centred * rstd
        gx = rstd * (u - u.mean(dims, keepdim=True) - unit * (u * unit).mean(dims, keepdim=True))
    else:
        mean, rstd = (Tensor._wrap(value).to(wide).reshape(per_channel) for value in (ctx.center, ctx.rstd))
        unit = (images - mean) * rstd
        gx = u * rstd
    need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
    return (
        gx.reshape(x.shape).to(x._dtype) if need_x else None,
        (gy * unit).sum(over).reshape(c).to(weight._dtype) if need_weight and weight is not None else None,
        gy.sum(over).reshape(c).to(ctx.bias_dtype) if need_bias else None,
    )


# ---- sums over channels, and how they are shared ------------------------------------------------------------------


def _single_cells(array: Array, groups: int | None) -> bool:
    return groups is None and math.prod(array.shape[2:]) == 1


def _images(array: Array, groups: int | None) -> Array:
    """(N, C, *) as the (N, C, H, W) that the core reads, without a copy up to four axes."""
    n, c = array.shape[:2]
    if _single_cells(array, groups):
        return array.reshape(n, c).T[None, :, None, :]  # one image whose columns are the batch: rows worth a vector
    if array.ndim == 4:
        return array
    return array[:, :, None, :] if array.ndim == 3 else array.reshape(n, c, 1, -1)


def _as_before(images: Array, like: Array, groups: int | None) -> Array:
    """What was made of ``_images(like)``, in the shape of ``like`` and contiguous."""
    if _single_cells(like, groups):
        images = np.ascontiguousarray(images[0, :, 0, :].T)
    return images.reshape(like.shape)


def _count(images: Array, groups: int | None) -> int:
    """Cells that share one mean."""
    n, c, h, w = images.shape
    return (n if groups is None else c // groups) * h * w


def _shared(sums: Array, groups: int | None) -> Array:
    """(N, C) sums added up over the channels that share a mean: (1, C) for a batch, (N, C) for groups."""
    if groups is None:
        return sums.sum(0, keepdims=True)
    n, c = sums.shape
    return np.repeat(sums.reshape(n, groups, c // groups).sum(2), c // groups, axis=1)


def _statistics(images: Array, groups: int | None) -> tuple[Array, Array, int]:
    """Mean, sum of squared deviations from it, and cells counted.

    Source: T. Chan, G. Golub, R. LeVeque, "Algorithms for computing the sample variance", 1983, eq. 2.1.
    """
    means, m2 = kernels.channel_moments(images)
    cells, count = images.shape[2] * images.shape[3], _count(images, groups)
    center = _shared(means, groups) * (cells / count)
    return center, _shared(m2 + cells * (means - center) ** 2, groups), count


def _double(tensor: Tensor) -> Array:
    """(C,) as (1, C) of float64."""
    return tensor._array.astype(np.float64)[None]


def _vector(values: Array, dtype: dtypes.dtype) -> Tensor:
    return Tensor._wrap(values.astype(dtype.numpy), dtype)


def _no_gradients(ctx: Any, x: Tensor, weight: Tensor | None) -> list[Tensor | None]:
    """The gradients where there is no data, or none to sum."""
    dtypes_ = (x._dtype, None if weight is None else weight._dtype, ctx.bias_dtype)
    shapes = (x._array.shape, x._array.shape[1:2], x._array.shape[1:2])
    return [
        None if not need else Tensor._wrap_meta(shape, d) if x._meta else _vector(np.zeros(shape), d)
        for need, shape, d in zip(ctx.needs_input_grad[:3], shapes, dtypes_, strict=True)
    ]


def _move(running: Tensor, value: Array, momentum: float) -> None:
    """``running += momentum * (value - running)``, as a write that graphs notice."""
    before = running._array.astype(np.float64)
    running._array[...] = (before + momentum * (value - before)).astype(running._dtype.numpy)
    running._counter.value += 1


def count_batch(tracked: Tensor) -> int:
    """Add one to a count of batches, and return it."""
    tracked._counter.value += 1
    if tracked._meta:
        return 1
    tracked._array[...] += 1
    return int(tracked._array)


# ---- the functions ------------------------------------------------------------------------------------------------


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Bring every channel to mean 0 and variance 1, over the batch (training) or by running statistics.

    Args:
        input: (N, C) or (N, C, *), floating.
        running_mean: (C,), used when not training; else moved, in place, towards the batch's mean. None for both
            running statistics only when training.
        running_var: (C,), likewise, and the batch's unbiased variance.
        weight: (C,) or None: scale of each channel; of the input's dtype, or float32 for halves.
        bias: (C,) or None: shift of each channel, likewise.
        training: whether the statistics are those of the batch.
        momentum: how far the running statistics move.
        eps: added to the variance.

    Returns:
        The input's shape and dtype. Statistics are kept in float64.

    Raises:
        ShapeError (RuntimeError): the input has no channels axis, or a vector is not of C elements.
        ArgumentError (ValueError): training on one value a channel, or eps that is not positive.
        DtypeError (RuntimeError): dtypes that do not go together.
        UnsupportedError (NotImplementedError): not a floating dtype.

    Example:
        >>> import konv
        >>> import konv.nn.functional as F
        >>> x = konv.tensor([[1.0, 2.0], [3.0, 6.0]])
        >>> F.batch_norm(x, None, None, training=True, eps=1e-12)
        tensor([[-1., -1.],
                [ 1.,  1.]])
    """
    who = "batch_norm"
    x = input if isinstance(input, Tensor) else as_tensor(input)
    vectors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    given = {name: None if value is None else as_tensor(value) for name, value in vectors.items()}
    shape = x._array.shape
    if len(shape) < 2:
        raise ShapeError(text(who, f"got an input of shape {list(shape)}", "the input must be (N, C) or (N, C, *)"))
    mean, var = given["running_mean"], given["running_var"]
    if (mean is None) != (var is None):
        rule = "running_mean and running_var must either both be None or neither be None"
        raise (ArgumentError if training else ArgumentRangeError)(text(who, "got one of the two", rule))
    if mean is None and not training:
        raise ArgumentRangeError(text(who, "got None", "running_mean must be defined in evaluation mode"))
    eps = _number(eps, "eps", who)
    if training:
        if not eps > 0:
            raise ArgumentError(text(who, f"eps={eps}", "eps must be positive during training"))
        if shape[0] * math.prod(shape[2:]) == 1:
            got = f"got input size {list(shape)}"
            rule = "Expected more than 1 value per channel when training"
            raise ArgumentError(text(who, got, rule, "use more images, or eval()"))
    _check(x, given, who)
    pair = None if mean is None or var is None else (mean, var)
    return Normalize.apply(
        x,
        given["weight"],
        given["bias"],
        None,
        eps,
        None if training else pair,
        pair if training else None,
        _number(momentum, "momentum", who),
    )


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Bring every group of channels of every image to mean 0 and variance 1.

    Args:
        input: (N, C) or (N, C, *), floating.
        num_groups: how many groups the channels are cut into; divides C.
        weight: (C,) or None, as for ``batch_norm``.
        bias: (C,) or None, likewise.
        eps: added to the variance.

    Raises:
        ShapeError, ArgumentError, DtypeError, UnsupportedError: as ``batch_norm``.

    Example:
        >>> import konv
        >>> import konv.nn.functional as F
        >>> F.group_norm(konv.tensor([[1.0, 3.0, 5.0, 9.0]]), 2, eps=1e-12)
        tensor([[-1.,  1., -1.,  1.]])
    """
    who = "group_norm"
    x = input if isinstance(input, Tensor) else as_tensor(input)
    shape = x._array.shape
    if len(shape) < 2:
        got = f"got an input of shape {list(shape)}"
        raise ShapeError(text(who, got, "Expected at least 2 dimensions for input tensor: (N, C) or (N, C, *)"))
    groups = integer(num_groups, "num_groups", who, 1)
    if shape[0] * shape[1] // groups * math.prod(shape[2:]) == 1:
        rule = "Expected more than 1 value per channel when training"
        raise ArgumentError(text(who, f"got input size {list(shape)} in {groups} groups", rule))
    if shape[1] % groups:
        got = f"got an input of shape {list(shape)} and num_groups={groups}"
        raise ShapeError(text(who, got, "the number of channels must be divisible by num_groups"))
    given = {name: None if v is None else as_tensor(v) for name, v in (("weight", weight), ("bias", bias))}
    _check(x, given, who)
    return GroupNormalize.apply(x, given["weight"], given["bias"], groups, _number(eps, "eps", who), None, None, 0.0)


def _number(value: Any, name: str, who: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        got = f"{name}={value!r} is a {type(value).__name__}"
        raise ArgumentTypeError(text(who, got, f"{name} must be a number")) from None


def _check(x: Tensor, vectors: dict[str, Tensor | None], who: str) -> None:
    """Refuse dtypes, devices and lengths that do not fit the input."""
    if not x._dtype.is_floating_point:
        rule = "it takes floating point numbers"
        raise UnsupportedError(text(who, f"not implemented for {x._dtype!r}", rule, "use input.float()"))
    channels = x._array.shape[1]
    for name, vector in vectors.items():
        if vector is None:
            continue
        if vector._array.shape != (channels,):
            got = f"got {name} of shape {list(vector._array.shape)} and input of shape {list(x._array.shape)}"
            raise ShapeError(text(who, got, f"{name} should contain {channels} elements, one for each channel"))
        if vector._dtype is not x._dtype and not (x._dtype.is_half and vector._dtype is dtypes.float32):
            got = f"got mixed dtype: the input is {x._dtype!r} and {name} is {vector._dtype!r}"
            raise DtypeError(text(who, got, "they must be the same, or float32 for a half input"))
        if vector._meta is not x._meta:
            got = f"the input is on {x.device} and {name} on {vector.device}"
            raise DeviceError(text(who, got, "all tensors must be on one device"))
