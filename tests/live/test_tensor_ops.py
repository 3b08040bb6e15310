"""Operations on tensors against PyTorch's: dtypes, broadcasting, values, refusals."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import konv

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]
CLOSE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 2e-5, "float64": 1e-12, "complex64": 4e-5, "complex128": 1e-12}

BINARY = ["add", "sub", "mul", "div", "floor_divide", "remainder", "fmod", "pow", "maximum", "minimum", "atan2"]
BINARY += ["eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"]
BINARY += ["bitwise_and", "bitwise_or", "bitwise_xor"]
UNARY = ["neg", "positive", "abs", "square", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt"]
UNARY += ["reciprocal", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "sign", "sgn", "floor"]
UNARY += [
    "ceil",
    "trunc",
    "round",
    "frac",
    "sigmoid",
    "logical_not",
    "bitwise_not",
    "isnan",
    "isinf",
    "isfinite",
    "erf",
]
OPERATORS = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "eq", "ne", "lt", "le", "gt", "ge"]
FOLDS = ["sum", "mean", "prod", "amax", "amin", "max", "min", "argmax", "argmin", "var", "std", "any", "all", "norm"]
ALONG = ["logsumexp", "cumsum", "softmax", "log_softmax"]
ORDER = ["argsort", "sort"]


def make(rng, shape, name):
    """The same tensor twice: PyTorch's and konv's."""
    values = rng.integers(-5, 6, shape)
    if name in ("uint8", "bool"):
        values = np.abs(values)
    if "float" in name:
        values = values + np.round(rng.random(shape), 2)
    if "complex" in name:
        values = values + 1j * rng.integers(-5, 6, shape)
    return torch.tensor(values).to(getattr(torch, name)), konv.tensor(values).to(getattr(konv, name))


def check(theirs, ours):
    """Same dtype, shape and values (NaN equal)."""
    assert str(theirs.dtype) == repr(ours.dtype)
    assert tuple(theirs.shape) == tuple(ours.shape)
    name = ours.dtype.name
    if name == "bfloat16":
        theirs, ours = theirs.float(), ours.float()
    a, b = theirs.detach().resolve_conj().numpy(), ours.detach().numpy()
    if name in CLOSE:
        np.testing.assert_allclose(b, a, rtol=CLOSE[name], atol=CLOSE[name])
    else:
        np.testing.assert_array_equal(b, a)


def both(theirs, ours):
    """Run both and compare; they refuse together, with the same built-in type, or not at all."""
    try:
        expected = theirs()
    except NotImplementedError:
        return None  # a kernel that PyTorch lacks; konv may have it
    except Exception as error:
        kind = next(k for k in (IndexError, TypeError, ValueError, RuntimeError) if isinstance(error, k))
        if "not implemented for" in str(error):
            return None
        with pytest.raises(kind):
            ours()
        return None
    found = ours()
    if "complex32" in str(getattr(expected, "dtype", "")):
        return None  # konv has no complex type of halves; it gives complex64
    pairs = zip(expected, found, strict=True) if isinstance(expected, tuple) else [(expected, found)]
    for t, k in pairs:
        check(t, k)
    return found


shapes = st.sampled_from(
    [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (3,)), ((2,), ()), ((), ()), ((0, 3), (3,)), ((2,), (3,))]
)
names = st.sampled_from(DTYPES + COMPLEX)
seeds = st.integers(0, 1000)


@settings(max_examples=600, deadline=None)
@given(op=st.sampled_from(BINARY), shape=shapes, a=names, b=names, seed=seeds)
def test_binary(op, shape, a, b, seed):
    rng = np.random.default_rng(seed)
    (ta, ka), (tb, kb) = make(rng, shape[0], a), make(rng, shape[1], b)
    both(lambda: getattr(torch, op)(ta, tb), lambda: getattr(konv, op)(ka, kb))


@settings(max_examples=600, deadline=None)
@given(
    op=st.sampled_from(OPERATORS),
    shape=st.sampled_from([(3,), ()]),
    a=names,
    number=st.sampled_from([0, 1, 2, 3, -2, True, False, 0.5, 2.0, -1.5, 2j, -1, 1e300, 2**40]),
    reverse=st.booleans(),
    seed=seeds,
)
def test_operators_with_numbers(op, shape, a, number, reverse, seed):
    ta, ka = make(np.random.default_rng(seed), shape, a)
    function = getattr(operator, op)
    if (number == 2**40 and a in ("float16", "bfloat16")) or (number == 1e300 and "complex" in a):
        return  # infinite there, and what follows from infinity is not agreed upon
    if a in ("float16", "bfloat16") and isinstance(number, complex):
        return  # complex64 either way, but PyTorch rounds to the half type on the way
    if op == "pow" and not reverse and number in (2**40, 1e300):
        return  # PyTorch refuses numbers that overflow in pow, and wraps them everywhere else
    if reverse:
        both(lambda: function(number, ta), lambda: function(number, ka))
    else:
        both(lambda: function(ta, number), lambda: function(ka, number))


@settings(max_examples=400, deadline=None)
@given(op=st.sampled_from(UNARY), shape=st.sampled_from([(2, 3), (), (0,)]), a=names, seed=seeds)
def test_unary(op, shape, a, seed):
    ta, ka = make(np.random.default_rng(seed), shape, a)
    theirs = torch.special.erf if op == "erf" else getattr(torch, op)
    both(lambda: theirs(ta), lambda: getattr(konv, op)(ka))


@settings(max_examples=800, deadline=None)
@given(
    op=st.sampled_from(FOLDS + ALONG + ORDER),
    shape=st.sampled_from([(2, 3), (4,), (), (2, 1, 3), (0, 3), (3, 0)]),
    dim=st.sampled_from([None, 0, -1, 1, (0, 1), (0, -1), 5]),
    keepdim=st.booleans(),
    a=names,
    seed=seeds,
)
def test_folds(op, shape, dim, keepdim, a, seed):
    ta, ka = make(np.random.default_rng(seed), shape, a)
    args = {} if dim is None else {"dim": dim}
    if isinstance(dim, tuple) and op in ("prod", "argmax", "argmin", "max", "min", *ALONG[1:], *ORDER):
        return
    if dim is None and op in ALONG:
        return
    if "softmax" in op and not ka.is_floating_point():
        return  # refused by konv always, by PyTorch when there is something to compute
    if op in ("argmax", "argmin") and (a == "bool" or "complex" in a) and dim in (1, 5):
        return  # wrong twice: which is said first does not matter
    if "complex" in a and not ka.numel():
        return  # konv refuses an order of complex numbers even where there are none
    if keepdim and dim is not None and op in FOLDS:
        args["keepdim"] = True
    if op in ORDER:
        args["stable"] = True
    both(lambda: getattr(torch, op)(ta, **args), lambda: getattr(konv, op)(ka, **args))


@settings(max_examples=100, deadline=None)
@given(k=st.integers(0, 6), dim=st.sampled_from([0, 1, -1]), largest=st.booleans(), seed=seeds)
def test_topk(k, dim, largest, seed):
    values = np.random.default_rng(seed).permutation(20.0 - np.arange(20)).reshape(4, 5)
    both(
        lambda: torch.topk(torch.tensor(values), k, dim, largest),
        lambda: konv.topk(konv.tensor(values), k, dim, largest),
    )


index_parts = st.one_of(
    st.integers(-4, 4),
    st.slices(4).filter(lambda s: s.step is None or s.step > 0),
    st.none(),
    st.just(Ellipsis),
    st.lists(st.integers(-2, 1), min_size=1, max_size=3),
    st.sampled_from([True, False]),
)


def key_for(module, parts):
    return tuple(module.tensor(p) if isinstance(p, list) else p for p in parts)


@settings(max_examples=600, deadline=None)
@given(
    parts=st.lists(index_parts, min_size=1, max_size=4).filter(lambda p: p.count(Ellipsis) < 2),
    shape=st.sampled_from([(4, 3, 2), (3, 4), (5,), ()]),
)
def test_indexing(parts, shape):
    ta = torch.arange(int(np.prod(shape))).reshape(shape)
    ka = konv.arange(int(np.prod(shape))).reshape(shape)
    both(lambda: ta[key_for(torch, parts)], lambda: ka[key_for(konv, parts)])

    def write(module, tensor):
        tensor = tensor.clone()
        tensor[key_for(module, parts)] = 77
        return tensor

    both(lambda: write(torch, ta), lambda: write(konv, ka))


@settings(max_examples=200, deadline=None)
@given(shape=st.sampled_from([(4, 3), (2, 2, 3)]), seed=seeds, lost=st.booleans())
def test_masks(shape, seed, lost):
    rng = np.random.default_rng(seed)
    ta, ka = make(rng, shape, "float64")
    mask = rng.random(shape[: rng.integers(1, len(shape) + 1)]) > 0.5
    mask = mask[1:] if lost else mask
    both(lambda: ta[torch.tensor(mask)], lambda: ka[konv.tensor(mask)])


@settings(max_examples=400, deadline=None)
@given(
    op=st.sampled_from(
        ["add_", "sub_", "mul_", "div_", "pow_", "floor_divide_", "remainder_", "copy_", "atan2_", "eq_"]
    ),
    shape=shapes,
    a=names,
    b=names,
    seed=seeds,
)
def test_inplace(op, shape, a, b, seed):
    rng = np.random.default_rng(seed)
    (ta, ka), (tb, kb) = make(rng, shape[0], a), make(rng, shape[1], b)
    found = both(lambda: getattr(ta, op)(tb), lambda: getattr(ka, op)(kb))
    assert found is None or found is ka


@settings(max_examples=300, deadline=None)
@given(
    a=st.sampled_from([(2, 3), (3,), (4, 2, 3), (1, 2, 3), (0, 3), ()]),
    b=st.sampled_from([(3, 2), (3,), (4, 3, 5), (5, 1, 3, 2), (3, 0), (2, 2)]),
    x=names,
    y=st.sampled_from(["same", "float32"]),
    seed=seeds,
)
def test_matmul(a, b, x, y, seed):
    rng = np.random.default_rng(seed)
    (ta, ka), (tb, kb) = make(rng, a, x), make(rng, b, x if y == "same" else y)
    if ta.dtype != tb.dtype and not (ta.numel() and tb.numel()):
        return  # PyTorch forgets to compare dtypes when nothing is computed
    both(lambda: ta @ tb, lambda: ka @ kb)


@settings(max_examples=300, deadline=None)
@given(a=names, b=names)
def test_promotion_tables(a, b):
    theirs = torch.promote_types(getattr(torch, a), getattr(torch, b))
    assert repr(konv.promote_types(getattr(konv, a), getattr(konv, b))) == str(theirs)
    assert konv.can_cast(getattr(konv, a), getattr(konv, b)) == torch.can_cast(getattr(torch, a), getattr(torch, b))


@settings(max_examples=300, deadline=None)
@given(a=names, b=names, wild=st.booleans())
def test_casts(a, b, wild):
    values = [0, 1, 2, 7] if not wild or "int" in b or "bool" in a else [0, 1.5, 100.25, 7]
    if "complex" in a and "complex" not in b:
        return
    theirs, ours = torch.tensor(values).to(getattr(torch, a)), konv.tensor(values).to(getattr(konv, a))
    both(lambda: theirs.to(getattr(torch, b)), lambda: ours.to(getattr(konv, b)))


@pytest.mark.parametrize(
    "args",
    [(5,), (1, 5), (1, 2, 0.5), (5, 1, -1), (0,), (1, 0), (0, 1, 0), (0.0, 1.0, 0.1), (10, 0, -3), (2.5,), (-3,)],
    ids=str,
)
@pytest.mark.parametrize("name", [None, "float32", "int32", "float16"])
def test_arange(args, name):
    extra = ({}, {}) if name is None else ({"dtype": getattr(torch, name)}, {"dtype": getattr(konv, name)})
    both(lambda: torch.arange(*args, **extra[0]), lambda: konv.arange(*args, **extra[1]))


@pytest.mark.parametrize("args", [(0, 1, 5), (1, 0, 3), (0, 1, 1), (0, 1, 0), (0, 1, -1), (-2.5, 7, 11)], ids=str)
def test_linspace(args):
    both(lambda: torch.linspace(*args), lambda: konv.linspace(*args))


DATA = [1, 1.5, True, 1j, [], [1, 2.5], [True, 2], [[1], [2, 3]], [[1, 2], [3, 4]], (1, 2), range(3), "a", ["a"], None]
DATA += [[np.float64(1), 2.0], np.float32(2), np.arange(3), [np.arange(2), np.arange(2)], 2**63, [2**70], [[], []]]
DATA += [np.float64(1.5), np.int32(3), [np.int32(3)], [np.float32(3)], [1, 1j], object(), {1: 2}]


@pytest.mark.parametrize("data", DATA, ids=lambda data: "object" if type(data) is object else str(data))
def test_tensor_from_data(data):
    both(lambda: torch.tensor(data), lambda: konv.tensor(data))


SHAPING = {
    "view": lambda t: t.view(6, -1),
    "view_bad": lambda t: t.view(5, -1),
    "view_two": lambda t: t.view(-1, -1),
    "view_strides": lambda t: t.transpose(0, 1).view(24),
    "reshape_strides": lambda t: t.transpose(0, 1).reshape(4, 6),
    "flatten": lambda t: t.flatten(1, 2),
    "flatten_bad": lambda t: t.flatten(2, 1),
    "unflatten": lambda t: t.unflatten(2, (2, -1)),
    "squeeze": lambda t: t[:1].squeeze(0).unsqueeze(-1),
    "squeeze_none": lambda t: t.squeeze(1),
    "squeeze_many": lambda t: t[:1, :1].squeeze((0, 1)),
    "unsqueeze_bad": lambda t: t.unsqueeze(5),
    "permute": lambda t: t.permute(2, 0, 1),
    "permute_repeat": lambda t: t.permute(0, 0, 1),
    "permute_short": lambda t: t.permute(0, 1),
    "expand": lambda t: t[:, :1].expand(-1, 5, 4),
    "expand_bad": lambda t: t.expand(5, 3, 4),
    "expand_short": lambda t: t.expand(3, 4),
    "chunk": lambda t: t.chunk(3, 2),
    "chunk_bad": lambda t: t.chunk(0),
    "split": lambda t: t.split(3, 2),
    "split_sizes": lambda t: t.split([1, 2], 1),
    "split_bad": lambda t: t.split([1, 1], 1),
    "unbind": lambda t: t.unbind(1),
    "narrow": lambda t: t.narrow(2, 1, 2),
    "narrow_bad": lambda t: t.narrow(2, 3, 2),
    "flip": lambda t: t.flip(0, 2),
    "flip_bad": lambda t: t.flip(0, 0),
    "roll": lambda t: t.roll((1, -2), (0, 2)),
    "roll_flat": lambda t: t.roll(5),
    "repeat": lambda t: t.repeat(2, 1, 1, 2),
    "repeat_bad": lambda t: t.repeat(2, 1),
    "unfold": lambda t: t.unfold(2, 3, 1),
    "unfold_bad": lambda t: t.unfold(2, 5, 1),
    "movedim": lambda t: t.movedim(0, -1),
    "mT": lambda t: t.mT,
    "t_bad": lambda t: t.t(),
    "tril": lambda t: t.tril(-1),
    "triu": lambda t: t.triu(1),
    "index_select": lambda t: t.select(1, 2),
    "int_overflow": lambda t: t.to(t.dtype) * 2**62,
    "iter": lambda t: tuple(t),
    "item_bad": lambda t: t.item(),
    "masked_fill": lambda t: t.masked_fill(t > 3, -1),
    "clamp": lambda t: t.clamp(2, 5),
    "clamp_none": lambda t: t.clamp(),
    "where": lambda t: (t > 3).where(t == 2, t),
    "nonzero": lambda t: (t > 20).nonzero(),
    "type": lambda t: (t.float().half().double().long().int().short(),),
    "bool_bad": lambda t: bool(t),
    "int_bad": lambda t: range(t),
    "len": lambda t: t.new_zeros(len(t)),
    "new_full": lambda t: t.new_full((2,), 3),
}


@pytest.mark.parametrize("case", SHAPING)
def test_shaping(case):
    function = SHAPING[case]
    both(lambda: function(torch.arange(24).reshape(2, 3, 4)), lambda: function(konv.arange(24).reshape(2, 3, 4)))


JOINED = {
    "cat": lambda m: m.cat([m.zeros(2, 3), m.ones(1, 3, dtype=m.float64)]),
    "cat_ints": lambda m: m.cat([m.zeros(2, dtype=m.int32), m.ones(1)]),
    "cat_empty": lambda m: m.cat([m.zeros(0), m.ones(2, 2)]),
    "cat_none": lambda m: m.cat([]),
    "cat_scalars": lambda m: m.cat([m.tensor(1), m.tensor(2)]),
    "cat_bad": lambda m: m.cat([m.zeros(2, 3), m.ones(2, 2)]),
    "cat_dim": lambda m: m.cat([m.zeros(2, 3), m.ones(2, 2)], dim=-1),
    "cat_dim_bad": lambda m: m.cat([m.zeros(2, 3)], dim=2),
    "stack": lambda m: m.stack([m.zeros(2), m.ones(2)], -1),
    "stack_bad": lambda m: m.stack([m.zeros(2), m.ones(3)]),
    "stack_none": lambda m: m.stack([]),
    "eye": lambda m: m.eye(2, 3),
    "full": lambda m: m.full((2, 2), True),
    "full_float": lambda m: m.full((2,), 1.5),
    "zeros_bad": lambda m: m.zeros(-1),
    "zeros_text": lambda m: m.zeros("a"),
    "zeros_tuple": lambda m: m.zeros((2, 3), dtype=m.int8),
    "ones_like": lambda m: m.ones_like(m.zeros(2, dtype=m.int16)),
    "outer": lambda m: m.outer(m.arange(3), m.arange(2)),
    "bmm_bad": lambda m: m.bmm(m.zeros(2, 3, 4), m.zeros(3, 4, 2)),
    "mm_bad": lambda m: m.mm(m.zeros(2, 3), m.zeros(2, 3)),
    "mv": lambda m: m.mv(m.ones(2, 3), m.ones(3)),
    "dot_bad": lambda m: m.dot(m.ones(2), m.ones(3)),
    "linear": lambda m: m.nn.functional.linear(m.ones(2, 4, 3), m.ones(5, 3), m.arange(5.0)),
    "linear_bad": lambda m: m.nn.functional.linear(m.ones(2, 4), m.ones(5, 3)),
    "linear_dtype": lambda m: m.nn.functional.linear(m.ones(2, 3), m.ones(5, 3, dtype=m.float64)),
    "gather_bad": lambda m: m.ones(2, 3).gather(1, m.tensor([[3]])),
    "requires_bad": lambda m: m.ones(2, dtype=m.int64, requires_grad=True),
    "leaf_write": lambda m: m.ones(2, requires_grad=True).add_(1),
    "leaf_view_write": lambda m: m.ones(2, requires_grad=True)[0].add_(1),
    "expanded_write": lambda m: m.ones(1).expand(3).add_(1),
    "numpy_bad": lambda m: m.ones(2, requires_grad=True).numpy(),
    "backward_bad": lambda m: m.ones(2, requires_grad=True).backward(),
    "no_grad_bad": lambda m: m.ones(1).backward(),
    "split_write": lambda m: (m.ones(2, requires_grad=True) * 1).unbind(0)[0].add_(m.ones((), requires_grad=True)),
    "alpha": lambda m: m.add(m.arange(3), m.arange(3), alpha=2),
    "alpha_bad": lambda m: m.add(m.arange(3), m.arange(3), alpha=0.5),
    "sub_alpha": lambda m: m.ones(3).sub(2, alpha=0.5),
    "div_trunc": lambda m: m.div(m.tensor([-7, 7]), 2, rounding_mode="trunc"),
    "div_floor": lambda m: m.div(m.tensor([-7.0, 7.0]), 2, rounding_mode="floor"),
    "div_bad": lambda m: m.div(m.ones(1), 2, rounding_mode="up"),
    "int_zero": lambda m: m.arange(3) // 0,
    "int_pow": lambda m: m.arange(1, 3) ** -1,
    "addcmul": lambda m: m.ones(2).addcmul_(m.arange(2), m.ones(2), value=3),
    "lerp": lambda m: m.zeros(2).lerp(m.ones(2), 0.25),
    "meta_item": lambda m: m.ones(1, device="meta").item(),
    "no_device": lambda m: m.ones(1, device="warp"),
}


@pytest.mark.parametrize("case", JOINED)
def test_functions_and_refusals(case):
    both(lambda: JOINED[case](torch), lambda: JOINED[case](konv))


PRINTED = [
    *([1.0, 2.0], [[1.0, 2.5], [3, 4]], 1.5, [], [[]], [1, 2, -30], [True, False], [1e-5, 1.0], [1e10, 1.0]),
    *(
        [float("nan"), 1.0, float("inf")],
        [1 + 2j, -3.5 - 4j],
        [[[1.0] * 3] * 2] * 2,
        list(range(100)),
        [[1.0] * 40] * 3,
    ),
    *([0.1 * i for i in range(50)], [1e5, 2.0], [123456.0, 1.5], [0.0, 0.0], 1000000.0, list(range(2000))),
    *([[[[1.0]]]], [[[0.5] * 30] * 30] * 2, [1e-8 + 1j, 1e5 - 1j], [-0.0, 1.0], [1e38, 1e-38]),
]


@pytest.mark.parametrize("data", PRINTED, ids=range(len(PRINTED)))
@pytest.mark.parametrize("name", [None, "float64", "float16", "grad"])
def test_printing(data, name):
    theirs, ours = torch.tensor(data), konv.tensor(data)
    if name == "grad":
        if theirs.is_floating_point():
            theirs, ours = theirs.requires_grad_(), ours.requires_grad_()
            assert repr(theirs) == repr(ours)
            theirs, ours = theirs * 1, ours * 1
    elif name and not theirs.is_complex():
        theirs, ours = theirs.to(getattr(torch, name)), ours.to(getattr(konv, name))
    assert repr(theirs) == repr(ours)
