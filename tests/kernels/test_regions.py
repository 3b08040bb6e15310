"""Convolution in regions whose outputs see the same taps: exact, chosen where padding is most of the work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from konv import kernels
from konv.errors import ArgumentError
from konv.geometry import ConvGeometry

# options of the layer, (h, w): dilations about as large as the image, unequal pairs, strides, pads of one side
CASES: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({"padding": 1}, (2, 2)),
    ({"padding": 1}, (1, 1)),
    ({"padding": 1, "stride": 2}, (5, 4)),
    ({"padding": (6, 4), "dilation": (6, 4)}, (7, 5)),
    ({"padding": (6, 4), "dilation": (6, 4)}, (11, 9)),
    ({"padding": ((5, 0), (0, 3)), "dilation": (5, 3)}, (6, 8)),
    ({"padding": (7, 2), "dilation": (7, 2), "stride": (2, 3)}, (9, 10)),
    ({"padding": 9, "dilation": 9, "groups": 2}, (10, 13)),
    ({"padding": ((5, 0), (0, 5)), "dilation": 5}, (11, 12)),
    ({"padding": (8, 7), "dilation": 4}, (9, 10)),
]


@pytest.fixture(autouse=True, scope="module")
def _direct_sums() -> Iterator[None]:
    """Regions may be transformed like any convolution; sums of whole numbers are exact."""
    before = kernels.get_float32_precision()
    kernels.set_float32_precision("highest")
    yield
    kernels.set_float32_precision(before)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ml_dtypes.bfloat16, "complex64", "int8"])
@pytest.mark.parametrize(("options", "size"), CASES)
def test_regions_are_exact(isa: str, options: dict[str, Any], size: Any, dtype: Any, problem: Any) -> None:
    p = problem(ConvGeometry.of(6, 38, 3, **options), 2, *size, dtype)
    with kernels.force_plan("regions"):
        assert kernels.plan(p.geometry, *size, p.dtype).algorithm == "regions"
        result = p.run()
    np.testing.assert_array_equal(result.astype(complex), p.expected().astype(complex))


@settings(max_examples=100)
@given(data=st.data(), isa_name=st.sampled_from(kernels.available_isas()))
def test_whole_parameter_space(problem: Any, data: Any, isa_name: str) -> None:
    axis = st.tuples(st.integers(1, 20), st.integers(1, 4), st.integers(1, 12), st.integers(1, 3))
    (h, kh, dh, sh), (w, kw, dw, sw) = data.draw(axis), data.draw(axis)
    pads = tuple(
        tuple(data.draw(st.integers(0, d * (k - 1) // 2)) + (d * (k - 1) + 1) // 2 for _ in range(2))
        for k, d in ((kh, dh), (kw, dw))
    )
    options = {"stride": (sh, sw), "padding": pads, "dilation": (dh, dw)}
    p = problem(ConvGeometry.of(*data.draw(st.tuples(*[st.integers(1, 40)] * 2)), (kh, kw), **options), 2, h, w)
    with kernels.use_isa(isa_name):
        try:
            with kernels.force_plan("regions"):
                result = p.run()
        except ArgumentError:  # an output that sees no tap, or no padding at all
            assert "regions" not in kernels.candidates(p.geometry, h, w)
            result = p.run()
    np.testing.assert_array_equal(result, p.expected())


def test_sums_are_those_of_the_other_direct_plans(isa: str) -> None:
    rng = np.random.default_rng(4)
    geometry = ConvGeometry.of(70, 40, 3, padding=8, dilation=8)
    x = rng.standard_normal((3, 70, 10, 12)).astype(np.float32)
    weight = rng.standard_normal(geometry.weight_shape).astype(np.float32)
    found = {}
    for plan in ("regions", "output_lane", "pixel_lane"):
        with kernels.force_plan(plan):
            found[plan] = kernels.conv2d(x, weight, None, geometry)
    before = kernels.get_num_threads()
    try:
        with kernels.force_plan("regions"):
            for threads in (1, 3, 7):
                kernels.set_num_threads(threads)
                found[str(threads)] = kernels.conv2d(x, weight, None, geometry)
            one = kernels.conv2d(x[1:2], weight, None, geometry)
    finally:
        kernels.set_num_threads(before)
    for result in found.values():
        np.testing.assert_array_equal(result, found["output_lane"])
    np.testing.assert_array_equal(one, found["output_lane"][1:2])


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_outside_an_array_is_touched(isa: str, at_end: bool, problem: Any, guarded: Any) -> None:
    for options, size in CASES:
        p = problem(ConvGeometry.of(4, 34, 3, **options), 2, *size)
        expected = p.expected()
        p.x, p.weight, p.bias = (guarded.copy(a, at_end) for a in (p.x, p.weight, p.bias))
        with kernels.force_plan("regions"):
            np.testing.assert_array_equal(p.run(), expected)


def test_chosen_where_padding_is_most_of_the_work() -> None:
    def chosen(size: int, dilation: int) -> str:
        return kernels.plan(ConvGeometry.of(256, 256, 3, padding=dilation, dilation=dilation), size, size).algorithm

    for precision, near in (("highest", "output_lane"), ("high", "winograd")):
        kernels.set_float32_precision(precision)
        assert [chosen(32, 18), chosen(65, 36), chosen(32, 1), chosen(33, 6)] == ["regions", "regions", near, near]
    kernels.set_float32_precision("highest")


def test_candidates_name_them_where_they_save_something() -> None:
    far, near = (ConvGeometry.of(64, 64, 3, padding=d, dilation=d) for d in (8, 1))
    assert "regions" in kernels.candidates(far, 12, 12)
    assert "regions" not in kernels.candidates(near, 56, 56)


def test_other_padding_and_no_padding_have_no_regions() -> None:
    for options in ({"padding": 3, "padding_mode": "reflect", "dilation": 3}, {"dilation": 3}):
        with kernels.force_plan("regions"), pytest.raises(ArgumentError, match="cannot run this geometry"):
            kernels.plan(ConvGeometry.of(4, 4, 3, **options), 8, 8)


def test_huge_geometries_are_planned_at_once() -> None:
    geometry = ConvGeometry.of(1, 1, 3, padding=10**6, dilation=10**6)
    assert kernels.plan(geometry, 10**9, 1).algorithm != "regions"
