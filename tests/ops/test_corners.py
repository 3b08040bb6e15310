"""Corners of operations: small dtypes, empty lists of dimensions, NaN, no dimensions at all. Values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

import konv
import konv.nn.functional as F


@pytest.mark.parametrize(
    ("fold", "data", "dtype", "expected"),
    [
        ("sum", [1.7, 2.6], konv.int32, 3),  # cast first: 1 + 2
        ("sum", [200, 100, 3], konv.uint8, 47),  # 303 - 256
        ("sum", [200, 100, 3], konv.int8, 47),
        ("sum", [200, 100, 3], konv.int16, 303),
        ("sum", [2, 3], konv.bool, True),
        ("sum", [0, 0], konv.bool, False),
        ("sum", [True, True], konv.uint8, 2),
        ("prod", [200, 100, 3], konv.uint8, 96),  # 60000 - 234 * 256
        ("prod", [1.7, 2.6], konv.int16, 2),
        ("prod", [2, 0], konv.bool, False),
    ],
)
def test_folds_give_the_dtype_that_is_asked_for(fold, data, dtype, expected):
    for made in (getattr(konv.tensor(data), fold)(dtype=dtype), getattr(konv.tensor(data), fold)(0, dtype=dtype)):
        assert made.dtype is dtype
        assert made.item() == expected


def test_running_sums_give_the_dtype_that_is_asked_for():
    made = konv.tensor([200, 100, 3]).cumsum(0, dtype=konv.uint8)
    assert (made.dtype, made.tolist()) == (konv.uint8, [200, 44, 47])
    with pytest.raises(NotImplementedError, match=r"torch\.bool"):
        konv.tensor([True]).cumsum(0, dtype=konv.bool)


@pytest.mark.parametrize("dim", [(), []])
def test_any_and_all_over_no_dimension(dim):
    x = konv.tensor([[1.0, 0.0]])
    assert x.any(dim).tolist() == x.all(dim, keepdim=True).tolist() == [[True, False]]
    assert x.any().item() is True


@pytest.mark.parametrize(("values", "classes"), [([2], 2), ([-1], -1), ([-1], 3), ([0], 0), ([0], -2), ([], -1)])
def test_one_hot_refuses_what_is_out_of_range(values, classes):
    with pytest.raises(RuntimeError, match="one_hot"):
        F.one_hot(konv.tensor(values, dtype=konv.int64), classes)


def test_one_hot_of_nothing():
    assert F.one_hot(konv.tensor([], dtype=konv.int64), 3).shape == (0, 3)


@pytest.mark.parametrize("dtype", [konv.float16, konv.float32, konv.float64])
def test_the_sign_of_nan_is_zero(dtype):
    x = konv.tensor([math.nan, -2.0, 0.0, math.inf], dtype=dtype)
    assert x.sign().tolist() == x.sgn().tolist() == [0, -1, 0, 1]
    assert x.sign().dtype is dtype


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ([np.float32(1), 2], konv.float32),
        ([np.float32(1), 2.5], konv.float32),
        ([np.float16(1), 2.5], konv.float32),
        ([np.float64(1), 2.5], konv.float64),
        ([np.bool_(True), 1.5], konv.float32),
        ([True, np.uint8(1)], konv.uint8),
        ([np.int32(1), 2], konv.int64),
        ([np.float32(1), 1j], konv.complex64),
        ([konv.tensor(2.5), 1], konv.float32),
        ([1, konv.tensor(2.5)], konv.float32),
        ([konv.tensor(1), konv.tensor(2.5)], konv.float32),
        ([[konv.tensor(1.0, requires_grad=True), 2], [3, konv.tensor(4)]], konv.float32),
        ([konv.tensor(2.5, dtype=konv.bfloat16), 1], konv.bfloat16),
        ([np.array([1, 2], np.float32), [1, 2]], konv.float32),
    ],
)
def test_mixed_data_promotes_element_by_element(data, dtype):
    assert konv.tensor(data).dtype is dtype
