"""Options at the ends of what is possible: strides that are never taken, very many channels, none at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from konv import _core, kernels, reference
from konv.errors import ArgumentError, ArgumentRangeError
from konv.geometry import ConvGeometry
from konv.kernels import entries

HUGE = 2**63 - 1


@pytest.mark.parametrize("filters", [4, 64])
@pytest.mark.parametrize("padding", [0, 10, 100])
@pytest.mark.parametrize("stride", [2**31, 2**60, 2**61, 2**63 - 7, HUGE, (HUGE, 1), (1, 2**40)])
def test_a_stride_that_is_never_taken_costs_nothing(isa: str, stride: Any, padding: int, filters: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 2, 8, 9)).astype(np.float32)
    weight = rng.standard_normal((filters, 2, 3, 3)).astype(np.float32)
    geometry = ConvGeometry.of(2, filters, 3, stride, padding, dilation=2)
    small = ConvGeometry.of(2, filters, 3, tuple(min(s, 1000) for s in geometry.stride), padding, dilation=2)
    expected = reference.conv2d(x.astype(float), weight.astype(float), None, small)
    for name in kernels.candidates(geometry, 8, 9):
        with kernels.force_plan(name):
            np.testing.assert_allclose(kernels.conv2d(x, weight, None, geometry), expected, atol=1e-5)
            assert sum(kernels.plan(geometry, 8, 9).scratch(2)[:2]) < 1 << 20
    gy = rng.standard_normal(expected.shape).astype(np.float32)
    gx = kernels.conv2d_grad_input(gy, weight, geometry, (8, 9))
    gw = kernels.conv2d_grad_weight(x, gy, geometry)
    args = (weight.astype(float), small, (8, 9))
    np.testing.assert_allclose(gx, reference.conv2d_grad_input(gy.astype(float), *args), atol=1e-4)
    np.testing.assert_allclose(gw, reference.conv2d_grad_weight(x.astype(float), gy.astype(float), small), atol=1e-4)


def test_rows_far_apart_are_not_staged_with_what_lies_between() -> None:
    geometry = ConvGeometry.of(6000, 16, (1, 3), (100, 1))
    for name in kernels.candidates(geometry, 301, 12):
        with kernels.force_plan(name):
            assert sum(kernels.plan(geometry, 301, 12).scratch(1)[:2]) < 16 << 20


def test_windows_that_cannot_be_counted_are_refused() -> None:
    with pytest.raises(ArgumentRangeError, match="64 bits"):
        kernels.plan(ConvGeometry.of(1, 1, 3, 2**61, 2**61, 2**61), 8, 8)
    sizes = [1, 8, 8, 4, 8, 8, 3, 3, 2**60 - 1, 1, 1, 1, -(2**61), 0, 1]
    with pytest.raises(OverflowError):
        _core.Problem(sizes, "zeros", "float32", "high")


@pytest.mark.parametrize("past", [4, 12, 16, 36, 60])
@pytest.mark.parametrize("channels", [16500, 20000])
def test_few_filters_over_very_many_channels(isa: str, past: int, channels: int) -> None:
    rng = np.random.default_rng(2)
    memory = np.zeros(channels * 144 + 32, np.float32)
    first = (past - memory.ctypes.data % 64) % 64 // 4
    x = memory[first : first + channels * 144].reshape(1, channels, 12, 12)
    x[...] = rng.integers(-2, 3, x.shape)
    weight = rng.integers(-2, 3, (4, channels, 1, 1)).astype(np.float32)
    expected = np.tensordot(weight[:, :, 0, 0], x[0], 1)  # of whole numbers: exact
    threads = kernels.get_num_threads()
    try:
        for count in (1, 2):
            kernels.set_num_threads(count)
            np.testing.assert_array_equal(kernels.conv2d(x, weight, None, ConvGeometry.of(channels, 4, 1))[0], expected)
    finally:
        kernels.set_num_threads(threads)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("size", [9, 200])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint8", "int16", "int32", "int64", "complex64"])
def test_no_channels_at_all_leave_the_bias(isa: str, mode: str, size: int, dtype: str) -> None:
    geometry = ConvGeometry.of(0, 5, 3, padding=1, padding_mode=mode)
    bias = np.arange(5).astype(dtype)
    x, weight = np.zeros((2, 0, size, size), dtype), np.zeros((5, 0, 3, 3), dtype)
    found = kernels.conv2d(x, weight, bias, geometry)
    np.testing.assert_array_equal(found, np.broadcast_to(bias[:, None, None], (2, 5, size, size)))


@pytest.mark.parametrize("dilation", [10**6, 2**60])
def test_no_transform_under_a_dilation_wider_than_the_output(dilation: int) -> None:
    geometry = ConvGeometry.of(16, 16, 3, padding=dilation, dilation=dilation)
    assert not any("winograd" in name for name in kernels.candidates(geometry, 5, 5))
    with kernels.force_plan("winograd"), pytest.raises(ArgumentError, match="cannot run"):
        kernels.plan(geometry, 5, 5)


def test_a_negative_size_is_no_memory() -> None:
    with pytest.raises(MemoryError):
        _core.allocate(-5)


def test_a_plan_that_was_made_while_settings_changed_is_not_found_again() -> None:
    geometry, made = ConvGeometry.of(8, 8, 3), []

    def make(*options: Any) -> str:
        made.append(kernels.get_float32_precision())
        if len(made) == 1:  # as another thread may, between the making and the keeping
            kernels.set_float32_precision("highest")
        return made[-1]

    before = kernels.get_float32_precision()
    try:
        for find in (entries.find, entries.plan):
            made.clear()
            kernels.set_float32_precision("high")
            find(make, geometry, 9, 9, np.dtype(np.float32))
            find(make, geometry, 9, 9, np.dtype(np.float32))
            assert made == ["high", "highest"]
    finally:
        kernels.set_float32_precision(before)
