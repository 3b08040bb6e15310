"""Depthwise convolution: every kernel height that has its own tile and some that have none, to the last bit."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from konv import kernels
from konv.errors import ShapeError
from konv.geometry import ConvGeometry

KERNELS = [1, 2, 3, 4, 5, 6, 7, 9, 11, (1, 7), (7, 1), (3, 5), (5, 3), (13, 2)]
OPTIONS = [
    {},
    {"padding": 3},
    {"padding": ((0, 2), (1, 3)), "stride": 2},
    {"padding": 2, "stride": (1, 2)},
    {"padding": 2, "stride": (2, 1)},
    {"padding": 1, "stride": (3, 5)},
    {"padding": 4, "dilation": 2},
    {"padding": 5, "dilation": (3, 1), "stride": (1, 2)},
    {"padding": 6, "dilation": (2, 7), "stride": (2, 3)},
    {"padding": 3, "padding_mode": "reflect"},
    {"padding": 3, "padding_mode": "circular", "stride": 2},
    {"padding": 9, "padding_mode": "replicate", "dilation": 2},
]
SIZES = [(1, 14, 14), (2, 7, 7), (1, 33, 70), (1, 61, 5), (1, 5, 1100)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_sums_are_exact(isa: str, kernel: Any, options: Any, problem: Any) -> None:
    ran = 0
    for n, h, w in SIZES:
        geometry = ConvGeometry.of(3, 3, kernel, groups=3, **options)
        try:
            geometry.output_size(h, w)
        except ShapeError:
            continue
        p = problem(geometry, n, h, w)
        assert kernels.plan(geometry, h, w).algorithm == "depthwise"
        np.testing.assert_array_equal(p.run(), p.expected())
        ran += 1
    assert ran


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_scratch_of_one_channel_serves_the_next(isa: str, options: Any, problem: Any) -> None:
    for channels, h, w in ((150, 9, 10), (5, 90, 131)):  # whole images, of which a task has many; blocks of one
        p = problem(ConvGeometry.of(channels, channels, 3, groups=channels, **options), 2, h, w)
        np.testing.assert_array_equal(p.run(), p.expected())


# Rows under 3x3 taps, and 5x5 at a stride of 2, are read where they lie, but for short ones and those that might reach
# beyond the image.
LONG_ROWS = [
    {},
    {"padding": 1},
    {"padding": ((0, 3), (2, 1))},
    {"padding": ((5, 0), (0, 3))},
    {"padding": (9, 15)},
    {"padding": (0, 70)},
    {"padding": (2, 3), "dilation": (1, 3)},
    {"padding": (4, 3), "dilation": (2, 2)},
]


@pytest.mark.parametrize("stride", [1, 2, (2, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("options", LONG_ROWS, ids=str)
def test_long_rows(isa: str, options: Any, stride: Any, problem: Any) -> None:
    sizes = [(2, 8, 64), (1, 23, 130), (1, 36, 147), (2, 30, 256), (1, 17, 1050), (1, 19, 2060)]
    for n, h, w in [*sizes, (1, 3, 40), (1, 4, 33), (2, 12, 16), (1, 15, 17), (1, 29, 28), (1, 32, 32), (2, 21, 47)]:
        for kernel in (3, 5, (5, 3)) if stride == 2 and h > 7 else (3,):
            p = problem(ConvGeometry.of(3, 6, kernel, stride, groups=3, **options), n, h, w)
            np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", [16, 28, 33, 40, 134])
def test_rows_where_they_lie_see_nothing_beside_them(isa: str, width: int, stride: int, problem: Any) -> None:
    paddings = (0, 1, 2, (1, 0), (1, 3), ((1, 0), (2, 5)), ((2, 4), (2, 0)))
    for kernel, h, padding in itertools.product((3, 5), (1, 2, 9, 28, 29), paddings):
        geometry = ConvGeometry.of(5, 5, kernel, stride, padding, groups=5)
        try:
            geometry.output_size(h, width)
        except ShapeError:
            continue
        p = problem(geometry, 2, h, width)
        expected = p.expected()
        around = np.full((2, 5, h + 4, width + 6), np.nan, np.float32)
        around[:, :, 2:-2, 3:-3] = p.x
        p.x = around[:, :, 2:-2, 3:-3]
        np.testing.assert_array_equal(p.run(), expected)


@pytest.mark.parametrize("at_end", [True, False])
def test_channels_in_any_order_end_where_their_memory_does(isa: str, at_end: bool, problem: Any, guarded: Any) -> None:
    for kernel, stride, h, width, padding in itertools.product((3, 5), (1, 2), (5, 15), (16, 32, 70), (0, 1, 2)):
        p = problem(ConvGeometry.of(4, 4, kernel, stride, padding, groups=4), 1, h, width)
        straight = p.x
        for view in (
            guarded.copy(straight, at_end),
            guarded.copy(straight[:, ::-1], at_end)[:, ::-1],
            np.broadcast_to(guarded.copy(straight[:, :1], at_end), straight.shape),
            guarded.copy(straight.transpose(0, 2, 1, 3), at_end).transpose(0, 2, 1, 3),
        ):
            p.x = view
            np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_wider_than_the_image(isa: str, stride: int, at_end: bool, problem: Any, guarded: Any) -> None:
    for h, w, left, right in itertools.product((1, 2, 5), (3, 5, 9), (3, 7, 15), (6, 14, 30)):
        p = problem(ConvGeometry.of(3, 3, 3, stride, ((1, 1), (left, right)), groups=3), 1, h, w)
        expected = p.expected()
        p.x = guarded.copy(p.x, at_end)
        np.testing.assert_array_equal(p.run(), expected)


def test_a_last_block_of_one_column(isa: str, problem: Any) -> None:
    p = problem(ConvGeometry.of(1, 1, 3, padding=1), 1, 17, 130 * 1024 + 1)
    with kernels.force_plan("depthwise"):
        np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("stride", [1, 2])
def test_long_rows_see_nothing_beyond_their_ends(isa: str, stride: int, problem: Any, guarded: Any) -> None:
    for h, padding in itertools.product(
        (3, 4, 23, 24, 29, 30), (0, 1, (0, 1), (3, 5), ((0, 0), (1000, 0)), ((0, 0), (0, 140)))
    ):
        p = problem(ConvGeometry.of(2, 2, 3, stride, padding, groups=2), 2, h, 134)
        expected = p.expected()
        for at_end in (True, False):
            p.x = guarded.copy(p.x, at_end)
            np.testing.assert_array_equal(p.run(), expected)
        around = np.full((2, 2, h + 4, 140), np.nan, np.float32)
        around[:, :, 2:-2, 3:-3] = p.x
        p.x = around[:, :, 2:-2, 3:-3]
        np.testing.assert_array_equal(p.run(), expected)
    p = problem(ConvGeometry.of(1, 1, 3, stride, 1), 1, 23, 134)
    for at_end in (True, False):  # one row, again and again
        p.x = np.broadcast_to(guarded.copy(p.x[:, :, :1], at_end), p.x.shape)
        with kernels.force_plan("depthwise"):
            np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("multiplier", [2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_channel_multiplier(isa: str, multiplier: int, stride: int, problem: Any) -> None:
    p = problem(ConvGeometry.of(5, 5 * multiplier, 3, stride, 1, groups=5), 3, 20, 21)
    np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("stride", [1, 2])
def test_dtypes(isa: str, dtype: str, stride: int, problem: Any) -> None:
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    for kernel, mode in ((3, "zeros"), (5, "reflect"), (7, "zeros"), (8, "circular")):
        p = problem(ConvGeometry.of(4, 4, kernel, stride, 3, 1, 4, mode), 2, 19, 23, kind)
        result = p.run()
        assert result.dtype == kind
        np.testing.assert_array_equal(result.astype(float), p.expected().astype(float))


def test_any_memory(isa: str, problem: Any) -> None:
    p = problem(ConvGeometry.of(6, 6, 3, 1, 1, groups=6), 2, 17, 18)
    expected = p.expected()
    for change in (
        np.asfortranarray,
        lambda a: np.ascontiguousarray(a[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1],
        lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        lambda a: np.pad(a, ((0, 0), (0, 0), (0, 0), (0, 5)))[..., : a.shape[3]],
        lambda a: np.repeat(a, 2, 2)[:, :, ::2],
    ):
        np.testing.assert_array_equal(kernels.conv2d(change(p.x), change(p.weight), p.bias, p.geometry), expected)


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_outside_an_array_is_touched(isa: str, at_end: bool, problem: Any, guarded: Any) -> None:
    for kernel in (1, 3, 5, 7, 9):
        for stride in (1, 2, 3):
            for h, w in ((9, 9), (16, 16), (10, 33), (11, 15)):
                p = problem(ConvGeometry.of(2, 2, kernel, stride, 0, groups=2), 2, h, w)
                expected = p.expected()
                p.x, p.weight, p.bias = (guarded.copy(a, at_end) for a in (p.x, p.weight, p.bias))
                np.testing.assert_array_equal(p.run(), expected)


def test_bits_do_not_depend_on_threads_or_batch(isa: str) -> None:
    rng = np.random.default_rng(4)
    before = kernels.get_num_threads()
    for h, w in ((7, 7), (56, 57), (300, 20)):
        geometry = ConvGeometry.of(33, 33, 5, 1, 2, groups=33)
        x = rng.standard_normal((4, 33, h, w)).astype(np.float32)
        weight = rng.standard_normal(geometry.weight_shape).astype(np.float32)
        whole = kernels.conv2d(x, weight, None, geometry)
        try:
            for threads in (1, 2, 5, 32):
                kernels.set_num_threads(threads)
                np.testing.assert_array_equal(kernels.conv2d(x, weight, None, geometry), whole)
                np.testing.assert_array_equal(kernels.conv2d(x[2:3], weight, None, geometry), whole[2:3])
        finally:
            kernels.set_num_threads(before)


def test_nan_stays_under_its_windows(isa: str) -> None:
    geometry = ConvGeometry.of(2, 2, 3, 1, 1, groups=2)
    x = np.ones((2, 2, 12, 20), np.float32)
    x[1, 0, 5, 19] = np.nan
    y = kernels.conv2d(x, np.ones(geometry.weight_shape, np.float32), None, geometry)
    where = np.argwhere(np.isnan(y))
    assert {tuple(i) for i in where} == {(1, 0, r, c) for r in (4, 5, 6) for c in (18, 19)}


@settings(max_examples=150)
@given(data=st.data(), isa_name=st.sampled_from(kernels.available_isas()))
def test_whole_parameter_space(problem: Any, data: Any, isa_name: str) -> None:
    p = data.draw(problem.anywhere(groups=(2, 9), per_group=(1, 3), kernel=9, size=(40, 60)))
    with kernels.use_isa(isa_name):
        np.testing.assert_array_equal(p.run(), p.expected())
