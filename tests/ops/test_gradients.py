"""Every operation's gradient, first and second, against finite differences, real and complex."""

from __future__ import annotations

import numpy as np
import pytest

import konv
from konv.autograd import gradcheck, gradgradcheck

ANY = {  # real and complex
    "add": lambda a, b: konv.add(a, b, alpha=3) + a,
    "sub": lambda a, b: a - b - 1,
    "mul": lambda a, b: a * b * 2,
    "div": lambda a, b: a / b + 2 / b,
    "pow": lambda a, b: a**2 + b**3,
    "square": lambda a, b: a.square() + b.reciprocal(),
    "abs": lambda a, b: a.abs() * b.abs(),
    "sgn": lambda a, b: a.sgn() * b,
    "exp": lambda a, b: a.exp() + b.expm1() + (a * 0.1).exp2() if not a.is_complex() else a.exp(),
    "trigonometry": lambda a, b: a.sin() + b.cos() + (a * 0.2).tan() + a.sinh() + b.cosh() + a.tanh(),
    "sigmoid": lambda a, b: a.sigmoid() * b,
    "sqrt": lambda a, b: (a * a + 1).sqrt() + (b * b + 2).rsqrt(),
    "log": lambda a, b: (a * a + 1).log() + (b * b + 1).log1p() + (a * a + 1).log2() + (a * a + 1).log10(),
    "sum": lambda a, b: a.sum(1) * b.mean(0)[:2],
    "prod": lambda a, b: a.prod(1) + b.prod(),
    "var": lambda a, b: a.var(1) + b.std(1) + b.var(unbiased=False),
    "norm": lambda a, b: a.norm() * b.norm(2, 1),
    "cumsum": lambda a, b: a.cumsum(1) * b,
    "matmul": lambda a, b: a @ b.t(),
    "vectors": lambda a, b: a @ b[0] + a[0] @ b.t() + a[0] @ b[1],
    "linear": lambda a, b: konv.nn.functional.linear(a, b, b[:, 0]),
    "batched": lambda a, b: a.expand(2, 2, 3) @ b.t(),
    "reshape": lambda a, b: a.reshape(6)[::2] * b.t().flatten()[:3],
    "permute": lambda a, b: a.permute(1, 0) * b.transpose(0, 1) + a.movedim(0, 1),
    "expand": lambda a, b: a[:, :1].expand(2, 3) * b.unsqueeze(0).squeeze(0),
    "basic_index": lambda a, b: a[None, :, 1:] * b[1, ..., :2],
    "list_index": lambda a, b: a[:, [0, 1, 1]] * b[[1, 0]],
    "mask_index": lambda a, b: a[konv.tensor([[True, False, True], [False, True, True]])] * b[0, 0],
    "cat": lambda a, b: konv.cat([a, b], 1) ** 2,
    "stack": lambda a, b: konv.stack([a, b], 1).unbind(1)[0] * konv.stack([a, b]).split([1, 1])[1],
    "turn": lambda a, b: a.flip(0, 1) * b.roll(1, 1) + a.repeat(1, 1),
    "unfold": lambda a, b: a.unfold(1, 2, 1) * b.unfold(1, 2, 1),
    "where": lambda a, b: konv.where(a.abs() > 0.5, a, b) * a,
    "fill": lambda a, b: a.masked_fill(b.abs() > 0.5, 2) * b,
    "gather": lambda a, b: a.gather(1, konv.tensor([[0, 2, 2], [1, 1, 0]])) * b,
    "scatter": lambda a, b: a.scatter(1, konv.tensor([[0, 2], [1, 0]]), b) * a.scatter_add(1, konv.tensor([[1, 1]]), b),
    "clone": lambda a, b: a.clone() * b.contiguous(),
    "triangle": lambda a, b: a.tril() * b.triu(),
}
REAL = {
    "maximum": lambda a, b: konv.maximum(a, b) * konv.minimum(a, b),
    "clamp": lambda a, b: a.clamp(-0.5, 0.5) + b.clamp(min=a) + a.clamp(max=0.3),
    "pow_real": lambda a, b: (a * a + 1) ** b + 2.0**a,
    "atan2": lambda a, b: konv.atan2(a, b) + (a / 9).asin() + (b / 9).acos() + a.atan(),
    "extremes": lambda a, b: a.max(1).values * b.min(1)[0] + a.amax() * b.amin(1) + a.max(),
    "order": lambda a, b: a.sort(1)[0] * b.topk(3, 1)[0],
    "softmax": lambda a, b: a.softmax(1) * b.log_softmax(0),
    "logsumexp": lambda a, b: a.logsumexp(1) * b.logsumexp((0, 1)),
    "erf": lambda a, b: a.erf() * b,
    "remainder": lambda a, b: a.remainder(b) + konv.fmod(a, b) + a.frac(),
    "relu": lambda a, b: a.relu() * b,
}
COMPLEX = {
    "conj": lambda a, b: a.conj() * b,
    "parts": lambda a, b: a.real * b.imag + a.imag,
    "pairs": lambda a, b: konv.view_as_real(a) * konv.view_as_real(b) + konv.view_as_real(a * b),
    "whole": lambda a, b: konv.view_as_complex(konv.view_as_real(a) * 2) * b,
    "power": lambda a, b: a**b,
}


def in_place(a, b):
    """Writes to a tensor, to views of it and through indices."""
    x = a * 1
    x[:, 0] = b[:, 1]
    x[0] *= b[0]
    x.mul_(b).div_(2).sub_(b)
    row = x[1:]
    row.add_(a[:1, :1])
    x[[0, 1], [1, 2]] = b[0, :2]
    x.pow_(2)
    return x * row


ANY["in_place"] = in_place


def operands(kind):
    rng = np.random.default_rng(1)
    values = [rng.standard_normal((2, 3)) for _ in range(2)]
    if kind == "complex":
        values = [v + 1j * rng.standard_normal((2, 3)) for v in values]
    return tuple(konv.tensor(v, requires_grad=True) for v in values)


CASES = [(kind, name) for kind in ("real", "complex") for name in (*ANY, *(REAL if kind == "real" else COMPLEX))]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_gradients(kind, name):
    function = {**ANY, **REAL, **COMPLEX}[name]
    assert gradcheck(function, operands(kind))
    assert gradgradcheck(function, operands(kind))


def test_product_with_zeros():
    x = konv.tensor([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0]], dtype=konv.float64, requires_grad=True)
    x.prod(1).sum().backward()
    assert x.grad.tolist() == [[6, 0, 0], [0, 0, 0]]


def test_equal_extremes_share_and_first_places_win():
    x = konv.tensor([1.0, 3.0, 3.0], requires_grad=True)
    x.amax().backward()
    assert x.grad.tolist() == [0, 0.5, 0.5]
    x.grad = None
    x.max(0).values.backward()
    assert x.grad.tolist() == [0, 1, 0]


def test_half_types_sum_in_float32():
    ones = konv.ones(4096, dtype=konv.float16) * 1.0
    assert ones.sum().item() == 4096
    assert ones.mean().item() == 1
    assert (konv.ones(1, 4096, dtype=konv.bfloat16) @ konv.ones(4096, 1, dtype=konv.bfloat16)).item() == 4096
