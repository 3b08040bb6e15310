"""Which layers take an image of one size to another: every answer within small bounds, the usual one first.

The sizes themselves are asked of ``ConvGeometry``; this file only lists candidates and ranks what fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final

from ..errors import ArgumentError, ShapeError, text
from ..geometry import AXES, ConvGeometry, Pair, integer, pair

MAX_KERNEL: Final = 11  # wider kernels are tried only as patches: kernel == stride, up to MAX_PATCH
MAX_PATCH: Final = 32
MAX_STRIDE: Final = 8
MAX_DILATION: Final = 3
MAX_PADDING: Final = 1024  # these two only matter when the caller fixes a huge kernel or stride
MAX_EXTRA: Final = 64
CROSSED: Final = 12  # answers of each axis that are paired when height and width need different ones

_HABIT: Final = {3: 0.0, 1: 1.0, 5: 2.0, 7: 3.0, 2: 3.5, 9: 4.0, 4: 4.5, 11: 5.0}


@dataclass(frozen=True, slots=True)
class Solution:
    """One layer that takes ``input`` to ``output``; ``str()`` is the line to type.

    Every field is ``(height, width)``; ``unused`` counts rows and columns of the padded image, at the bottom and
    right, that no window reaches.
    """

    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    output_padding: Pair
    transposed: bool
    input: Pair
    output: Pair
    unused: Pair = (0, 0)

    def geometry(self, in_channels: int = 1, out_channels: int = 1, groups: int = 1) -> ConvGeometry:
        """The answer as the geometry of a layer with channels."""
        options: dict[str, Any] = {"transposed": self.transposed, "output_padding": self.output_padding}
        sizes = self.kernel_size, self.stride, self.padding, self.dilation
        return ConvGeometry.of(in_channels, out_channels, *sizes, groups, **options, who=self.layer)

    @property
    def layer(self) -> str:
        """The name of the layer."""
        return "ConvTranspose2d" if self.transposed else "Conv2d"

    def call(self, in_channels: int | str = "in_channels", out_channels: int | str = "out_channels") -> str:
        """The line of Python, with channels as given or as names to fill in."""
        parts = [str(in_channels), str(out_channels), f"kernel_size={_plain(self.kernel_size)}"]
        usual = {"stride": (1, 1), "padding": (0, 0), "output_padding": (0, 0), "dilation": (1, 1)}
        parts += [f"{n}={_plain(getattr(self, n))}" for n, default in usual.items() if getattr(self, n) != default]
        return f"{self.layer}({', '.join(parts)})"

    def __str__(self) -> str:
        return self.call()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the fields and the line to type."""
        return {**asdict(self), "call": self.call()}


def solve(
    input: int | Pair,
    output: int | Pair,
    kernel: int | Pair | None = None,
    stride: int | Pair | None = None,
    padding: int | Pair | None = None,
    dilation: int | Pair | None = None,
    output_padding: int | Pair | None = None,
    *,
    transposed: bool = False,
    limit: int | None = None,
) -> list[Solution]:
    """Every layer within small bounds that takes one image size to another, the conventional one first.

    What is given is kept; what is None is searched: kernels up to 11 (up to 32 as patches with stride equal to the
    kernel), strides up to 8, dilations up to 3, padding up to half the dilated kernel. When height and width have no
    answer with equal options in common, the twelve best of each axis are combined.

    Args:
        input: size of the image, an int or (height, width).
        output: size wanted, an int or (height, width).
        kernel: keep this kernel size; these options too are an int or (height, width).
        stride: keep this stride.
        padding: keep this padding.
        dilation: keep this dilation.
        output_padding: keep this output padding; of ``ConvTranspose2d`` only.
        transposed: answer with ``ConvTranspose2d``.
        limit: return at most so many.

    Raises:
        ArgumentError: a size is no whole number of at least 1.

    Example:
        >>> import konv
        >>> for answer in konv.solve(28, 14, limit=3):
        ...     print(answer)
        Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
        Conv2d(in_channels, out_channels, kernel_size=2, stride=2)
        Conv2d(in_channels, out_channels, kernel_size=4, stride=2, padding=1)

    Source: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", sections 2 and 4.
    """
    source, target = pair(input, "input", "solve", 1), pair(output, "output", "solve", 1)
    if output_padding is not None and not transposed:
        got = f"output_padding={output_padding!r}"
        raise ArgumentError(text("solve", got, "only ConvTranspose2d has output padding", "say transposed=True"))
    if limit is not None:
        integer(limit, "limit", "solve", 0)
    fixed = {
        "kernel": _given(kernel, "kernel", 1),
        "stride": _given(stride, "stride", 1),
        "padding": _given(padding, "padding", 0),
        "dilation": _given(dilation, "dilation", 1),
        "output_padding": _given(output_padding, "output_padding", 0),
    }
    by_axis = [
        _axis(source[i], target[i], {name: both and both[i] for name, both in fixed.items()}, transposed)
        for i in range(len(AXES))
    ]
    ranked = sorted(_joined(*by_axis), key=lambda found: found[0])
    answers = [_solution(rows, columns, source, target, transposed) for _, rows, columns in ranked]
    return answers if limit is None else answers[:limit]


@dataclass(frozen=True, slots=True)
class _Options:
    """Options along one axis, and what the floor leaves over there."""

    kernel: int
    stride: int
    padding: int
    dilation: int
    output_padding: int
    unused: int


