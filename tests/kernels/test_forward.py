"""Forward convolution on plain arrays: every plan on every instruction set, against the reference, to the last bit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from konv import kernels, reference
from konv.errors import ArgumentError, DtypeError, ShapeError
from konv.geometry import ConvGeometry

DIRECT = ("pixel_lane", "output_lane")
SMALL_INTEGERS = ("int8", "uint8", "int16")  # whose short sums float or double hold

# channels, outputs, kernel, (n, h, w): odd, unequal, smaller and larger than the tiles
SHAPES = [
    (3, 5, 3, (2, 9, 11)),
    (8, 16, 3, (1, 20, 33)),
    (16, 24, 3, (2, 14, 14)),
    (4, 13, (5, 3), (1, 40, 50)),
    (6, 70, (1, 3), (3, 7, 7)),
    (2, 3, (4, 2), (1, 5, 6)),
    (1, 1, 1, (1, 1, 1)),
    (150, 50, 1, (2, 37, 60)),  # blocks of some rows
    (90, 20, 1, (1, 4, 900)),  # of a part of a row
    (40, 33, (2, 5), (1, 6, 130)),
]
OPTIONS = [
    {},
    {"padding": 1},
    {"padding": (2, 1), "stride": 2},
    {"padding": ((0, 3), (2, 1)), "stride": (2, 1)},
    {"padding": 1, "stride": (1, 3)},
    {"padding": 1, "stride": (4, 5)},
    {"padding": 2, "dilation": 2},
    {"padding": 3, "dilation": (1, 3), "stride": 2},
    {"padding": 4, "dilation": 7},
    {"padding": "same", "dilation": (2, 1)},
    {"padding": "same_lower", "stride": (3, 2)},
]
MODES = [
    {"padding": 2, "padding_mode": "reflect"},
    {"padding": 2, "padding_mode": "circular", "stride": 2},
    {"padding": 6, "padding_mode": "replicate", "dilation": 2},
    {"padding": ((1, 0), (0, 2)), "padding_mode": "circular"},
]


def cases() -> list[Any]:
    found = []
    for c, o, k, (n, h, w) in SHAPES:
        for options in OPTIONS + MODES:
            geometry = ConvGeometry.of(c, o, k, **options)
            try:
                geometry.output_size(h, w)
            except ShapeError:
                continue
            found.append(pytest.param(geometry, n, h, w, id=f"{c}-{o}-{k}-{n}x{h}x{w}-{options}".replace(" ", "")))
    return found


@pytest.mark.parametrize("plan", DIRECT)
@pytest.mark.parametrize(("geometry", "n", "h", "w"), cases())
def test_direct_sums_are_exact(
    isa: str, plan: str, geometry: ConvGeometry, n: int, h: int, w: int, problem: Any
) -> None:
    p = problem(geometry, n, h, w)
    with kernels.force_plan(plan):
        result = p.run()
    assert result.any() or not p.expected().any()
    np.testing.assert_array_equal(result, p.expected())


@pytest.mark.parametrize("plan", DIRECT)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 7), (14, 14), (16, 16), (37, 29), (64, 64)])
@pytest.mark.parametrize("channels", [(1, 1), (3, 17), (64, 16), (300, 9), (60, 30), (130, 61)])
def test_pointwise_is_exact(isa: str, plan: str, size: Any, channels: Any, problem: Any) -> None:
    p = problem(ConvGeometry.of(*channels, 1), 2, *size)
    with kernels.force_plan(plan):
        np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("plan", DIRECT)
@pytest.mark.parametrize("size", [(2, 4), (4, 4), (8, 16), (20, 20), (5, 7)])
@pytest.mark.parametrize("shift", [0, 1, 4, 13])
@pytest.mark.parametrize(
    "outputs", [6, 19, 35, 130]
)  # for many, and where channels do not begin alike, pixels are packed
def test_pointwise_wherever_the_image_begins(
    isa: str, plan: str, size: Any, shift: int, outputs: int, problem: Any
) -> None:
    p = problem(ConvGeometry.of(70, outputs, 1), 2, *size)
    memory = np.empty(p.x.size + 32, p.x.dtype)
    begin = -memory.ctypes.data % 64 // 4 + shift  # so many values after a cache line
    x = memory[begin : begin + p.x.size].reshape(p.x.shape)
    x[...] = p.x
    expected, p.x = p.expected(), x
    with kernels.force_plan(plan):
        np.testing.assert_array_equal(p.run(), expected)


@pytest.mark.parametrize("dtype", ["float16", "float64", "complex64", "int8"])
@pytest.mark.parametrize("channels", [(1, 1), (6, 40), (70, 200)])
@pytest.mark.parametrize("groups", [1, 2])
def test_pointwise_of_other_types(isa: str, dtype: str, channels: Any, groups: int, problem: Any) -> None:
    p = problem(ConvGeometry.of(channels[0] * groups, channels[1] * groups, 1, groups=groups), 2, 13, 29, dtype)
    with kernels.force_plan("pixel_lane"):
        np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize(("channels", "outputs"), [(2000, 3), (9000, 20), (65536, 2), (65536, 17)])
def test_pointwise_over_very_many_channels(isa: str, channels: int, outputs: int, problem: Any) -> None:
    """Of which a block packs few pixels, and of most of all a single vector of them."""
    p = problem(ConvGeometry.of(channels, outputs, 1), 1, 5, 9)
    with kernels.force_plan("pixel_lane"):
        np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("kernel", [(20, 15), (1, 300), (130, 140)])
@pytest.mark.parametrize("dtype", ["float32", "complex64", "float16"])
def test_kernels_larger_than_a_block(isa: str, kernel: Any, dtype: str, problem: Any) -> None:
    """The rows of such a kernel are summed part by part, to the same bits."""
    pads = (min(3, kernel[0] // 2), 5)
    for options in ({"padding": pads}, {"padding": pads, "padding_mode": "circular", "stride": (2, 3)}):
        p = problem(ConvGeometry.of(1, 19, kernel, **options), 2, kernel[0], kernel[1], dtype)
        for plan in DIRECT:
            with kernels.force_plan(plan):
                np.testing.assert_array_equal(p.run().astype(complex), p.expected().astype(complex))


@pytest.mark.parametrize("plan", DIRECT)
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_groups(isa: str, plan: str, groups: int, problem: Any) -> None:
    p = problem(ConvGeometry.of(12, 30, 3, padding=1, groups=groups), 2, 10, 13)
    with kernels.force_plan(plan):
        np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "complex64", "complex128"])
@pytest.mark.parametrize("plan", DIRECT)
def test_floating_dtypes(isa: str, plan: str, dtype: str, problem: Any) -> None:
    for options in ({"padding": 1, "groups": 2}, {"stride": 2, "padding": 2, "padding_mode": "reflect"}):
        p = problem(ConvGeometry.of(4, 18, (3, 2), **options), 2, 9, 19, _numpy(dtype))
        with kernels.force_plan(plan):
            result = p.run()
        assert result.dtype == p.dtype
        np.testing.assert_array_equal(result.astype(complex), p.expected().astype(complex))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("channels", [5, 30, 130])  # int8 is added in float, in float, in double
@pytest.mark.parametrize("plan", [*DIRECT, "depthwise"])
def test_integers_wrap(isa: str, plan: str, channels: int, dtype: str) -> None:
    rng = np.random.default_rng(1)
    info = np.iinfo(dtype)
    groups = channels if plan == "depthwise" else 1
    geometry = ConvGeometry.of(channels, 9 * groups, 3, padding=4, stride=(1, 2), dilation=4, groups=groups)
    x, w, b = (
        rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        for shape in ((2, channels, 8, 21), geometry.weight_shape, geometry.bias_shape)
    )
    with np.errstate(over="ignore"):
        exact = reference.conv2d(*(a.astype(np.int64) for a in (x, w, b)), geometry).astype(dtype)
    # In 64 bits there are no depthwise kernels.
    with kernels.force_plan(plan if plan != "depthwise" or dtype in SMALL_INTEGERS else "pixel_lane"):
        np.testing.assert_array_equal(kernels.conv2d(x, w, b, geometry), exact)


@pytest.mark.parametrize(
    ("dtype", "value", "channels"),
    [("int8", -128, 1023), ("int8", -127, 1041), ("uint8", 255, 257), ("uint8", 255, 259), ("int16", -32767, 16385)],
)
@pytest.mark.parametrize("plan", DIRECT)
def test_the_largest_sums_of_integers(isa: str, plan: str, dtype: str, value: int, channels: int) -> None:
    """The longest sums that are added in float32, and odd ones that it would round."""
    x = np.full((1, channels, 3, 7), value, dtype)
    w = np.full((2, channels, 1, 1), value, dtype)
    w[1, 0] = value - np.sign(value)
    exact = np.array([channels * value**2, channels * value**2 - abs(value)]).astype(dtype)
    with kernels.force_plan(plan):
        result = kernels.conv2d(x, w, None, ConvGeometry.of(channels, 2, 1))
    np.testing.assert_array_equal(result, np.broadcast_to(exact.reshape(1, 2, 1, 1), (1, 2, 3, 7)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bit_floats_round_to_nearest_even(isa: str, dtype: str) -> None:
    """Every 16-bit pattern through load and store: the identity, but for NaN, which stays NaN; ties go to even."""
    patterns = np.arange(65536, dtype=np.uint16).view(_numpy(dtype)).reshape(1, 1, 256, 256)
    identity = ConvGeometry.of(1, 1, 1)
    one = np.ones((1, 1, 1, 1), patterns.dtype)
    result = kernels.conv2d(patterns, one, None, identity)
    with np.errstate(invalid="ignore"):  # ml_dtypes says so for signalling NaN
        nan, finite, zero = np.isnan(patterns), np.isfinite(patterns), patterns == 0
    np.testing.assert_array_equal(np.isnan(result), nan)
    # 0 + (-0) is 0: the two zeros are not told apart.
    np.testing.assert_array_equal(result.view(np.uint16)[~nan & ~zero], patterns.view(np.uint16)[~nan & ~zero])
    # Sums of two values: NumPy rounds the exact float32 sum the same way.
    values = patterns[finite].astype(np.float32)
    values = values[: values.size // 64 * 64]
    pair = np.stack([values, np.roll(values, 12345) * np.float32(0.37)]).astype(patterns.dtype)
    both = ConvGeometry.of(2, 1, 1)
    result = kernels.conv2d(pair.reshape(1, 2, 64, -1), np.ones((1, 2, 1, 1), pair.dtype), None, both)
    with np.errstate(over="ignore"):
        expected = pair.astype(np.float32).sum(0).astype(pair.dtype)
    np.testing.assert_array_equal(result.ravel(), expected)


def test_nan_and_infinity_stay_in_their_image(isa: str) -> None:
    geometry = ConvGeometry.of(3, 20, 3, padding=1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 3, 12, 12)).astype(np.float32)
    w = rng.standard_normal(geometry.weight_shape).astype(np.float32)
    clean = kernels.conv2d(x, w, None, geometry)
    x[1, 0, 5, 5] = np.nan
    x[1, 2, 0, 0] = np.inf
    result = kernels.conv2d(x, w, None, geometry)
    np.testing.assert_array_equal(result[[0, 2]], clean[[0, 2]])
    assert np.isnan(result[1, :, 4:7, 4:7]).all()
    assert not np.isfinite(result[1, :, :2, :2]).any()


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


@pytest.mark.parametrize("plan", DIRECT)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("layout", STRIDED)
@pytest.mark.parametrize("dtype", ["float32", "complex64", "float16"])
def test_any_memory(isa: str, plan: str, kernel: int, layout: str, dtype: str, problem: Any) -> None:
    p = problem(ConvGeometry.of(6, 10, kernel), 2, 17, 18, dtype)
    expected = p.expected()
    for name in ("x", "weight"):
        array = STRIDED[layout](getattr(p, name))
        array.flags.writeable = False
        setattr(p, name, array)
    p.bias = np.repeat(p.bias, 2)[::2]
    with kernels.force_plan(plan):
        np.testing.assert_array_equal(p.run(), expected)


@settings(max_examples=150)
@given(data=st.data(), isa_name=st.sampled_from(kernels.available_isas()), plan=st.sampled_from(DIRECT))
def test_whole_parameter_space(problem: Any, data: Any, isa_name: str, plan: str) -> None:
    dtypes = ("float32", "float64", "complex64", "int16")
    p = data.draw(problem.anywhere(groups=(1, 3), per_group=(40, 40), kernel=5, dtypes=dtypes))
    with kernels.use_isa(isa_name), kernels.force_plan(plan):
        np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("options", OPTIONS + MODES)
@pytest.mark.parametrize(("channels", "dtype"), [(3, "float32"), (50, "float32"), (6, "complex64"), (300, "float16")])
def test_values_that_many_outputs_share(isa: str, options: Any, channels: int, dtype: str, problem: Any) -> None:
    """From ten panels of outputs on, 320 with the longest vectors, they are gathered first."""
    p = problem(ConvGeometry.of(channels, 341, 3 if channels < 300 else 1, **options), 2, 15, 16, dtype)
    with kernels.force_plan("output_lane"):
        np.testing.assert_array_equal(p.run().astype(complex), p.expected().astype(complex))


def test_expanded_input(isa: str, problem: Any) -> None:
    p = problem(ConvGeometry.of(3, 4, 3), 1, 6, 6)
    p.x = np.broadcast_to(p.x[:, :1, :1], (5, 3, 6, 6))
    np.testing.assert_array_equal(p.run(), p.expected())


@pytest.mark.parametrize("plan", DIRECT)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(20, 23), (7, 7), (3, 200)])
def test_bits_do_not_depend_on_threads_or_batch(isa: str, plan: str, kernel: int, size: Any, problem: Any) -> None:
    rng = np.random.default_rng(2)
    for c, o in ((70, 40), (700, 64)):
        geometry = ConvGeometry.of(c, o, kernel)
        x = rng.standard_normal((5, c, *size)).astype(np.float32)
        w = rng.standard_normal(geometry.weight_shape).astype(np.float32)
        before = kernels.get_num_threads()
        with kernels.force_plan(plan):
            whole = kernels.conv2d(x, w, None, geometry)
            try:
                for threads in (1, 2, 3, 7, 64):
                    kernels.set_num_threads(threads)
                    np.testing.assert_array_equal(kernels.conv2d(x, w, None, geometry), whole)
                    np.testing.assert_array_equal(kernels.conv2d(x[3:4], w, None, geometry), whole[3:4])
            finally:
                kernels.set_num_threads(before)


def test_direct_plans_agree_to_the_last_bit(isa: str) -> None:
    rng = np.random.default_rng(3)
    geometry = ConvGeometry.of(100, 37, 1)
    x = rng.standard_normal((2, 100, 15, 16)).astype(np.float32)
    w = rng.standard_normal(geometry.weight_shape).astype(np.float32)
    results = []
    for plan in DIRECT:
        with kernels.force_plan(plan):
            results.append(kernels.conv2d(x, w, None, geometry))
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("plan", DIRECT)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_outside_an_array_is_touched(
    isa: str, plan: str, dtype: str, at_end: bool, problem: Any, guarded: Any
) -> None:
    every: list[dict[str, Any]] = [{}, {"stride": 2}, {"padding": 1}, {"padding": (2, 0), "dilation": 2}]
    for kernel, options in [(1, {}), *((3, options) for options in every)]:
        for c, o, h, w in ((3, 5, 7, 9), (17, 33, 7, 7), (2, 2, 33, 19), (1, 1, 5, 64), (40, 20, 3, 16)):
            p = problem(ConvGeometry.of(c, o, kernel, **options), 2, h, w, _numpy(dtype))
            expected = p.expected()
            p.x, p.weight, p.bias = (guarded.copy(a, at_end) for a in (p.x, p.weight, p.bias))
            with kernels.force_plan(plan):
                np.testing.assert_array_equal(p.run().astype(float), expected.astype(float))


def test_results_are_aligned_and_contiguous(problem: Any) -> None:
    for n in (0, 1, 3):
        y = problem(ConvGeometry.of(3, 5, 3), n, 7, 9).run()
        assert y.shape == (n, 5, 5, 7)
        assert y.flags.c_contiguous
        assert y.flags.writeable
        assert y.ctypes.data % 64 == 0


def test_no_channels_give_the_bias(isa: str, problem: Any) -> None:
    for plan in DIRECT:
        p = problem(ConvGeometry.of(0, 4, 3), 2, 5, 6)
        with kernels.force_plan(plan):
            np.testing.assert_array_equal(p.run(), np.broadcast_to(p.bias[:, None, None], (2, 4, 3, 4)))


def test_a_prepared_weight_is_a_copy(isa: str, problem: Any) -> None:
    p = problem(ConvGeometry.of(5, 6, 3), 2, 8, 9)
    prepared, exact = kernels.prepare(p.weight, p.geometry, 8, 9), p.run()
    p.weight[:] = 0
    np.testing.assert_array_equal(kernels.run(p.x, p.bias, prepared), exact)


def test_the_border_checks_every_array(problem: Any) -> None:
    p = problem(ConvGeometry.of(4, 6, 3), 2, 8, 9)
    prepared = kernels.prepare(p.weight, p.geometry, 8, 9)
    other = kernels.prepare(np.ones((6, 4, 1, 1), np.float32), ConvGeometry.of(4, 6, 1), 8, 9)
    for x, weight, bias in [
        (p.x[:, :3], p.weight, p.bias),
        (p.x, p.weight[:5], p.bias),
        (p.x, p.weight[:, :, :2], p.bias),
        (p.x, p.weight, p.bias[:5]),
        (p.x, p.weight, p.bias.astype(np.float64)),
        (p.x, p.weight.astype(np.float64), p.bias),
        (p.x, p.weight, p.bias[None]),
    ]:
        with pytest.raises(ArgumentError):
            kernels.conv2d(x, weight, bias, p.geometry)
    with pytest.raises(ArgumentError, match="the input does not have the shape that it must"):
        kernels.run(p.x[:, :, 1:], p.bias, prepared)
    with pytest.raises(ArgumentError, match="another plan"):
        kernels.run(p.x, p.bias, prepared._replace(weight=other.weight))


def test_a_sum_may_be_too_long_for_pixels_in_the_lanes() -> None:
    geometry = ConvGeometry.of(4, 64, 130)
    assert kernels.plan(geometry, 140, 140).algorithm == "output_lane"
    with pytest.raises(ArgumentError, match="cannot run this geometry"), kernels.force_plan("pixel_lane"):
        kernels.plan(geometry, 140, 140)


def test_what_cannot_be_computed_is_refused(problem: Any) -> None:
    p = problem(ConvGeometry.of(4, 6, 3), 2, 8, 9)
    with pytest.raises(DtypeError, match="bool"):
        kernels.conv2d(p.x.astype(bool), p.weight.astype(bool), None, p.geometry)
    with pytest.raises(ShapeError, match="greater than the padded image"):
        kernels.conv2d(p.x[:, :, :2], p.weight, None, p.geometry)
    with pytest.raises(ArgumentError, match="no plan 'fast'"), kernels.force_plan("fast"):
        pass
    with pytest.raises(ArgumentError, match="cannot run this geometry"), kernels.force_plan("depthwise"):
        p.run()
    with pytest.raises(ArgumentError, match="'sse9' is not available"), kernels.use_isa("sse9"):
        pass
    huge = np.broadcast_to(np.float32(1), (2**40, 4, 8, 9))
    with pytest.raises((MemoryError, ArgumentError)):
        kernels.conv2d(huge, p.weight, None, p.geometry)


def test_plans_say_what_runs_and_why() -> None:
    plan = kernels.plan(ConvGeometry.of(256, 64, 1), 56, 56)
    assert (plan.algorithm, plan.name, plan.isa) == ("pixel_lane", "direct pixel_lane", kernels.current_isa())
    assert plan.packed_bytes == 256 * 64 * 4
    assert "1x1" in plan.reason
    deep = kernels.plan(ConvGeometry.of(1024, 256, 1), 7, 7)
    assert deep.algorithm == "output_lane"


def test_a_plan_does_not_depend_on_batch_or_threads() -> None:
    geometry = ConvGeometry.of(64, 64, 3, padding=1)
    before = kernels.get_num_threads()
    first = kernels.plan(geometry, 20, 20).name
    try:
        kernels.set_num_threads(5)
        assert kernels.plan(geometry, 20, 20).name == first
    finally:
        kernels.set_num_threads(before)


def test_precision_highest_has_direct_sums_alone() -> None:
    geometry = ConvGeometry.of(64, 64, 3, padding=1)
    before = kernels.get_float32_precision()
    version = kernels.settings_version()
    try:
        kernels.set_float32_precision("highest")
        assert kernels.plan(geometry, 56, 56).algorithm in DIRECT
        assert kernels.settings_version() != version
    finally:
        kernels.set_float32_precision(before)
    with pytest.raises(ArgumentError, match="'highest', 'high', 'medium'"):
        kernels.set_float32_precision("low")


def _numpy(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
