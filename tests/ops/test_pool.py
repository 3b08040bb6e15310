"""Pooling as operations: values, derivatives of first and second order, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import konv
import konv.nn.functional as F
from konv.autograd import gradcheck, gradgradcheck


def distinct(*shape: int, requires_grad: bool = False) -> konv.Tensor:
    """Different numbers everywhere: a maximum is never a tie, so differences can be taken numerically."""
    values = np.random.default_rng(0).permutation(int(np.prod(shape))) * 0.1
    return konv.from_numpy(values.reshape(shape)).requires_grad_(requires_grad)


CASES: dict[str, Any] = {
    "max": lambda x: F.max_pool2d(x, 2),
    "max overlapping": lambda x: F.max_pool2d(x, 3, 1, 1),
    "max dilated, ceil": lambda x: F.max_pool2d(x, (2, 3), (2, 1), (1, 1), (2, 1), ceil_mode=True),
    "average": lambda x: F.avg_pool2d(x, 2),
    "average, padding not counted": lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
    "average, divisor": lambda x: F.avg_pool2d(x, (2, 3), 1, divisor_override=7),
    "adaptive average": lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
    "adaptive average of all": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive maximum": lambda x: F.adaptive_max_pool2d(x, (None, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name: str):
    x = distinct(2, 2, 5, 6, requires_grad=True)
    assert gradcheck(CASES[name], (x,))
    assert gradgradcheck(CASES[name], (x,))
    alone = distinct(2, 5, 6, requires_grad=True)
    assert gradcheck(CASES[name], (alone,))


def test_values():
    x = konv.arange(12.0).reshape(1, 1, 3, 4)
    assert F.max_pool2d(x, 2).tolist() == [[[[5, 7]]]]
    assert F.max_pool2d(x, 2, ceil_mode=True).tolist() == [[[[5, 7], [9, 11]]]]
    assert F.avg_pool2d(x, 2, padding=1).tolist() == [[[[0, 0.75, 0.75], [3, 7.5, 4.5]]]]
    assert F.avg_pool2d(x, 2, padding=1, count_include_pad=False).tolist() == [[[[0, 1.5, 3], [6, 7.5, 9]]]]
    assert F.adaptive_avg_pool2d(x, 1).item() == 5.5
    y, at = F.max_pool2d(x[0], 2, return_indices=True)
    assert (y.tolist(), at.tolist()) == ([[[5, 7]]], [[[5, 7]]])
    assert at.dtype is konv.int64


def test_the_first_of_equal_cells_gets_the_gradient():
    x = konv.zeros(1, 1, 4, 4, requires_grad=True)
    F.max_pool2d(x, 2).sum().backward()
    assert x.grad.tolist() == [[[[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]]]


def test_nan_wins_and_minus_infinity_is_a_value():
    x = konv.tensor([[[[1.0, float("nan")], [float("nan"), 5.0]]]])
    y, at = F.max_pool2d(x, 2, return_indices=True)
    assert np.isnan(y.item())
    assert at.item() == 2
    y, at = F.max_pool2d(konv.full((1, 1, 2, 2), float("-inf")), 2, 2, 1, return_indices=True)
    assert y.max().item() == float("-inf")
    assert at.flatten().tolist() == [0, 1, 2, 3]


def test_the_larger_output_of_indices_has_no_gradient():
    x = distinct(1, 1, 4, 4, requires_grad=True)
    y, at = F.max_pool2d(x, 2, return_indices=True)
    assert y.requires_grad
    assert not at.requires_grad
    assert repr(y.grad_fn).startswith("<MaxPool2DWithIndicesBackward0")


@pytest.mark.parametrize("dtype", [konv.float16, konv.bfloat16, konv.int8, konv.uint8, konv.int32, konv.int64])
def test_dtypes_of_maxima(dtype: Any):
    x = konv.arange(16).reshape(1, 1, 4, 4).to(dtype)
    y = F.max_pool2d(x, 2)
    assert y.dtype is dtype
    assert y.tolist() == [[[[5, 7], [13, 15]]]]


def test_meta_and_empty():
    huge = konv.empty(2, 3, 2**20, 2**20, device="meta")
    for y, shape in (
        (F.max_pool2d(huge, 2), (2, 3, 2**19, 2**19)),
        (F.max_pool2d(huge, 2, return_indices=True)[1], (2, 3, 2**19, 2**19)),
        (F.avg_pool2d(huge[0], 3, 2, 1), (3, 2**19, 2**19)),
        (F.adaptive_avg_pool2d(huge, (None, 2**18)), (2, 3, 2**20, 2**18)),
        (F.adaptive_max_pool2d(huge, 7), (2, 3, 7, 7)),
    ):
        assert y.is_meta
        assert tuple(y.shape) == shape
    x = konv.empty(0, 3, 8, 8, requires_grad=True)
    for function in (lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), lambda x: F.adaptive_max_pool2d(x, 4)):
        y = function(x)
        assert tuple(y.shape) == (0, 3, 4, 4)
        y.sum().backward()
        assert tuple(x.grad.shape) == (0, 3, 8, 8)
    assert tuple(F.adaptive_avg_pool2d(konv.ones(1, 2, 3, 3), 0).shape) == (1, 2, 0, 0)


def test_the_least_integer_over_minus_one_wraps():
    least = -(2**63)
    x = konv.tensor([[[[least, 5], [-7, 0]] * 5] * 3])
    y = F.avg_pool2d(x, 1, divisor_override=-1)
    assert y[0, 0, :2].tolist() == [[least, -5], [7, 0]]
    assert F.avg_pool2d(x, 1, divisor_override=-2)[0, 0, :2].tolist() == [[2**62, -2], [3, 0]]


IMAGE = konv.zeros(1, 3, 8, 8)
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: F.max_pool2d(IMAGE, 0), RuntimeError, "kernel_size must be at least 1"),
    (lambda: F.max_pool2d(IMAGE, "a"), TypeError, "kernel_size='a' is a str"),
    (lambda: F.max_pool2d(IMAGE, True), TypeError, "kernel_size=True is a bool"),
    (lambda: F.max_pool2d(IMAGE, (1, 2, 3)), RuntimeError, "pair of ints"),
    (lambda: F.max_pool2d(IMAGE, 2, 0), RuntimeError, "stride must be at least 1"),
    (lambda: F.max_pool2d(IMAGE, 2, padding=-1), RuntimeError, "padding must be at least 0"),
    (lambda: F.max_pool2d(IMAGE, 2, padding=2), RuntimeError, "pad should be at most half of kernel size"),
    (lambda: F.max_pool2d(IMAGE, 2, dilation=0), RuntimeError, "dilation must be at least 1"),
    (lambda: F.max_pool2d(IMAGE, 2, ceil_mode=1), TypeError, "ceil_mode must be True or False"),
    (lambda: F.max_pool2d(IMAGE, 9), RuntimeError, "output size is too small"),
    (lambda: F.max_pool2d(IMAGE[0, 0], 2), RuntimeError, "3D \\(unbatched\\) or 4D"),
    (lambda: F.max_pool2d(IMAGE[:, :0], 2), RuntimeError, "non-zero size for non-batch dimensions"),
    (lambda: F.max_pool2d(IMAGE.to(konv.bool), 2), NotImplementedError, "not implemented for torch.bool"),
    (lambda: F.avg_pool2d(IMAGE, 2, divisor_override=0), RuntimeError, "divisor must not be zero"),
    (lambda: F.avg_pool2d(IMAGE, 2, divisor_override=2.5), TypeError, "divisor_override must be a whole number"),
    (lambda: F.avg_pool2d(IMAGE.long(), 2**32, 2**32, 2**31), ValueError, "divisor must fit in 32 bits"),
    (lambda: F.avg_pool2d(IMAGE.int(), 2), NotImplementedError, "not implemented for torch.int32"),
    (lambda: F.adaptive_avg_pool2d(IMAGE, -1), RuntimeError, "output_size must be at least 0"),
    (lambda: F.adaptive_avg_pool2d(IMAGE, (1, 2, 3)), RuntimeError, "output_size must be 2 numbers"),
    (lambda: F.adaptive_avg_pool2d(IMAGE, 2.0), TypeError, "output_size must be a whole number"),
    (lambda: F.adaptive_avg_pool2d(IMAGE[0, 0], (1, 1)), ValueError, "3D \\(unbatched\\) or 4D"),
    (lambda: F.adaptive_max_pool2d(IMAGE[0, 0], (0, 0)), ValueError, "3D \\(unbatched\\) or 4D"),
    (lambda: F.adaptive_max_pool2d(IMAGE.long(), 2), NotImplementedError, "not implemented for torch.int64"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused(number: int):
    call, kind, message = REFUSED[number]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert isinstance(caught.value, konv.errors.KonvError)


def test_changed_indices_are_noticed():
    x = distinct(1, 1, 4, 4, requires_grad=True)
    y, at = F.max_pool2d(x, 2, return_indices=True)
    at.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    y, at = F.max_pool2d(x, 2, return_indices=True)
    at.numpy()[...] = 1000  # behind our back: still nothing outside the image is written
    with pytest.raises(ValueError, match="outside the image"):
        y.sum().backward()
