"""Which cells of an input an output cell reads, one axis at a time, both ways.

Forward, a ``Line`` says it for all outputs of an axis at once. Backward, a set of cells is followed exactly, through
padding modes, dilation and edges: a sorted tuple of runs ``(first, last)``. Padding is no pixel: a run is cut at the
image of each layer it passes, so nothing is counted that no weight reaches.
"""

# ruff: noqa: D102  (what the methods of a way of reading do is said once, in Reads)

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np

from ..geometry import ConvGeometry, Pair, adaptive_window
from ..ops.resize import Axis
from .line import MAX_PERIOD, Line, identity, of_geometry

Array = np.ndarray[Any, Any]
Runs = tuple[Pair, ...]
MAX_RUNS: Final = 10_000
MAX_TABLE: Final = 2**16  # outputs that are told one by one


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


class Reads:
    """How one output axis reads one input axis."""

    __slots__ = ()

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        """The input cells, of ``size``, that these output cells, of ``outputs``, read."""
        raise NotImplementedError

    def way(self, size: int, outputs: int) -> Line:
        """Which input cells each output reads, edges and padding left out of account."""
        raise NotImplementedError

    def line(self, line: Line, size: int, outputs: int) -> Line:
        """What the output axis sees when the input axis sees ``line``."""
        return line.after(self.way(size, outputs))

    def to_dict(self) -> dict[str, Any] | None:
        """For a page: ``kind`` and the numbers; None where they are too many."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Same(Reads):
    """Output ``i`` reads input ``i``."""

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        return runs

    def way(self, size: int, outputs: int) -> Line:
        return identity()

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

    def way(self, size: int, outputs: int) -> Line:
        return of_geometry(self._geometry(), 0, size)

    def to_dict(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("kernel", "stride", "dilation", "before", "mode")}
        return {"kind": "spread" if self.transposed else "window", **numbers}


@dataclass(frozen=True, slots=True)
class Flipped(Reads):
    """Output ``i`` reads the ``i``-th input from the end."""

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        return merged((size - 1 - last, size - 1 - first) for first, last in runs)

    def way(self, size: int, outputs: int) -> Line:
        return Line(-1, (size - 1,), (size - 1,))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "flipped"}


@dataclass(frozen=True, slots=True)
class Adaptive(Reads):
    """Adaptive pooling: windows that share the input evenly."""

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        ends = ((adaptive_window(i, size, outputs)[0], adaptive_window(j, size, outputs)[1] - 1) for i, j in runs)
        return clipped(ends, size)

    def line(self, line: Line, size: int, outputs: int) -> Line:
        return line.over(size) if outputs == 1 else line.after(self.way(size, outputs))

    def way(self, size: int, outputs: int) -> Line:
        parts = math.gcd(size, outputs)
        windows = [adaptive_window(i, size, outputs) for i in range(min(outputs // parts, MAX_RUNS))]
        return Line(size // parts, tuple(low for low, _ in windows), tuple(high - 1 for _, high in windows))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "adaptive"}


@dataclass(frozen=True, slots=True)
class Table(Reads):
    """Resizing: each output reads what its rows name with a weight that is not zero; sources rise along the axis."""

    axis: Axis

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        cells: list[Pair] = []
        for first, last in runs:
            if last - first >= MAX_RUNS:
                lows, highs = self.ends(np.array([first, last]))
                cells.append((int(lows[0]), int(highs[1])))
                continue
            for row, used in self._used(np.arange(first, last + 1)):
                cells += [(int(cell), int(cell)) for cell in row[used]]
        return merged(cells)

    def _used(self, outputs: Array) -> list[tuple[Array, Array]]:
        return [(row, row >= 0 if weight is None else weight != 0) for row, weight in self.axis.at(outputs)]

    def ends(self, outputs: Array) -> tuple[Array, Array]:
        """First and last cell that each of these outputs reads."""
        pairs = self._used(outputs)
        lows = [np.where(used, row, self.axis.size - 1) for row, used in pairs]
        highs = [np.where(used, row, 0) for row, used in pairs]
        return np.minimum.reduce(lows), np.maximum.reduce(highs)

    def way(self, size: int, outputs: int) -> Line:
        cells = self._telling(size, outputs)
        seen = (cells, *self.ends(cells))
        fits = [_periodic(*seen, *ratio) for ratio in ((size, outputs), (max(size - 1, 1), max(outputs - 1, 1)))]
        # Cells side by side, or corners on corners: the closer fit is meant.
        return min(fits, key=lambda line: line.field().size)

    def _telling(self, size: int, outputs: int) -> Array:
        """The outputs that a line around all of them must know, in order.

        Of an axis that is too long to walk: its two ends, and both sides of each change of what is read, found by
        bisection, for so many cells of the input at its two ends.
        """
        if outputs <= MAX_TABLE:
            return np.arange(outputs)
        values = np.unique([*range(min(size, MAX_RUNS)), *range(max(size - MAX_RUNS, 0), size)])
        found = [np.arange(MAX_RUNS), np.arange(outputs - MAX_RUNS, outputs)]
        for end in (0, 1):
            low, high = np.zeros_like(values), np.full_like(values, outputs - 1)
            for _ in range(outputs.bit_length()):
                middle = (low + high) // 2
                reached = self.ends(middle)[end] >= values
                low, high = np.where(reached, low, np.minimum(middle + 1, high)), np.where(reached, middle, high)
            found += [low, low - 1]
        return np.unique(np.maximum(np.concatenate(found), 0))

    def to_dict(self) -> dict[str, Any] | None:
        if self.axis.outputs > MAX_TABLE:
            return None
        lows, highs = self.ends(np.arange(self.axis.outputs))
        return {"kind": "table", "first": lows.tolist(), "last": highs.tolist()}


def _periodic(cells: Array, lows: Array, highs: Array, size: int, outputs: int) -> Line:
    """The line around the ends of these outputs, which move on by ``size`` cells every ``outputs`` outputs."""
    parts = math.gcd(size, outputs)
    step, period = size // parts, outputs // parts
    if period > MAX_PERIOD:
        places = [index * step for index in cells.tolist()]  # whole numbers of any length
        low = min(end * period - place for end, place in zip(lows.tolist(), places, strict=True))
        high = max(end * period - place for end, place in zip(highs.tolist(), places, strict=True))
        return Line(Fraction(step, period), (Fraction(low, period),), (Fraction(high, period),))
    turns, phases = np.divmod(cells, period)
    least, most = np.full(period, 2**62), np.full(period, -(2**62))
    np.minimum.at(least, phases, lows - turns * step)
    np.maximum.at(most, phases, highs - turns * step)
    return Line(step, tuple(least.tolist()), tuple(most.tolist()))
