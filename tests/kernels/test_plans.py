"""What a plan says of itself: candidates, scratch without a run, bound; and the text of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import konv
from konv import kernels
from konv.errors import ArgumentError, ArgumentTypeError, DtypeError, ShapeError
from konv.geometry import ConvGeometry

GEOMETRIES = {
    "3x3": (ConvGeometry.of(16, 24, 3, padding=1), 20, 23),
    "1x1": (ConvGeometry.of(32, 48, 1), 14, 13),
    "strided": (ConvGeometry.of(3, 16, 7, 2, 3), 40, 40),
    "depthwise": (ConvGeometry.of(24, 24, 3, padding=1, groups=24), 30, 31),
    "groups": (ConvGeometry.of(16, 16, 3, padding=1, groups=4), 9, 9),
    "long": (ConvGeometry.of(256, 64, 3, padding=1), 4, 4),
    "dilated": (ConvGeometry.of(32, 32, 3, padding=9, dilation=9), 11, 12),
    "many": (ConvGeometry.of(64, 384, 1), 7, 7),
    "reflect": (ConvGeometry.of(8, 8, 5, padding=2, padding_mode="reflect"), 12, 12),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64", "int32"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_candidates_run_and_agree(name: str, dtype: str) -> None:
    geometry, h, w = GEOMETRIES[name]
    generator = np.random.default_rng(0)
    x = generator.integers(-3, 4, (2, geometry.in_channels, h, w)).astype(dtype)
    weight = generator.integers(-3, 4, geometry.weight_shape).astype(dtype)
    expected = kernels.conv2d(x, weight, None, geometry)
    names = kernels.candidates(geometry, h, w, dtype)
    assert len(names) == len(set(names))
    assert 1 <= len(names) <= 5
    chosen = kernels.plan(geometry, h, w, dtype)
    assert names[0] == chosen.name.removeprefix("direct ")
    for candidate in names:
        with kernels.force_plan(candidate):
            y = kernels.conv2d(x, weight, None, geometry)
        assert np.abs(y - expected).max() <= 2e-4 * np.abs(expected).max()
        raw = np.frombuffer(kernels.contender(x, weight, geometry, candidate)(), x.dtype)  # type: ignore[call-overload]
        assert np.array_equal(raw, y.ravel())


@pytest.mark.parametrize("outputs", range(1, 30))
def test_both_parts_of_a_complex_channel_are_written_by_one_thread(isa: str, outputs: int) -> None:
    # A row of one part is written with what lies between: two threads would overwrite each other's parts.
    with kernels.force_plan("pixel_lane"):
        for kernel in (1, 3):
            plan = kernels.plan(ConvGeometry.of(2, outputs, kernel, padding=kernel // 2), 9, 9, "complex64")
            assert plan.tile % 2 == 0


def test_candidates_keep_to_the_precision() -> None:
    geometry, h, w = GEOMETRIES["3x3"]
    before = kernels.get_float32_precision()
    try:
        kernels.set_float32_precision("highest")
        assert not any("winograd" in name for name in kernels.candidates(geometry, h, w))
        kernels.set_float32_precision("high")
        high = kernels.candidates(geometry, h, w)
        assert any("winograd" in name for name in high)
    finally:
        kernels.set_float32_precision(before)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_scratch_is_within_its_limit(name: str) -> None:
    geometry, h, w = GEOMETRIES[name]
    for candidate in kernels.candidates(geometry, h, w):
        with kernels.force_plan(candidate):
            plan = kernels.plan(geometry, h, w)
            for n in (1, 3, 64):
                shared, own, threads, total = plan.scratch(n)
                assert min(shared, own) >= 0
                assert threads >= 0
                assert total >= shared + own * threads
                moved = (
                    4 * n * (geometry.in_channels * h * w + geometry.out_channels * np.prod(geometry.output_size(h, w)))
                )
                assert total <= max(8 * 2**20, moved / 4) + 2**16
    assert kernels.plan(geometry, h, w).scratch(0) == (0, 0, 0, 0)


def test_asking_for_scratch_leaves_calls_as_they_were() -> None:
    geometry, h, w = GEOMETRIES["3x3"]
    x, weight = np.ones((1, 16, h, w), np.float32), np.ones(geometry.weight_shape, np.float32)
    before = kernels.conv2d(x, weight, None, geometry)
    kernels.plan(geometry, h, w).scratch(1)
    assert np.array_equal(kernels.conv2d(x, weight, None, geometry), before)


def test_plan_of_a_layer() -> None:
    layer = konv.nn.Conv2d(16, 24, 3, padding="same")
    plan = layer.plan((2, 16, 20, 23))
    found = kernels.plan(layer.geometry, 20, 23)
    assert (plan.name, plan.algorithm, plan.reason) == (found.name, found.algorithm, found.reason)
    assert (plan.isa, plan.dtype) == (found.isa, "float32")
    assert plan.isa in konv.backends.available()
    assert plan.output_shape == tuple(layer(konv.zeros(2, 16, 20, 23)).shape)
    assert plan.flops == 2 * 2 * 24 * 20 * 23 * 16 * 9
    assert plan.moved_bytes == 4 * (2 * 16 * 20 * 23 + 24 * 16 * 9 + 2 * 24 * 20 * 23)
    assert plan.packed_bytes >= 4 * 24 * 16
    assert plan.intensity == plan.flops / plan.moved_bytes
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.name = "x"  # type: ignore[misc]
    assert layer.plan((16, 20, 23)).input_shape == (1, 16, 20, 23)


def test_text_names_everything() -> None:
    text = str(konv.nn.Conv2d(64, 32, 1).plan((1, 64, 28, 28)))
    for word in ("direct pixel_lane", konv.backends.current(), "1x64x28x28", "packed", "scratch", "bound by", "ms"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120


def test_bound_takes_the_longer_time() -> None:
    wide, deep = konv.nn.Conv2d(1, 1, 1).plan((1, 1, 512, 512)), konv.nn.Conv2d(512, 512, 3).plan((1, 512, 32, 32))
    assert (wide.bound.limit, deep.bound.limit) == ("bytes", "multiply-adds")
    assert deep.bound.seconds == deep.flops / deep.bound.peak.flops
    assert wide.bound.seconds == wide.moved_bytes / wide.bound.peak.bytes


def test_settings_and_dtypes_show() -> None:
    layer = konv.nn.Conv2d(16, 16, 3, padding=1, dtype=konv.bfloat16)
    assert layer.plan((1, 16, 8, 8)).dtype == "bfloat16"
    plain = konv.nn.Conv2d(16, 16, 3, padding=1)
    with konv.backends.force_plan("pixel_lane"):
        assert plain.plan((1, 16, 8, 8)).algorithm == "pixel_lane"
    complex_layer = konv.nn.Conv2d(4, 4, 1, dtype=konv.complex64)
    assert complex_layer.plan((1, 4, 3, 3)).flops == 8 * 4 * 4 * 9


def test_plans_that_are_none_are_not_forced() -> None:
    with pytest.raises(ArgumentTypeError, match=r"^backends\.force_plan: name=5 is a int; plans are 'winograd'"):
        konv.backends.force_plan(5).__enter__()  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="there is no plan 'fastest'"):
        konv.backends.force_plan("fastest").__enter__()


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 2, 8), (1, 1, 4, 8, 8), (1, 4, 0, 8), (0, 4, 8, 8), (1, 4, 2, 2)])
def test_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError):
        konv.nn.Conv2d(4, 4, 3).plan(shape)


def test_dtypes_without_convolution() -> None:
    with pytest.raises(DtypeError):
        kernels.describe(ConvGeometry.of(4, 4, 3), (1, 4, 8, 8), "bool")
