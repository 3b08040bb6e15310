"""Shape arithmetic against counting: every formula is checked by walking the windows one by one."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, given, strategies as st

from konv.errors import ArgumentError, ArgumentRangeError, ArgumentTypeError, ShapeError
from konv.geometry import ConvGeometry, adaptive_window, divisors, pair, pool_output_size

small = st.integers(1, 4)
pads = st.integers(0, 5)


def windows(size: int, before: int, after: int, kernel: int, stride: int, dilation: int) -> list[list[int]]:
    """The cells of every window that fits in the padded axis, found by sliding."""
    found = []
    start = -before
    while start + dilation * (kernel - 1) < size + after:
        found.append([start + dilation * tap for tap in range(kernel)])
        start += stride
    return found


@given(st.integers(1, 20), st.integers(1, 20), st.tuples(small, small), st.tuples(small, small),
       st.tuples(small, small), st.tuples(st.tuples(pads, pads), st.tuples(pads, pads)))  # fmt: skip
def test_output_size_is_the_number_of_windows(h, w, kernel, stride, dilation, padding):
    geometry = ConvGeometry.of(1, 1, kernel, stride, padding, dilation)
    expected = [
        windows(size, *padding[axis], kernel[axis], stride[axis], dilation[axis]) for axis, size in enumerate((h, w))
    ]
    if not all(expected):
        with pytest.raises(ShapeError, match="can't be greater"):
            geometry.output_size(h, w)
        return
    assert geometry.output_size(h, w) == (len(expected[0]), len(expected[1]))
    for axis, size in enumerate((h, w)):
        last = expected[axis][-1][-1]
        assert geometry.unused(h, w)[axis] == size + padding[axis][1] - 1 - last
        first, final = geometry.input_span(axis, 0, len(expected[axis]) - 1, size)
        assert (first, final) == (expected[axis][0][0], last)
    assert geometry.macs(3, h, w) == 3 * len(expected[0]) * len(expected[1]) * math.prod(kernel)


@given(
    st.integers(1, 40), st.integers(1, 40), st.tuples(small, small), st.tuples(small, small), st.tuples(small, small)
)
def test_same_upper_and_lower_divide_the_size_by_the_stride(h, w, kernel, stride, dilation):
    upper = ConvGeometry.of(1, 1, kernel, stride, "same_upper", dilation)
    lower = ConvGeometry.of(1, 1, kernel, stride, "same_lower", dilation)
    size = -(-h // stride[0]), -(-w // stride[1])
    assert upper.output_size(h, w) == lower.output_size(h, w) == size
    for (before, after), (before_low, after_low) in zip(upper.pads(h, w), lower.pads(h, w), strict=True):
        assert after - before in (0, 1)
        assert (before_low, after_low) == (after, before)


@given(st.integers(1, 30), st.integers(1, 30), st.tuples(small, small), st.tuples(small, small))
def test_same_keeps_the_size_with_the_odd_cell_last(h, w, kernel, dilation):
    geometry = ConvGeometry.of(1, 1, kernel, 1, "same", dilation)
    assert geometry.output_size(h, w) == (h, w)
    for axis, (before, after) in enumerate(geometry.pads(h, w)):
        assert before + after == dilation[axis] * (kernel[axis] - 1)
        assert after - before in (0, 1)


@given(st.integers(1, 12), st.integers(1, 12), small, small, small, pads, st.integers(0, 3))
def test_transposed_size_undoes_the_forward_size(h, w, kernel, stride, dilation, padding, extra):
    if extra >= max(stride, dilation):
        with pytest.raises(ArgumentRangeError, match="smaller than either"):
            ConvGeometry.of(1, 1, kernel, stride, padding, dilation, transposed=True, output_padding=extra)
        return
    up = ConvGeometry.of(1, 1, kernel, stride, padding, dilation, transposed=True, output_padding=extra)
    try:
        size = up.output_size(h, w)
    except ShapeError:
        assert (min(h, w) - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra < 0
        return
    if extra < stride:
        down = ConvGeometry.of(1, 1, kernel, stride, padding, dilation)
        assert down.output_size(*size) == (h, w)


@given(st.integers(1, 20), small, small, st.integers(0, 2), st.integers(1, 3), st.booleans())
def test_pool_windows(size, kernel, stride, padding, dilation, ceil_mode):
    assume(2 * padding <= dilation * (kernel - 1) + 1)
    inside = [s for s in range(-padding, size + padding, stride) if s + dilation * (kernel - 1) < size + padding]
    expected = len(inside)
    if ceil_mode and expected:
        following = inside[-1] + stride
        covered = inside[-1] + dilation * (kernel - 1) + 1
        expected += following < size and covered < size + padding
    if not inside:
        return
    assert pool_output_size(size, kernel, stride, (padding, padding), dilation, ceil_mode) == expected


@given(st.integers(1, 30), st.integers(1, 30))
def test_adaptive_windows_cover_every_cell(size, outputs):
    spans = [adaptive_window(i, size, outputs) for i in range(outputs)]
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    assert all(a < b for a, b in spans)
    assert all(left[1] >= right[0] for left, right in itertools.pairwise(spans))


@given(st.integers(1, 5000))
def test_divisors(number):
    assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0][:100]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"groups": 4}, ValueError,
         "Conv2d: in_channels=6 is not divisible by groups=4; groups can be 1, 2, 3 or 6"),
        ({"groups": 0}, ValueError, "Conv2d: groups=0; groups must be at least 1"),
        ({"stride": "a"}, TypeError,
         "Conv2d: stride='a' is a str; stride must be an int or a pair of ints (height, width)"),
        ({"padding": None}, TypeError,
         "Conv2d: padding=None is a NoneType; padding must be an int or a pair of ints (height, width)"),
        ({"kernel_size": (3, 3, 3)}, ValueError,
         "Conv2d: kernel_size=(3, 3, 3) has 3 elements; kernel_size must be an int or a pair of ints (height, width)"),
        ({"kernel_size": 0}, ValueError, "Conv2d: kernel_size=0; kernel_size must be at least 1"),
        ({"kernel_size": 2.0}, TypeError,
         "Conv2d: kernel_size=2.0 is a float; kernel_size must be an int or a pair of ints (height, width)"),
        ({"dilation": 2**62}, ValueError,
         "Conv2d: the height of the dilated kernel, dilation*(kernel_size-1)+1, is 9223372036854775809; "
         "sizes must fit in 64 bits; use smaller numbers"),
        ({"padding": 2**62}, ValueError,
         "Conv2d: the padding of the height is 9223372036854775808; sizes must fit in 64 bits; use smaller numbers"),
        ({"padding": -1}, ValueError, "Conv2d: padding=-1; padding must be at least 0"),
        ({"padding": ((1, 2), (3,))}, ValueError,
         "Conv2d: padding=((1, 2), (3,)); two-sided padding must be ((top, bottom), (left, right))"),
        ({"padding": "full"}, ValueError,
         "Conv2d: padding='full' is unknown; a word for padding must be one of 'valid', 'same', 'same_upper', "
         "'same_lower'"),
        ({"padding": "same", "stride": 2}, ValueError,
         "Conv2d: padding='same' with stride=(2, 2); 'same' keeps the size, so it needs stride 1; "
         "use padding='same_upper' or 'same_lower', which divide the size by the stride"),
        ({"padding_mode": "mirror"}, ValueError,
         "Conv2d: padding_mode='mirror'; padding_mode must be one of 'zeros', 'reflect', 'replicate', 'circular'"),
        ({"in_channels": 2**62}, ValueError, None),
        ({"in_channels": -1}, ValueError, "Conv2d: in_channels=-1; in_channels must be at least 0"),
        ({"out_channels": 0}, ValueError, "Conv2d: out_channels=0; out_channels must be at least 1"),
    ],
)  # fmt: skip
def test_bad_options_are_refused_in_words(options, error, message):
    with pytest.raises(error) as caught:
        ConvGeometry.of(**{"in_channels": 6, "out_channels": 12, "kernel_size": 3, **options})
    assert isinstance(caught.value, (ArgumentError, ArgumentTypeError))
    if message is not None:
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("mode", "pad", "most"), [("reflect", 5, 4), ("circular", 6, 5), ("replicate", 50, 10**9), ("zeros", 50, 10**9)]
)
def test_padding_modes_have_limits(mode, pad, most):
    geometry = ConvGeometry.of(1, 1, 1, padding=((0, pad), (0, 0)), padding_mode=mode)
    if pad <= most:
        assert geometry.output_size(5, 9) == (5 + pad, 9)
        return
    with pytest.raises(ShapeError, match=f"can add at most {most}"):
        geometry.output_size(5, 9)
    allowed = ConvGeometry.of(1, 1, 1, padding=((0, most), (0, 0)), padding_mode=mode)
    assert allowed.output_size(5, 9) == (5 + most, 9)


def test_a_too_large_kernel_says_what_would_fit():
    geometry = ConvGeometry.of(3, 8, (5, 3), padding=(1, 0))
    with pytest.raises(RuntimeError) as caught:
        geometry.output_size(2, 7)
    assert str(caught.value) == (
        "Conv2d: the image of 2 x 7 is 4 x 7 when padded; the kernel of 5 x 3 can't be greater than the padded image; "
        "pad more, or use an image of at least 3 x 3"
    )


def test_pair_accepts_what_users_write():
    assert pair(3, "stride", "x", 1) == pair([3], "stride", "x", 1) == pair((3, 3), "stride", "x", 1) == (3, 3)
