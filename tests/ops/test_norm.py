"""Batch and group norm as operations: values against float64, derivatives, running statistics, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import konv
import konv.nn.functional as F
from konv.autograd import gradcheck, gradgradcheck

SHAPES = [(4, 6, 5, 7), (4, 6, 1, 1), (7, 6), (3, 6, 5), (2, 6, 4, 2, 3), (1, 6, 2, 2)]


def normal(*shape: int, dtype: Any = "float64", seed: int = 0, by: float = 1.0, to: float = 0.0) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) * by + to).astype(dtype)


def expected(x: Any, weight: Any, bias: Any, groups: int | None, eps: float) -> Any:
    x = x.astype(np.float64)
    n, c = x.shape[:2]
    split = x.reshape(n, c, -1) if groups is None else x.reshape(n, groups, -1)
    axes = (0, 2) if groups is None else 2
    unit = (split - split.mean(axes, keepdims=True)) / np.sqrt(split.var(axes, keepdims=True) + eps)
    per_channel = (1, c) + (1,) * (x.ndim - 2)
    return unit.reshape(x.shape) * weight.reshape(per_channel) + bias.reshape(per_channel)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", [None, 1, 2, 3])
def test_values(shape: Any, dtype: str, groups: int | None):
    x, weight, bias = (normal(*s, dtype=dtype, seed=i) for i, s in enumerate((shape, shape[1:2], shape[1:2])))
    tensors = [konv.from_numpy(v) for v in (weight, bias)]
    if groups is None:
        y = F.batch_norm(konv.from_numpy(x), None, None, *tensors, training=True)
    else:
        y = F.group_norm(konv.from_numpy(x), groups, *tensors)
    tolerance = {"float64": 1e-12, "float32": 5e-6, "float16": 6e-3}[dtype]
    scale = np.abs(expected(x, weight, bias, groups, 1e-5)).max()
    np.testing.assert_allclose(y.numpy(), expected(x, weight, bias, groups, 1e-5), atol=tolerance * scale)
    assert y.numpy().dtype == dtype
    assert y.is_contiguous()


def test_running_statistics_move_and_are_used():
    x = normal(4, 3, 5, 6, by=2.0, to=3.0)
    mean, var = konv.zeros(3, dtype=konv.float64), konv.ones(3, dtype=konv.float64)
    F.batch_norm(konv.from_numpy(x), mean, var, training=True, momentum=0.25)
    np.testing.assert_allclose(mean.numpy(), 0.25 * x.mean((0, 2, 3)))
    np.testing.assert_allclose(var.numpy(), 0.75 + 0.25 * x.var((0, 2, 3), ddof=1))
    kept = mean.numpy().copy()
    y = F.batch_norm(konv.from_numpy(x), mean, var)
    m, v = (s.numpy()[:, None, None] for s in (mean, var))
    np.testing.assert_allclose(y.numpy(), (x - m) / np.sqrt(v + 1e-5))
    np.testing.assert_array_equal(mean.numpy(), kept)


def test_statistics_survive_a_large_mean():
    x = normal(8, 2, 64, 64, dtype="float32", to=1000.0)
    y = F.batch_norm(konv.from_numpy(x), None, None, training=True).numpy()
    wide = x.astype(np.float64)
    unit = (wide - wide.mean((0, 2, 3), keepdims=True)) / wide.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(y, unit, atol=2e-4)


@pytest.mark.parametrize("shape", [(3, 4, 2, 3), (5, 4), (2, 4, 3)])
def test_derivatives(shape: Any):
    x, w, b = (konv.from_numpy(normal(*s, seed=i)).requires_grad_() for i, s in enumerate((shape, (4,), (4,))))
    mean, var = konv.from_numpy(normal(4, seed=5)), konv.from_numpy(normal(4, seed=6) ** 2 + 0.5)
    for function in (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        lambda x, w, b: F.batch_norm(x, mean, var, w, b, False),
        lambda x, w, b: F.group_norm(x, 2, w, b),
    ):
        assert gradcheck(function, (x, w, b))
        assert gradgradcheck(function, (x, w, b))
    assert gradcheck(lambda x: F.batch_norm(x, None, None, training=True), (x,))
    assert gradcheck(lambda x: F.group_norm(x, 2), (x,))
    assert gradcheck(lambda w: F.batch_norm(x.detach(), None, None, w, training=True), (w,))
    assert gradcheck(lambda b: F.group_norm(x.detach(), 2, None, b), (b,))


def test_gradients_do_not_follow_running_statistics_that_change_later():
    x = konv.from_numpy(normal(2, 3, 4, 4)).requires_grad_()
    mean, var = konv.zeros(3, dtype=konv.float64), konv.ones(3, dtype=konv.float64)
    y = F.batch_norm(x, mean, var)
    var.fill_(100.0)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 / np.sqrt(1 + 1e-5))


def test_half_input_with_float32_parameters():
    x = konv.from_numpy(normal(4, 3, 5, 5, dtype="float16")).requires_grad_()
    weight, bias = konv.ones(3, requires_grad=True), konv.zeros(3, requires_grad=True)
    y = F.batch_norm(x, konv.zeros(3), konv.ones(3), weight, bias, training=True)
    y.sum().backward()
    assert (y.dtype, x.grad.dtype, weight.grad.dtype) == (konv.float16, konv.float16, konv.float32)


def test_meta_and_empty():
    x = konv.empty(2, 4, 2**20, 2**20, device="meta", requires_grad=True)
    y = F.batch_norm(x, None, None, training=True)
    assert y.is_meta
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.is_meta
    assert F.group_norm(x, 2).shape == x.shape
    empty = konv.empty(0, 4, 3, 3, requires_grad=True)
    weight = konv.ones(4, requires_grad=True)
    mean, var = konv.zeros(4), konv.ones(4)
    y = F.batch_norm(empty, mean, var, weight, training=True)
    y.sum().backward()
    assert tuple(y.shape) == (0, 4, 3, 3)
    assert weight.grad.tolist() == [0, 0, 0, 0]
    assert (mean.tolist(), var.tolist()) == ([0.0] * 4, [1.0] * 4)


X, M, V = konv.zeros(2, 3, 4, 4), konv.zeros(3), konv.ones(3)
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: F.batch_norm(X, None, None), RuntimeError, "running_mean must be defined in evaluation mode"),
    (lambda: F.batch_norm(X, M, None), RuntimeError, "either both be None or neither"),
    (lambda: F.batch_norm(X, M, None, training=True), ValueError, "either both be None or neither"),
    (lambda: F.batch_norm(X, konv.zeros(4), konv.ones(4)), RuntimeError, "running_mean should contain 3 elements"),
    (lambda: F.batch_norm(X, M, V, konv.ones(4)), RuntimeError, "weight should contain 3 elements"),
    (lambda: F.batch_norm(X[:1, :, :1, :1], M, V, training=True), ValueError, "Expected more than 1 value per channel"),
    (lambda: F.batch_norm(X.long(), M, V), NotImplementedError, "not implemented for torch.int64"),
    (lambda: F.batch_norm(X.double(), M, V), RuntimeError, "mixed dtype"),
    (lambda: F.batch_norm(X, M, V, training=True, eps=0.0), ValueError, "eps must be positive"),
    (lambda: F.batch_norm(X, M, V, eps="a"), TypeError, "eps must be a number"),
    (lambda: F.batch_norm(X[0, 0, 0], M, V), RuntimeError, "the input must be"),
    (lambda: F.batch_norm(X, konv.zeros(3, device="meta"), V), RuntimeError, "one device"),
    (lambda: F.group_norm(X, 2), RuntimeError, "divisible by num_groups"),
    (lambda: F.group_norm(X, 0), RuntimeError, "num_groups must be at least 1"),
    (lambda: F.group_norm(X, 3, konv.ones(4)), RuntimeError, "weight should contain 3 elements"),
    (lambda: F.group_norm(X[0, 0, 0], 1), RuntimeError, "at least 2 dimensions"),
    (lambda: F.group_norm(X[:1, :, :1, :1], 3), ValueError, "Expected more than 1 value per channel"),
    (lambda: F.group_norm(X.long(), 3), NotImplementedError, "not implemented for torch.int64"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused(number: int):
    call, kind, message = REFUSED[number]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert isinstance(caught.value, konv.errors.KonvError)
