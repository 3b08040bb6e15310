"""Pooling layers: options checked when the layer is made, kept as they were written."""

from __future__ import annotations

from typing import Any

from ..ops.pool import pool_avg, pool_max
from ..ops.windows import AdaptivePooling, Pooling, adaptive_pooling, pooling
from ..tensor import Tensor
from .module import Module


class MaxPool2d(Module):
    """The largest cell of each window; NaN counts as larger than any number.

    Args:
        kernel_size: rows and columns of the window, an int or (height, width).
        stride: step between windows; None for ``kernel_size``.
        padding: cells of minus infinity added on both sides, at most half the kernel.
        dilation: distance between the cells that one window reads.
        return_indices: whether to return also int64 ``h * W + w`` of each maximum.
        ceil_mode: whether a last window may hang over the bottom and right edge.

    Shape:
        Input (N, C, H, W) or (C, H, W); output (N, C, H_out, W_out) or (C, H_out, W_out) with
        ``H_out = floor((H + 2*padding - dilation*(kernel_size - 1) - 1) / stride) + 1`` (or ceil), W_out likewise.

    Raises:
        ArgumentRangeError (RuntimeError, ValueError), ArgumentTypeError (TypeError): options that make no sense.
        ShapeError (RuntimeError): when called on what is no image, or on one smaller than the window.

    Example:
        >>> import konv
        >>> konv.nn.MaxPool2d(3, stride=2)(konv.zeros(20, 16, 50, 32)).shape
        torch.Size([20, 16, 24, 15])
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode
        self._options()

    def _options(self) -> Pooling:
        return pooling(
            self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, who=type(self).__name__
        )

    def forward(self, input: Tensor) -> Any:
        """(N, C, H, W) to (N, C, H_out, W_out), and the indices if asked for."""
        return pool_max(input, self._options(), self.return_indices)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The average cell of each window.

    Args:
        kernel_size, stride, padding, ceil_mode: as for ``MaxPool2d``; padding holds zeros.
        count_include_pad: whether cells of the padding count.
        divisor_override: what to divide the sum of each window by, instead of its number of cells.

    Shape:
        As ``MaxPool2d`` without dilation.

    Raises:
        ArgumentRangeError, ArgumentTypeError, ShapeError: as ``MaxPool2d``.

    Example:
        >>> import konv
        >>> konv.nn.AvgPool2d((3, 2), stride=(2, 1))(konv.zeros(20, 16, 50, 32)).shape
        torch.Size([20, 16, 24, 31])
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override
        self._options()

    def _options(self) -> Pooling:
        averaged = self.ceil_mode, self.count_include_pad, self.divisor_override
        return pooling(self.kernel_size, self.stride, self.padding, 1, *averaged, who=type(self).__name__)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H_out, W_out)."""
        return pool_avg(input, self._options())

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _Adaptive(Module):
    """What the two adaptive layers share."""

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size
        self._options()

    def _options(self) -> AdaptivePooling:
        return adaptive_pooling(self.output_size, type(self).__name__)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(_Adaptive):
    """The averages of windows that cut the image into parts, whatever its size.

    Args:
        output_size: rows and columns of the output: an int, or (height, width), None for the image's own.

    Shape:
        Input (N, C, H, W) or (C, H, W); output (N, C, *output_size) or (C, *output_size). Output ``i`` of ``n`` along
        an axis of ``size`` cells averages cells ``floor(i*size/n)`` to ``ceil((i+1)*size/n)``.

    Raises:
        ArgumentRangeError (RuntimeError, ValueError), ArgumentTypeError (TypeError): no such size.
        ShapeError (RuntimeError): when called on what is no image.

    Example:
        >>> import konv
        >>> konv.nn.AdaptiveAvgPool2d((None, 7))(konv.zeros(1, 64, 10, 9)).shape
        torch.Size([1, 64, 10, 7])
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, *output_size)."""
        return pool_avg(input, self._options())


class AdaptiveMaxPool2d(_Adaptive):
    """The maxima of windows that cut the image into parts, whatever its size.

    Args:
        output_size: as for ``AdaptiveAvgPool2d``.
        return_indices: whether to return also int64 ``h * W + w`` of each maximum.

    Shape:
        As ``AdaptiveAvgPool2d``.

    Raises:
        ArgumentRangeError, ArgumentTypeError, ShapeError: as ``AdaptiveAvgPool2d``.

    Example:
        >>> import konv
        >>> konv.nn.AdaptiveMaxPool2d(5)(konv.zeros(1, 64, 8, 9)).shape
        torch.Size([1, 64, 5, 5])
    """

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        """(N, C, H, W) to (N, C, *output_size), and the indices if asked for."""
        return pool_max(input, self._options(), self.return_indices)
