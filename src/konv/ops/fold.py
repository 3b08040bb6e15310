"""Windows as columns (``unfold``) and columns summed back into an image (``fold``): each the other's transpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Function
from ..errors import ShapeError, text
from ..geometry import ConvGeometry, pair
from ..tensor import Tensor

Array = np.ndarray[Any, Any]


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """Every window that a convolution looks at, as a column.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: size of the window, int or pair.
        dilation: step between its cells, int or pair.
        padding: zeros around the image, int or pair.
        stride: step between windows, int or pair.

    Returns:
        (N, C * kh * kw, windows), or without N.

    Raises:
        ShapeError: for other dimensions, or if no window fits.

    Example:
        >>> import konv
        >>> konv.nn.functional.unfold(konv.arange(9.0).reshape(1, 1, 3, 3), 2)[0, :, 0]
        tensor([0., 1., 3., 4.])
    """
    if input.ndim == 3:
        return unfold(input.unsqueeze(0), kernel_size, dilation, padding, stride).squeeze(0)
    if input.ndim != 4:
        rule = "it takes (N, C, H, W) or (C, H, W)"
        raise ShapeError(text("unfold", f"input of shape {tuple(input.shape)}", rule))
    geometry = _geometry(kernel_size, dilation, padding, stride, "unfold")
    geometry.output_size(*input.shape[2:])
    return Unfold.apply(input, geometry)


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The columns of ``unfold``, each added where it came from.

    Args:
        input: (N, C * kh * kw, windows) or without N.
        output_size: (H, W) of the image, int or pair.
        kernel_size: size of the window, int or pair.
        dilation: step between its cells, int or pair.
        padding: zeros around the image, int or pair.
        stride: step between windows, int or pair.

    Returns:
        (N, C, H, W), or without N.

    Raises:
        ShapeError: if rows or columns do not fit the window and the image.
    """
    if input.ndim == 2:
        return fold(input.unsqueeze(0), output_size, kernel_size, dilation, padding, stride).squeeze(0)
    if input.ndim != 3:
        rule = "it takes (N, C * kh * kw, windows), or without N"
        raise ShapeError(text("fold", f"input of shape {tuple(input.shape)}", rule))
    geometry = _geometry(kernel_size, dilation, padding, stride, "fold")
    height, width = pair(output_size, "output_size", "fold", 1)
    rows, columns = geometry.output_size(height, width)
    taps = geometry.kernel_size[0] * geometry.kernel_size[1]
    if input.shape[1] % taps:
        rule = f"it must be divisible by the window's {taps} cells"
        raise ShapeError(text("fold", f"dimension 1 has the size {input.shape[1]}", rule))
    if input.shape[2] != rows * columns:
        rule = f"an image of {height}x{width} has {rows} * {columns} = {rows * columns} windows"
        raise ShapeError(text("fold", f"dimension 2 has the size {input.shape[2]}", rule))
    return Fold.apply(input, geometry, (height, width))


def _geometry(kernel_size: Any, dilation: Any, padding: Any, stride: Any, who: str) -> ConvGeometry:
    return ConvGeometry.of(1, 1, kernel_size, stride=stride, padding=padding, dilation=dilation, who=who)


class Unfold(Function):
    """Image to columns."""

    node_name = "Im2ColBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, geometry: ConvGeometry) -> Tensor:
        n, c, height, width = x._array.shape
        ctx.case = (geometry, (height, width))
        (kh, kw), (rows, columns) = geometry.kernel_size, geometry.output_size(height, width)
        shape = (n, c * kh * kw, rows * columns)
        if x._meta:
            return Tensor._wrap_meta(shape, x._dtype)
        padded = np.pad(x._array, ((0, 0), (0, 0), *geometry.pads(height, width)))
        out = np.empty((n, c, kh, kw, rows, columns), x._array.dtype)
        for i in range(kh):
            for j in range(kw):
                out[:, :, i, j] = _tap(padded, geometry, i, j, rows, columns)
        return Tensor._wrap(out.reshape(shape), x._dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        return Fold.apply(g, *ctx.case), None


class Fold(Function):
    """Columns to image."""

    node_name = "Col2ImBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, geometry: ConvGeometry, size: tuple[int, int]) -> Tensor:
        ctx.geometry = geometry
        (kh, kw), (rows, columns) = geometry.kernel_size, geometry.output_size(*size)
        n, c = x._array.shape[0], x._array.shape[1] // (kh * kw)
        if x._meta:
            return Tensor._wrap_meta((n, c, *size), x._dtype)
        (top, bottom), (left, right) = geometry.pads(*size)
        padded = np.zeros((n, c, size[0] + top + bottom, size[1] + left + right), x._array.dtype)
        parts = x._array.reshape(n, c, kh, kw, rows, columns)
        for i in range(kh):
            for j in range(kw):
                _tap(padded, geometry, i, j, rows, columns)[...] += parts[:, :, i, j]
        image = padded[:, :, top : top + size[0], left : left + size[1]]
        return Tensor._wrap(np.ascontiguousarray(image), x._dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        return Unfold.apply(g, ctx.geometry), None, None


def _tap(padded: Array, geometry: ConvGeometry, i: int, j: int, rows: int, columns: int) -> Array:
    """The cells that tap (i, j) of the window sees, one a window."""
    (dh, dw), (sh, sw) = geometry.dilation, geometry.stride
    top, left = i * dh, j * dw
    return padded[:, :, top : top + (rows - 1) * sh + 1 : sh, left : left + (columns - 1) * sw + 1 : sw]
