"""Options of pooling layers, checked and normalised once, and the windows that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import ArgumentRangeError, ArgumentTypeError, text
from ..geometry import Pair, integer, pair, pool_output_size
from ..kernels import layers as kernels


@dataclass(frozen=True, slots=True)
class Pooling:
    """The normalised options of a pooling layer with windows of one size."""

    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int = 0
    who: str = "max_pool2d"

    def output_size(self, h: int, w: int) -> Pair:
        """Rows and columns of the output for an image of ``h`` x ``w``."""
        oh, ow = (
            pool_output_size(
                size,
                self.kernel_size[i],
                self.stride[i],
                (self.padding[i],) * 2,
                self.dilation[i],
                self.ceil_mode,
                self.who,
            )
            for i, size in enumerate((h, w))
        )
        return oh, ow

    def windows(self, h: int, w: int) -> tuple[kernels.Windows, kernels.Windows]:
        """The windows along the rows and along the columns."""
        sizes = zip((h, w), self.output_size(h, w), strict=True)
        rows, columns = (
            kernels.windows(size, out, self.kernel_size[i], self.stride[i], self.padding[i], self.dilation[i])
            for i, (size, out) in enumerate(sizes)
        )
        return rows, columns


@dataclass(frozen=True, slots=True)
class AdaptivePooling:
    """Pooling to a given size: windows that differ by a cell where the sizes do not divide."""

    size: tuple[int | None, int | None]
    count_include_pad: bool = True
    divisor: int = 0
    who: str = "adaptive_avg_pool2d"

    def output_size(self, h: int, w: int) -> Pair:
        """Rows and columns of the output: those asked for, or the image's own."""
        rows, columns = self.size
        return h if rows is None else rows, w if columns is None else columns

    def windows(self, h: int, w: int) -> tuple[kernels.Windows, kernels.Windows]:
        """The windows along the rows and along the columns."""
        rows, columns = self.output_size(h, w)
        return kernels.adaptive_windows(h, rows), kernels.adaptive_windows(w, columns)


Options = Pooling | AdaptivePooling


def pooling(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    count_include_pad: Any = True,
    divisor_override: Any = None,
    who: str = "max_pool2d",
) -> Pooling:
    """Check and normalise the options of a pooling layer; no ``stride`` means that of ``kernel_size``.

    Raises:
        ArgumentTypeError (TypeError): an option has the wrong type.
        ArgumentRangeError (RuntimeError, ValueError): an option has a value that no image could satisfy.
    """
    options = (kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override)
    return _pooling(*(tuple(o) if isinstance(o, list) else o for o in options), who)


@lru_cache(maxsize=1024, typed=True)
def _pooling(
    kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, count: Any, divisor: Any, who: str
) -> Pooling:
    for name, value in (("ceil_mode", ceil_mode), ("count_include_pad", count)):
        if not isinstance(value, (bool, np.bool_)):
            got = f"{name}={value!r} is a {type(value).__name__}"
            raise ArgumentTypeError(text(who, got, f"{name} must be True or False"))
    for name, value in (("kernel_size", kernel_size), ("stride", stride), ("padding", padding), ("dilation", dilation)):
        if isinstance(value, bool):
            raise ArgumentTypeError(
                text(who, f"{name}={value!r} is a bool", f"{name} must be an int or a pair of ints")
            )
    kernel = pair(kernel_size, "kernel_size", who, 1)
    step = kernel if stride is None or stride == () else pair(stride, "stride", who, 1)
    pads, spread = pair(padding, "padding", who, 0), pair(dilation, "dilation", who, 1)
    for i, name in enumerate(("height", "width")):
        if pads[i] > kernel[i] // 2:
            got = f"padding={pads[i]} with kernel_size={kernel[i]} along the {name}"
            raise ArgumentRangeError(text(who, got, "pad should be at most half of kernel size"))
    if divisor is not None and integer(divisor, "divisor_override", who, -(2**63)) == 0:
        raise ArgumentRangeError(text(who, "divisor_override=0", "the divisor must not be zero"))
    return Pooling(kernel, step, pads, spread, bool(ceil_mode), bool(count), int(divisor or 0), who)


def adaptive_pooling(output_size: Any, who: str) -> AdaptivePooling:
    """Check and normalise the output size of an adaptive layer: an int, or a pair of ints or None.

    Raises:
        ArgumentTypeError (TypeError): it is neither.
        ArgumentRangeError (RuntimeError, ValueError): it is negative, or not a pair.
    """
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    if len(sizes) != 2:
        got = f"output_size={output_size!r}"
        raise ArgumentRangeError(text(who, got, "output_size must be 2 numbers, height and width, or one int"))
    rows, columns = (None if size is None else integer(size, "output_size", who, 0) for size in sizes)
    return AdaptivePooling((rows, columns), who=who)
