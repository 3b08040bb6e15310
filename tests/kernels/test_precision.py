"""What docs/precision.md says about numbers that are not ordinary: large, tiny, infinite, NaN, under every plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import konv
from konv import kernels, reference
from konv.geometry import ConvGeometry

KERNELS = {
    f"{h}x{w}": (h, w) for h, w in [(3, 3), (2, 2), (4, 4), (5, 5), (6, 6), (7, 7), (9, 8), (3, 1), (1, 5), (11, 1)]
}
SIZE = 28
ROW, COLUMN = 13, 14  # of the one number that is not ordinary


@pytest.fixture(autouse=True)
def _setting() -> Iterator[None]:
    before = kernels.get_float32_precision()
    yield
    kernels.set_float32_precision(before)


def case(kernel: str, channels: int = 16) -> tuple[ConvGeometry, Any, Any]:
    geometry = ConvGeometry.of(channels, 20, KERNELS[kernel])
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, channels, SIZE, SIZE)).astype(np.float32)
    weight = rng.standard_normal(geometry.weight_shape) * np.sqrt(2 / geometry.fan_in)
    return geometry, x, weight.astype(np.float32)


def exact(x: Any, weight: Any, geometry: ConvGeometry) -> Any:
    return reference.conv2d(x.astype(np.float64), weight.astype(np.float64), None, geometry)


def plans(geometry: ConvGeometry, precision: str) -> list[str]:
    kernels.set_float32_precision(precision)
    return kernels.candidates(geometry, SIZE, SIZE)


def edges_of(name: str) -> list[tuple[int, ...]]:
    """Outputs and taps of a transform's tile, ((mh, mw), (rh, rw)); ones for direct sums."""
    if not name.startswith("winograd"):
        return [(1, 1), (1, 1)]
    return [tuple(map(int, part.split("x"))) for part in name.split("(")[1].split(")")[0].split(",")]


