"""What kernel tests share: arrays of small whole numbers, the exact result, each instruction set in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from konv import kernels, reference
from konv.geometry import ConvGeometry


@pytest.fixture(params=kernels.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine runs, forced, one after the other."""
    with kernels.use_isa(request.param):
        yield request.param


class Problem:
    """One convolution with data of small whole numbers: every sum is exact, so direct kernels must be too."""

    def __init__(self, geometry: ConvGeometry, n: int, h: int, w: int, dtype: Any = "float32", seed: int = 0) -> None:
        self.geometry, self.dtype = geometry, np.dtype(dtype)
        rng = np.random.default_rng(seed)
        self.x = self._integers(rng, (n, geometry.in_channels, h, w))
        self.weight = self._integers(rng, geometry.weight_shape)
        self.bias = self._integers(rng, geometry.bias_shape)

    def _integers(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        least = 0 if self.dtype.kind == "u" else -3
        values = rng.integers(least, 4, shape)
        if self.dtype.kind == "c":
            return (values + 1j * rng.integers(-3, 4, shape)).astype(self.dtype)
        return values.astype(self.dtype)

    def expected(self) -> Any:
        """By the reference, in double precision (integers: in int64, wrapped)."""
        wide = {"c": np.complex128, "i": np.int64, "u": np.int64}.get(self.dtype.kind, np.float64)
        arrays = (a.astype(wide) for a in (self.x, self.weight, self.bias))
        return reference.conv2d(*arrays, self.geometry).astype(self.dtype)

    def run(self) -> Any:
        """By the kernels."""
        return kernels.conv2d(self.x, self.weight, self.bias, self.geometry)


@pytest.fixture
def problem() -> type[Problem]:
    return Problem
