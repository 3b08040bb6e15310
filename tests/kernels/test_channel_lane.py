"""Depthwise convolution with channels in the lanes: every option, memory of every kind, and when it is chosen."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from konv import kernels
from konv.errors import ArgumentError, ShapeError
from konv.geometry import ConvGeometry

PLAN = "channel_lane"


def depthwise(channels: int, kernel: Any, **options: Any) -> ConvGeometry:
    return ConvGeometry.of(channels, channels, kernel, groups=channels, **options)


@pytest.mark.parametrize("channels", [1, 3, 8, 17, 40])
@pytest.mark.parametrize("kernel", [1, 3, (5, 2), (1, 5), (2, 7)], ids=str)
def test_every_option(isa: str, channels: int, kernel: Any, problem: Any) -> None:
    ran = 0
    for stride, padding, dilation, (h, w) in itertools.product(
        (1, 2, (3, 1)), (0, 2, (1, 3), ((0, 3), (2, 0))), (1, 2, (1, 3)), ((13, 7), (8, 19), (9, 9))
    ):
        geometry = depthwise(channels, kernel, stride=stride, padding=padding, dilation=dilation)
        try:
            geometry.output_size(h, w)
        except ShapeError:
            continue  # the kernel is larger than the image
        p = problem(geometry, 2, h, w)
        with kernels.force_plan(PLAN):
            np.testing.assert_array_equal(p.run(), p.expected())
        ran += 1
    assert ran > 60


@pytest.mark.parametrize("kernel", [3, 4, 5, 7])
def test_windows_of_padding_alone(isa: str, kernel: int, problem: Any) -> None:
    for padding, stride in itertools.product((9, (0, 20), ((20, 0), (0, 1))), (1, 2, 3)):
        p = problem(depthwise(18, kernel, padding=padding, stride=stride), 2, 8, 9)
        with kernels.force_plan(PLAN):
            np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("huge", [2**40, 2**58])
def test_steps_as_large_as_can_be(isa: str, huge: int, problem: Any) -> None:
    with kernels.force_plan(PLAN):
        p = problem(depthwise(18, (1, 1), stride=huge, dilation=huge), 2, 8, 9)
        np.testing.assert_array_equal(p.run(), p.expected())
        for options in ({"stride": huge, "padding": huge}, {"dilation": huge, "padding": huge}):
            with pytest.raises(ArgumentError, match="cannot run this geometry"):
                kernels.plan(depthwise(18, 3, **options), 8, 9)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int8", "uint8"])
def test_dtypes(isa: str, dtype: str, problem: Any) -> None:
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    p = problem(depthwise(19, 3, padding=1), 2, 10, 7, kind)
    with kernels.force_plan(PLAN):
        result = p.run()
    assert result.dtype == kind
    np.testing.assert_array_equal(result.astype(float), p.expected().astype(float))


def test_any_memory(isa: str, problem: Any) -> None:
    p = problem(depthwise(20, 3, stride=(1, 2), padding=1), 2, 8, 11)
    expected = p.expected()
    whole = np.full((2, 20, 12, 15), np.nan, np.float32)
    whole[:, :, 2:10, 2:13] = p.x
    last = np.ascontiguousarray(p.x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    backwards = np.ascontiguousarray(p.x[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1]
    with kernels.force_plan(PLAN):
        for x in (whole[:, :, 2:10, 2:13], last, backwards):
            np.testing.assert_array_equal(kernels.conv2d(x, p.weight, p.bias, p.geometry), expected)


def test_nothing_beyond_the_arrays_is_touched(isa: str, problem: Any, guarded: Any) -> None:
    for channels, (h, w), kernel in itertools.product((5, 16, 33), ((7, 7), (3, 13), (12, 5)), (1, 3, 4, 7)):
        p = problem(depthwise(channels, kernel, padding=kernel // 2), 1, h, w)
        expected = p.expected()
        for at_end in (True, False):
            p.x, p.weight = guarded.copy(p.x, at_end), guarded.copy(p.weight, at_end)
            with kernels.force_plan(PLAN):
                np.testing.assert_array_equal(p.run(), expected)


def test_threads_and_batches_change_no_bit(isa: str) -> None:
    generator = np.random.default_rng(3)
    geometry = depthwise(70, 5, padding=2)
    x = generator.standard_normal((40, 70, 7, 9), np.float32)
    weight = generator.standard_normal(geometry.weight_shape, np.float32)
    before = kernels.get_num_threads()
    try:
        with kernels.force_plan(PLAN):
            kernels.set_num_threads(1)
            expected = kernels.conv2d(x, weight, None, geometry)
            for threads in (2, 3, 7):
                kernels.set_num_threads(threads)
                np.testing.assert_array_equal(kernels.conv2d(x, weight, None, geometry), expected)
            np.testing.assert_array_equal(kernels.conv2d(x[5:6], weight, None, geometry), expected[5:6])
    finally:
        kernels.set_num_threads(before)


def test_a_nan_stays_in_its_channel_and_image(isa: str) -> None:
    geometry = depthwise(24, 3, padding=1)
    x, weight = np.ones((2, 24, 7, 7), np.float32), np.ones(geometry.weight_shape, np.float32)
    x[1, 5, 0, 0] = np.nan
    with kernels.force_plan(PLAN):
        y = kernels.conv2d(x, weight, None, geometry)
    seen = np.zeros(y.shape, bool)
    seen[1, 5, :2, :2] = True
    np.testing.assert_array_equal(np.isnan(y), seen)


@pytest.mark.parametrize(("kernel", "stride", "most"), [(3, 1, 20), (3, 2, 14), (1, 1, 14), (9, 2, 20), (7, 2, 28)])
def test_chosen_where_columns_are_few(isa: str, kernel: int, stride: int, most: int) -> None:
    lanes = {"avx512_bf16": 16, "avx512": 16, "avx2": 8}.get(isa, 4)
    most = 14 if kernel < 5 and lanes < 8 else most
    for columns, channels in ((7, 32), (most, 16), (most + 1, 32), (7, 3)):
        width = (columns - 1) * stride + kernel
        chosen = kernels.plan(depthwise(channels, kernel, stride=stride), 9, width).algorithm == PLAN
        assert chosen == (columns <= most and lanes <= channels)


def test_what_it_does_not_fit() -> None:
    with kernels.force_plan(PLAN):
        reflected = depthwise(8, 3, padding=1, padding_mode="reflect")
        for geometry, size in ((depthwise(8, 3), 65), (ConvGeometry.of(8, 16, 3, groups=8), 9), (reflected, 9)):
            with pytest.raises(ArgumentError, match="cannot run this geometry"):
                kernels.plan(geometry, size, size)
        with pytest.raises(ArgumentError, match="cannot run this geometry"):  # summed in 64 bits
            kernels.plan(depthwise(8, 3), 9, 9, "int64")
