"""What all outputs of an axis see of an input axis, said at once: a line that repeats.

Most layers see linearly: output ``i`` of a convolution reads from ``stride*i - pad`` on. Layers that enlarge see in
steps: outputs 0 and 1 of a transposed convolution of stride 2 see the same cells, and so do 2 and 3. So a line has a
period: every ``period`` outputs the cells seen move on by ``step``, and each phase has an offset of its own. Lines
compose from layer to layer exactly, and a join takes the union.

Source: A. Araujo, W. Norris, J. Sim, "Computing receptive fields of convolutional neural networks", Distill 2019, whose
formulas are the case of period 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ..geometry import ConvGeometry
from .trace import AxisField

MAX_PERIOD: Final = 512  # longer ones (sizes without a common divisor) become the straight line around them

Number = int | Fraction


@dataclass(frozen=True, slots=True)
class Line:
    """Output ``q*period + r`` sees the cells from ``q*step + lows[r]`` to ``q*step + highs[r]``.

    ``whole``: the axis was brought together, everybody sees everything.
    """

    step: Number
    lows: tuple[Number, ...]
    highs: tuple[Number, ...]
    whole: bool = False

    @property
    def period(self) -> int:
        """Outputs after which the offsets repeat."""
        return len(self.lows)

    @property
    def jump(self) -> Fraction:
        """Input cells from one output to the next, on average."""
        return Fraction(self.step) / self.period

    def span(self, first: Number, last: Number) -> tuple[Number, Number]:
        """The cells that outputs ``first`` to ``last`` see together."""
        ends = [self._at(first), self._at(last)]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def _at(self, index: Number) -> tuple[Number, Number]:
        if self.period == 1:
            return self.step * index + self.lows[0], self.step * index + self.highs[0]
        turns, phase = divmod(int(index), self.period)
        return turns * self.step + self.lows[phase], turns * self.step + self.highs[phase]

    def after(self, layer: Line) -> Line:
        """This line behind a layer; ``layer`` says which of the cells that this line describes its outputs read."""
        if self.whole:
            return self
        inner = self
        if self.period > 1 and Fraction(layer.step).denominator > 1:
            inner = self.straight()
        turns = inner.period // math.gcd(inner.period, abs(int(layer.step))) if inner.period > 1 else 1
        if turns * layer.period > MAX_PERIOD:
            return inner.straight().after(layer.straight())
        spans = []
        for index in range(turns * layer.period):
            turn, phase = divmod(index, layer.period)
            spans.append(inner.span(turn * layer.step + layer.lows[phase], turn * layer.step + layer.highs[phase]))
        step = inner.step * layer.step * turns / Fraction(inner.period)
        return Line(step, tuple(low for low, _ in spans), tuple(high for _, high in spans))

    def straight(self) -> Line:
        """The narrowest line of period 1 around this one."""
        low = min(Fraction(value) - self.jump * phase for phase, value in enumerate(self.lows))
        high = max(Fraction(value) - self.jump * phase for phase, value in enumerate(self.highs))
        return Line(self.jump, (low,), (high,), self.whole)

    def over(self, size: int) -> Line:
        """After everything along an axis of ``size`` cells has been brought together."""
        low, high = self.span(0, max(size - 1, 0))
        return Line(0, (low,), (high,), True)

    def joined(self, other: Line, size: int) -> Line:
        """The union with another line along an axis of ``size`` cells."""
        if self.whole or other.whole:
            ends = [line if line.whole else line.over(size) for line in (self, other)]
            return Line(0, (min(e.lows[0] for e in ends),), (max(e.highs[0] for e in ends),), True)
        if self.jump != other.jump:  # after resampling by odd ratios: a line around both
            low, high = other.straight().span(0, 0)
            drift = (other.jump - self.jump) * max(size - 1, 0)
            mine = self.straight()
            low, high = min(mine.lows[0], low, low + drift), max(mine.highs[0], high, high + drift)
            return Line(mine.step, (low,), (high,))
        period = math.lcm(self.period, other.period)
        spans = [(self.span(i, i), other.span(i, i)) for i in range(period)]
        lows = tuple(min(a[0], b[0]) for a, b in spans)
        return Line(self.jump * period, lows, tuple(max(a[1], b[1]) for a, b in spans))

    def field(self) -> AxisField:
        """The line as a record."""
        around = self.straight()
        widest = max(int(high - low) + 1 for low, high in zip(self.lows, self.highs, strict=True))
        return AxisField(
            widest, self.jump, Fraction(around.lows[0]), Fraction(around.highs[0]), self.center, self.whole
        )

    @property
    def center(self) -> Fraction:
        """The middle of the field of output 0, or what it would be if the phases lay evenly."""
        middles = [
            Fraction(low + high) / 2 - self.jump * phase
            for phase, (low, high) in enumerate(zip(self.lows, self.highs, strict=True))
        ]
        return sum(middles, Fraction(0)) / self.period


def identity() -> Line:
    """The input as it sees itself."""
    return Line(1, (0,), (0,))


def of_geometry(geometry: ConvGeometry, axis: int, size: int) -> Line:
    """One axis of a convolution over ``size`` cells; a transposed one has a phase for each step of its stride."""
    step, low, high, divisor = geometry.reach(axis, size)
    if divisor > MAX_PERIOD:  # what ``straight`` makes of the phases below, without a walk over them
        low, high = min(low, high - divisor + 1), max(high, low + divisor - 1)
        return Line(Fraction(1, divisor), (Fraction(low, divisor),), (Fraction(high, divisor),))
    if divisor == 1:
        return Line(step, (low,), (high,))
    ends = [(-(-(low + phase) // divisor), (high + phase) // divisor) for phase in range(divisor)]
    # A phase that reads nothing (the stride is wider than the kernel) takes the cells around the hole.
    return Line(1, tuple(min(pair) for pair in ends), tuple(max(pair) for pair in ends))
