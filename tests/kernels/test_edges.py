"""Outputs that see the same taps are summed together, over those taps alone: exact, chosen where it saves work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from konv import kernels
from konv.geometry import ConvGeometry

# options of the layer, (h, w): dilations about as large as the image, unequal pairs, strides, pads of one side
CASES: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({"padding": 1}, (2, 2)),
    ({"padding": 1}, (1, 3)),
    ({"padding": 1, "stride": 2}, (5, 4)),
    ({"padding": (6, 4), "dilation": (6, 4)}, (7, 5)),
    ({"padding": (6, 4), "dilation": (6, 4)}, (11, 9)),
    ({"padding": ((5, 0), (0, 3)), "dilation": (5, 3)}, (6, 8)),
    ({"padding": (7, 2), "dilation": (7, 2), "stride": (2, 3)}, (9, 10)),
    ({"padding": 9, "dilation": 9, "groups": 2}, (10, 13)),
    ({"padding": ((5, 0), (0, 5)), "dilation": 5}, (11, 12)),
    ({"padding": (8, 7), "dilation": 4}, (9, 10)),
    ({"padding": 1, "stride": 2}, (14, 14)),
    ({"padding": (3, 0), "stride": (1, 2)}, (4, 17)),
    ({"padding": 1}, (2, 800)),  # cut into blocks of some columns, and of some rows
    ({"padding": 20, "dilation": 20}, (25, 23)),
]


@pytest.fixture(autouse=True, scope="module")
def _direct_sums() -> Iterator[None]:
    """Sums of whole numbers are exact; what is chosen in `'high'` is asked for by name."""
    before = kernels.get_float32_precision()
    kernels.set_float32_precision("highest")
    yield
    kernels.set_float32_precision(before)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ml_dtypes.bfloat16, "complex64", "int8"])
@pytest.mark.parametrize(("options", "size"), CASES)
@pytest.mark.parametrize("filters", [70, 330])  # so many that what they read is gathered first
def test_sums_are_exact(isa: str, options: dict[str, Any], size: Any, dtype: Any, filters: int, problem: Any) -> None:
    p = problem(ConvGeometry.of(30, filters, 3, **options), 2, *size, dtype)
    with kernels.force_plan("output_lane"):
        result = p.run()
    np.testing.assert_array_equal(result.astype(complex), p.expected().astype(complex))


@settings(max_examples=100)
@given(data=st.data(), isa_name=st.sampled_from(kernels.available_isas()))
def test_whole_parameter_space(problem: Any, data: Any, isa_name: str) -> None:
    axis = st.tuples(st.integers(1, 20), st.integers(1, 5), st.integers(1, 12), st.integers(1, 3))
    (h, kh, dh, sh), (w, kw, dw, sw) = data.draw(axis), data.draw(axis)
    pads = tuple(
        tuple(data.draw(st.integers(0, d * (k - 1) // 2)) + (d * (k - 1) + 1) // 2 for _ in range(2))
        for k, d in ((kh, dh), (kw, dw))
    )
    options = {"stride": (sh, sw), "padding": pads, "dilation": (dh, dw)}
    p = problem(ConvGeometry.of(*data.draw(st.tuples(*[st.integers(30, 80)] * 2)), (kh, kw), **options), 2, h, w)
    with kernels.use_isa(isa_name), kernels.force_plan("output_lane"):
        np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("size", [(10, 12), (30, 5)])
def test_sums_are_those_of_the_other_direct_plan(isa: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    geometry = ConvGeometry.of(70, 40, 3, padding=8, dilation=8)
    x = rng.standard_normal((3, 70, *size)).astype(np.float32)
    weight = rng.standard_normal(geometry.weight_shape).astype(np.float32)
    with kernels.force_plan("pixel_lane"):
        expected = kernels.conv2d(x, weight, None, geometry)
    before = kernels.get_num_threads()
    try:
        with kernels.force_plan("output_lane"):
            for threads in (1, 3, 7):
                kernels.set_num_threads(threads)
                np.testing.assert_array_equal(kernels.conv2d(x, weight, None, geometry), expected)
            one = kernels.conv2d(x[1:2], weight, None, geometry)
    finally:
        kernels.set_num_threads(before)
    np.testing.assert_array_equal(one, expected[1:2])


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_outside_an_array_is_touched(isa: str, at_end: bool, problem: Any, guarded: Any) -> None:
    for options, size in CASES:
        p = problem(ConvGeometry.of(30, 70, 3, **options), 2, *size)
        expected = p.expected()
        p.x, p.weight, p.bias = (guarded.copy(a, at_end) for a in (p.x, p.weight, p.bias))
        with kernels.force_plan("output_lane"):
            np.testing.assert_array_equal(p.run(), expected)


def test_a_plan_tells_what_it_leaves_out() -> None:
    def chosen(size: int, dilation: int) -> tuple[str, bool]:
        plan = kernels.plan(ConvGeometry.of(256, 256, 3, padding=dilation, dilation=dilation), size, size)
        return plan.algorithm, "% are with padding and left out" in plan.reason

    for precision, near in (("highest", "output_lane"), ("high", "winograd")):
        kernels.set_float32_precision(precision)
        assert [chosen(32, 18), chosen(65, 36)] == [("output_lane", True)] * 2
        assert chosen(56, 1) == (near, False)
    kernels.set_float32_precision("highest")
    # All outputs see two of three taps on either axis: 1 - (2/3)^2.
    plan = kernels.plan(ConvGeometry.of(256, 256, 3, padding=18, dilation=18), 36, 36)
    assert plan.reason == "direct sums: output channels fill the vectors; 56 % are with padding and left out"


def test_huge_geometries_are_planned_at_once() -> None:
    geometry = ConvGeometry.of(1, 1, 3, padding=10**6, dilation=10**6)
    assert kernels.plan(geometry, 10**9, 1).algorithm in kernels.settings.PLANS