def touched(geometry: ConvGeometry, name: str = "direct") -> Any:
    """Outputs whose window, or whose tile, reads the one number."""
    mask = np.zeros(geometry.output_size(SIZE, SIZE), bool)
    reached = []
    for at, k, m, r in zip((ROW, COLUMN), geometry.kernel_size, *edges_of(name), strict=True):
        # Slices of r taps may be longer than the kernel; their very last cell is not read then.
        read = k + max(0, -k % r - 1)
        reached.append(slice(max(0, at - read + 1) // m * m, at // m * m + m))
    mask[tuple(reached)] = True
    return mask


@pytest.mark.parametrize("kernel", KERNELS)
def test_highest_is_direct_and_close(isa: str, kernel: str) -> None:
    geometry, x, weight = case(kernel, 64)
    expected = exact(x, weight, geometry)
    names = plans(geometry, "highest")
    assert not any("winograd" in name for name in names)
    for name in names:
        with kernels.force_plan(name):
            error = np.abs(kernels.conv2d(x, weight, None, geometry) - expected).max()
        assert error <= 3e-6 * max(1.0, geometry.fan_in / 3136) * np.abs(expected).max()


@pytest.mark.parametrize("precision, most", [("high", 1e-5), ("medium", 1e-4)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_settings_keep_their_word(isa: str, kernel: str, precision: str, most: float) -> None:
    for channels in (3, 100, 300):
        geometry, x, weight = case(kernel, channels)
        expected = exact(x, weight, geometry)
        for name in plans(geometry, precision):
            with kernels.force_plan(name):
                error = np.abs(kernels.conv2d(x, weight, None, geometry) - expected).max()
            assert error <= most * np.abs(expected).max()


# (channels, filters, kernel, dilation, padding, image): windows see a few cells of the image, outputs are small.
MOSTLY_PADDING = [
    (64, 64, 7, 1, 6, (1, 1)),
    (128, 16, 7, 1, 6, (1, 1)),
    (64, 64, 5, 2, 8, (1, 1)),
    (128, 64, 7, 1, 5, (1, 6)),
    (16, 16, 5, 1, 4, (2, 2)),
    (3, 16, 3, 1, 2, (1, 1)),
    (1, 16, 5, 1, 2, (24, 24)),
]


@pytest.mark.parametrize("channels, filters, kernel, dilation, padding, image", MOSTLY_PADDING)
def test_high_keeps_its_word_where_windows_see_little(
    channels: int, filters: int, kernel: int, dilation: int, padding: int, image: tuple[int, int]
) -> None:
    geometry = ConvGeometry.of(channels, filters, kernel, 1, padding, dilation)
    rng = np.random.default_rng(7)

    def worst(precision: str) -> float:
        kernels.set_float32_precision(precision)
        names = kernels.candidates(geometry, *image)
        errors = []
        for _ in range(4):
            x = rng.standard_normal((2, channels, *image)).astype(np.float32)
            weight = (rng.standard_normal(geometry.weight_shape) * np.sqrt(2 / geometry.fan_in)).astype(np.float32)
            expected = exact(x, weight, geometry)
            for name in names:
                with kernels.force_plan(name):
                    error = np.abs(kernels.conv2d(x, weight, None, geometry) - expected).max()
                errors.append(error / np.abs(expected).max())
        return max(errors)

    assert worst("high") < min(1e-5, 16 * worst("highest"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernel", KERNELS)
def test_not_finite_numbers_stay_in_their_window_or_tile(isa: str, kernel: str, value: float) -> None:
    geometry, x, weight = case(kernel)
    spoiled = x.copy()
    spoiled[1, 2, ROW, COLUMN] = value
    for name in plans(geometry, "medium"):
        with kernels.force_plan(name):
            clean, result = (kernels.conv2d(a, weight, None, geometry) for a in (x, spoiled))
        np.testing.assert_array_equal(result[0], clean[0])
        outside = ~touched(geometry, name)
        np.testing.assert_array_equal(result[1][:, outside], clean[1][:, outside])
        assert not np.isfinite(result[1][:, touched(geometry)]).any()
        if "winograd" not in name and np.isinf(value):
            assert np.isinf(result[1][:, touched(geometry)]).all()  # with its sign, as the definition says


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_large_number_is_felt_in_its_tile_alone(isa: str, kernel: str) -> None:
    geometry, x, weight = case(kernel)
    peak = 1e6
    spoiled = x.copy()
    spoiled[1, 2, ROW, COLUMN] = peak
    expected = exact(spoiled, weight, geometry)
    for name in plans(geometry, "medium"):
        with kernels.force_plan(name):
            clean, result = (kernels.conv2d(a, weight, None, geometry) for a in (x, spoiled))
        outside = ~touched(geometry, name)
        np.testing.assert_array_equal(result[1][:, outside], clean[1][:, outside])
        beside = ~touched(geometry)
        error = np.abs(result[1] - expected[1])[:, beside].max()
        assert error <= (1e-5 * peak if "winograd" in name else 1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_where_numbers_overflow(isa: str, kernel: str) -> None:
    geometry, x, weight = case(kernel)
    huge = np.clip(x, -1, 1) * np.float32(1e36)
    expected = exact(huge, weight, geometry)
    for name in plans(geometry, "medium"):
        with kernels.force_plan(name):
            result = kernels.conv2d(huge, weight, None, geometry)
        assert np.abs(result - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("kernel", KERNELS)
def test_denormal_numbers_are_not_flushed(isa: str, kernel: str) -> None:
    geometry, x, weight = case(kernel)
    tiny = x * np.float32(1e-40)
    expected = exact(tiny, weight, geometry)
    for name in plans(geometry, "high"):
        with kernels.force_plan(name):
            result = kernels.conv2d(tiny, weight, None, geometry)
        assert np.abs(result).max() > 0
        assert np.abs(result - expected).max() <= (2.5e-42 if "winograd" in name else 1e-43)


def test_one_by_one_with_ones_keeps_every_number(isa: str) -> None:
    numbers = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan, 1.5], np.float32)
    geometry = ConvGeometry.of(1, 1, 1)
    result = kernels.conv2d(numbers.reshape(1, 1, 1, -1), np.ones((1, 1, 1, 1), np.float32), None, geometry)
    np.testing.assert_array_equal(result.ravel(), numbers)


@pytest.mark.parametrize(("name", "edge"), [("pixel_lane", np.isnan), ("output_lane", np.isfinite)])
def test_an_infinite_weight_may_meet_padding(isa: str, name: str, edge: Callable[[np.ndarray], np.ndarray]) -> None:
    """Zero times infinity is NaN, unless the plan leaves out what lies in the padding."""
    geometry = ConvGeometry.of(100, 100, 3, padding=1)
    weight = np.ones(geometry.weight_shape, np.float32)
    weight[:, :, 0, 0] = np.inf
    with kernels.force_plan(name):
        result = kernels.conv2d(np.ones((1, 100, 5, 5), np.float32), weight, None, geometry)
    assert edge(result[0, 0, 0]).all()
    assert edge(result[0, 0, :, 0]).all()
    assert np.isinf(result[0, 0, 1:, 1:]).all()


def test_words() -> None:
    assert konv.get_float32_precision() == "high"
    for word in ("highest", "high", "medium"):
        konv.set_float32_precision(word)
        assert konv.get_float32_precision() == word
    with pytest.raises(ValueError, match="'highest', 'high', 'medium'"):
        konv.set_float32_precision("low")