def _given(value: Any, name: str, least: int) -> Pair | None:
    return None if value is None else pair(value, name, "solve", least)


def _plain(both: Pair) -> str:
    return str(both[0]) if both[0] == both[1] else str(both)


def _axis(size: int, wanted: int, fixed: dict[str, int | None], transposed: bool) -> dict[_Options, float]:
    """Everything that takes ``size`` to ``wanted`` along one axis, with its cost."""
    found = {}
    for kernel, stride, dilation in _steps(fixed):
        extent = ConvGeometry(1, 1, (kernel, kernel), dilation=(dilation, dilation)).extent[0]
        pads = range(min(extent // 2, MAX_PADDING) + 1) if fixed["padding"] is None else [fixed["padding"]]
        for padding, extra in product(pads, _extras(fixed["output_padding"], stride, transposed)):
            unused = _fits(size, wanted, (kernel, stride, padding, dilation, extra), transposed)
            if unused is not None:
                options = _Options(kernel, stride, padding, dilation, extra, unused)
                found[options] = _cost(options, extent, wanted, transposed)
    return found


def _steps(fixed: dict[str, int | None]) -> Iterator[tuple[int, int, int]]:
    """Kernel, stride and dilation to try; dilation means nothing to a kernel of one cell."""
    kernels = range(1, MAX_PATCH + 1) if fixed["kernel"] is None else [fixed["kernel"]]
    for kernel in kernels:
        patch = kernel > MAX_KERNEL and fixed["kernel"] is None
        strides: Iterable[int] = [kernel] if patch else sorted({*range(1, MAX_STRIDE + 1), kernel})
        dilations: Iterable[int] = [1] if patch or kernel == 1 else range(1, MAX_DILATION + 1)
        if fixed["stride"] is not None:
            strides = [fixed["stride"]] if not patch or fixed["stride"] == kernel else []
        if fixed["dilation"] is not None:
            dilations = [fixed["dilation"]]
        yield from ((kernel, stride, dilation) for stride, dilation in product(strides, dilations))


def _extras(given: int | None, stride: int, transposed: bool) -> Iterable[int]:
    if not transposed:
        return [0]
    return range(min(stride, MAX_EXTRA)) if given is None else [given]


def _fits(size: int, wanted: int, options: tuple[int, int, int, int, int], transposed: bool) -> int | None:
    """What the floor leaves over when the options give the wanted size, else None."""
    kernel, stride, padding, dilation, extra = ((value, value) for value in options)
    pads = (padding, padding)
    geometry = ConvGeometry(1, 1, kernel, stride, pads, dilation, transposed=transposed, output_padding=extra)
    if transposed and extra[0] >= max(stride[0], dilation[0]):
        return None
    try:
        reached = geometry.output_size(size, size)[0]
    except ShapeError:
        return None
    return geometry.unused(size, size)[0] if reached == wanted else None


def _cost(options: _Options, extent: int, wanted: int, transposed: bool) -> float:
    """How unusual the options are; 0 is what most networks write. The weights are habit, not theory."""
    kernel, stride, padding = options.kernel, options.stride, options.padding
    cost = _HABIT.get(kernel, 4.0 + kernel / 8) + 20.0 * (options.dilation - 1) + 0.1 * stride
    plain = stride > 1 and options.dilation == 1
    if plain and kernel == stride and padding == 0:
        cost = 1.0 + kernel / 8  # a patch: every cell is read once
    elif plain and kernel == 2 * stride and 2 * padding == stride:
        cost = 1.5 + kernel / 8  # every cell is read twice
    elif padding == 0:
        cost += 1.0
    elif 2 * padding != extent - 1:
        cost += 6.0 + abs(2 * padding - extent + 1)
    if stride > extent:
        cost += 30.0  # pixels between the windows are never read
    if wanted == 1 and stride > 1:
        cost += 10.0  # there is no second step to take
    if options.unused > padding:
        cost += 1.5 + options.unused  # real pixels are dropped, not padding alone
    elif options.unused:
        cost += 0.5
    return cost + 2.5 * options.output_padding + (6.0 if transposed and kernel < stride else 0.0)


def _joined(rows: dict[_Options, float], columns: dict[_Options, float]) -> Iterator[tuple[float, _Options, _Options]]:
    """Pairs of answers of both axes: the same options where there are any, else the best of each, crossed."""
    keyed = {_key(options): options for options in columns}
    common = [(options, keyed[_key(options)]) for options in rows if _key(options) in keyed]
    if not common:
        common = list(
            product(sorted(rows, key=rows.__getitem__)[:CROSSED], sorted(columns, key=columns.__getitem__)[:CROSSED])
        )
    for first, second in common:
        unequal = sum(a != b for a, b in zip(_key(first), _key(second), strict=True))
        yield rows[first] + columns[second] + 4.0 * unequal, first, second


def _key(options: _Options) -> tuple[int, ...]:
    return options.kernel, options.stride, options.padding, options.dilation, options.output_padding


def _solution(rows: _Options, columns: _Options, source: Pair, target: Pair, transposed: bool) -> Solution:
    names = ("kernel", "stride", "padding", "dilation", "output_padding", "unused")
    kernel, stride, padding, dilation, extra, unused = ((getattr(rows, n), getattr(columns, n)) for n in names)
    return Solution(kernel, stride, padding, dilation, extra, transposed, source, target, unused)
