"""Numbers that meet narrow dtypes: computed in float32 where that matters, refused where they do not fit."""

from __future__ import annotations

import math

import pytest

import konv
import konv.nn.functional as F


def half(*values):
    return konv.tensor(values, dtype=konv.float16)


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda: half(1e-3) * 65536, [65.5625]),  # half's 1e-3 is 1049 * 2**-20
        (lambda: 65536 * half(1e-3), [65.5625]),
        (lambda: half(0, 1e-4) * 1e5, [0, 10]),
        (lambda: half(6e4) / 1e5, [0.60009765625]),
        (lambda: 131072 / half(2.0**15), [4]),
        (lambda: half(1e-3) * konv.tensor(65536.0), [65.5625]),
        (lambda: half(1e-3).mul_(65536), [65.5625]),
        (lambda: half(2.0**15).div_(131072), [0.25]),
        (lambda: half(1).addcmul(half(2.0**-10), half(2.0**-10), value=2**20), [2]),
        (lambda: half(1).addcdiv_(half(2.0**-10), half(2.0**10), value=2**20), [2]),
        (lambda: half(1).lerp(half(1 + 2.0**-10), 2**17), [129]),
    ],
)
def test_halves_meet_large_numbers_in_float32(compute, expected):
    made = compute()
    assert made.dtype is konv.float16
    assert made.tolist() == expected


def test_sums_of_halves_and_numbers_stay_in_half():
    assert (half(-6e4) + 1e5).tolist() == [math.inf]  # as in PyTorch, which rounds the number first


def test_gradient_of_a_half_times_a_large_number():
    x = half(1e-3).requires_grad_()
    (x * 65536 * 2.0**-10).sum().backward()
    assert x.grad.tolist() == [64]


INT8, UINT8, FLOAT = (konv.tensor([2], dtype=d) for d in (konv.int8, konv.uint8, konv.float32))
MASK = konv.tensor([True])


@pytest.mark.parametrize(
    "refused",
    [
        lambda: INT8.clamp(min=300),
        lambda: INT8.clamp(max=-129),
        lambda: INT8.clamp(0, 300),
        lambda: INT8.clone().clamp_(max=300),
        lambda: half(2).clamp(min=7e4),
        lambda: FLOAT.clamp(max=1e39),
        lambda: konv.full((1,), 300, dtype=konv.int8),
        lambda: konv.full((1,), 1e39),
        lambda: konv.full((1,), math.nan, dtype=konv.int8),
        lambda: konv.full((1,), 1j, dtype=konv.float32),
        lambda: konv.full_like(UINT8, -256),
        lambda: UINT8.new_full((1,), -1.0),
        lambda: INT8.masked_fill(MASK, 300),
        lambda: INT8.masked_fill(MASK, konv.tensor(300)),
        lambda: half(2).masked_fill(MASK, 7e4),
        lambda: INT8.clone().fill_(300),
        lambda: INT8.clone().__setitem__(0, 300),
        lambda: INT8.clone().__setitem__(konv.tensor([0]), 300),
        lambda: konv.where(MASK, INT8, 300),
        lambda: F.pad(half(2), (1, 1), value=7e4),
        lambda: F.pad(INT8, (1, 1), value=300),
        lambda: F.pad(UINT8, (1, 1), value=-1),
        lambda: konv.tensor([1, 300], dtype=konv.int8),
        lambda: konv.tensor([1e30], dtype=konv.int64),
        lambda: konv.add(INT8, INT8, alpha=300),
        lambda: konv.sub(half(2), half(2), alpha=7e4),
        lambda: INT8**300,
    ],
)
def test_numbers_that_do_not_fit_are_refused(refused):
    with pytest.raises(RuntimeError, match="without overflow"):
        refused()


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda: INT8 + 300, [46]),  # 302 - 256
        (lambda: INT8 * 300, [88]),
        (lambda: UINT8.clamp(min=-1), [255]),
        (lambda: konv.full((1,), -1, dtype=konv.uint8), [255]),
        (lambda: konv.full((1,), 1.5, dtype=konv.uint8), [1]),
        (lambda: konv.full((1,), 7e4, dtype=konv.float16), [math.inf]),
        (lambda: half(2).fill_(7e4), [math.inf]),
        (lambda: half(2).clamp(max=math.inf), [2]),
        (lambda: INT8.masked_fill(MASK, 1.5), [1]),
        (lambda: F.pad(INT8, (1, 1), value=1.5), [1, 2, 1]),
        (lambda: konv.full((1,), 2, dtype=konv.bool), [True]),
    ],
)
def test_numbers_that_wrap_or_are_rounded(compute, expected):
    assert compute().tolist() == expected
