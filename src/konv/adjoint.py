"""The adjoint of a convolution as whole numbers: the ordinary convolutions that make the gradient of its image.

An image cell h (h + pad in the padded image) is read by output o through tap k where o*s + k*d = h + pad. Of the s
phases h mod s, each is reached by the taps of one residue class alone, and those form an arithmetic progression
k = k0, k0 + s/g, k0 + 2s/g ... with g = gcd(s, d). Along a phase, h = a + s*t, so

    o = t + e - m*(d/g),    e = (a + pad - k0*d) / s,    tap k0 + m*(s/g),    m = 0 .. M-1

which, with the taps in reverse order, is an ordinary convolution of the output's gradient: M taps, stride 1, dilation
d/g, pad (M-1)*d/g - e (negative: the gradient is cropped), image and output channels exchanged:

    stride 2, 3x3:    A B A B     A: 1 tap (middle)        B: 2 taps (left, right)
                      C D C D     C: 2 taps (up, down)     D: 4 taps (corners)

The forward of a transposed convolution is the same.

Source: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, section 4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .geometry import ConvGeometry, Pads


class AxisPhase(NamedTuple):
    """One phase along one axis: which cells it fills, by which taps, and the convolution that does it."""

    cells: slice  # a, a + s, ... of the image
    taps: slice  # of the kernel, the last one first
    outputs: int
    kernel: int
    dilation: int
    pad: int


def axis_phases(size: int, pad: int, kernel: int, stride: int, dilation: int) -> list[AxisPhase]:
    """The phases, of an axis of ``size`` cells behind ``pad`` others, that a tap reaches.

    Example:
        >>> from konv.adjoint import axis_phases
        >>> for phase in axis_phases(8, 1, 3, 2, 1):
        ...     print(phase.cells, phase.taps, phase.kernel, phase.pad)
        slice(1, None, 2) slice(2, None, -2) 2 0
        slice(0, None, 2) slice(1, None, -2) 1 0
    """
    common = math.gcd(stride, dilation)
    step, apart = stride // common, dilation // common
    phases = []
    for first_tap in range(min(kernel, step)):
        first = (first_tap * dilation - pad) % stride
        if first >= size:
            continue
        taps, e = -(-(kernel - first_tap) // step), (first + pad - first_tap * dilation) // stride
        cells, tap_order = slice(first, None, stride), slice(first_tap + (taps - 1) * step, None, -step)
        phases.append(AxisPhase(cells, tap_order, -(-(size - first) // stride), taps, apart, (taps - 1) * apart - e))
    return phases


def borders(geometry: ConvGeometry, h: int, w: int) -> Pads:
    """Cells around the image whose gradient goes to the image too: none, where padding is zeros."""
    return ((0, 0), (0, 0)) if geometry.padding_mode == "zeros" else geometry.pads(h, w)


def phases(geometry: ConvGeometry, h: int, w: int) -> list[tuple[AxisPhase, AxisPhase]]:
    """What fills the gradient of an image of ``h`` x ``w`` and of its ``borders``: pairs (down, across).

    Example:
        >>> from konv.adjoint import phases
        >>> from konv.geometry import ConvGeometry
        >>> len(phases(ConvGeometry.of(1, 1, 3, padding=1), 8, 8)), len(phases(ConvGeometry.of(1, 1, 3, 2), 8, 8))
        (1, 4)
    """
    around, pads = borders(geometry, h, w), geometry.pads(h, w)

    def along(axis: int, size: int) -> list[AxisPhase]:
        options = geometry.kernel_size[axis], geometry.stride[axis], geometry.dilation[axis]
        return axis_phases(size + sum(around[axis]), pads[axis][0] - around[axis][0], *options)

    return [(down, across) for down in along(0, h) for across in along(1, w)]
