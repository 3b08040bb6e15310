"""The layers around a convolution on plain arrays: pooling, normalisation, relu, and their gradients.

Images are (N, C, H, W) of float32, float64, float16 or bfloat16 (the halves compute in float32), with any strides;
maxima also take integers. Results are new and contiguous.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..errors import ArgumentError
from ..geometry import adaptive_window
from .arrays import call, raw

Array = NDArray[Any]
Windows: TypeAlias = _core.Windows


@lru_cache(maxsize=4096)
def windows(size: int, outputs: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> Windows:
    """Windows of ``kernel`` cells along an axis of ``size`` cells, ``stride`` apart, the first ``pad`` before it.

    Raises:
        ArgumentError: a size is not positive, or too large.
    """
    try:
        return Windows(size, outputs, kernel, stride, pad, dilation)
    except (ValueError, OverflowError, TypeError) as error:
        raise ArgumentError(str(error)) from None


@lru_cache(maxsize=1024)
def adaptive_windows(size: int, outputs: int) -> Windows:
    """The ``outputs`` windows that adaptive pooling cuts an axis of ``size`` cells into."""
    begin, end = zip(*(adaptive_window(i, size, outputs) for i in range(outputs)), strict=True)
    return Windows.adaptive(size, list(begin), list(end))


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
    values, cells = _call(lambda a: _core.max_pool2d(rows, columns, a, with_cells), x)
    shape = (*x.shape[:2], rows.outputs, columns.outputs)
    return _result(shape, x, values), None if cells is None else np.ndarray(shape, np.int64, cells)


def max_pool2d_gradient(gy: Array, cells: Array, rows: Windows, columns: Windows, size: tuple[int, int]) -> Array:
    """Gradient (N, C, *size) of the image of ``max_pool2d``: each ``gy`` goes to its cell.

    Raises:
        ArgumentError: a cell lies outside the image.
    """
    return _result(
        (*gy.shape[:2], *size), gy, _call(lambda *a: _core.max_pool2d_gradient(rows, columns, *a), gy, cells)
    )


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
    memory = _call(lambda a: _core.avg_pool2d(rows, columns, a, count_pad, divisor, False), x)
    return _result((*x.shape[:2], rows.outputs, columns.outputs), x, memory)


def avg_pool2d_gradient(
    gy: Array, rows: Windows, columns: Windows, size: tuple[int, int], count_pad: bool = True, divisor: int = 0
) -> Array:
    """Gradient (N, C, *size) of the image of ``avg_pool2d``: its transpose."""
    memory = _call(lambda a: _core.avg_pool2d(rows, columns, a, count_pad, divisor, True), gy)
    return _result((*gy.shape[:2], *size), gy, memory)


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
    return np.ndarray((2, *x.shape[:2]), np.float64, _call(_core.channel_products, gy, x, center))


def channel_affine(x: Array, center: Array, scale: Array, shift: Array) -> Array:
    """``(x - center) * scale + shift`` with (N or 1, C) float64 for each channel: (N, C, H, W)."""
    return _result(x.shape, x, _call(_core.channel_affine, x, center, scale, shift))


def channel_combine(gy: Array, x: Array, a: Array, b: Array, center: Array, shift: Array) -> Array:
    """``a * gy + b * (x - center) + shift`` with (N or 1, C) float64 for each channel: (N, C, H, W)."""
    return _result(x.shape, x, _call(_core.channel_combine, gy, x, a, b, center, shift))


def relu(x: Array) -> Array:
    """``max(x, 0)`` of each element, any shape; NaN stays. Dense memory keeps its order (channels last stays so)."""
    return _elementwise(_core.relu, x)


def relu_gradient(gy: Array, y: Array) -> Array:
    """``gy`` where the output ``y`` of ``relu`` is positive, 0 elsewhere; its memory has the order of ``y``."""
    if gy.shape != y.shape:
        raise ArgumentError("konv: gradient and output of relu differ in shape")
    return _elementwise(_core.relu_gradient, gy, y)


def _elementwise(function: Any, *arrays: Array) -> Array:
    """``function`` of arrays of one shape as one run of memory, in the order in which the last of them lies."""
    like = arrays[-1]
    if like.flags.c_contiguous:
        memory = _call(function, *[array.reshape(1, 1, 1, -1) for array in arrays])
        return _result(like.shape, like, memory)
    order = sorted(range(like.ndim), key=lambda axis: -abs(like.strides[axis]))
    runs = [np.ascontiguousarray(array.transpose(order)) for array in arrays]
    return _elementwise(function, *runs).transpose(np.argsort(order))


def _call(function: Any, *arrays: Array) -> Any:
    return call(function, *[raw(array) for array in arrays])


def _result(shape: tuple[int, ...], like: Array, memory: Any) -> Array:
    dtype = like.dtype
    return np.ndarray(shape, dtype if dtype.isnative else dtype.newbyteorder("="), memory)
