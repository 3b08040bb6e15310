"""Pooling, normalisation and relu kernels against plain loops over windows, on every instruction set."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from konv import kernels
from konv.errors import ArgumentError
from konv.geometry import adaptive_window, pool_output_size
from konv.kernels import layers

FLOATS = ["float32", "float64", "float16", ml_dtypes.bfloat16]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8"]
SPECIAL = settings(max_examples=60, suppress_health_check=list(HealthCheck))


class Axis:
    """Windows along one axis, as lists of cells."""

    def __init__(self, size: int, kernel: int, stride: int, pad: int, dilation: int, ceil: bool) -> None:
        outputs = pool_output_size(size, kernel, stride, (pad, pad), dilation, ceil)
        starts = [i * stride - pad for i in range(outputs)]
        self.size = size
        self.windows = layers.windows(size, outputs, kernel, stride, pad, dilation)
        self.cells = [[s + t * dilation for t in range(kernel) if 0 <= s + t * dilation < size] for s in starts]
        self.padded = [min(s + kernel, size + pad) - s for s in starts]  # cells with padding, of averages

    @classmethod
    def adaptive(cls, size: int, outputs: int) -> Axis:
        self = cls.__new__(cls)
        self.size, self.windows = size, layers.adaptive_windows(size, outputs)
        self.cells = [list(range(*adaptive_window(i, size, outputs))) for i in range(outputs)]
        self.padded = [len(c) for c in self.cells]
        return self


def each_window(rows: Axis, columns: Axis) -> Any:
    for (i, r), (j, c) in itertools.product(enumerate(rows.cells), enumerate(columns.cells)):
        yield i, j, list(itertools.product(r, c))


def largest(x: Any, rows: Axis, columns: Axis) -> tuple[Any, Any]:
    """PyTorch's scan: v > best, or v is NaN."""
    least = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    shape = (*x.shape[:2], len(rows.cells), len(columns.cells))
    y, cells = np.zeros(shape, x.dtype), np.zeros(shape, np.int64)
    for n, c in np.ndindex(x.shape[:2]):
        for i, j, window in each_window(rows, columns):
            best, at = least, window[0][0] * columns.size + window[0][1] if window else -1
            for h, w in window:
                v = x[n, c, h, w]
                if v > best or v != v:
                    best, at = v, h * columns.size + w
            y[n, c, i, j], cells[n, c, i, j] = best, at
    return y, cells


def averages(x: Any, rows: Axis, columns: Axis, count_pad: bool, divisor: int) -> Any:
    y = np.zeros((*x.shape[:2], len(rows.cells), len(columns.cells)))
    for i, j, window in each_window(rows, columns):
        number = rows.padded[i] * columns.padded[j] if count_pad else max(len(window), 1)
        total = sum(x[:, :, h, w].astype(np.float64) for h, w in window)
        y[:, :, i, j] = total / (divisor or number)
    return y


def spread(gy: Any, rows: Axis, columns: Axis, count_pad: bool, divisor: int) -> Any:
    gx = np.zeros((*gy.shape[:2], rows.size, columns.size))
    for i, j, window in each_window(rows, columns):
        number = rows.padded[i] * columns.padded[j] if count_pad else max(len(window), 1)
        for h, w in window:
            gx[:, :, h, w] += gy[:, :, i, j].astype(np.float64) / (divisor or number)
    return gx


