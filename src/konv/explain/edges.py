"""How the dimensions of an operation's output depend on those of one of its inputs."""

# ruff: noqa: D102  (what the methods of a way of reading do is said once, in Reads)

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..geometry import Pair
from .field import Reads, Runs, Same, Whole, clipped, merged
from .line import Line
from .trace import Shape

Box = tuple[Runs, ...]
"""Cells of a tensor: the product of one set of runs for each dimension."""

Track = tuple[tuple[int | None, Line], tuple[int | None, Line]]
"""For the rows and the columns of the model's input: the dimension that they lie along now, and what it sees."""


def full(shape: Shape) -> Box:
    """Every cell."""
    return tuple(((0, size - 1),) if size else () for size in shape)


def united(first: Box | None, second: Box) -> Box:
    """The smallest product of runs that holds both."""
    if first is None:
        return second
    return tuple(merged((*a, *b)) for a, b in zip(first, second, strict=True))


@dataclass(frozen=True, slots=True)
class Blocks(Reads):
    """Channels of a grouped convolution: an output channel reads the input channels of its group."""

    in_each: int
    out_each: int

    def back(self, runs: Runs, size: int, outputs: int) -> Runs:
        groups = ((first // self.out_each, last // self.out_each) for first, last in runs)
        return clipped(((low * self.in_each, (high + 1) * self.in_each - 1) for low, high in groups), size)

    def line(self, line: Line, size: int, outputs: int) -> Line:
        return line.over(size)


@dataclass(frozen=True, slots=True)
class Edge:
    """One input of an operation; ``axes``: for each of its dimensions the output's that follows it, and how."""

    source: int
    axes: tuple[tuple[int | None, Reads], ...]

    def back(self, box: Box, given: Shape, made: Shape) -> Box | None:
        """The cells of the input that the cells ``box`` of the output read; None for no cell at all."""
        if not all(box):
            return None
        cells: list[Runs] = []
        for size, (dim, reads) in zip(given, self.axes, strict=True):
            runs, outputs = (((0, 0),), 1) if dim is None else (box[dim], made[dim])
            cells.append(reads.back(runs, size, outputs))
        return tuple(cells) if all(cells) else None

    def track(self, track: Track, given: Shape, made: Shape) -> Track:
        """What rows and columns of the model's input become behind the operation."""
        first, second = (self._follow(dim, line, given, made) for dim, line in track)
        return first, second

    def _follow(self, dim: int | None, line: Line, given: Shape, made: Shape) -> tuple[int | None, Line]:
        if dim is None:
            return None, line
        out, reads = self.axes[dim]
        if out is None:
            return None, line.over(given[dim])
        return out, reads.line(line, given[dim], made[out])


@dataclass(frozen=True, slots=True)
class Reshape:
    """An input whose cells are counted through anew: view, reshape, flatten."""

    source: int

    def back(self, box: Box, given: Shape, made: Shape) -> Box | None:
        """As ``Edge.back``; within dimensions that are merged or split, the span of what is read."""
        if not all(box):
            return None
        cells: list[Runs] = [((0, 0),)] * len(given)
        for old, new in regrouped(given, made):
            wide = _alone(old, new, given, made)
            if wide is not None:
                cells[wide[0]] = box[wide[1]]
                continue
            ends = []
            for pick in (0, 1):
                index = 0
                for dim in new:
                    index = index * made[dim] + (box[dim][0][0] if pick == 0 else box[dim][-1][1])
                ends.append(index)
            for dim, runs in zip(old, _spans(ends[0], ends[1], [given[dim] for dim in old]), strict=True):
                cells[dim] = runs
        return tuple(cells)

    def track(self, track: Track, given: Shape, made: Shape) -> Track:
        """As ``Edge.track``: a dimension that is merged or split loses its order."""
        first, second = (self._follow(dim, line, given, made) for dim, line in track)
        return first, second

    def _follow(self, dim: int | None, line: Line, given: Shape, made: Shape) -> tuple[int | None, Line]:
        if dim is None:
            return None, line
        out, _ = self.to(dim, given, made)
        return (None, line.over(given[dim])) if out is None else (out, line)

    def to(self, dim: int, given: Shape, made: Shape) -> tuple[int | None, Reads]:
        """The output dimension that a dimension lives on as, or None if it is merged or split."""
        for old, new in regrouped(given, made):
            if dim in old:
                wide = _alone(old, new, given, made)
                return (wide[1], Same()) if wide is not None and wide[0] == dim else (None, Whole())
        return None, Whole()


def _alone(old: list[int], new: list[int], given: Shape, made: Shape) -> Pair | None:
    """The dimension before and after if only one is wider than one cell: nothing is merged or split."""
    before = [d for d in old if given[d] != 1] or old[:1]
    after = [d for d in new if made[d] != 1] or new[:1]
    return (before[0], after[0]) if len(before) == 1 and len(after) == 1 else None


def regrouped(given: Shape, made: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions of both shapes that hold the same number of cells.

    Example:
        >>> from konv.explain.edges import regrouped
        >>> list(regrouped((8, 64, 7, 7), (8, 3136)))
        [([0], [0]), ([1, 2, 3], [1])]
    """
    if 0 in given or 0 in made:
        yield list(range(len(given))), list(range(len(made)))
        return
    i = j = 0
    while i < len(given) or j < len(made):
        old, new = [i] if i < len(given) else [], [j] if j < len(made) else []
        left, right = math.prod(given[d] for d in old), math.prod(made[d] for d in new)
        while left != right:
            if left < right:
                old.append(old[-1] + 1 if old else i)
                left *= given[old[-1]]
            else:
                new.append(new[-1] + 1 if new else j)
                right *= made[new[-1]]
        i, j = i + len(old), j + len(new)
        yield old, new


def _spans(first: int, last: int, sizes: list[int]) -> list[Runs]:
    """The smallest box that holds the cells ``first..last`` when they are counted through ``sizes``."""
    lows, highs = _unravelled(first, sizes), _unravelled(last, sizes)
    spans: list[Runs] = []
    for dim, (low, high) in enumerate(zip(lows, highs, strict=True)):
        if lows[:dim] == highs[:dim]:
            spans.append(((low, high),))
        else:
            spans.append(((0, sizes[dim] - 1),))
    return spans


def _unravelled(index: int, sizes: list[int]) -> list[int]:
    places = []
    for size in reversed(sizes):
        places.append(index % size)
        index //= size
    return places[::-1]


def broadcast(source: int, given: Shape, made: Shape) -> Edge:
    """An operand of a pointwise operation."""
    shift = len(made) - len(given)
    axes = [(d + shift, Same() if size == made[d + shift] else Whole()) for d, size in enumerate(given)]
    return Edge(source, tuple(axes))


def reduced(source: int, given: Shape, made: Shape, dims: tuple[int, ...]) -> Edge:
    """A sum, mean or maximum over ``dims``, which are kept with size 1 or gone."""
    gone = {dim % len(given) for dim in dims} if given else set()
    kept = len(made) == len(given)
    axes: list[tuple[int | None, Reads]] = []
    place = 0
    for dim in range(len(given)):
        if dim in gone:
            axes.append((dim if kept else None, Whole()))
            place += kept
        else:
            axes.append((place, Same()))
            place += 1
    return Edge(source, tuple(axes))


def permuted(source: int, order: tuple[int, ...]) -> Edge:
    """Dimensions in another order: output ``i`` is input ``order[i]``."""
    axes = {dim % len(order): place for place, dim in enumerate(order)}
    return Edge(source, tuple((axes[dim], Same()) for dim in range(len(order))))


def everything(source: int, given: Shape) -> Edge:
    """An operation that may read anything."""
    return Edge(source, tuple((None, Whole()) for _ in given))


def joined(tracks: list[Track], made: Shape) -> Track | None:
    """The union of what several inputs see."""
    if not tracks:
        return None
    first, second = (_joined([track[axis] for track in tracks], made) for axis in range(2))
    return first, second


def _joined(ends: list[tuple[int | None, Line]], made: Shape) -> tuple[int | None, Line]:
    dim, line = ends[0]
    for other, seen in ends[1:]:
        if other != dim:
            size = max((made[d] for d in (dim, other) if d is not None), default=1)
            line, seen = (end if end.whole else end.over(size) for end in (line, seen))
            dim = dim if other is None else other if dim is None else None
        line = line.joined(seen, 1 if dim is None else made[dim])
    return dim, line
