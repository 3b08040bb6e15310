"""Pooling: the largest, or the average, cell of each window of an image.

A maximum sends its gradient to the cell it came from; the derivative of that is to pick cells, and of picking to send
again. An average is linear: its gradient is its transpose, and the gradient of that the average. So derivatives of any
order need nothing more.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentRangeError, ShapeError, UnsupportedError, text
from ..geometry import Pair
from ..kernels import layers as kernels
from ..tensor import Tensor
from .creation import as_tensor
from .windows import AdaptivePooling, Options, adaptive_pooling, pooling

__all__ = ["adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d"]


class MaxPool(Function):
    """(N, C, H, W) -> (N, C, H_out, W_out), and with ``indices`` also int64 ``h * W + w`` of each maximum."""

    node_name = "MaxPool2DWithIndicesBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, options: Options, indices: bool) -> Any:
        shape = x._array.shape
        size = options.output_size(*shape[2:])
        out = (*shape[:2], *size)
        ctx.set_materialize_grads(False)
        ctx.options, ctx.size = options, shape[2:]
        cells: Tensor | None
        if x._meta or not math.prod(out):
            values, cells = _zeros(out, x._dtype, x._meta), _zeros(out, dtypes.int64, x._meta)
        else:
            rows, columns = options.windows(*shape[2:])
            y, places = kernels.max_pool2d(x._array, rows, columns, indices or ctx.needs_input_grad[0])
            values = Tensor._wrap(y, x._dtype)
            cells = None if places is None else Tensor._wrap(places, dtypes.int64)
        ctx.save_for_backward(cells)
        if not indices:
            return values
        ctx.mark_non_differentiable(cells)
        return values, cells

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, None, None]:
        (cells,) = ctx.saved_tensors
        return None if grad is None else SendToCells.apply(grad, cells, ctx.options, ctx.size), None, None


class AdaptiveMaxPool(MaxPool):
    """MaxPool over adaptive windows."""

    node_name = "AdaptiveMaxPool2DBackward0"


class SendToCells(Function):
    """(N, C, H_out, W_out) -> (N, C, H, W): every value is added to its cell."""

    node_name = "MaxPool2DWithIndicesBackwardBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, grad: Tensor, cells: Tensor, options: Options, size: Pair) -> Tensor:
        ctx.save_for_backward(cells)
        ctx.options, ctx.size = options, size
        shape = (*grad._array.shape[:2], *size)
        if grad._meta or not grad._array.size:
            return _zeros(shape, grad._dtype, grad._meta)
        gx = kernels.max_pool2d_gradient(grad._array, cells._array, size)
        return Tensor._wrap(gx, grad._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        (cells,) = ctx.saved_tensors
        return PickCells.apply(grad, cells, ctx.options), None, None, None


class PickCells(Function):
    """(N, C, H, W) -> (N, C, H_out, W_out): the value of every cell that was chosen."""

    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, cells: Tensor, options: Options) -> Tensor:
        ctx.save_for_backward(cells)
        ctx.options, ctx.size = options, x._array.shape[2:]
        places = cells._array
        if x._meta or not places.size:
            return _zeros(places.shape, x._dtype, x._meta)
        n, c = places.shape[:2]
        flat = np.ascontiguousarray(x._array).reshape(n, c, -1)
        picked = np.take_along_axis(flat, np.maximum(places, 0).reshape(n, c, -1), 2).reshape(places.shape)
        picked[places < 0] = 0  # a window of padding alone chose no cell
        return Tensor._wrap(picked, x._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        (cells,) = ctx.saved_tensors
        return SendToCells.apply(grad, cells, ctx.options, ctx.size), None, None


class AvgPool(Function):
    """(N, C, H, W) -> (N, C, H_out, W_out): the average of each window."""

    node_name = "AvgPool2DBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, options: Options) -> Tensor:
        shape = x._array.shape
        ctx.options, ctx.size = options, shape[2:]
        out = (*shape[:2], *options.output_size(*shape[2:]))
        if x._meta or not math.prod(out):
            return _zeros(out, x._dtype, x._meta)
        y = kernels.avg_pool2d(
            x._array, *options.windows(*shape[2:]), count_pad=options.count_include_pad, divisor=options.divisor
        )
        return Tensor._wrap(y, x._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return SpreadAverage.apply(grad, ctx.options, ctx.size), None


class AdaptiveAvgPool(AvgPool):
    """AvgPool over adaptive windows."""

    node_name = "AdaptiveAvgPool2DBackward0"


class SpreadAverage(Function):
    """(N, C, H_out, W_out) -> (N, C, H, W): the transpose of AvgPool."""

    node_name = "AvgPool2DBackwardBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, grad: Tensor, options: Options, size: Pair) -> Tensor:
        ctx.options = options
        shape = (*grad._array.shape[:2], *size)
        if grad._meta or not grad._array.size:
            return _zeros(shape, grad._dtype, grad._meta)
        windows = options.windows(*size)
        gx = kernels.avg_pool2d_gradient(grad._array, *windows, size, options.count_include_pad, options.divisor)
        return Tensor._wrap(gx, grad._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return AvgPool.apply(grad, ctx.options), None, None


def _zeros(shape: tuple[int, ...], dtype: dtypes.dtype, meta: bool) -> Tensor:
    """What an operation without data (meta) or without cells gives."""
    return Tensor._wrap_meta(shape, dtype) if meta else Tensor._wrap(np.zeros(shape, dtype.numpy), dtype)


# ---- images, checked ----------------------------------------------------------------------------------------------


def _image(input: Any, who: str, channels: bool = True, no_image: type[Exception] = ShapeError) -> Tensor:
    """``input`` as a tensor of (N, C, H, W) or (C, H, W), else ``no_image``, with cells (and, if asked, channels)."""
    x = input if isinstance(input, Tensor) else as_tensor(input)
    shape = x._array.shape
    if len(shape) not in (3, 4):
        got = f"got an input of shape {list(shape)}"
        rule = "Expected 3D (unbatched) or 4D (batch mode) tensor: (C, H, W) or (N, C, H, W)"
        raise no_image(text(who, got, rule, "add axes with x.unsqueeze(0)"))
    if 0 in shape[-3 if channels else -2 :]:
        rule = "Expected input to have non-zero size for non-batch dimensions"
        raise ShapeError(text(who, f"got an input of shape {list(shape)}", rule))
    return x


def _refuse(x: Tensor, allowed: bool, who: str, what: str) -> None:
    if not allowed:
        raise UnsupportedError(text(who, f"not implemented for {x._dtype!r}", f"it takes {what}", "use input.float()"))


def _batched(function: Any, x: Tensor, *args: Any) -> Any:
    """``function`` of a batch; an image alone is a batch of one."""
    if x._array.ndim == 4:
        return function.apply(x, *args)
    out = function.apply(x.unsqueeze(0), *args)
    return tuple(o.squeeze(0) for o in out) if isinstance(out, tuple) else out.squeeze(0)


# ---- the functions ------------------------------------------------------------------------------------------------


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest cell of each window; NaN counts as larger than any number.

    Args:
        input: (N, C, H, W) or (C, H, W), floating or integer.
        kernel_size: rows and columns of the window, an int or (height, width).
        stride: step between windows; None for ``kernel_size``.
        padding: cells of minus infinity added on both sides, at most half the kernel.
        dilation: distance between the cells that one window reads.
        ceil_mode: whether a last window may hang over the bottom and right edge.
        return_indices: whether to return also where each maximum lies.

    Returns:
        (N, C, H_out, W_out) in the input's dtype; with ``return_indices`` also int64 ``h * W + w`` of the same shape:
        the first of equal cells, the last NaN, -1 where dilation leaves nothing but padding.

    Raises:
        ShapeError (RuntimeError): the input is no image, or smaller than the window.
        ArgumentRangeError (RuntimeError, ValueError), ArgumentTypeError (TypeError): options that make no sense.
        UnsupportedError (NotImplementedError): bool or complex.

    Example:
        >>> import konv
        >>> import konv.nn.functional as F
        >>> F.max_pool2d(konv.arange(16.0).reshape(1, 1, 4, 4), 2)
        tensor([[[[ 5.,  7.],
                  [13., 15.]]]])
    """
    return pool_max(input, pooling(kernel_size, stride, padding, dilation, ceil_mode), return_indices)


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The average cell of each window.

    Args:
        input: (N, C, H, W) or (C, H, W), floating or int64.
        kernel_size: rows and columns of the window, an int or (height, width).
        stride: step between windows; None for ``kernel_size``.
        padding: cells of zeros added on both sides, at most half the kernel.
        ceil_mode: whether a last window may hang over the bottom and right edge.
        count_include_pad: whether cells of the padding count.
        divisor_override: what to divide the sum of each window by, instead of its number of cells.

    Returns:
        (N, C, H_out, W_out) in the input's dtype; float16 and bfloat16 sum in float32.

    Raises:
        ShapeError, ArgumentRangeError, ArgumentTypeError, UnsupportedError: as ``max_pool2d``.

    Example:
        >>> import konv
        >>> import konv.nn.functional as F
        >>> F.avg_pool2d(konv.arange(16.0).reshape(1, 1, 4, 4), 2)
        tensor([[[[ 2.5000,  4.5000],
                  [10.5000, 12.5000]]]])
    """
    options = (kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override, "avg_pool2d")
    return pool_avg(input, pooling(*options))


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Tensor:
    """The averages of windows that cut the image into ``output_size`` parts, an int or (height or None, width or None).

    Output ``i`` of ``n`` along an axis of ``size`` cells averages cells ``floor(i*size/n)`` to ``ceil((i+1)*size/n)``.

    Raises:
        ArgumentRangeError (RuntimeError, ValueError): the input is no image, or there is no such size.
        ArgumentTypeError (TypeError), ShapeError (RuntimeError): the size is no number; the image has no cells.
        UnsupportedError (NotImplementedError): not a floating dtype.

    Example:
        >>> import konv
        >>> import konv.nn.functional as F
        >>> F.adaptive_avg_pool2d(konv.arange(16.0).reshape(1, 1, 4, 4), 1)
        tensor([[[[7.5000]]]])
    """
    return pool_avg(input, adaptive_pooling(output_size, "adaptive_avg_pool2d"))


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of windows that cut the image into ``output_size`` parts, as ``adaptive_avg_pool2d`` does.

    Returns:
        (N, C, *output_size), and with ``return_indices`` also int64 ``h * W + w`` of each maximum.

    Raises:
        ShapeError, ArgumentRangeError, ArgumentTypeError, UnsupportedError: as ``adaptive_avg_pool2d``.
    """
    return pool_max(input, adaptive_pooling(output_size, "adaptive_max_pool2d"), return_indices)


def pool_max(input: Any, options: Options, return_indices: bool = False) -> Any:
    """Maxima with options that are already checked: what the layers call."""
    who = options.who
    if isinstance(options, AdaptivePooling):
        x = _image(input, who, no_image=ArgumentRangeError)  # in PyTorch a ValueError if the size is a pair
        _refuse(x, x._dtype.is_floating_point, who, "floating point numbers")
        return _batched(AdaptiveMaxPool, x, options, bool(return_indices))
    x = _image(input, who)
    _refuse(x, not (x._dtype.is_complex or x._dtype is dtypes.bool), who, "real numbers")
    return _batched(MaxPool, x, options, bool(return_indices))


def pool_avg(input: Any, options: Options) -> Tensor:
    """Averages with options that are already checked: what the layers call."""
    if isinstance(options, AdaptivePooling):
        x = _image(input, options.who, channels=False, no_image=ArgumentRangeError)
        _refuse(x, x._dtype.is_floating_point, options.who, "floating point numbers")
        return _batched(AdaptiveAvgPool, x, options)
    x = _image(input, options.who)
    _refuse(x, x._dtype.is_floating_point or x._dtype is dtypes.int64, options.who, "floating point numbers or int64")
    return _batched(AvgPool, x, options)
