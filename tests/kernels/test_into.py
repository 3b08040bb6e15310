"""The forward pass into an array of the caller's: any strides, nothing else touched, nothing unsafe accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from konv import _core, kernels
from konv.errors import ArgumentError
from konv.geometry import ConvGeometry
from konv.kernels.conv import by_group

LAYERS = [
    ConvGeometry.of(3, 5, 3, padding=1),
    ConvGeometry.of(64, 33, 1),
    ConvGeometry.of(4, 4, 3, groups=4),
    ConvGeometry.of(8, 40, (2, 5), 2, 1, groups=2),
]
# A view of the given shape in the middle of an array that the function makes.
VIEWS: dict[str, Any] = {
    "contiguous": lambda n, c, h, w: ((n, c, h, w), ...),
    "cells of a stride": lambda n, c, h, w: ((n, c, 2 * h + 1, 3 * w + 2), np.s_[:, :, 1::2, 2::3]),
    "padded": lambda n, c, h, w: ((n + 1, c + 2, h + 3, w + 4), np.s_[1:, 1:-1, 1:-2, 3:-1]),
    "backwards": lambda n, c, h, w: ((n, c, h, w), np.s_[::-1, ::-1, ::-1, ::-1]),
}


def made(x: Any, weight: Any, geometry: ConvGeometry) -> tuple[_core.Plan, _core.Packed]:
    plan = kernels.plan(geometry, *x.shape[2:], x.dtype)
    packed = _core.pack_weight(plan, by_group(weight, geometry))
    assert packed is not None
    return plan, packed


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("geometry", LAYERS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16", "complex64", "int8"])
def test_the_view_and_nothing_else_is_written(
    isa: str, dtype: str, geometry: ConvGeometry, view: str, problem: Any
) -> None:
    p = problem(geometry, 2, 9, 21, dtype)
    for forced in ("pixel_lane", "output_lane", "winograd", "depthwise", "channel_lane"):
        with kernels.force_plan(forced):
            try:
                plan, packed = made(p.x, p.weight, geometry)
            except ArgumentError:
                continue  # not for this layer
            exact = p.run()
        shape, cells = VIEWS[view](*exact.shape)
        whole = np.full(shape, 77, dtype)
        expected = whole.copy()
        expected[cells] = exact
        assert _core.conv2d_into(plan, p.x, packed, p.bias, whole[cells])
        np.testing.assert_array_equal(whole, expected)


@pytest.mark.parametrize("rows", range(1, 16))
def test_narrow_rows_reach_over_each_other_but_not_over_the_next_channel(isa: str, rows: int, problem: Any) -> None:
    geometry = ConvGeometry.of(3, 3, 3, padding=1, groups=3)
    for columns in range(1, 18):
        p = problem(geometry, 1, rows, columns)
        plan, packed = made(p.x, p.weight, geometry)
        whole = np.full((1, 6, rows, columns), 77, np.float32)
        assert _core.conv2d_into(plan, p.x, packed, p.bias, whole[:, ::2])
        np.testing.assert_array_equal(whole[:, ::2], p.expected())
        assert (whole[:, 1::2] == 77).all()


def test_channels_last(isa: str, problem: Any) -> None:
    p = problem(LAYERS[0], 2, 9, 21)
    out = np.zeros((2, 9, 21, 5), np.float32)
    plan, packed = made(p.x, p.weight, LAYERS[0])
    assert _core.conv2d_into(plan, p.x, packed, None, out.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(out.transpose(0, 3, 1, 2), kernels.conv2d(p.x, p.weight, None, LAYERS[0]))


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_outside_an_array_is_touched(isa: str, at_end: bool, problem: Any, guarded: Any) -> None:
    for geometry in LAYERS:
        for forced in ("pixel_lane", "output_lane", "winograd", "depthwise", "channel_lane"):
            p = problem(geometry, 2, 9, 21)
            with kernels.force_plan(forced):
                try:
                    plan, packed = made(p.x, p.weight, geometry)
                except ArgumentError:
                    continue
                exact = p.run()
            out = guarded.copy(np.zeros_like(exact), at_end)
            assert _core.conv2d_into(plan, guarded.copy(p.x, at_end), packed, guarded.copy(p.bias, at_end), out)
            np.testing.assert_array_equal(out, exact)


def test_outputs_that_are_not_the_plans_are_refused(problem: Any) -> None:
    geometry = ConvGeometry.of(3, 4, 3)
    p = problem(geometry, 2, 6, 8)
    plan, packed = made(p.x, p.weight, geometry)
    good = np.zeros((2, 4, 4, 6), np.float32)
    for out in (good[:1], good[:, :3], good[:, :, 1:], good[..., 1:], good[0], good.astype(float)):
        with pytest.raises(ValueError, match="konv: the output"):
            _core.conv2d_into(plan, p.x, packed, None, out)
    good.flags.writeable = False
    with pytest.raises((ValueError, BufferError), match="read-only"):
        _core.conv2d_into(plan, p.x, packed, None, good)
    assert not good.any()


def test_foreign_memory_is_told(problem: Any) -> None:
    p = problem(LAYERS[0], 1, 5, 6)
    plan, packed = made(p.x, p.weight, LAYERS[0])
    out = np.zeros((1, 5, 5, 6), np.float32)
    swapped = np.dtype(np.float32).newbyteorder(">")
    assert not _core.conv2d_into(plan, p.x.astype(swapped), packed, None, out)
    assert not _core.conv2d_into(plan, p.x, packed, None, out.astype(swapped))
    assert not out.any()


def test_problems_that_no_kernel_can_run_are_refused() -> None:
    sizes = [4, 9, 9, 6, 7, 7, 3, 3, 1, 1, 1, 1, 0, 0, 1]
    plan = _core.Problem(sizes, "zeros", "float32", "high").plan()
    packed = _core.pack_weight(plan, np.zeros((1, 6, 4, 3, 3), np.float32))
    assert packed is not None
    x = np.zeros((1, 4, 9, 9), np.float32)
    assert _core.conv2d_into(plan, x, packed, None, np.zeros((1, 6, 7, 7), np.float32))
    with pytest.raises(ValueError, match="shape"):
        _core.conv2d_into(plan, x, packed, None, np.zeros((1, 6, 7, 8), np.float32))
    for place, number in ((0, -1), (3, 0), (4, -1), (6, 0), (8, 0), (10, 0), (12, 2**62), (14, 0), (14, 4), (1, 2**61)):
        changed = [number if i == place else size for i, size in enumerate(sizes)]
        with pytest.raises((ValueError, OverflowError), match="konv: "):
            _core.Problem(changed, "zeros", "float32", "high")
    for words in (
        ("zero", "float32", "high"),
        ("zeros", "", "high"),
        ("zeros", "float", "high"),
        ("zeros", "int8", ""),
    ):
        with pytest.raises(ValueError, match="konv: unknown"):
            _core.Problem(sizes, *words)
    with pytest.raises(ValueError, match="15 sizes"):
        _core.Problem(sizes[:14], "zeros", "float32", "high")
