"""Which cells of an input an output cell reads, one axis at a time, both ways.

Forward, a ``Line`` says it for all outputs of an axis at once: output ``i`` sees input indices between
``jump*i + low`` and ``jump*i + high``; lines compose from layer to layer, and a join takes the union. Backward, a set
of cells is followed exactly, through padding modes, dilation and edges: a sorted tuple of runs ``(first, last)``.
Padding is no pixel: a run is cut at the image of each layer it passes, so nothing is counted that no weight reaches.

Source: A. Araujo, W. Norris, J. Sim, "Computing receptive fields of convolutional neural networks", Distill 2019.
"""

# ruff: noqa: D102  (what the methods of a way of reading do is said once, in Reads)

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from ..geometry import ConvGeometry, Pair, adaptive_window
from .trace import AxisField

Runs = tuple[Pair, ...]
MAX_RUNS: Final = 10_000


def merged(runs: Iterable[Pair]) -> Runs:
    """The same cells as sorted runs that neither overlap nor touch.

    Example:
        >>> from konv.explain.field import merged
        >>> merged([(4, 5), (0, 1), (2, 2)])
        ((0, 2), (4, 5))
    """
    done: list[Pair] = []
    for first, last in sorted(runs):
        if first > last:
            continue
        if done and first <= done[-1][1] + 1:
            done[-1] = done[-1][0], max(done[-1][1], last)
        else:
            done.append((first, last))
    return tuple(done) if len(done) <= MAX_RUNS else ((done[0][0], done[-1][1]),)


def clipped(runs: Iterable[Pair], size: int) -> Runs:
    """The cells that lie in ``0..size-1``."""
    return merged((max(first, 0), min(last, size - 1)) for first, last in runs)


def folded(runs: Iterable[Pair], size: int, mode: str) -> Runs:
    """The pixels behind cells that may lie in the padding, for each padding mode."""
    inside = list(runs)
    cells = list(clipped(inside, size))
    for first, last in inside:
        before, after = (first, min(last, -1)), (max(first, size), last)
        for low, high in (part for part in (before, after) if part[0] <= part[1]):
            if mode == "replicate":
                cells.append((0, 0) if high < 0 else (size - 1, size - 1))
            elif mode == "reflect":
                cells.append((-high, -low) if high < 0 else (2 * (size - 1) - high, 2 * (size - 1) - low))
            elif mode == "circular":
                shift = size if high < 0 else -size
                cells.append((low + shift, high + shift))
    return clipped(cells, size)


@dataclass(frozen=True, slots=True)
class Line:
    """Output ``i`` sees ``jump*i + low`` to ``jump*i + high`` of the input; ``whole``: the axis was averaged away."""

    jump: Fraction
    low: Fraction
    high: Fraction
    whole: bool = False

    def through(self, step: Fraction, low: Fraction, high: Fraction) -> Line:
        """After a layer whose output ``i`` reads ``step*i + low`` to ``step*i + high`` of what this line describes."""
        return Line(self.jump * step, self.low + self.jump * low, self.high + self.jump * high, self.whole)

    def over(self, size: int) -> Line:
        """After everything along an axis of ``size`` cells has been brought together."""
        reach, none = self.jump * max(size - 1, 0), Fraction(0)
        return Line(none, self.low + min(reach, none), self.high + max(reach, none), True)

    def joined(self, other: Line, size: int) -> Line:
        """The union with another line along an axis of ``size`` cells."""
        if self.whole or other.whole:
            ends = [line if line.whole else line.over(size) for line in (self, other)]
            return Line(Fraction(0), min(e.low for e in ends), max(e.high for e in ends), True)
        slope = (other.jump - self.jump) * max(size - 1, 0)  # differs only after odd resampling
        low, high = min(other.low, other.low + slope), max(other.high, other.high + slope)
        return Line(self.jump, min(self.low, low), max(self.high, high))

    def field(self) -> AxisField:
        """The line as a record."""
        size = int(self.high - self.low) + 1
        return AxisField(size, self.jump, self.low, self.high, (self.low + self.high) / 2, self.whole)


def identity() -> Line:
    """The input as it sees itself."""
    return Line(Fraction(1), Fraction(0), Fraction(0))


def through_geometry(line: Line, geometry: ConvGeometry, axis: int, size: int) -> Line:
    """``line`` after a convolution over an axis of ``size`` cells."""
    step, low, high, divisor = geometry.reach(axis, size)
    return line.through(Fraction(step, divisor), Fraction(low, divisor), Fraction(high, divisor))


class Reads:
    """How one output axis reads one input axis."""

    __slots__ = ()

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        """The input cells, of ``size``, that these output cells, of ``outputs``, read."""
        raise NotImplementedError

    def line(self, line: Line, size: int, outputs: int) -> Line:
        """What the output axis sees when the input axis sees ``line``."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """For a page: ``kind`` and the numbers."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Same(Reads):
    """Output ``i`` reads input ``i``."""

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        return runs

    def line(self, line: Line, size: int, outputs: int) -> Line:
        return line

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "same"}


