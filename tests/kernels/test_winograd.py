"""Winograd plans: every transform on every instruction set against float64, their documented errors, and what must not
depend on threads, batch or blocks."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from konv import kernels, reference
from konv.errors import ArgumentError, ShapeError
from konv.geometry import ConvGeometry

# name -> error of the transform itself (cpp/conv/winograd_choice.cpp): * sqrt(1 + channels/36) bounds the largest error
# over max|y| on random float32 data
ERRORS = {
    "F(2x2,3x3)": 0.25e-6,
    "F(3x3,3x3)": 1.2e-6,
    "F(4x4,3x3)": 1.5e-6,
    "F(5x4,3x3)": 3.0e-6,
    "F(4x5,3x3)": 3.0e-6,
    "F(5x5,3x3)": 5.3e-6,
    "F(6x6,3x3)": 6.5e-6,
    "F(3x3,2x2)": 0.35e-6,
    "F(4x4,2x2)": 1.6e-6,
    "F(5x5,2x2)": 1.7e-6,
    "F(3x3,4x4)": 1.3e-6,
    "F(5x5,4x4)": 6.0e-6,
    "F(2x2,5x5)": 1.0e-6,
    "F(4x4,5x5)": 5.0e-6,
    "F(2x2,7x7)": 4.5e-6,
    "F(1x4,1x3)": 0.55e-6,
    "F(4x1,3x1)": 0.55e-6,
    "F(1x4,1x5)": 1.2e-6,
    "F(4x1,5x1)": 1.2e-6,
    "F(1x2,1x7)": 1.1e-6,
    "F(2x1,7x1)": 1.1e-6,
}
HIGH = [name for name in ERRORS if name not in ("F(6x6,3x3)", "F(5x5,4x4)")]
# storage type -> what rounding the output may add, over max|y|
ROUNDING = {"float32": 3e-7, "float64": 0.0, "float16": 5e-4, "bfloat16": 4e-3, "complex64": 3e-7}


def taps(name: str) -> tuple[int, int]:
    """(rh, rw) of ``F(mh x mw, rh x rw)``."""
    high, wide = name[2:-1].split(",")[1].split("x")
    return int(high), int(wide)


def random_case(geometry: ConvGeometry, n: int, h: int, w: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Normal images, Kaiming-normal weights, small biases, in float64."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, geometry.in_channels, h, w))
    weight = rng.standard_normal(geometry.weight_shape) * np.sqrt(2 / np.prod(geometry.weight_shape[1:]))
    return x, weight, 0.1 * rng.standard_normal(geometry.out_channels)


def numpy_type(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


def error_of(name: str, geometry: ConvGeometry, n: int, h: int, w: int, dtype: str = "float32", seed: int = 0) -> float:
    """Largest error over max|y|, against float64 on the same (rounded) numbers."""
    kind = numpy_type(dtype)
    rng = np.random.default_rng(seed + 1)
    arrays = list(random_case(geometry, n, h, w, seed))
    if kind.kind == "c":
        arrays = [a + 1j * rng.standard_normal(a.shape) * np.abs(a).max() / 3 for a in arrays]
    arrays = [a.astype(kind) for a in arrays]
    wide = np.complex128 if kind.kind == "c" else np.float64
    expected = reference.conv2d(*(a.astype(wide) for a in arrays), geometry)
    with kernels.force_plan(f"winograd {name}"):
        assert kernels.plan(geometry, h, w, kind).name == f"winograd {name}"
        result = kernels.conv2d(*arrays, geometry)
    assert result.shape == expected.shape
    assert np.isfinite(result.astype(wide)).all()
    return float(np.abs(result.astype(wide) - expected).max() / max(float(np.abs(expected).max()), 1e-30))


def bound_of(name: str, geometry: ConvGeometry, dtype: str = "float32") -> float:
    axes = zip(taps(name), geometry.kernel_size, geometry.stride, strict=True)
    slices = math.prod(step if step > 1 else -(-kernel // r) for r, kernel, step in axes)
    channels = geometry.in_channels // geometry.groups * slices
    if dtype == "float64":
        return 1e-13
    parts = 2 if dtype == "complex64" else 1
    long = 1.35 if slices > math.prod(geometry.stride) else 1.0
    return float(long * ERRORS[name] * np.sqrt(1 + channels * parts / 36) + ROUNDING[dtype])


@pytest.mark.parametrize("channels", [3, 40, 200])
@pytest.mark.parametrize("name", ERRORS)
def test_errors_stay_under_the_documented_bounds(isa: str, name: str, channels: int) -> None:
    geometry = ConvGeometry.of(channels, 20, taps(name), padding=tuple(r // 2 for r in taps(name)))
    assert error_of(name, geometry, 1, 27, 38) < bound_of(name, geometry)


@pytest.mark.parametrize("channels", [3, 40, 200])
@pytest.mark.parametrize(
    ("name", "kernel"),
    [("F(4x4,3x3)", (9, 9)), ("F(4x4,5x5)", (9, 7)), ("F(3x3,4x4)", (7, 16)), ("F(1x4,1x5)", (1, 9)),
     ("F(1x4,1x3)", (1, 29)), ("F(4x1,3x1)", (7, 1)), ("F(2x2,3x3)", (11, 12))],
)  # fmt: skip
def test_errors_of_kernels_in_slices(isa: str, name: str, kernel: tuple[int, int], channels: int) -> None:
    geometry = ConvGeometry.of(channels, 20, kernel, padding=tuple(k // 2 for k in kernel))
    assert error_of(name, geometry, 1, 27, 38) < bound_of(name, geometry)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name", ["F(4x4,3x3)", "F(3x3,4x4)", "F(4x4,5x5)"])
def test_dtypes(isa: str, name: str, dtype: str) -> None:
    geometry = ConvGeometry.of(10, 18, taps(name), padding=1)
    assert error_of(name, geometry, 2, 19, 35, dtype) < bound_of(name, geometry, dtype)


# Kernels of a random geometry: along each axis, a stride or a dilation may stand beside it, not both.
@st.composite
def geometries(draw: st.DrawFn) -> tuple[str, ConvGeometry, int, int, int]:
    name = draw(st.sampled_from(sorted(ERRORS)))
    kernel, stride, dilation = [], [], []
    for r in taps(name):
        kind = draw(st.sampled_from(["plain", "plain", "stride", "dilation"])) if r > 1 else "plain"
        s = draw(st.integers(2, 4)) if kind == "stride" else 1
        longer = draw(st.sampled_from([0, 0, 1, 2, r, 2 * r + 1, 3 * r])) if r > 1 and kind != "stride" else 0
        kernel.append((r - 1) * s + draw(st.integers(1, s)) + longer)
        stride.append(s)
        dilation.append(draw(st.integers(2, 5)) if kind == "dilation" else 1)
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    pads = tuple((draw(st.integers(0, 6)), draw(st.integers(0, 6))) for _ in range(2))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    c, o = draw(st.integers(1, 9)) * groups, draw(st.integers(1, 40)) * groups
    h, w = draw(st.integers(4, 30)), draw(st.sampled_from([4, 5, 7, 8, 13, 16, 21, 28, 33, 47, 64, 130, 500]))
    geometry = ConvGeometry.of(
        c, o, tuple(kernel), tuple(stride), pads, tuple(dilation), groups=groups, padding_mode=mode
    )
    n = draw(st.integers(1, 3)) if h * w > 60 else draw(st.integers(1, 20))
    try:
        output = geometry.output_size(h, w)
    except ShapeError:
        assume(False)
    assume(all(d <= size for d, size in zip(dilation, output, strict=True)))  # such phases are not transformed
    return name, geometry, n, h, w


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=geometries(), threads=st.integers(1, 4), dtype=st.sampled_from(["float32", "float32", "float64", "bfloat16"])
)
def test_any_geometry(isa: str, case: Any, threads: int, dtype: str) -> None:
    name, geometry, n, h, w = case
    before = kernels.get_num_threads()
    kernels.set_num_threads(threads)
    try:
        # few outputs have a small max|y| by chance: twice the bound
        assert error_of(name, geometry, n, h, w, dtype, seed=h * w) < 2 * bound_of(name, geometry, dtype)
    finally:
        kernels.set_num_threads(before)


SIZES = [(56, 56), (28, 30), (14, 14), (7, 7), (4, 4), (3, 200), (9, 700)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [{}, {"dilation": 3}, {"stride": 2}], ids=str)
def test_bits_do_not_depend_on_threads_or_batch(isa: str, size: tuple[int, int], options: Any) -> None:
    geometry = ConvGeometry.of(70, 100, 3 if "stride" not in options else 5, padding=3, **options)
    x, w, b = (a.astype(np.float32) for a in random_case(geometry, 5, *size))
    before = kernels.get_num_threads()
    try:
        with kernels.force_plan("winograd F(4x4,3x3)"):
            whole = kernels.conv2d(x, w, b, geometry)
            for threads in (1, 2, 5, 16):
                kernels.set_num_threads(threads)
                np.testing.assert_array_equal(kernels.conv2d(x, w, b, geometry), whole)
                np.testing.assert_array_equal(kernels.conv2d(x[3:4], w, b, geometry), whole[3:4])
                np.testing.assert_array_equal(kernels.conv2d(x[:2], w, b, geometry), whole[:2])
    finally:
        kernels.set_num_threads(before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("size", [(20, 30), (10, 10), (7, 7)])
def test_nan_and_infinity_stay_in_the_tiles_they_touch(isa: str, size: tuple[int, int], value: float) -> None:
    geometry = ConvGeometry.of(3, 20, 3, padding=1)
    x, w, _ = (a.astype(np.float32) for a in random_case(geometry, 3, *size))
    with kernels.force_plan("winograd F(4x4,3x3)"):
        clean = kernels.conv2d(x, w, None, geometry)
        x[1, 1, 5, 6] = value
        result = kernels.conv2d(x, w, None, geometry)
    np.testing.assert_array_equal(result[[0, 2]], clean[[0, 2]])
    tiles = np.zeros(size, bool)
    tiles[4:8, 4:8] = True  # row 5 and column 6 are read for outputs 4..6 and 5..7
    np.testing.assert_array_equal(result[1][:, ~tiles], clean[1][:, ~tiles])
    assert not np.isfinite(result[1][:, 4:7, 5:8]).any()


def test_large_and_tiny_numbers_keep_their_scale(isa: str) -> None:
    geometry = ConvGeometry.of(16, 20, 3, padding=1)
    x, w, _ = (a.astype(np.float32) for a in random_case(geometry, 1, 20, 20))
    with kernels.force_plan("winograd F(4x4,3x3)"):
        plain = kernels.conv2d(x, w, None, geometry)
        for scale in (2.0**100, 2.0**-100):
            scaled = kernels.conv2d(x * np.float32(scale), w, None, geometry)
            np.testing.assert_array_equal(scaled, plain * np.float32(scale))


LAYOUTS = {
    "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "negative": lambda a: np.ascontiguousarray(a[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1],
    "every second column": lambda a: np.repeat(a, 2, 3)[..., ::2],
    "padded rows": lambda a: np.pad(a, ((0, 0), (0, 0), (0, 0), (0, 5)))[..., : a.shape[3]],
    "expanded": lambda a: np.broadcast_to(a[:, :, :1], a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2}, {"padding": 2, "dilation": 2}], ids=str)
def test_any_memory(isa: str, layout: str, options: Any) -> None:
    geometry = ConvGeometry.of(6, 10, 4 if "stride" in options else 2, **options)
    x, w, b = (a.astype(np.float32) for a in random_case(geometry, 2, 17, 18))
    x = LAYOUTS[layout](x)
    with kernels.force_plan("winograd F(3x3,2x2)"):
        expected = kernels.conv2d(np.ascontiguousarray(x), w, b, geometry)
        np.testing.assert_array_equal(kernels.conv2d(x, np.asfortranarray(w), b, geometry), expected)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_nothing_outside_an_array_is_touched(isa: str, dtype: str, at_end: bool, guarded: Any) -> None:
    kind = numpy_type(dtype)
    for options in ({}, {"padding": 1}, {"padding": 2, "dilation": 2}, {"padding": 1, "padding_mode": "reflect"}):
        for c, o, h, w in ((3, 5, 7, 9), (2, 33, 6, 5), (2, 2, 33, 19), (1, 17, 5, 64), (2, 3, 5, 500)):
            geometry = ConvGeometry.of(c, o, 3, **options)
            arrays = [a.astype(kind) for a in random_case(geometry, 2, h, w)]
            with kernels.force_plan("winograd F(4x4,3x3)"):
                expected = kernels.conv2d(*arrays, geometry)
                arrays = [guarded.copy(a, at_end) for a in arrays]
                np.testing.assert_array_equal(kernels.conv2d(*arrays, geometry), expected)


def test_exactness_is_a_setting() -> None:
    before = kernels.get_float32_precision()
    geometry = ConvGeometry.of(64, 64, 3, padding=1)
    names = {}
    try:
        for precision in ("highest", "high", "medium"):
            kernels.set_float32_precision(precision)
            names[precision] = kernels.plan(geometry, 56, 56).name
        kernels.set_float32_precision("high")
        assert kernels.plan(ConvGeometry.of(128, 64, 5, padding=2), 56, 56).name != "winograd F(4x4,5x5)"
        assert kernels.plan(ConvGeometry.of(64, 64, 5, padding=2), 56, 56).name == "winograd F(4x4,5x5)"
    finally:
        kernels.set_float32_precision(before)
    assert "winograd" not in names["highest"]
    assert names["high"].split(" ")[1] in HIGH
    assert names["medium"].startswith("winograd")


def test_what_no_transform_computes_is_refused() -> None:
    for options in (
        {"kernel_size": 1},
        {"kernel_size": 3, "stride": 2, "dilation": 2},
        {"kernel_size": (1, 2)},
        {"kernel_size": 29},
    ):
        geometry = ConvGeometry.of(16, 16, options.pop("kernel_size"), **options)  # type: ignore[arg-type]
        with kernels.force_plan("winograd"), pytest.raises(ArgumentError, match="cannot run this geometry"):
            kernels.plan(geometry, 30, 30)


# ---- the weight's gradient -------------------------------------------------------------------------------------------
GRADIENT_ERRORS = {
    "F(2x2,3x3)": 2.2e-6,
    "F(4x4,3x3)": 4e-6,
    "F(5x5,3x3)": 1.2e-5,
    "F(6x6,3x3)": 1.5e-5,
    "F(3x3,2x2)": 4e-6,
    "F(4x4,2x2)": 4e-6,
    "F(5x5,2x2)": 4e-6,
    "F(3x3,4x4)": 6e-6,
    "F(5x5,4x4)": 2.5e-5,
    "F(2x2,5x5)": 8e-6,
    "F(4x4,5x5)": 3e-5,
    "F(2x2,7x7)": 5e-5,
    "F(1x4,1x3)": 3.5e-6,
    "F(4x1,3x1)": 3.5e-6,
    "F(1x4,1x5)": 7e-6,
    "F(4x1,5x1)": 7e-6,
    "F(1x2,1x7)": 9e-6,
    "F(2x1,7x1)": 9e-6,
}


def gradient_error(name: str, geometry: ConvGeometry, n: int, h: int, w: int, dtype: str = "float32") -> float:
    kind = numpy_type(dtype)
    rng = np.random.default_rng(n + h * w)
    x = rng.standard_normal((n, geometry.in_channels, h, w)).astype(kind)
    gy = rng.standard_normal((n, geometry.out_channels, *geometry.output_size(h, w))).astype(kind)
    expected = reference.conv2d_grad_weight(x.astype(float), gy.astype(float), geometry)
    found = kernels.conv2d_grad_weight(x, gy, geometry, f"winograd {name}")
    assert found.dtype == kind
    assert found.shape == expected.shape
    return float(np.abs(found.astype(float) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("size", [(1, 8, 8), (8, 24, 24), (1, 100, 90)])
@pytest.mark.parametrize("name", GRADIENT_ERRORS)
def test_errors_of_the_gradient(isa: str, name: str, size: tuple[int, int, int]) -> None:
    geometry = ConvGeometry.of(12, 20, taps(name), padding=tuple(r // 2 for r in taps(name)))
    assert gradient_error(name, geometry, *size) < GRADIENT_ERRORS[name]


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 3}, {"dilation": (2, 3)}, {"groups": 2}, {"padding": 2, "padding_mode": "reflect"}],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_gradient_of_any_geometry(isa: str, options: Any, dtype: str) -> None:
    bound = {"float32": 4e-6, "float64": 1e-13, "float16": 6e-4}[dtype]
    for c, o, n, h, w in ((6, 10, 2, 13, 11), (130, 70, 1, 9, 28), (4, 2, 30, 7, 9), (2, 34, 1, 8, 300)):
        geometry = ConvGeometry.of(c, o, 3, **options)
        assert gradient_error("F(4x4,3x3)", geometry, n, h, w, dtype) < bound


@pytest.mark.parametrize("case", [(64, 64, 6, 40, 40), (300, 200, 3, 28, 28), (512, 40, 2, 14, 14)], ids=str)
def test_bits_of_the_gradient_do_not_depend_on_threads(case: tuple[int, ...]) -> None:
    c, o, n, h, w = case
    geometry = ConvGeometry.of(c, o, 3, padding=1)
    rng = np.random.default_rng(0)
    x, gy = (rng.standard_normal((n, k, h, w)).astype(np.float32) for k in (c, o))
    before = kernels.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 7):
            kernels.set_num_threads(threads)
            results.append(kernels.conv2d_grad_weight(x, gy, geometry, "winograd F(4x4,3x3)"))
    finally:
        kernels.set_num_threads(before)
    expected = reference.conv2d_grad_weight(x.astype(float), gy.astype(float), geometry)
    assert np.abs(results[0] - expected).max() < 4e-6 * np.abs(expected).max()
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
