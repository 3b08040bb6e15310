"""konv.solve: every answer really gives the size asked for, none within the bounds is missing, the usual one leads."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from konv.errors import ArgumentError, ShapeError
from konv.explain.solve import MAX_DILATION, MAX_KERNEL, MAX_STRIDE, solve
from konv.geometry import ConvGeometry


@pytest.mark.parametrize(
    ("sizes", "options", "line"),
    [
        ((28, 28), {}, "Conv2d(in_channels, out_channels, kernel_size=3, padding=1)"),
        ((28, 26), {}, "Conv2d(in_channels, out_channels, kernel_size=3)"),
        ((28, 14), {}, "Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)"),
        ((224, 112), {"kernel": 7}, "Conv2d(in_channels, out_channels, kernel_size=7, stride=2, padding=3)"),
        ((224, 14), {}, "Conv2d(in_channels, out_channels, kernel_size=16, stride=16)"),
        ((7, 1), {}, "Conv2d(in_channels, out_channels, kernel_size=7)"),
        ((33, 33), {"dilation": 6}, "Conv2d(in_channels, out_channels, kernel_size=3, padding=6, dilation=6)"),
        (((50, 100), (46, 48)), {}, "Conv2d(in_channels, out_channels, kernel_size=5, stride=(1, 2))"),
        ((14, 28), {"transposed": True}, "ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)"),
        (
            (14, 28),
            {"transposed": True, "kernel": 3},
            "ConvTranspose2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, output_padding=1)",
        ),
    ],
)
def test_the_conventional_answer_is_first(sizes: Any, options: dict[str, Any], line: str) -> None:
    assert str(solve(*sizes, **options)[0]) == line


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 60), st.booleans())
def test_every_answer_gives_the_size(size: int, wanted: int, transposed: bool) -> None:
    answers = solve(size, wanted, transposed=transposed)
    assert len({str(answer) for answer in answers}) == len(answers)
    for answer in answers:
        assert answer.geometry(4, 8).output_size(size, size) == (wanted, wanted)


@pytest.mark.parametrize("size", [5, 8, 28])
def test_nothing_within_the_bounds_is_missing(size: int) -> None:
    answers: dict[int, set[tuple[int, ...]]] = {}
    for k, s, d in itertools.product(range(1, MAX_KERNEL + 1), range(1, MAX_STRIDE + 1), range(1, MAX_DILATION + 1)):
        for p in range((d * (k - 1) + 1) // 2 + 1):
            if d > 1 and k == 1:
                continue
            try:
                made = ConvGeometry.of(1, 1, k, s, p, d).output_size(size, size)[0]
            except ShapeError:
                continue
            answers.setdefault(made, set()).add((k, s, p, d))
    for wanted, expected in answers.items():
        found = solve(size, wanted)
        assert expected <= {(a.kernel_size[0], a.stride[0], a.padding[0], a.dilation[0]) for a in found}


def test_unequal_axes_are_combined() -> None:
    answers = solve((28, 30), (14, 30), limit=5)
    assert len(answers) == 5
    for answer in answers:
        assert answer.geometry().output_size(28, 30) == (14, 30)


def test_nothing_grows_without_transposing() -> None:
    assert solve(14, 28) == []


def test_huge_options_end() -> None:
    assert solve(2**40, 2**39)
    assert solve(28, 14, kernel=2**40) == []
    assert solve(10, 10**9, stride=10**9, transposed=True, limit=1) != None  # noqa: E711


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="only ConvTranspose2d has output padding; say transposed=True"):
        solve(28, 14, output_padding=1)
    with pytest.raises(ArgumentError, match="input=0; input must be at least 1"):
        solve(0, 14)


def test_plain_data() -> None:
    told = solve(28, 14)[0].to_dict()
    assert told["kernel_size"] == (3, 3)
    assert told["unused"] == (1, 1)
    assert told["call"].startswith("Conv2d(")
