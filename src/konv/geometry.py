"""Whole numbers only: the options of one convolution, normalised once, and every size that follows from them.

This file is the only home of these formulas in Python; ``cpp/geometry.hpp`` holds the one other copy, and a test
ties the two. Everybody who needs a shape, a pad, a cost or a window asks here.

Source: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, sections 2-5.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from .errors import ArgumentError, ArgumentRangeError, ArgumentTypeError, ShapeError, text

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]  # ((top, bottom), (left, right))
SamePadding = Literal["same", "same_upper", "same_lower"]

INT64_MAX = 2**63 - 1
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
PADDING_WORDS = ("valid", "same", "same_upper", "same_lower")
AXES = ("height", "width")


def integer(value: Any, name: str, who: str, least: int) -> int:
    """``value`` as a plain int that is at least ``least`` and fits 64 bits.

    Raises:
        ArgumentTypeError: ``value`` is not a whole number.
        ArgumentRangeError: it is too small or too large.
    """
    try:
        number = operator.index(value)
    except TypeError:
        got = f"{name}={value!r} is a {type(value).__name__}"
        raise ArgumentTypeError(text(who, got, f"{name} must be a whole number")) from None
    if number < least:
        raise ArgumentRangeError(text(who, f"{name}={number}", f"{name} must be at least {least}"))
    if number > INT64_MAX:
        raise ArgumentRangeError(text(who, f"{name}={number}", "sizes must fit in 64 bits"))
    return number


def pair(value: Any, name: str, who: str, least: int) -> Pair:
    """One whole number for both axes, or a sequence of two: height first, width second.

    Example:
        >>> from konv.geometry import pair
        >>> pair(3, "stride", "Conv2d", 1), pair([1, 2], "stride", "Conv2d", 1)
        ((3, 3), (1, 2))
    """
    several = hasattr(value, "__len__") and hasattr(value, "__getitem__") and getattr(value, "ndim", 1) > 0
    if isinstance(value, (str, bytes, dict, set)) or not several:
        if not hasattr(value, "__index__"):
            got = f"{name}={value!r} is a {type(value).__name__}"
            raise ArgumentTypeError(text(who, got, f"{name} must be an int or a pair of ints (height, width)"))
        return (integer(value, name, who, least),) * 2
    items = list(value)
    if len(items) == 1:
        items *= 2
    if len(items) != 2:
        got = f"{name}={tuple(items)!r} has {len(items)} elements"
        raise ArgumentRangeError(text(who, got, f"{name} must be an int or a pair of ints (height, width)"))
    return integer(items[0], f"{name}[0]", who, least), integer(items[1], f"{name}[1]", who, least)


def normalise_padding(value: Any, who: str) -> Pads | SamePadding:
    """Padding as ``((top, bottom), (left, right))``, or the word whose cells depend on the image."""
    if isinstance(value, str):
        if value == "valid":
            return (0, 0), (0, 0)
        if value not in PADDING_WORDS:
            words = ", ".join(map(repr, PADDING_WORDS))
            got = f"padding={value!r} is unknown"
            raise ArgumentRangeError(text(who, got, f"a word for padding must be one of {words}"))
        return value  # type: ignore[return-value]
    nested = isinstance(value, (tuple, list)) and any(isinstance(item, (tuple, list)) for item in value)
    if not nested:
        height, width = pair(value, "padding", who, 0)
        return (height, height), (width, width)
    shaped = len(value) == 2 and all(isinstance(item, (tuple, list)) and len(item) == 2 for item in value)
    if not shaped:
        got = f"padding={value!r}"
        raise ArgumentRangeError(text(who, got, "two-sided padding must be ((top, bottom), (left, right))"))
    return pair(value[0], "padding[0]", who, 0), pair(value[1], "padding[1]", who, 0)


def divisors(number: int) -> list[int]:
    """The whole numbers that divide ``number``, ascending (at most the first hundred)."""
    small = [d for d in range(1, min(math.isqrt(number), 10_000) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})[:100]


def _listed(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"


def _fits(product: int, what: str, who: str) -> None:
    if product > INT64_MAX:
        raise ArgumentRangeError(text(who, f"{what} is {product}", "sizes must fit in 64 bits", "use smaller numbers"))


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """The validated options of one convolution layer; every field is normalised, nothing can change.

    Build it with ``ConvGeometry.of``, which takes the arguments of ``Conv2d`` as they were written.

    Attributes:
        weight_shape: ``(out_channels, in_channels/groups, kh, kw)``; a transposed layer swaps the first two channels.
        bias_shape: ``(out_channels,)``.

    Example:
        >>> from konv.geometry import ConvGeometry
        >>> g = ConvGeometry.of(3, 64, 7, stride=2, padding=3)
        >>> g.output_size(224, 224), g.weight_shape, g.macs(1, 224, 224)
        ((112, 112), (64, 3, 7, 7), 118013952)
    """

    in_channels: int
    out_channels: int
    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Pads | SamePadding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    padding_mode: str = "zeros"
    transposed: bool = False
    output_padding: Pair = (0, 0)
    weight_shape: tuple[int, int, int, int] = field(init=False, repr=False, compare=False)  # every call asks for them
    bias_shape: tuple[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        object.__setattr__(self, "weight_shape", (first, second // self.groups, *self.kernel_size))
        object.__setattr__(self, "bias_shape", (self.out_channels,))

    @staticmethod
    def of(
        in_channels: Any,
        out_channels: Any,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: Any = 1,
        padding_mode: Any = "zeros",
        transposed: bool = False,
        output_padding: Any = 0,
        who: str = "Conv2d",
    ) -> ConvGeometry:
        """Check and normalise the options of a layer.

        Raises:
            ArgumentTypeError: an option has the wrong type.
            ArgumentError: an option has a value that no image could satisfy.
        """
        geometry = ConvGeometry(
            integer(in_channels, "in_channels", who, 0),
            integer(out_channels, "out_channels", who, 1),
            pair(kernel_size, "kernel_size", who, 1),
            pair(stride, "stride", who, 1),
            normalise_padding(padding, who),
            pair(dilation, "dilation", who, 1),
            integer(groups, "groups", who, 1),
            padding_mode,
            transposed,
            pair(output_padding, "output_padding", who, 0),
        )
        geometry._check(who)
        return geometry

    def _check(self, who: str) -> None:
        for name in ("in_channels", "out_channels"):
            channels = getattr(self, name)
            if channels % self.groups:
                allowed = _listed(divisors(math.gcd(self.in_channels, self.out_channels)))
                got = f"{name}={channels} is not divisible by groups={self.groups}"
                raise ArgumentRangeError(text(who, got, f"groups can be {allowed}"))
        if self.padding_mode not in PADDING_MODES:
            got = f"padding_mode={self.padding_mode!r}"
            raise ArgumentError(text(who, got, f"padding_mode must be one of {', '.join(map(repr, PADDING_MODES))}"))
        if self.padding == "same" and self.stride != (1, 1):
            got = f"padding='same' with stride={self.stride}"
            fix = "use padding='same_upper' or 'same_lower', which divide the size by the stride"
            raise ArgumentRangeError(text(who, got, "'same' keeps the size, so it needs stride 1", fix))
        if self.transposed:
            self._check_transposed(who)
        self._check_products(who)

    def _check_transposed(self, who: str) -> None:
        if self.padding_mode != "zeros":
            got = f"padding_mode={self.padding_mode!r}"
            raise ArgumentError(text(who, got, "a transposed convolution has only padding_mode='zeros'"))
        if isinstance(self.padding, str):
            got = f"padding={self.padding!r} is a str"
            raise ArgumentTypeError(text(who, got, "a transposed convolution needs padding in cells"))
        for axis in range(2):
            if self.output_padding[axis] >= max(self.stride[axis], self.dilation[axis]):
                got = f"output_padding={self.output_padding}, stride={self.stride}, dilation={self.dilation}"
                rule = "output padding must be smaller than either stride or dilation"
                raise ArgumentRangeError(text(who, got, rule))

    def _check_products(self, who: str) -> None:
        for axis, name in enumerate(AXES):
            _fits(self.extent[axis], f"the {name} of the dilated kernel, dilation*(kernel_size-1)+1,", who)
            if not isinstance(self.padding, str):
                _fits(sum(self.padding[axis]), f"the padding of the {name}", who)
        _fits(math.prod(max(1, n) for n in self.weight_shape) * 16, "the weight in bytes", who)

    @property
    def extent(self) -> Pair:
        """Rows and columns that the dilated kernel spans: ``dilation * (kernel_size - 1) + 1``."""
        (kh, kw), (dh, dw) = self.kernel_size, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    @property
    def fan_in(self) -> int:
        """Inputs that one output sums, as PyTorch counts them: the weight without its first axis."""
        return math.prod(self.weight_shape[1:])

    @property
    def init_bound(self) -> float:
        """``sqrt(k)`` of the initial U(-sqrt(k), sqrt(k)); k = groups / (C_in * kh * kw)."""
        return 1 / math.sqrt(self.fan_in) if self.fan_in else 0.0

    @property
    def is_depthwise(self) -> bool:
        """Every input channel has filters of its own: ``groups == in_channels`` and more than one group."""
        return self.groups > 1 and self.groups == self.in_channels

    @property
    def adjoint(self) -> ConvGeometry:
        """The convolution whose input gradient a transposed layer computes: the same options, channels exchanged."""
        return _adjoint(self)

    def parameters(self, bias: bool = True) -> int:
        """Learnable numbers of the layer."""
        return math.prod(self.weight_shape) + (self.out_channels if bias else 0)

    def pads(self, h: int, w: int) -> Pads:
        """Cells added around an image of ``h`` rows and ``w`` columns: ``((top, bottom), (left, right))``.

        ``'same'`` and ``'same_upper'`` put the odd cell at the bottom/right, ``'same_lower'`` at the top/left.
        The last two are ONNX's ``auto_pad`` (and ``'same_upper'`` is TensorFlow's SAME), for any stride.
        """
        if not isinstance(self.padding, str):
            return self.padding
        both = []
        for size, stride, extent in zip((h, w), self.stride, self.extent, strict=True):
            outputs = -(-size // stride)
            total = max((outputs - 1) * stride + extent - size, 0)
            half = total // 2
            both.append((total - half, half) if self.padding == "same_lower" else (half, total - half))
        return both[0], both[1]

    def output_size(self, h: int, w: int, who: str = "Conv2d") -> Pair:
        """Rows and columns of the output for an image of ``h`` rows and ``w`` columns.

        ``floor((size + pads - dilation*(kernel-1) - 1) / stride) + 1``; for a transposed layer
        ``(size - 1)*stride - pads + dilation*(kernel-1) + output_padding + 1``.

        Raises:
            ShapeError: the dilated kernel is larger than the padded image, or the padding mode cannot fill it.
        """
        pads = self.pads(h, w)
        if self.transposed:
            return self._transposed_size(h, w, pads, who)
        padded = h + sum(pads[0]), w + sum(pads[1])
        if padded[0] < self.extent[0] or padded[1] < self.extent[1]:
            got = f"the image of {h} x {w} is {padded[0]} x {padded[1]} when padded"
            rule = f"the kernel of {self.extent[0]} x {self.extent[1]} can't be greater than the padded image"
            least = [max(1, self.extent[axis] - sum(pads[axis])) for axis in range(2)]
            raise ShapeError(text(who, got, rule, f"pad more, or use an image of at least {least[0]} x {least[1]}"))
        self._check_mode(h, w, pads, who)
        oh, ow = ((padded[i] - self.extent[i]) // self.stride[i] + 1 for i in range(2))
        _fits(max(padded), "the padded image", who)
        return oh, ow

    def _check_mode(self, h: int, w: int, pads: Pads, who: str) -> None:
        if self.padding_mode == "zeros":
            return
        for name, size, around in zip(AXES, (h, w), pads, strict=True):
            limit = {"reflect": size - 1, "circular": size, "replicate": INT64_MAX if size else 0}[self.padding_mode]
            if max(around) > limit:
                got = f"padding of {max(around)} cells around a {name} of {size}"
                rule = f"padding_mode={self.padding_mode!r} can add at most {max(limit, 0)}"
                raise ShapeError(text(who, got, rule))

    def _transposed_size(self, h: int, w: int, pads: Pads, who: str) -> Pair:
        oh, ow = (
            (size - 1) * self.stride[i] - sum(pads[i]) + self.extent[i] + self.output_padding[i]
            for i, size in enumerate((h, w))
        )
        if oh < 1 or ow < 1:
            got = f"the image of {h} x {w} gives an output of {oh} x {ow}"
            raise ShapeError(text(who, got, "the output size must be at least 1 x 1", "use less padding"))
        _fits(max(oh, ow), "the output", who)
        return oh, ow

    def unused(self, h: int, w: int) -> Pair:
        """Rows and columns of the padded image, at the bottom and right, that the floor leaves without an output."""
        if self.transposed:
            return 0, 0
        padded = [size + sum(around) for size, around in zip((h, w), self.pads(h, w), strict=True)]
        rows, columns = ((padded[i] - self.extent[i]) % self.stride[i] for i in range(2))
        return rows, columns

    def macs(self, n: int, h: int, w: int) -> int:
        """Multiply-adds for ``n`` images, padding counted like any cell, bias not counted."""
        oh, ow = (h, w) if self.transposed else self.output_size(h, w)
        return n * oh * ow * math.prod(self.weight_shape)

    def reach(self, axis: int, size: int) -> tuple[int, int, int, int]:
        """``(step, low, high, divisor)``: output ``i`` reads inputs ``x``, ``step*i+low <= divisor*x <= step*i+high``.

        Padding counts, so ``x`` may lie outside of the image. The divisor is 1 but for a transposed layer.
        """
        before = self.pads(size, size)[axis][0]
        if self.transposed:
            return 1, before - self.extent[axis] + 1, before, self.stride[axis]
        return self.stride[axis], -before, self.extent[axis] - 1 - before, 1

    def input_span(self, axis: int, first: int, last: int, size: int) -> Pair:
        """First and last input index (padding counts: may lie outside) that outputs ``first..last`` of an axis read."""
        step, low, high, divisor = self.reach(axis, size)
        return -(-(step * first + low) // divisor), (step * last + high) // divisor

    def input_runs(self, axis: int, first: int, last: int, size: int) -> list[Pair]:
        """Like ``input_span``, without the cells that dilation or a stride past the kernel leaves out.

        The runs may overlap and come in no order; past 100,000 of them the whole span is the answer.
        """
        kernel, step, gap = self.kernel_size[axis], self.stride[axis], self.dilation[axis]
        before = self.pads(size, size)[axis][0]
        if self.transposed and kernel <= 100_000:
            ends = ((first + before - tap * gap, last + before - tap * gap) for tap in range(kernel))
            runs = [(-(-low // step), high // step) for low, high in ends]
            return [(low, high) for low, high in runs if low <= high]
        starts = [(first, last)] if step == 1 else [(i, i) for i in range(first, min(last, first + 100_000) + 1)]
        solid = gap == 1 and (step <= kernel or first == last)
        if solid or self.transposed or len(starts) * kernel > 100_000:
            return [self.input_span(axis, first, last, size)]
        corners = [(low * step - before, high * step - before) for low, high in starts]
        return [(low + tap * gap, high + tap * gap) for low, high in corners for tap in range(kernel)]

    def blind(self, axis: int, size: int, outputs: int) -> Pair:
        """Outputs at the start and at the end of an axis that read padding alone."""
        step, low, high, divisor = self.reach(axis, size)
        ends = -(high // step), outputs + (low - divisor * (size - 1) - 1) // step
        start, end = (min(max(0, count), outputs) for count in ends)
        taps, gap = self.kernel_size[axis], self.dilation[axis]
        if self.transposed or gap <= size or taps > 100_000:  # taps this close cannot stand around the image
            return start, end
        offsets = ((low + tap * gap, size - 1 - low - tap * gap) for tap in range(taps))
        runs = [(max(-(first // step), 0), min(last // step, outputs - 1)) for first, last in offsets]
        seeing = [index for run in runs if run[0] <= run[1] for index in run]
        return (min(seeing), outputs - 1 - max(seeing)) if seeing else (outputs - end, end)


@lru_cache(maxsize=1024)
def _adjoint(geometry: ConvGeometry) -> ConvGeometry:
    first, second = geometry.out_channels, geometry.in_channels
    return replace(geometry, in_channels=first, out_channels=second, transposed=False, output_padding=(0, 0))


def pool_output_size(
    size: int, kernel: int, stride: int, pads: Pair, dilation: int = 1, ceil_mode: bool = False, who: str = "MaxPool2d"
) -> int:
    """Outputs of a pooling window along one axis; in ``ceil_mode`` a last window may hang over the end.

    A last window that would start in the padding after the image is dropped, as PyTorch does.

    Raises:
        ShapeError: not even one window fits.
    """
    extent = dilation * (kernel - 1) + 1
    span = size + sum(pads) - extent
    outputs = -(-span // stride) + 1 if ceil_mode else span // stride + 1
    outputs -= ceil_mode and (outputs - 1) * stride >= size + pads[0]
    if outputs < 1:
        got = f"an axis of {size} cells, padded to {size + sum(pads)}, for a window of {extent}"
        raise ShapeError(text(who, got, "the output size is too small: at least one window must fit"))
    return outputs


def adaptive_window(index: Any, size: int, outputs: int) -> tuple[Any, Any]:
    """First and one-past-last cell that output ``index`` (an int, or an array) of an adaptive pooling averages."""
    return index * size // outputs, -(-(index + 1) * size // outputs)


def interpolated_size(size: int, scale: float) -> int:
    """Cells after resampling by a factor."""
    return math.floor(size * scale)
