"""Remarks on a layer that is legal and probably not meant: pixels dropped or skipped, outputs made of padding alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..kernels import lanes
from .trace import AxisReport, Hint

if TYPE_CHECKING:
    from ..geometry import ConvGeometry
    from .trace import LayerReport

WASTE: Final = 0.25  # idle lanes worth a word
LINES: Final = {"height": ("row", "bottom", "top"), "width": ("column", "right", "left")}


def layer_marks(report: LayerReport, geometry: ConvGeometry) -> tuple[Hint, ...]:
    """Every remark on one convolution or pooling layer, height before width."""
    found = []
    for axis in report.axes:
        found += [mark for mark in (_dropped(axis), _skipped(axis), *_blind(axis)) if mark]
    found += _channels(geometry, lanes(report.dtype)) if report.weight is not None else []
    return tuple(found)


def _many(count: int, line: str) -> str:
    return f"{count} {line}" if count == 1 else f"{count} {line}s"


def _dropped(axis: AxisReport) -> Hint | None:
    if not axis.dropped:
        return None
    line, end, _ = LINES[axis.name]
    fits = f"{axis.input - axis.dropped} or {axis.input + axis.stride - axis.unused} {line}s would fit"
    verb = "reaches" if axis.dropped == 1 else "reach"
    got = f"{axis.name}: {_many(axis.dropped, line)} of pixels at the {end} {verb} no output"
    return Hint("drops-pixels", f"{got}; {fits}")


def _skipped(axis: AxisReport) -> Hint | None:
    if axis.stride <= axis.extent or axis.output < 2:
        return None
    line = LINES[axis.name][0]
    missed = axis.stride - axis.extent
    got = f"{axis.name}: stride {axis.stride} steps over the kernel's {axis.extent}"
    verb = "is" if missed == 1 else "are"
    return Hint("skips-pixels", f"{got}; {_many(missed, line)} of every {axis.stride} {verb} never read")


def _blind(axis: AxisReport) -> list[Hint]:
    line, end, start = LINES[axis.name]
    found = []
    for count, side in zip(axis.blind, (start, end), strict=True):
        if count:
            verb = "is" if count == 1 else "are"
            got = f"{axis.name}: {_many(count, line)} of outputs at the {side} {verb} fed by padding alone"
            found.append(Hint("padding-alone", f"{got}; no pixel reaches {'it' if count == 1 else 'them'}"))
    return found


def _channels(geometry: ConvGeometry, vector: int) -> list[Hint]:
    """Channel counts that leave the vectors of the kernels half empty. Depthwise layers run along pixels instead."""
    if geometry.is_depthwise or geometry.transposed:
        return []
    each = geometry.out_channels // geometry.groups
    full = -(-each // vector) * vector
    if each <= vector // 2 and geometry.groups > 1:
        got = f"{geometry.groups} groups make {each} output channels each, where a vector holds {vector}"
        return [Hint("channels", f"{got}; fewer, wider groups run faster")]
    if each > vector and (full - each) / full >= WASTE:
        got = f"{each} output channels fill {each} of {full} vector lanes"
        return [Hint("channels", f"{got}; {full - vector} or {full} channels leave none idle")]
    return []