@dataclass(frozen=True, slots=True)
class Whole(Reads):
    """Every output reads everything: a sum, a mean, a matrix product, a broadcast from one cell."""

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        return ((0, size - 1),) if runs and size else ()

    def line(self, line: Line, size: int, outputs: int) -> Line:
        return line.over(size)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "whole"}


@dataclass(frozen=True, slots=True)
class Window(Reads):
    """A sliding window: convolution, pooling, padding (a kernel of 1), cropping and steps (negative ``before``)."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    mode: str = "zeros"
    transposed: bool = False

    @staticmethod
    def of(geometry: ConvGeometry, axis: int, image: Pair) -> Window:
        """One axis of a convolution, for this image."""
        before = geometry.pads(*image)[axis][0]
        sizes = geometry.kernel_size[axis], geometry.stride[axis], geometry.dilation[axis]
        return Window(*sizes, before, geometry.padding_mode, geometry.transposed)

    def _geometry(self) -> ConvGeometry:
        kernel, stride, dilation = ((n, n) for n in (self.kernel, self.stride, self.dilation))
        pads = (self.before, 0), (self.before, 0)
        return ConvGeometry(1, 1, kernel, stride, pads, dilation, transposed=self.transposed)

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        geometry = self._geometry()
        cells = [cell for first, last in runs for cell in geometry.input_runs(0, first, last, size)]
        return clipped(cells, size) if self.mode == "zeros" else folded(cells, size, self.mode)

    def line(self, line: Line, size: int, outputs: int) -> Line:
        return through_geometry(line, self._geometry(), 0, size)

    def to_dict(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("kernel", "stride", "dilation", "before", "mode")}
        return {"kind": "spread" if self.transposed else "window", **numbers}


@dataclass(frozen=True, slots=True)
class Flipped(Reads):
    """Output ``i`` reads the ``i``-th input from the end."""

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        return merged((size - 1 - last, size - 1 - first) for first, last in runs)

    def line(self, line: Line, size: int, outputs: int) -> Line:
        return line.through(Fraction(-1), Fraction(size - 1), Fraction(size - 1))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "flipped"}


@dataclass(frozen=True, slots=True)
class Adaptive(Reads):
    """Adaptive pooling: windows that share the input evenly."""

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        ends = ((adaptive_window(i, size, outputs)[0], adaptive_window(j, size, outputs)[1] - 1) for i, j in runs)
        return clipped(ends, size)

    def line(self, line: Line, size: int, outputs: int) -> Line:
        if outputs == 1:
            return line.over(size)
        # Windows start and end within one rounding of this straight line, exactly on it when the sizes divide.
        step, slack = Fraction(size, outputs), Fraction(size % outputs and outputs - 1, outputs)
        return line.through(step, -slack, step - 1 + slack)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "adaptive"}


@dataclass(frozen=True, slots=True, eq=False)
class Table(Reads):
    """Output ``i`` reads the cells ``row[i]`` of each row, where ``used`` says that its weight is not zero."""

    rows: tuple[Any, ...]
    used: tuple[Any, ...]

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        cells: list[Pair] = []
        for row, used in zip(self.rows, self.used, strict=True):
            for first, last in runs:
                read = row[first : last + 1][used[first : last + 1]]
                if len(read) > MAX_RUNS:
                    cells.append((int(read[0]), int(read[-1])))  # rows rise
                else:
                    cells += [(int(cell), int(cell)) for cell in read]
        return merged(cells)

    def ends(self, outputs: int) -> tuple[list[int], list[int]]:
        """First and last cell that each output reads."""
        pairs = list(zip(self.rows, self.used, strict=True))
        read = [[int(row[i]) for row, used in pairs if used[i]] for i in range(outputs)]
        return [min(cells, default=0) for cells in read], [max(cells, default=0) for cells in read]

    def line(self, line: Line, size: int, outputs: int) -> Line:
        lows, highs = self.ends(outputs)
        slopes = [Fraction(size, outputs), Fraction(max(size - 1, 1), max(outputs - 1, 1))]
        fits = []
        for slope in slopes:  # cells side by side, or corners on corners: the closer fit is meant
            low = min(cell - slope * i for i, cell in enumerate(lows))
            high = max(cell - slope * i for i, cell in enumerate(highs))
            fits.append((high - low, slope, low, high))
        _, slope, low, high = min(fits)
        return line.through(slope, low, high)

    def to_dict(self) -> dict[str, Any]:
        lows, highs = self.ends(len(self.rows[0]))
        return {"kind": "table", "first": lows, "last": highs}
