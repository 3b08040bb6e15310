"""Gradients of operations on tensors against PyTorch's, in place and complex ones included."""

from __future__ import annotations

import numpy as np
import pytest

import konv

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def gradients(function, tensors):
    """The results of a function and the gradients of its inputs, for output gradients that differ by element."""
    out = function(*tensors)
    outs = list(out) if isinstance(out, (tuple, list)) else [out]
    total = sum((o * o.detach()).real.sum() if o.is_complex() else (o * (o.detach() + 1)).sum() for o in outs)
    total.backward()
    return outs + [t.grad for t in tensors]


def compare(function, values):
    theirs = gradients(lambda *t: function(torch, *t), [torch.tensor(v, requires_grad=True) for v in values])
    ours = gradients(lambda *t: function(konv, *t), [konv.tensor(v, requires_grad=True) for v in values])
    for t, k in zip(theirs, ours, strict=True):
        assert str(t.dtype) == repr(k.dtype)
        tolerance = 1e-3 if k.dtype in (konv.float16, konv.float32) else 1e-10
        a = t.detach().resolve_conj().numpy()
        np.testing.assert_allclose(k.detach().numpy(), a, rtol=tolerance, atol=tolerance)


def write_all(m, a, b):
    """In-place operations on a tensor and on views of it."""
    x = a * 1
    x[:, 0] = b[:, 1]
    x[0] *= b[0]
    row = x[1]
    x.mul_(b)
    row.add_(a[0])
    x[:, [1, 2]] = b[:, :2] * 2
    x[b > 0] = 1.5
    return x * row


