"""What kernel tests share: arrays of small whole numbers, the exact result, each instruction set in turn."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import reject, strategies as st

from konv import kernels, reference
from konv.errors import ShapeError
from konv.geometry import PADDING_MODES, ConvGeometry


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

    @staticmethod
    def anywhere(**bounds: Any) -> st.SearchStrategy[Problem]:
        """Problems from the whole parameter space within these bounds (see ``whole_space``)."""
        return whole_space(**bounds)

    # ---- gradients ----

    @property
    def gy(self) -> Any:
        """A gradient of the output, of whole numbers too."""
        shape = (self.x.shape[0], self.geometry.out_channels, *self.geometry.output_size(*self.x.shape[2:]))
        return self._integers(np.random.default_rng(9), shape)

    def expected_gradients(self) -> tuple[Any, Any, Any]:
        """Of input, weight and bias, by the reference in double precision."""
        wide = np.complex128 if self.dtype.kind == "c" else np.float64
        x, weight, gy = (a.astype(wide) for a in (self.x, self.weight, self.gy))
        found = (
            reference.conv2d_grad_input(gy, weight, self.geometry, x.shape[2:]),
            reference.conv2d_grad_weight(x, gy, self.geometry),
            reference.conv2d_grad_bias(gy),
        )
        return tuple(a.astype(self.dtype) for a in found)  # type: ignore[return-value]

    def gradients(self, gy: Any = None, force: str = "") -> tuple[Any, Any, Any]:
        """Of input, weight and bias, by the kernels."""
        gy = self.gy if gy is None else gy
        return (
            kernels.conv2d_grad_input(gy, self.weight, self.geometry, self.x.shape[2:]),
            kernels.conv2d_grad_weight(self.x, gy, self.geometry, force),
            kernels.conv2d_grad_bias(gy),
        )


@st.composite
def whole_space(
    draw: Any,
    groups: tuple[int, int],
    per_group: tuple[int, int],
    kernel: int,
    size: tuple[int, int] = (24, 40),
    dtypes: tuple[str, ...] = ("float32", "float64", "complex64"),
) -> Problem:
    """Between so many groups; at most so many inputs and outputs of a group, rows and columns of kernel and image."""

    def pair(rows: int, columns: int) -> tuple[int, int]:
        return draw(st.tuples(st.integers(1, rows), st.integers(1, columns)))

    g, (inputs, outputs) = draw(st.integers(*groups)), pair(*per_group)
    pads = draw(st.tuples(*[st.integers(0, 6)] * 4))
    geometry = ConvGeometry.of(
        g * inputs, g * outputs, pair(kernel, kernel), stride=pair(5, 5), padding=(pads[:2], pads[2:]),
        dilation=pair(4, 4), groups=g, padding_mode=draw(st.sampled_from(PADDING_MODES)),
    )  # fmt: skip
    h, w = pair(*size)
    try:
        geometry.output_size(h, w)
    except ShapeError:
        reject()
    return Problem(geometry, draw(st.integers(1, 5)), h, w, draw(st.sampled_from(dtypes)))


class Guarded:
    """Arrays that begin right after, or end right before, a page that may not be touched."""

    libc = ctypes.CDLL(None, use_errno=True)

    def __init__(self) -> None:
        self.maps: list[mmap.mmap] = []

    def copy(self, array: Any, at_end: bool) -> Any:
        page = mmap.PAGESIZE
        room = -(-max(array.nbytes, 1) // page) * page
        memory = mmap.mmap(-1, room + 2 * page)
        self.maps.append(memory)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for offset in (0, room + page):
            assert self.libc.mprotect(ctypes.c_void_p(start + offset), page, 0) == 0
        offset = page + (room - array.nbytes if at_end else 0)
        inside = np.ndarray(array.shape, array.dtype, memory, offset)
        inside[...] = array
        return inside


@pytest.fixture
def guarded() -> Guarded:
    return Guarded()


@pytest.fixture(scope="session")
def problem() -> type[Problem]:
    return Problem
