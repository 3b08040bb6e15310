"""Gradients of convolution and the transposed convolution on plain arrays, against the reference, to the last bit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from konv import kernels, reference
from konv.errors import ArgumentError, DtypeError, ShapeError
from konv.geometry import ConvGeometry

PLANS = ("pixel_lane", "output_lane")
SUMS = ("matrix", "depthwise")

# channels, outputs, groups, kernel, (n, h, w)
SHAPES = [
    (3, 5, 1, 3, (2, 9, 11)),
    (8, 36, 1, 3, (1, 20, 33)),
    (16, 24, 2, (5, 3), (3, 14, 14)),
    (6, 70, 1, 1, (3, 7, 7)),
    (4, 4, 4, 3, (2, 17, 35)),
    (4, 8, 4, (7, 5), (1, 30, 21)),
    (40, 2, 1, (2, 5), (1, 6, 130)),
    (1, 1, 1, 1, (1, 1, 1)),
]
OPTIONS = [
    {},
    {"padding": 1},
    {"padding": (2, 1), "stride": 2},
    {"padding": ((0, 3), (2, 1)), "stride": (2, 1)},
    {"padding": 1, "stride": (3, 4)},
    {"padding": 5, "stride": (7, 9)},
    {"padding": 2, "dilation": 2},
    {"padding": 4, "dilation": (2, 3), "stride": (4, 2)},
    {"padding": "same_lower", "stride": (3, 2)},
    {"padding": 2, "padding_mode": "reflect"},
    {"padding": ((3, 1), (0, 2)), "padding_mode": "circular", "stride": 2},
    {"padding": 6, "padding_mode": "replicate", "dilation": 2},
    {"padding": ((5, 6), (4, 6)), "padding_mode": "reflect", "stride": (2, 3)},
]


def cases() -> list[Any]:
    found = []
    for c, o, groups, k, (n, h, w) in SHAPES:
        for options in OPTIONS:
            geometry = ConvGeometry.of(c, o, k, groups=groups, **options)
            try:
                geometry.output_size(h, w)
            except ShapeError:
                continue
            found.append(
                pytest.param(geometry, n, h, w, id=f"{c}-{o}-{groups}-{k}-{n}x{h}x{w}-{options}".replace(" ", ""))
            )
    return found


@pytest.mark.parametrize(("geometry", "n", "h", "w"), cases())
def test_gradients_are_exact(isa: str, geometry: ConvGeometry, n: int, h: int, w: int, problem: Any) -> None:
    p = problem(geometry, n, h, w)
    expected = p.expected_gradients()
    for plan, force in zip(PLANS, SUMS, strict=True):
        with kernels.force_plan(plan):
            for found, exact in zip(p.gradients(force=force), expected, strict=True):
                np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "complex64", "complex128"])
def test_dtypes(isa: str, dtype: str, problem: Any) -> None:
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    for c, o, groups, options in (
        (6, 10, 2, {"padding": 1}),
        (5, 5, 5, {"padding": 1, "stride": 2}),
        (4, 20, 1, {"padding": 1, "stride": 2, "padding_mode": "replicate"}),
        (20, 4, 1, {"padding": 2, "padding_mode": "reflect"}),
        (7, 4, 1, {}),
    ):
        p = problem(ConvGeometry.of(c, o, (3, 2), groups=groups, **options), 2, 9, 12, kind)
        with kernels.force_plan("pixel_lane"):
            gradients = p.gradients()
        for found, exact in zip(gradients, p.expected_gradients(), strict=True):
            assert found.dtype == kind
            if kind.itemsize == 2 and "padding_mode" in options:  # every fold of a border rounds once
                np.testing.assert_allclose(found.astype(float), exact.astype(float), rtol=2.0**-7, atol=1)
            else:
                np.testing.assert_array_equal(found.astype(complex), exact.astype(complex))


def test_complex_gradients_conjugate(isa: str) -> None:
    geometry = ConvGeometry.of(1, 1, 1)
    x, w, gy = (np.full((1, 1, 1, 1), value, np.complex64) for value in (2 + 1j, 3 - 1j, 1 + 1j))
    assert kernels.conv2d_grad_input(gy, w, geometry, (1, 1)).item() == (1 + 1j) * (3 + 1j)
    assert kernels.conv2d_grad_weight(x, gy, geometry).item() == (1 + 1j) * (2 - 1j)


STRIDED = {
    "transposed": lambda a: np.ascontiguousarray(a.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2),
    "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "Fortran": np.asfortranarray,
    "negative": lambda a: np.ascontiguousarray(a[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1],
    "sliced": lambda a: np.repeat(np.repeat(a, 2, 3), 3, 2)[:, :, ::3, ::2],
    "padded rows": lambda a: np.pad(a, ((0, 0), (0, 0), (0, 0), (0, 5)))[..., : a.shape[3]],
    "foreign byte order": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "misaligned": lambda a: np.ndarray(a.shape, a.dtype, b"x" + a.tobytes(), offset=1),
}


@pytest.mark.parametrize("layout", STRIDED)
@pytest.mark.parametrize("dtype", ["float32", "complex64", "float16"])
def test_any_memory(isa: str, layout: str, dtype: str, problem: Any) -> None:
    for c, o, groups, kernel in ((6, 10, 1, 3), (6, 12, 1, 1), (4, 4, 4, 3)):
        p = problem(ConvGeometry.of(c, o, kernel, groups=groups), 2, 15, 16, dtype)
        expected = p.expected_gradients()
        gy = STRIDED[layout](p.gy)
        p.x, p.weight = STRIDED[layout](p.x), STRIDED[layout](p.weight)
        for array in (gy, p.x, p.weight):
            array.flags.writeable = False
        with kernels.force_plan("pixel_lane"):
            gradients = p.gradients(gy)
        for found, exact in zip(gradients, expected, strict=True):
            np.testing.assert_array_equal(found, exact)


def test_expanded_gradient(isa: str, problem: Any) -> None:
    """What `sum().backward()` sends back: one number seen as a whole array."""
    p = problem(ConvGeometry.of(3, 8, 3, padding=1), 2, 6, 7)
    gy = np.broadcast_to(np.float32(2), p.gy.shape)
    for found, exact in zip(p.gradients(gy), p.gradients(np.ascontiguousarray(gy)), strict=True):
        np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_nothing_outside_an_array_is_touched(isa: str, at_end: bool, dtype: str, problem: Any, guarded: Any) -> None:
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    for options in ({}, {"stride": 2}, {"padding": 1}, {"padding": 1, "padding_mode": "circular"}):
        for c, o, groups, kernel, h, w in (
            (3, 5, 1, 3, 7, 9),
            (17, 33, 1, 1, 7, 7),
            (2, 2, 2, 3, 33, 19),
            (4, 1, 1, 5, 9, 21),
        ):
            p = problem(ConvGeometry.of(c, o, kernel, groups=groups, **options), 2, h, w, kind)
            expected = p.expected_gradients()
            gy = guarded.copy(p.gy, at_end)
            p.x, p.weight = guarded.copy(p.x, at_end), guarded.copy(p.weight, at_end)
            for force in SUMS:
                for found, exact in zip(p.gradients(gy, force), expected, strict=True):
                    np.testing.assert_allclose(found.astype(float), exact.astype(float), rtol=2.0**-7, atol=0.01)


def test_bits_do_not_depend_on_threads(isa: str) -> None:
    rng = np.random.default_rng(5)
    before = kernels.get_num_threads()
    for geometry, n, h, w in (
        (ConvGeometry.of(3, 40, 3, 2, 1), 4, 41, 40),
        (ConvGeometry.of(70, 150, 3, 1, 1), 2, 14, 15),
        (ConvGeometry.of(9, 9, 3, 1, 1, groups=9), 3, 28, 28),
        (ConvGeometry.of(24, 32, 1), 5, 30, 31),
        (ConvGeometry.of(8, 12, 3, 1, 2, padding_mode="reflect"), 3, 20, 21),
    ):
        x = rng.standard_normal((n, geometry.in_channels, h, w)).astype(np.float32)
        weight = rng.standard_normal(geometry.weight_shape).astype(np.float32)
        gy = rng.standard_normal((n, geometry.out_channels, *geometry.output_size(h, w))).astype(np.float32)

        def run(x: Any = x, gy: Any = gy, weight: Any = weight, geometry: ConvGeometry = geometry) -> tuple[Any, ...]:
            return (
                kernels.conv2d_grad_input(gy, weight, geometry, x.shape[2:]),
                kernels.conv2d_grad_weight(x, gy, geometry),
                kernels.conv2d_grad_bias(gy),
            )

        first = run()
        try:
            for threads in (1, 2, 3, 16):
                kernels.set_num_threads(threads)
                for found, same in zip(run(), first, strict=True):
                    np.testing.assert_array_equal(found, same)
        finally:
            kernels.set_num_threads(before)


def test_one_image_of_a_batch_has_the_same_bits(isa: str) -> None:
    rng = np.random.default_rng(6)
    for options in ({"padding": 1}, {"padding": 1, "stride": 2}, {"padding": 1, "padding_mode": "circular"}):
        geometry = ConvGeometry.of(20, 24, 3, **options)
        gy = rng.standard_normal((3, 24, *geometry.output_size(30, 29))).astype(np.float32)
        weight = rng.standard_normal(geometry.weight_shape).astype(np.float32)
        whole = kernels.conv2d_grad_input(gy, weight, geometry, (30, 29))
        np.testing.assert_array_equal(kernels.conv2d_grad_input(gy[1:2], weight, geometry, (30, 29)), whole[1:2])


def test_large_sums_stay_as_exact_as_single_precision_allows(isa: str) -> None:
    rng = np.random.default_rng(7)
    for geometry in (ConvGeometry.of(4, 16, 3, padding=1), ConvGeometry.of(4, 4, 3, padding=1, groups=4)):
        x = rng.standard_normal((4, 4, 90, 91)).astype(np.float32)
        gy = rng.standard_normal((4, geometry.out_channels, 90, 91)).astype(np.float32)
        exact = reference.conv2d_grad_weight(x.astype(float), gy.astype(float), geometry)
        error = np.abs(kernels.conv2d_grad_weight(x, gy, geometry) - exact).max()
        assert error < 2.0**-24 * np.sqrt(4 * 90 * 91) * 64, error  # PyTorch needs 5 times that
        bias = np.abs(kernels.conv2d_grad_bias(gy) - gy.astype(float).sum((0, 2, 3))).max()
        assert bias < 2.0**-24 * np.abs(gy.astype(float).sum((0, 2, 3))).max() * 2


def test_an_infinity_reaches_the_taps_that_read_it_and_no_other(isa: str) -> None:
    for channels, groups in ((1, 1), (20, 1)):
        geometry = ConvGeometry.of(1, channels, 3, groups=groups)
        x = np.ones((1, 1, 6, 9), np.float32)
        x[0, 0, 0, 8] = np.inf  # only the last column of taps reaches it
        found = kernels.conv2d_grad_weight(x, np.ones((1, channels, 4, 7), np.float32), geometry)
        assert np.isinf(found[:, :, 0, 2]).all()
        assert np.isfinite(found).sum() == found.size - channels


def test_empty(isa: str, problem: Any) -> None:
    p = problem(ConvGeometry.of(3, 4, 3), 0, 7, 8)
    gx, gw, gb = p.gradients()
    assert gx.shape == (0, 3, 7, 8)
    assert (gw.shape, gw.any(), gb.any()) == ((4, 3, 3, 3), False, False)
    gx, gw, _ = problem(ConvGeometry.of(0, 4, 3), 2, 7, 8).gradients()
    assert (gx.shape, gw.shape) == ((2, 0, 7, 8), (4, 0, 3, 3))


def test_winograd_runs_in_the_gradient() -> None:
    geometry = ConvGeometry.of(64, 64, 3, padding=1)
    assert all("winograd" in name for name in kernels.grad_input_plan(geometry, 56, 56).names)
    rng = np.random.default_rng(8)
    gy = rng.standard_normal((1, 64, 56, 56)).astype(np.float32)
    weight = rng.standard_normal(geometry.weight_shape).astype(np.float32)
    exact = reference.conv2d_grad_input(gy.astype(float), weight.astype(float), geometry, (56, 56))
    error = np.abs(kernels.conv2d_grad_input(gy, weight, geometry, (56, 56)) - exact).max()
    assert error < 1e-5 * np.abs(exact).max()


def test_packed_weights_are_the_weights(isa: str, problem: Any) -> None:
    p = problem(ConvGeometry.of(5, 6, 3, 2, 1), 2, 8, 9)
    packed = kernels.pack_grad_input(p.weight, p.geometry, 8, 9)
    fresh = kernels.conv2d_grad_input(p.gy, p.weight, p.geometry, (8, 9))
    kept = kernels.conv2d_grad_input(p.gy, p.weight * 0, p.geometry, (8, 9), packed)
    np.testing.assert_array_equal(kept, fresh)
    other = ConvGeometry.of(5, 6, 3, 1, 1)
    with pytest.raises(ArgumentError, match="another layer"):
        kernels.conv2d_grad_input(np.ones((1, 6, 8, 9), np.float32), p.weight, other, (8, 9), packed)
    with pytest.raises(ArgumentError, match="another size"):
        kernels.conv2d_grad_input(p.gy, p.weight, p.geometry, (8, 10), packed)


def test_a_packed_weight_outlives_a_change_of_settings(problem: Any) -> None:
    p = problem(ConvGeometry.of(8, 16, 3, padding=1), 1, 9, 12)
    with kernels.force_plan("pixel_lane"):
        packed = kernels.pack_grad_input(p.weight, p.geometry, 9, 12)
        before = kernels.conv2d_grad_input(p.gy, p.weight, p.geometry, (9, 12), packed)
    with kernels.force_plan("output_lane"):  # as another thread may do between the two
        after = kernels.conv2d_grad_input(p.gy, p.weight, p.geometry, (9, 12), packed)
    np.testing.assert_array_equal(after, before)


def test_the_border_checks_every_array(problem: Any) -> None:
    p = problem(ConvGeometry.of(4, 6, 3), 2, 8, 9)
    x, w, gy, g = p.x, p.weight, p.gy, p.geometry
    for bad_gy, bad_w in ((gy[:, :5], w), (gy[:, :, 1:], w), (gy, w[:5]), (gy, w.astype(float)), (gy[0], w)):
        with pytest.raises(ArgumentError):
            kernels.conv2d_grad_input(bad_gy, bad_w, g, (8, 9))
    for bad_x, bad_gy in ((x[:1], gy), (x[:, :3], gy), (x, gy[:, :, 1:]), (x, gy.astype(float)), (x, gy[0])):
        with pytest.raises(ArgumentError):
            kernels.conv2d_grad_weight(bad_x, bad_gy, g)
    with pytest.raises(ArgumentError):
        kernels.conv2d_grad_bias(gy[0])
    with pytest.raises(DtypeError, match="int32"):
        kernels.conv2d_grad_weight(x.astype(np.int32), gy.astype(np.int32), g)
    with pytest.raises(ArgumentError, match="gradient plan 'fast'"):
        kernels.conv2d_grad_weight(x, gy, g, "fast")


# ---- the forward of the transposed convolution ----

TRANSPOSED = [
    {},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"stride": (3, 2), "padding": (0, 2), "output_padding": (2, 1), "dilation": (1, 3)},
    {"dilation": 2, "padding": 1},
    {"stride": 5, "output_padding": 4},
    {"stride": 2, "groups": 2},
    {"stride": 3, "groups": 2, "padding": 1, "dilation": 2, "output_padding": 2},
]


@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
@pytest.mark.parametrize("kernel", [1, 2, 3, (4, 5)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int32"])
def test_transposed_convolution(isa: str, options: Any, kernel: Any, dtype: str, problem: Any) -> None:
    geometry = ConvGeometry.of(6, 10, kernel, transposed=True, **options)
    try:
        geometry.output_size(7, 9)
    except ShapeError:
        pytest.skip("no output")
    p = problem(geometry, 2, 7, 9, dtype)
    size = geometry.output_size(7, 9)
    # As in ops.conv: the gradient conjugates, and output padding past the stride reads windows of zeros.
    weight = p.weight.conj()
    extra = [(0, e // s) for e, s in zip(geometry.output_padding, geometry.stride, strict=True)]
    x = np.pad(p.x, [(0, 0), (0, 0), *extra])
    wide = {"c": np.complex128, "i": np.int64}.get(p.dtype.kind, np.float64)
    exact = reference.conv_transpose2d(*(a.astype(wide) for a in (p.x, p.weight, p.bias)), geometry).astype(dtype)
    with kernels.force_plan("pixel_lane"):
        result = kernels.conv2d_grad_input(x, weight, geometry.adjoint, size, None, p.bias)
        packed = kernels.pack_grad_input(weight, geometry.adjoint, *size)
        again = kernels.conv2d_grad_input(x, weight * 0, geometry.adjoint, size, packed, p.bias)
    np.testing.assert_array_equal(result, exact)
    np.testing.assert_array_equal(again, exact)


# ---- the whole parameter space ----


@settings(max_examples=200)
@given(data=st.data(), isa_name=st.sampled_from(kernels.available_isas()))
def test_whole_parameter_space(problem: Any, data: Any, isa_name: str) -> None:
    p = data.draw(problem.anywhere(groups=(1, 4), per_group=(9, 40), kernel=6))
    precision = kernels.get_float32_precision()
    try:
        kernels.set_float32_precision("highest")
        with kernels.use_isa(isa_name):
            found = p.gradients()
    finally:
        kernels.set_float32_precision(precision)
    for gradient, expected in zip(found, p.expected_gradients(), strict=True):
        np.testing.assert_array_equal(gradient, expected)