CASES = {
    "broadcast": lambda m, a, b: a * b[0] + b[:, :1] / (a * a + 2),
    "views": lambda m, a, b: a.reshape(3, 2).t().flatten()[1::2] * b.permute(1, 0)[:, 0],
    "chunks": lambda m, a, b: a.chunk(2, 1)[0] * m.cat([b, a], 0).split([1, 3], 0)[1][:2, :2].sum(),
    "inplace": write_all,
    "extremes": lambda m, a, b: a.max(1).values * b.min(0).values[:2] + a.amax() - b.amin((0, 1)),
    "ties": lambda m, a, b: ((a * 0 + 1).amax(1), (b * 0).max(), a.round().amax(1), m.maximum(a, a)),
    "maximum": lambda m, a, b: m.maximum(a, b) * m.minimum(a, b * 2).clamp(-1, 1),
    "clamps": lambda m, a, b: a.clamp(b, b + 0.5) * a.clamp(min=b) * a.clamp(max=0.5),
    "gather": lambda m, a, b: a.gather(1, m.tensor([[0, 1], [2, 2]])) * b[:, [0, 0]],
    "scatter": lambda m, a, b: m.zeros(2, 3, dtype=a.dtype).scatter_add(1, m.tensor([[0, 1, 1], [2, 2, 2]]), a) * b,
    "where": lambda m, a, b: m.where(a > b, a * 2, b) + a.masked_fill(b > 0, 3.0),
    "var": lambda m, a, b: (a.var(1) + b.std(1), a.std() * b.var(unbiased=False)),
    "norms": lambda m, a, b: (a.norm() * b.norm(1), a.norm(3, dim=1), b.norm(float("inf"))),
    "softmax": lambda m, a, b: a.softmax(1) * b.log_softmax(0) + a.logsumexp(1, True),
    "prod": lambda m, a, b: (a.prod(1), (b * 0).prod(0).sum(), m.cat([a[:, :1] * 0, b], 1).prod(1), a.prod()),
    "cumsum": lambda m, a, b: a.cumsum(1) * b.flip(0) + b.roll(1, 1) * a.repeat(1, 1),
    "unfold": lambda m, a, b: a.unfold(1, 2, 1) * b.unfold(1, 2, 1),
    "powers": lambda m, a, b: a**2 + (b * b + 1) ** a + 2.0**a + (b * b) ** 0.5 + a**0 + a**-1,
    "division": lambda m, a, b: a % b + m.fmod(a, b) + m.div(a, b, rounding_mode="trunc") + a / 3 + 2 / b,
    "steps": lambda m, a, b: a.floor() + b.ceil() + a.round() + a.sign() * b + a.frac() + a.trunc(),
    "dtypes": lambda m, a, b: a.float() * b.to(m.float64) + a.half(),
    "zero_dim": lambda m, a, b: a.sum().float() * b + b[0, 0] * a.mean(),
    "expand": lambda m, a, b: a.unsqueeze(0).expand(4, 2, 3) * b.broadcast_to((1, 2, 3)).squeeze(0),
    "sorting": lambda m, a, b: a.sort(dim=1, stable=True).values * b.topk(3, 1).values,
    "masks": lambda m, a, b: (a[a > 0] ** 2, b[m.tensor([1, 0, 1])], a[None, ..., 0]),
    "linear": lambda m, a, b: (m.nn.functional.linear(a, b, a[:, 0]), a @ b[0], b[0] @ a.t(), m.outer(a[0], b[0])),
    "bmm": lambda m, a, b: a.expand(4, 2, 3) @ b.t() + m.bmm(a[None], b.t()[None]),
    "stack": lambda m, a, b: m.stack([a, b], 1).unbind(2)[1] * m.stack([a, b]).mean(0)[:, :1],
    "functions": lambda m, a, b: (
        a.exp() + (a * a).log1p() + b.sin() * a.cos() + b.tanh() + a.sigmoid() + (b * b + 1).sqrt().rsqrt()
    ),
    "inverse": lambda m, a, b: (
        (a / 9).asin() + (b / 9).acos() + a.atan() + m.atan2(a, b) + a.sinh() + b.cosh() + a.tan()
    ),
    "addcmul": lambda m, a, b: m.add(a, b, alpha=2) - (a * 1).addcmul_(a, b, value=2).lerp(b, 0.3),
    "logs": lambda m, a, b: (a * a + 1).log2() + (b * b + 1).log10() + a.exp2() + b.expm1() + b.square().reciprocal(),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients(case):
    rng = np.random.default_rng(3)
    compare(CASES[case], [np.round(rng.standard_normal((2, 3)), 1) + 0.05 for _ in range(2)])


COMPLEX = {
    "mul": lambda m, a, b: a * b * a.real,
    "div": lambda m, a, b: a / b,
    "abs": lambda m, a, b: a.abs() * b,
    "sgn": lambda m, a, b: a.sgn() * b,
    "exp": lambda m, a, b: a.exp() * b.log(),
    "sqrt": lambda m, a, b: a.sqrt() * b.sin() * b.tanh(),
    "conj": lambda m, a, b: a.conj() * b,
    "real": lambda m, a, b: a.real * b.imag,
    "pairs": lambda m, a, b: m.view_as_complex(m.view_as_real(a) * 2) * b,
    "matmul": lambda m, a, b: a @ b.mT,
    "linear": lambda m, a, b: m.nn.functional.linear(a, b),
    "sum": lambda m, a, b: (a * b).mean(0) + b.sum(1)[0],
    "norm": lambda m, a, b: a.norm() * b.var(0),
    "pow": lambda m, a, b: a**2 + b**3 + a**b,
    "prod": lambda m, a, b: a.prod(1) * b.prod(),
    "mixed": lambda m, a, b: a.real * b + a * 2j + b.abs() * 1j,
}


@pytest.mark.parametrize("case", COMPLEX)
def test_complex_gradients(case):
    rng = np.random.default_rng(4)
    compare(COMPLEX[case], [rng.standard_normal((2, 3)) + 1j * rng.standard_normal((2, 3)) for _ in range(2)])


@pytest.mark.parametrize("case", ["broadcast", "powers", "softmax", "var", "views", "inplace", "linear", "functions"])
def test_second_derivatives(case):
    rng = np.random.default_rng(5)
    values = [np.round(rng.standard_normal((2, 3)), 1) + 0.05 for _ in range(2)]
    found = []
    for m in (torch, konv):
        a, b = (m.tensor(v, requires_grad=True) for v in values)
        out = CASES[case](m, a, b)
        total = sum((o * o).sum() for o in (out if isinstance(out, tuple) else (out,)))
        first = m.autograd.grad(total, [a, b], create_graph=True)
        second = m.autograd.grad(sum((g * g).sum() for g in first), [a, b])
        found.append([g.detach().numpy() for g in (*first, *second)])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_names_of_nodes():
    """What prints as grad_fn is what PyTorch prints."""
    functions = [
        *(lambda t: t + 1, lambda t: t - 1, lambda t: t * 2, lambda t: t / 2, lambda t: -t, lambda t: t.exp()),
        *(lambda t: t.reshape(-1), lambda t: t.view(6), lambda t: t.permute(1, 0), lambda t: t.t() @ t, lambda t: t[0]),
        *(lambda t: t[:, 1:], lambda t: t.clone(), lambda t: t.relu(), lambda t: t.sigmoid(), lambda t: t.softmax(1)),
        *(
            lambda t: t.abs(),
            lambda t: t.sqrt(),
            lambda t: t.transpose(0, 1),
            lambda t: t.unsqueeze(0),
            lambda t: t.double(),
        ),
        *(lambda t: t.sum(), lambda t: t.sum(0), lambda t: t.mean((0, 1)), lambda t: t.prod(1), lambda t: t.max()),
        *(lambda t: t[0, :2], lambda t: t[:1].squeeze(0), lambda t: t[:1].squeeze((0,)), lambda t: 1 - t),
        *(lambda t: t[0] @ t[1], lambda t: t @ t[0], lambda t: t.t(), lambda t: t.masked_fill(t > 0, 0)),
        *(lambda t: t[:1].expand(4, 3), lambda t: t[[0, 1]], lambda t: t.log_softmax(0)),
    ]
    for i, function in enumerate(functions):
        theirs = function(torch.ones(2, 3, requires_grad=True)).grad_fn.name()
        ours = function(konv.ones(2, 3, requires_grad=True)).grad_fn.name()
        assert ours == theirs, i


EXCHANGED = ["float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool"]
EXCHANGED += ["complex64", "complex128"]


@pytest.mark.parametrize("name", EXCHANGED)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 3)], ids=str)
def test_dlpack_both_ways(name, shape):
    theirs = torch.ones(shape).to(getattr(torch, name))
    ours = konv.from_dlpack(theirs)
    assert ours.dtype is getattr(konv, name)
    assert ours.shape == shape
    ours.zero_()
    assert not theirs.any() if not theirs.is_complex() else not theirs.abs().any()
    mine = konv.ones(shape, dtype=getattr(konv, name))
    again = torch.from_dlpack(mine)
    assert str(again.dtype) == f"torch.{name}"
    assert tuple(again.shape) == shape
    again.zero_()
    assert not mine.float().any() if not mine.is_complex() else not mine.abs().any()


