"""The convolutions that make up a gradient, and the borders that are folded back, by their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from konv import borders
from konv.adjoint import axis_phases
from konv.reference import NUMPY_MODES


@given(
    size=st.integers(1, 30),
    pad=st.integers(0, 12),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 6),
    dilation=st.integers(1, 6),
    outputs=st.integers(1, 12),
)
def test_phases_pair_each_cell_with_the_outputs_that_read_it(
    size: int, pad: int, kernel: int, stride: int, dilation: int, outputs: int
) -> None:
    pairs = set()
    filled: list[int] = []
    for phase in axis_phases(size, pad, kernel, stride, dilation):
        cells, taps = range(size)[phase.cells], range(kernel)[phase.taps]
        assert (len(cells), len(taps)) == (phase.outputs, phase.kernel)
        filled += cells
        for t, cell in enumerate(cells):
            for m, tap in enumerate(taps):
                output = t + m * phase.dilation - phase.pad
                if 0 <= output < outputs:
                    pairs.add((cell, tap, output))
    assert len(filled) == len(set(filled))
    read = {(o * stride + k * dilation - pad, k, o) for o in range(outputs) for k in range(kernel)}
    assert pairs == {(cell, tap, output) for cell, tap, output in read if 0 <= cell < size}


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@given(size=st.tuples(st.integers(1, 6), st.integers(1, 7)), pads=st.tuples(*[st.integers(0, 6)] * 4))
def test_borders_are_filled_as_numpy_fills_them_and_folded_by_the_transpose(mode: str, size: Any, pads: Any) -> None:
    limit = 1 if mode == "reflect" else 0
    sides = zip(size, pads[:2], pads[2:], strict=True)
    around = [(0, 0), *((min(before, n - limit), min(after, n - limit)) for n, before, after in sides)]
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (2, *size))
    padded = np.pad(x, around, mode=NUMPY_MODES[mode])  # type: ignore[call-overload]
    filled = np.zeros_like(padded)
    filled[borders.inside(padded.shape, around)] = x
    borders.fill(filled, around, mode)
    np.testing.assert_array_equal(filled, padded)
    y = rng.integers(-9, 9, padded.shape)
    assert (padded * y).sum() == (x * borders.fold(y.copy(), around, mode)).sum()
