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


ONE = konv.tensor(3.0)


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda: ONE.flip(0), 3),
        (lambda: ONE.flip(-1), 3),
        (lambda: ONE.movedim(0, 0), 3),
        (lambda: ONE.unfold(0, 1, 1), [3]),
        (lambda: ONE.unfold(0, 0, 1), []),
        (lambda: ONE.index_select(0, konv.tensor([0])), 3),
        (lambda: konv.arange(3).index_select(0, konv.tensor(1)), [1]),
        (lambda: ONE.gather(0, konv.tensor([0, 0])), [3, 3]),
        (lambda: konv.arange(3).gather(0, konv.tensor(1)), 1),
        (lambda: ONE.scatter(0, konv.tensor([0]), 2.0), 2),
        (lambda: konv.arange(3).scatter(0, konv.tensor(1), 7), [0, 7, 2]),
        (lambda: ONE.scatter_add(0, konv.tensor([0]), konv.ones(1)), 4),
        (lambda: list(konv.zeros(2, 3, 4).movedim((0, 1), (2, 0)).shape), [3, 4, 2]),
        (lambda: list(konv.zeros(3).broadcast_to(2, 3).shape), [2, 3]),
    ],
)
def test_no_dimensions_and_single_indices(compute, expected):
    made = compute()
    assert (made if isinstance(made, list) else made.tolist()) == expected


@pytest.mark.parametrize(
    "refused",
    [
        lambda: konv.ones(3).triu(),
        lambda: konv.ones(3).tril(),
        lambda: ONE.triu(),
        lambda: ONE.narrow(0, 0, 1),
        lambda: ONE.split([1, 2]),
        lambda: ONE.split(1),
        lambda: ONE.chunk(2),
        lambda: ONE.unflatten(0, (1, 1)),
        lambda: konv.ones(3, 1, 2).squeeze((-2, 1)),
        lambda: konv.zeros(2, 3).movedim((0, 0), (0, 1)),
        lambda: ONE.gather(0, konv.tensor([[0]])),
        lambda: ONE.scatter(0, konv.tensor([[0]]), 1.0),
        lambda: ONE.index_select(0, konv.tensor([0, 0])),
        lambda: konv.outer(ONE, ONE),
    ],
)
def test_what_too_few_dimensions_do_not_allow(refused):
    with pytest.raises(RuntimeError) as caught:
        refused()
    assert isinstance(caught.value, konv.KonvError)


def test_roll_of_a_dimension_that_is_not_there():
    with pytest.raises(IndexError) as caught:
        ONE.roll(1, 0)
    assert isinstance(caught.value, konv.KonvError)


def test_gradients_through_single_indices():
    x = konv.tensor(3.0, requires_grad=True)
    (x.gather(0, konv.tensor([0, 0])) * konv.tensor([2.0, 5.0])).sum().backward()
    assert x.grad.item() == 7
    row = konv.arange(3.0).requires_grad_()
    (row.scatter(0, konv.tensor(1), 9.0) * 2).sum().backward()
    assert row.grad.tolist() == [2, 0, 2]


def test_writes_through_expand_reach_the_tensor():
    x = konv.zeros(3)
    x.expand(2, 3)[0].add_(1)
    x.expand(3).add_(1)
    x.expand_as(x).mul_(3)
    x.broadcast_to(3).add_(1)
    assert x.tolist() == [7, 7, 7]
    with pytest.raises(RuntimeError, match="single memory location"):
        x.expand(2, 3).add_(1)
    x.expand(2, 3).fill_(2)
    assert x.tolist() == [2, 2, 2]
    x.expand(2, 3).zero_()
    assert x.tolist() == [0, 0, 0]


def test_expanded_read_only_memory_stays_read_only():
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    with pytest.raises(TypeError, match="read-only"):
        konv.from_numpy(array).expand(3).add_(1)


def test_gradients_of_sums_are_not_shared_cells():
    x = konv.ones(3, requires_grad=True)
    x.sum().backward()
    x.grad[0] = 5.0
    assert x.grad.tolist() == [5, 1, 1]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4), (2, 0, 4)])
def test_linear_to_no_features(shape, bias):
    layer = konv.nn.Linear(4, 0, bias=bias)
    x = konv.ones(shape, requires_grad=True)
    y = layer(x)
    assert y.shape == (*shape[:-1], 0)
    y.sum().backward()
    assert x.grad.shape == shape
    assert not x.grad.any()
    assert layer.weight.grad.shape == (0, 4)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("shape", [(0,), (2, 3, 0), (2, 0, 0)])
def test_linear_from_no_features(shape):
    layer = konv.nn.Linear(0, 3)
    layer(konv.ones(shape)).sum().backward()
    assert layer.weight.grad.shape == (3, 0)
    assert layer.bias.grad.tolist() == [math.prod(shape[:-1])] * 3


@pytest.mark.parametrize(
    "write", [lambda v: v.fill_(1.5), lambda v: v.zero_(), lambda v: v.copy_(konv.ones(2)), lambda v: v.normal_()]
)
def test_what_is_written_over_has_a_gradient_of_zero(write):
    x = konv.ones(2, requires_grad=True)
    v = x * 2
    write(v)
    v.sum().backward()
    assert x.grad.tolist() == [0, 0]


def test_hardtanh_in_place_and_of_integers():
    x = konv.tensor([-3.0, 0.5, 3.0])
    assert F.hardtanh(x, -2.0, 2.0, inplace=True) is x
    assert x.tolist() == [-2, 0.5, 2]
    made = F.hardtanh(konv.tensor([-3, 0, 3]), -1.5, 1.5)
    assert (made.dtype, made.tolist()) == (konv.int64, [-1, 0, 1])
    with pytest.raises(ValueError, match="min_val"):
        F.hardtanh(x, 2.0, 1.0)
    leaf = konv.tensor([-3.0, 0.5], requires_grad=True)
    again = leaf * 1
    F.hardtanh(again, inplace=True)
    again.sum().backward()
    assert leaf.grad.tolist() == [0, 1]


def test_reversed_and_plus():
    assert reversed(konv.tensor([[1, 2], [3, 4]])).tolist() == [[3, 4], [1, 2]]
    assert reversed(ONE).item() == 3
    x = konv.ones(2, requires_grad=True)
    assert +x is x
    assert x.positive() is x
    assert konv.positive(x) is x
    with pytest.raises(RuntimeError, match="bool"):
        _ = +konv.tensor([True])
