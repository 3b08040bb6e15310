"""Images and outputs that no cache holds: kernels then fetch what comes next, and read in other ways. Not a bit moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from konv import kernels
from konv.geometry import ConvGeometry

# Geometry, images, rows, columns: each image by itself is small, all of them are more than 8 MiB.
LARGE = {
    "depthwise, rows in place": (ConvGeometry.of(16, 16, 3, padding=1, groups=16), 9, 98, 101),
    "depthwise, stride 2": (ConvGeometry.of(12, 12, 3, 2, 1, groups=12), 15, 112, 109),
    "depthwise, rows of 1 KiB": (ConvGeometry.of(4, 4, 3, padding=1, groups=4), 9, 127, 256),
    "depthwise, rows of 1 KiB, stride 2": (ConvGeometry.of(4, 4, 3, 2, 1, groups=4), 14, 127, 256),
    "depthwise, rows of 4 KiB, stride 2": (ConvGeometry.of(1, 1, 3, 2, 1, groups=1), 14, 127, 1024),
    "depthwise, 5x5": (ConvGeometry.of(16, 16, 5, padding=2, groups=16), 26, 49, 53),
    "depthwise, 7x3, several filters": (ConvGeometry.of(16, 32, (7, 3), padding=1, groups=16), 30, 39, 41),
    "depthwise, dilated": (ConvGeometry.of(16, 16, 3, padding=2, dilation=2, groups=16), 30, 53, 47),
    "depthwise, small": (ConvGeometry.of(64, 64, 3, padding=1, groups=64), 100, 14, 13),
    "winograd": (ConvGeometry.of(32, 48, 3, padding=1), 13, 45, 50),
    "winograd, stride 2": (ConvGeometry.of(96, 128, 3, 2, 1), 7, 57, 55),
    "winograd, stride 2, float16": (ConvGeometry.of(96, 128, 3, 2, 1), 13, 57, 55),
    "winograd, narrow": (ConvGeometry.of(48, 16, 3, padding=1), 200, 41, 5),
    "1x1, a few filters": (ConvGeometry.of(40, 19, 1), 21, 43, 41),
    "2x2, no padding": (ConvGeometry.of(24, 40, 2, 2), 50, 42, 38),
}


@pytest.fixture(params=LARGE)
def large(request: pytest.FixtureRequest, problem: Any) -> Any:
    geometry, n, h, w = LARGE[request.param]
    made = problem(geometry, n, h, w, "float16" if "float16" in request.param else "float32")
    assert made.x.nbytes + made.gy.nbytes > 8 << 20
    return made


@pytest.mark.parametrize("at_end", [False, True])
def test_each_image_as_if_alone(isa: str, large: Any, guarded: Any, at_end: bool) -> None:
    x = large.x
    large.x = guarded.copy(x, at_end)
    together = large.run()
    for i, y in enumerate(together):
        large.x = x[i : i + 1]
        assert np.array_equal(large.run()[0], y)
    expected = large.expected()[0]
    assert np.abs(together[-1] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_gradient_of_the_weight(isa: str, large: Any) -> None:
    x, gy = large.x, large.gy
    found = kernels.conv2d_grad_weight(x, gy, large.geometry)
    parts = [kernels.conv2d_grad_weight(x[i : i + 1], gy[i : i + 1], large.geometry) for i in range(len(x))]
    expected = np.sum(parts, axis=0, dtype=np.float64)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
