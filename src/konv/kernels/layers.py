"""The layers around a convolution on plain arrays: pooling, normalisation, relu, and their gradients.

Images are (N, C, H, W) of float32, float64, float16 or bfloat16 (the halves compute in float32), with any strides;
maxima also take integers. Results are new and contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..errors import ArgumentError
from ..geometry import INT64_MAX, adaptive_window
from .arrays import call, empty, raw

Array = NDArray[Any]

_MAXIMUM, _AVERAGE, _SPREAD = range(3)  # PoolKind of cpp/layers/layers.hpp


@dataclass(frozen=True, eq=False)
class Windows:
    """Where the windows of a pooling layer lie along one axis: arrays of int64, one for each output."""

    size: int
    first: Array  # the first cell inside the image
    taps: Array  # cells inside the image, ``dilation`` apart
    padded: Array  # cells, with those of the padding
    dilation: int = 1
    rule: tuple[int, int, int, int] = (0, 1, 1, 0)  # kernel (0: none), stride, spread, pad: see cpp/layers/layers.hpp

    @property
    def outputs(self) -> int:
        """How many windows there are."""
        return len(self.first)

    @cached_property
    def whole(self) -> bool:
        """Whether there is one window, and it is the axis."""
        return self.outputs == 1 and int(self.taps[0]) == self.size

    def transposed(self) -> Windows:
        """For each cell, the windows that hold it; without dilation."""
        cells = np.arange(self.size)
        first = np.searchsorted(self.first + self.taps, cells, "right")
        taps = np.searchsorted(self.first, cells, "right") - first
        kernel, stride, _, pad = self.rule
        return Windows(
            self.outputs, first, taps, taps, 1, (kernel, 1, stride, kernel - 1 - pad) if kernel else self.rule
        )


@lru_cache(maxsize=4096)
def _core_windows(of: Windows, transpose: bool = False, count_pad: bool = True, divisor: int = 0) -> _core.Windows:
    """What the core knows of them, with what averages divide by: ``divisor``, or the number of cells."""
    counts = of.padded if count_pad else np.maximum(of.taps, 1)
    divisors = [divisor] * of.outputs if divisor else counts.tolist()
    it = of.transposed() if transpose else of
    return _call(_core.Windows, it.size, it.dilation, it.first.tolist(), it.taps.tolist(), divisors, *it.rule)


@lru_cache(maxsize=4096)
def windows(size: int, outputs: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> Windows:
    """Windows of ``kernel`` cells along an axis of ``size`` cells, ``stride`` apart, the first ``pad`` before it.

    Raises:
        ArgumentError: a size is not positive, or too large.
    """
    sizes = (size, outputs, kernel, stride, dilation)
    if min(sizes) < 1 or pad < 0 or outputs * stride + size + 2 * pad + kernel * dilation > INT64_MAX:
        raise ArgumentError("konv: sizes of pooling windows must be positive, and their sum fit in 64 bits")
    start = np.arange(outputs) * stride - pad
    before = -(start // dilation) * (start < 0)  # taps of the padding
    first, last = start + before * dilation, start + (kernel - 1) * dilation
    after = -((size - 1 - last) // dilation) * (last >= size)
    taps = np.maximum(kernel - before - after, 0)
    # Padding after the image counts only as far as it was asked for, not to the window's end.
    padded = np.minimum(kernel, size + pad - start)
    # Else the cells of windows are better brought together one by one.
    follows = outputs > 1 and pad < kernel <= size and (stride <= 16 or kernel > 64 * stride)
    return Windows(size, first, taps, padded, dilation, (kernel, stride, 1, pad) if follows else (0, 1, 1, 0))


@lru_cache(maxsize=1024)
def adaptive_windows(size: int, outputs: int) -> Windows:
    """The ``outputs`` windows that adaptive pooling cuts an axis of ``size`` cells into."""
    if size % outputs == 0:
        return windows(size, outputs, size // outputs, size // outputs, 0)
    first, end = adaptive_window(np.arange(outputs), size, outputs)
    return Windows(size, first, end - first, end - first)


def max_pool2d(x: Array, rows: Windows, columns: Windows, with_cells: bool) -> tuple[Array, Array | None]:
    """The largest cell of each window, and where it is.

    Args:
        x: (N, C, H, W).
        rows: the windows along H.
        columns: the windows along W.
        with_cells: whether to return the second result.

    Returns:
        (N, C, H_out, W_out) of the same dtype, and int64 ``h * W + w`` of the same shape (the first of equal cells,
        the last NaN; -1 where a window holds padding alone), or None.

    Example:
        >>> import numpy as np
        >>> from konv.kernels import layers
        >>> x = np.array([[[[1.0, 5.0, 2.0, 0.0]]]])
        >>> halves, row = layers.windows(4, 2, 2, 2, 0), layers.windows(1, 1, 1, 1, 0)
        >>> y, cells = layers.max_pool2d(x, row, halves, True)
        >>> y.ravel().tolist(), cells.ravel().tolist()
        ([5.0, 2.0], [1, 2])
    """
    values, cells = _call(_core.pool2d, _MAXIMUM, _core_windows(rows), _core_windows(columns), x, with_cells)
    shape = (*x.shape[:2], rows.outputs, columns.outputs)
    return _result(shape, x, values), None if cells is None else np.ndarray(shape, np.int64, cells)


def max_pool2d_gradient(gy: Array, cells: Array, size: tuple[int, int]) -> Array:
    """Gradient (N, C, *size) of the image of ``max_pool2d``: each ``gy`` goes to its cell.

    Raises:
        ArgumentError: a cell lies outside the image.
    """
    return _result((*gy.shape[:2], *size), gy, _call(_core.max_pool2d_gradient, gy, cells, *size))


def avg_pool2d(x: Array, rows: Windows, columns: Windows, count_pad: bool = True, divisor: int = 0) -> Array:
    """The sum of each window over its number of cells, or over ``divisor``: (N, C, H_out, W_out).

    ``count_pad`` counts cells of the padding too.

    Example:
        >>> import numpy as np
        >>> from konv.kernels import layers
        >>> x = np.arange(6.0).reshape(1, 1, 1, 6)
        >>> layers.avg_pool2d(x, layers.windows(1, 1, 1, 1, 0), layers.windows(6, 3, 2, 2, 0)).ravel().tolist()
        [0.5, 2.5, 4.5]
    """
    shape = (*x.shape[:2], rows.outputs, columns.outputs)
    if rows.whole and columns.whole and x.dtype.kind not in "iu":
        means = channel_sums(x) / (divisor or _cells(rows, columns, count_pad))
        with np.errstate(over="ignore"):
            return means.astype(x.dtype.newbyteorder("=")).reshape(shape)
    return _averages(_AVERAGE, x, shape, rows, columns, count_pad, divisor)


def avg_pool2d_gradient(
    gy: Array, rows: Windows, columns: Windows, size: tuple[int, int], count_pad: bool = True, divisor: int = 0
) -> Array:
    """Gradient (N, C, *size) of the image of ``avg_pool2d``: its transpose."""
    shape = (*gy.shape[:2], *size)
    if rows.whole and columns.whole:
        gx = empty(shape, gy.dtype.newbyteorder("="))
        gx[...] = (gy.astype(np.float64) / (divisor or _cells(rows, columns, count_pad))).astype(gx.dtype)
        return gx
    return _averages(_SPREAD, gy, shape, rows, columns, count_pad, divisor)


def _cells(rows: Windows, columns: Windows, count_pad: bool) -> int:
    """What the average of a whole channel is divided by."""
    return int(rows.padded[0]) * int(columns.padded[0]) if count_pad else rows.size * columns.size


def _averages(kind: int, x: Array, shape: Any, rows: Windows, columns: Windows, count_pad: bool, divisor: int) -> Array:
    transpose = kind == _SPREAD
    along = _core_windows(rows, transpose, count_pad, divisor)
    across = _core_windows(columns, transpose, count_pad, 1 if divisor else 0)
    return _result(shape, x, _call(_core.pool2d, kind, along, across, x, False)[0])


def channel_sums(x: Array) -> Array:
    """Sum of each channel of each image: (N, C) float64.

    Example:
        >>> import numpy as np
        >>> from konv.kernels import layers
        >>> layers.channel_sums(np.array([[[[1.0, 2.0, 3.0]]]])).tolist()
        [[6.0]]
    """
    return np.ndarray((2, *x.shape[:2]), np.float64, _call(_core.channel_sums, x))[0]


def channel_moments(x: Array) -> Array:
    """Mean, and sum of squared deviations from it, of each channel of each image: (2, N, C) float64.

    Example:
        >>> import numpy as np
        >>> from konv.kernels import layers
        >>> layers.channel_moments(np.array([[[[1.0, 2.0, 3.0]]]])).ravel().tolist()
        [2.0, 2.0]
    """
    return np.ndarray((2, *x.shape[:2]), np.float64, _call(_core.channel_moments, x))


def channel_products(gy: Array, x: Array, center: Array) -> Array:
    """Sum of ``gy``, and of ``gy * (x - center)``, over each channel of each image: (2, N, C) float64.

    ``center`` is (N or 1, C) float64.
    """
    return np.ndarray((2, *x.shape[:2]), np.float64, _call(_core.channel_products, x, gy, center))


def channel_affine(x: Array, center: Array, scale: Array, shift: Array) -> Array:
    """``(x - center) * scale + shift`` with (N or 1, C) float64 for each channel: (N, C, H, W)."""
    return _result(x.shape, x, _call(_core.channel_affine, x, center, scale, shift))


def channel_combine(gy: Array, x: Array, a: Array, b: Array, center: Array, shift: Array) -> Array:
    """``a * gy + b * (x - center) + shift`` with (N or 1, C) float64 for each channel: (N, C, H, W)."""
    return _result(x.shape, x, _call(_core.channel_combine, x, gy, center, a, b, shift))


def relu(x: Array) -> Array:
    """``max(x, 0)`` of each element, any shape; NaN stays. Dense memory keeps its order (channels last stays so)."""
    return _elementwise(_core.relu, x)


def relu_gradient(gy: Array, y: Array) -> Array:
    """``gy`` where the output ``y`` of ``relu`` is positive, 0 elsewhere; its memory has the order of ``y``."""
    if gy.shape != y.shape:
        raise ArgumentError("konv: gradient and output of relu differ in shape")
    return _elementwise(_core.relu_gradient, y, gy)


def _elementwise(function: Any, *arrays: Array) -> Array:
    """``function`` of arrays of one shape as one run of memory, in the order in which the first of them lies."""
    like = arrays[0]
    if like.flags.c_contiguous:
        memory = _call(function, *[array.reshape(1, 1, 1, -1) for array in arrays])
        return _result(like.shape, like, memory)
    order = sorted(range(like.ndim), key=lambda axis: -abs(like.strides[axis]))
    runs = [np.ascontiguousarray(array.transpose(order)) for array in arrays]
    return _elementwise(function, *runs).transpose(np.argsort(order))


def _call(function: Any, *arguments: Any) -> Any:
    return call(function, *[raw(item) if isinstance(item, np.ndarray) else item for item in arguments])


def _result(shape: tuple[int, ...], like: Array, memory: Any) -> Array:
    dtype = like.dtype
    return np.ndarray(shape, dtype if dtype.isnative else dtype.newbyteorder("="), memory)