@st.composite
def axes(draw: Any, dilated: bool) -> Axis:
    size = draw(st.integers(1, 40))
    if draw(st.booleans()) and draw(st.booleans()):
        return Axis.adaptive(size, draw(st.integers(1, size + 2)))
    kernel = draw(st.integers(1, 6))
    dilation = draw(st.integers(1, 3)) if dilated else 1
    while dilation * (kernel - 1) + 1 > size + kernel // 2 * 2:
        kernel -= 1
    least = max(0, -(-(dilation * (kernel - 1) + 1 - size) // 2))
    pad = draw(st.integers(least, kernel // 2))
    return Axis(size, kernel, draw(st.integers(1, 8)), pad, dilation, draw(st.booleans()))


def arrays(shape: tuple[int, ...], dtype: Any, layout: str, seed: int) -> Any:
    """Small whole numbers in memory of many kinds."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0 if np.dtype(dtype).kind == "u" else -8, 9, shape).astype(dtype)
    if layout == "reversed":
        return values[:, :, ::-1, ::-1]
    if layout == "transposed":
        return np.ascontiguousarray(values.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    if layout == "channels last":
        return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if layout == "sliced":
        return np.repeat(np.repeat(values, 2, 2), 3, 3)[:, :, ::2, ::3]
    if layout == "broadcast":
        return np.broadcast_to(values[:, :1], shape)
    return values


layouts = st.sampled_from(["plain", "plain", "reversed", "transposed", "channels last", "sliced", "broadcast"])


def same(found: Any, expected: Any) -> None:
    """Equal, NaN included, which NumPy does not know of bfloat16."""
    wide = np.int64 if found.dtype.kind in "iu" else np.float64
    np.testing.assert_array_equal(found.astype(wide), expected.astype(wide))


def close(found: Any, expected: Any, dtype: Any, scale: float = 1.0) -> None:
    unit = float(ml_dtypes.finfo(dtype).eps) * scale
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2 * unit, atol=2 * unit * 8)


@SPECIAL
@given(rows=axes(True), columns=axes(True), dtype=st.sampled_from(FLOATS + INTEGERS), layout=layouts, data=st.data())
def test_max_pool_is_the_scan_of_its_windows(isa: str, rows: Axis, columns: Axis, dtype: Any, layout: str, data: Any):
    x = arrays((2, 3, rows.size, columns.size), dtype, layout, data.draw(st.integers(0, 99)))
    if dtype in FLOATS and data.draw(st.booleans()):
        x = x.copy()
        x[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
        x[np.random.default_rng(2).random(x.shape) < 0.4] = -np.inf
    y, cells = layers.max_pool2d(x, rows.windows, columns.windows, True)
    expected, places = largest(x, rows, columns)
    same(y, expected)
    np.testing.assert_array_equal(cells, places)
    assert y.dtype == x.dtype
    assert y.ctypes.data % 64 == 0
    assert cells.ctypes.data % 64 == 0
    same(layers.max_pool2d(x, rows.windows, columns.windows, False)[0], expected)


@SPECIAL
@given(rows=axes(True), columns=axes(True), dtype=st.sampled_from(FLOATS), layout=layouts)
def test_max_pool_gradient_goes_to_the_cells(isa: str, rows: Axis, columns: Axis, dtype: Any, layout: str):
    x = arrays((2, 3, rows.size, columns.size), dtype, "plain", 0)
    _, cells = layers.max_pool2d(x, rows.windows, columns.windows, True)
    gy = arrays(cells.shape, dtype, layout, 1)
    found = layers.max_pool2d_gradient(gy, cells, x.shape[2:])
    expected = np.zeros((2, 3, rows.size * columns.size))
    for at in np.ndindex(cells.shape):
        if cells[at] >= 0:
            expected[at[0], at[1], cells[at]] += float(gy[at])
    np.testing.assert_array_equal(found.astype(np.float64), expected.reshape(found.shape))


@SPECIAL
@given(
    rows=axes(False), columns=axes(False), dtype=st.sampled_from(FLOATS), layout=layouts,
    count_pad=st.booleans(), divisor=st.sampled_from([0, 0, 3, -5]),
)  # fmt: skip
def test_avg_pool_and_its_gradient(
    isa: str, rows: Axis, columns: Axis, dtype: Any, layout: str, count_pad: bool, divisor: int
):
    x = arrays((2, 3, rows.size, columns.size), dtype, layout, 3)
    y = layers.avg_pool2d(x, rows.windows, columns.windows, count_pad, divisor)
    close(y, averages(x, rows, columns, count_pad, divisor), dtype, 16)
    gy = arrays(y.shape, dtype, layout, 4)
    gx = layers.avg_pool2d_gradient(gy, rows.windows, columns.windows, x.shape[2:], count_pad, divisor)
    close(gx, spread(gy, rows, columns, count_pad, divisor), dtype, 64)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (Axis.adaptive(7, 1), Axis.adaptive(9, 1)),
        (Axis(70, 70, 1, 0, 1, False), Axis(90, 90, 1, 0, 1, False)),
        (Axis(12, 10, 1, 5, 1, True), Axis(9, 11, 2, 5, 1, True)),
        (Axis(40, 2, 19, 0, 1, False), Axis(40, 2, 19, 1, 1, True)),
    ],
    ids=["one adaptive window", "one window", "windows of many sizes", "windows far apart"],
)
def test_averages_of_few_windows(isa: str, rows: Axis, columns: Axis):
    for dtype, count_pad in itertools.product(FLOATS, (True, False)):
        x = arrays((2, 3, rows.size, columns.size), dtype, "plain", 3)
        y = layers.avg_pool2d(x, rows.windows, columns.windows, count_pad)
        close(y, averages(x, rows, columns, count_pad, 0), dtype, 16)
        gy = arrays(y.shape, dtype, "plain", 4)
        gx = layers.avg_pool2d_gradient(gy, rows.windows, columns.windows, x.shape[2:], count_pad)
        close(gx, spread(gy, rows, columns, count_pad, 0), dtype, 64)


def test_avg_pool_of_integers_divides_towards_zero(isa: str):
    pairs = layers.windows(4, 2, 2, 2, 0)
    x = np.array([[[[3, 4, -3, -4]]]], np.int64)
    one = layers.windows(1, 1, 1, 1, 0)
    assert layers.avg_pool2d(x, one, pairs).ravel().tolist() == [3, -3]


def test_nothing_outside_an_array_is_touched(isa: str, guarded: Any):
    for at_end, width, kernel in itertools.product((True, False), (1, 5, 16, 17, 33), (1, 2, 3)):
        if width < kernel:
            continue
        x = guarded.copy(np.arange(2.0 * width, dtype=np.float32).reshape(1, 1, 2, width), at_end)
        rows = Axis(2, 1, 1, 0, 1, False)
        for stride in (1, 2, 3):
            columns = Axis(width, kernel, stride, 0, 1, True)
            y, cells = layers.max_pool2d(x, rows.windows, columns.windows, True)
            np.testing.assert_array_equal(y, largest(x, rows, columns)[0])
            gy, places = guarded.copy(y, at_end), guarded.copy(cells, at_end)
            layers.max_pool2d_gradient(gy, places, (2, width))
            layers.avg_pool2d(x, rows.windows, columns.windows)
            layers.avg_pool2d_gradient(gy, rows.windows, columns.windows, (2, width))
        center = np.zeros((1, 1))
        layers.channel_moments(x)
        layers.channel_products(x, x, center)
        layers.channel_affine(x, center, center, center)
        layers.channel_combine(x, x, center, center, center, center)
        layers.relu_gradient(x, guarded.copy(layers.relu(x), at_end))


@SPECIAL
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 70), st.integers(1, 90)),
    dtype=st.sampled_from(FLOATS), layouts=st.tuples(layouts, layouts), per_image=st.booleans(),
)  # fmt: skip
def test_normalisation_passes(isa: str, shape: Any, dtype: Any, layouts: Any, per_image: bool):
    x, gy = arrays(shape, dtype, layouts[0], 5), arrays(shape, dtype, layouts[1], 6)
    wide, grad = x.astype(np.float64), gy.astype(np.float64)
    mean, m2 = layers.channel_moments(x)
    np.testing.assert_allclose(mean, wide.mean((2, 3)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(m2, ((wide - wide.mean((2, 3), keepdims=True)) ** 2).sum((2, 3)), rtol=1e-5, atol=1e-4)

    rng = np.random.default_rng(7)
    center, a, b, c = rng.integers(-4, 5, (4, shape[0] if per_image else 1, shape[1])).astype(np.float64) / 2
    m, p, q, s = (v[:, :, None, None] for v in (center, a, b, c))
    sums, products = layers.channel_products(gy, x, center)
    np.testing.assert_allclose(sums, grad.sum((2, 3)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(products, (grad * (wide - m)).sum((2, 3)), rtol=1e-6, atol=1e-6)
    close(layers.channel_affine(x, center, a, b), (wide - m) * p + q, dtype, 8)
    close(layers.channel_combine(gy, x, a, b, center, c), grad * p + (wide - m) * q + s, dtype, 32)


def test_moments_of_large_values_are_exact_enough(isa: str):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((2, 3, 200, 300)) + 1e4).astype(np.float32)
    mean, m2 = layers.channel_moments(x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean((2, 3)), rtol=1e-9)
    np.testing.assert_allclose(m2, wide.var((2, 3)) * 60000, rtol=1e-5)
    # A center that float32 cannot hold must not shift the result.
    y = layers.channel_affine(x, mean, np.full((2, 3), 100.0), np.zeros((2, 3)))
    np.testing.assert_allclose(y, (wide - mean[:, :, None, None]) * 100, atol=2e-2)
    shifted = layers.channel_combine(x, x, *np.zeros((1, 2, 3)), np.full((2, 3), 100.0), mean, np.zeros((2, 3)))
    np.testing.assert_allclose(shifted, y, atol=2e-2)
    ones = np.ones_like(x)
    _, product = layers.channel_products(ones, x, mean + 2.0**-12)
    np.testing.assert_allclose(product, -60000 * 2.0**-12, rtol=1e-2)


@pytest.mark.parametrize("dtype", FLOATS)
def test_relu(isa: str, dtype: Any):
    rng = np.random.default_rng(0)
    for shape in [(), (1,), (7,), (5, 33), (3, 4, 5, 7), (2, 1, 70, 130)]:
        plain = rng.integers(-4, 5, shape).astype(dtype)
        for x in (plain, plain.T, plain[..., ::-1] if shape else plain, np.asfortranarray(plain)):
            y = layers.relu(x)
            np.testing.assert_array_equal(y, np.maximum(x, np.zeros((), dtype)))
            gy = rng.integers(-4, 5, x.shape).astype(dtype)
            np.testing.assert_array_equal(layers.relu_gradient(gy, y), np.where(x > 0, gy, np.zeros((), dtype)))
            np.testing.assert_array_equal(
                layers.relu_gradient(gy[::-1], y) if shape else 0, np.where(x > 0, gy[::-1], 0) if shape else 0
            )
    steps = np.arange(-20000.0, 20000.0).astype(dtype)[::3]  # longer than one piece, and strided
    same(layers.relu(steps), np.maximum(steps, np.zeros((), dtype)))
    nan = layers.relu(np.array([np.nan, -np.inf, np.inf], dtype))
    assert np.isnan(nan[0])
    assert nan[1] == 0
    assert nan[2] == np.inf


def test_relu_keeps_the_order_of_dense_memory():
    x = np.ones((2, 5, 6, 3), np.float32).transpose(0, 3, 1, 2)
    assert layers.relu(x).strides == x.strides


def test_foreign_arrays_are_copied_first():
    x = np.arange(-8.0, 8.0).reshape(1, 1, 4, 4)
    swapped = x.astype(">f8")
    half = layers.windows(4, 2, 2, 2, 0)
    np.testing.assert_array_equal(
        layers.max_pool2d(swapped, half, half, False)[0], layers.max_pool2d(x, half, half, False)[0]
    )
    np.testing.assert_array_equal(layers.relu(swapped), layers.relu(x))
    odd = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float64).reshape(x.shape)
    np.testing.assert_array_equal(layers.avg_pool2d(odd, half, half), layers.avg_pool2d(x, half, half))


def test_bits_do_not_depend_on_threads_or_batch():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 7, 61, 53)).astype(np.float32)
    rows, columns = Axis(61, 3, 2, 1, 1, True).windows, Axis(53, 3, 2, 1, 1, True).windows
    center = rng.standard_normal((5, 7))

    def run(part: slice) -> list[Any]:
        image = x[part]
        y, cells = layers.max_pool2d(image, rows, columns, True)
        return [
            y, cells, layers.max_pool2d_gradient(y, cells, (61, 53)),
            layers.avg_pool2d(image, rows, columns), layers.avg_pool2d_gradient(y, rows, columns, (61, 53)),
            layers.avg_pool2d(image, *(layers.adaptive_windows(s, 1) for s in (61, 53))),
            layers.channel_moments(image).swapaxes(0, 1),
            layers.channel_products(image, image, center[part]).swapaxes(0, 1),
            layers.channel_affine(image, center[part], center[part], center[part]), layers.relu(image),
        ]  # fmt: skip

    before = kernels.get_num_threads()
    try:
        kernels.set_num_threads(1)
        expected = run(slice(None))
        for threads in (2, 3, 5):
            kernels.set_num_threads(threads)
            for one, other in zip(run(slice(None)), expected, strict=True):
                np.testing.assert_array_equal(one, other)
        for one, other in zip(run(slice(2, 3)), expected, strict=True):
            np.testing.assert_array_equal(one, other[2:3])
    finally:
        kernels.set_num_threads(before)


def test_wrong_arguments_are_refused():
    x = np.zeros((1, 1, 4, 4), np.float32)
    half = layers.windows(4, 2, 2, 2, 0)
    for wrong in (
        lambda: layers.windows(4, 0, 2, 2, 0),
        lambda: layers.windows(4, 2, 2, 0, 0),
        lambda: layers.windows(4, 2, 2**62, 2, 0, 2**62),
        lambda: layers.max_pool2d(np.zeros((1, 1, 5, 4), np.float32), half, half, False),
        lambda: layers.max_pool2d(x[0], half, half, False),
        lambda: layers.avg_pool2d(x.astype(np.complex64), half, half),
        lambda: layers.max_pool2d_gradient(x, np.zeros((1, 1, 2, 2), np.int64), (4, 4)),
        lambda: layers.max_pool2d_gradient(x[..., :2, :2], np.full((1, 1, 2, 2), 16, np.int64), (4, 4)),
        lambda: layers.channel_moments(np.zeros((1, 1, 0, 4), np.float32)),
        lambda: layers.channel_moments(np.zeros((1, 1, 4, 4), np.int64)),
        lambda: layers.channel_affine(x, np.zeros((1, 2)), np.zeros((1, 1)), np.zeros((1, 1))),
        lambda: layers.channel_products(x, x[..., :2], np.zeros((1, 1))),
        lambda: layers.relu(np.zeros(3, np.int64)),
        lambda: layers.relu_gradient(np.zeros(3, np.float32), np.zeros(4, np.float32)),
    ):
        with pytest.raises(ArgumentError):
            wrong()


def test_windows_that_do_not_fit_are_refused():
    x = np.zeros((1, 1, 4, 4), np.float32)
    half = layers.windows(4, 2, 2, 2, 0)
    for wrong in (
        {"first": np.array([0, 4])}, {"first": np.array([-1, 2])}, {"first": np.array([0, 3])},
        {"first": np.array([], np.int64)}, {"taps": np.array([2, 5])}, {"taps": np.array([-1, 2])},
        {"taps": np.array([2])}, {"dilation": 3}, {"dilation": 0}, {"size": 0}, {"size": 3},
        {"rule": (-1, 2, 1, 0)}, {"rule": (2, 0, 1, 0)}, {"rule": (2, 2, 0, 0)}, {"rule": (2, 2, 1, -1)},
        {"rule": (2**62, 2, 1, 0)}, {"rule": (2, 2**62, 1, 0)}, {"rule": (2, 2, 2**62, 0)}, {"rule": (2, 2, 1, 2**62)},
    ):  # fmt: skip
        with pytest.raises(ArgumentError):
            layers.max_pool2d(x, half, replace(half, **wrong), True)
    for counts in (np.array([0, 2]), np.array([2]), np.array([2, 2, 2])):
        with pytest.raises(ArgumentError):
            layers.avg_pool2d(x, half, replace(half, padded=counts))
        with pytest.raises(ArgumentError):
            layers.avg_pool2d_gradient(x[..., :2, :2], replace(half, padded=counts), half, (4, 4))
    wide, tall = layers.windows(2**16, 2**16, 3, 1, 1), layers.windows(2**15, 1, 2**15, 1, 0)
    broad = np.broadcast_to(np.float32(0), (1, 1, 2**15, 2**16))
    with pytest.raises(ArgumentError, match="spans more cells"):
        layers.max_pool2d(broad, tall, wide, True)


def test_windows_further_apart_than_vectors_are_wide(isa: str):
    for rows, columns in (
        (Axis(60, 4, 17, 2, 3, True), Axis(70, 5, 20, 2, 2, False)),
        (Axis(9, 2, 2, 1, 1, False), Axis(2100, 1100, 17, 3, 1, True)),
        (Axis(5, 9, 1, 4, 1, False), Axis(3, 5, 1, 2, 1, False)),
    ):
        x = arrays((2, 3, rows.size, columns.size), "float32", "plain", 8)
        x[np.random.default_rng(1).random(x.shape) < 0.001] = np.nan
        y, cells = layers.max_pool2d(x, rows.windows, columns.windows, True)
        expected, places = largest(x, rows, columns)
        same(y, expected)
        np.testing.assert_array_equal(cells, places)