def test_dlpack_of_strided_memory():
    backwards = np.arange(6.0)[::-1]
    assert torch.from_dlpack(konv.from_numpy(backwards)).tolist() == backwards.tolist()
    ours = konv.arange(6).reshape(2, 3).t()
    assert torch.from_dlpack(ours).stride() == (1, 3)
    assert konv.from_dlpack(torch.arange(6).reshape(2, 3).t()).stride() == (1, 3)
    assert konv.from_dlpack(torch.ones(3).__dlpack__()).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "make", [lambda: torch.ones(1, 1, 2, 2).to_sparse(), lambda: torch.ones(1, 1, 2, 2, device="meta")]
)
def test_torch_tensors_without_plain_memory(make):
    for call in (konv.nn.Conv2d(1, 1, 1), konv.from_dlpack, konv.as_tensor, konv.tensor):
        with pytest.raises(RuntimeError) as caught:
            call(make())
        assert isinstance(caught.value, konv.KonvError)


def test_torch_tensors_as_operands():
    assert (konv.ones(2) + torch.ones(2)).tolist() == [2, 2]
    assert konv.cat([torch.zeros(1), konv.ones(1)]).tolist() == [0, 1]
    weight = torch.ones(2, 3, requires_grad=True)
    assert (konv.ones(1, 3) @ konv.as_tensor(weight).t()).tolist() == [[3, 3]]
    assert konv.tensor(torch.ones(2, dtype=torch.int32)).dtype is konv.int32
    assert konv.zeros(2, dtype=torch.float64).dtype is konv.float64
