"""The random stream, number for number against PyTorch."""

import math

import numpy as np
import pytest
import torch

import konv

FLOATS = ["float32", "float64", "float16", "bfloat16"]
SEEDS = [0, 1, 42, 2**32 - 1, 2**32 + 7, 2**63, -1, -(2**63)]
SIZES = [(), (1,), (7,), (15,), (16,), (17,), (40,), (33, 5), (3, 0), (70003,)]


def both(seed: int) -> None:
    torch.manual_seed(seed)
    konv.manual_seed(seed)


def bits(tensor) -> bytes:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def same_bits(mine, theirs) -> bool:
    return (
        tuple(mine.shape) == tuple(theirs.shape)
        and str(mine.dtype) == str(theirs.dtype)
        and np.ascontiguousarray(mine._array).tobytes() == (bits(theirs) if theirs.numel() else b"")
    )


def same_state() -> bool:
    return konv.get_rng_state()._array.tobytes() == torch.get_rng_state().numpy().tobytes()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", [*FLOATS, "complex64", "complex128"])
def test_rand(seed: int, dtype: str) -> None:
    both(seed)
    for size in SIZES:
        assert same_bits(konv.rand(size, dtype=getattr(konv, dtype)), torch.rand(size, dtype=getattr(torch, dtype)))
    assert same_state()


@pytest.mark.parametrize("seed", SEEDS[:4])
@pytest.mark.parametrize("dtype", [*FLOATS, "complex64", "complex128"])
def test_randn(seed: int, dtype: str) -> None:
    both(seed)
    limit = {"float64": 1e-14, "complex128": 1e-14, "float16": 2e-3, "bfloat16": 2e-2}.get(dtype, 2e-6)
    for size in SIZES:
        mine = konv.randn(size, dtype=getattr(konv, dtype))
        theirs = torch.randn(size, dtype=getattr(torch, dtype))
        wide = torch.complex128 if theirs.is_complex() else torch.float64
        difference = np.abs(mine._array.astype(theirs.to(wide).numpy().dtype) - theirs.to(wide).numpy())
        assert difference.size == 0 or difference.max() < limit
        assert mine.shape == tuple(theirs.shape)
    assert same_state()


@pytest.mark.parametrize(
    "low, high", [(0, 1), (0, 10), (-5, 5), (0, 2**28 - 1), (0, 2**28), (-(2**31), 2**31), (0, 2**33), (0, 2**63 - 1)]
)
def test_randint(low: int, high: int) -> None:
    both(3)
    for size in SIZES:
        assert same_bits(konv.randint(low, high, size), torch.randint(low, high, size))
    assert same_state()


@pytest.mark.parametrize("dtype", [*FLOATS, "int8", "uint8", "int16", "int32", "int64", "bool"])
def test_integers_of_every_dtype(dtype: str) -> None:
    both(5)
    high = 2 if dtype == "bool" else 100
    assert same_bits(
        konv.randint(high, (50,), dtype=getattr(konv, dtype)), torch.randint(high, (50,), dtype=getattr(torch, dtype))
    )
    mine, theirs = konv.zeros(50, dtype=getattr(konv, dtype)), torch.zeros(50, dtype=getattr(torch, dtype))
    assert same_bits(mine.random_(), theirs.random_())
    assert same_bits(mine.random_(high), theirs.random_(high))
    assert same_bits(mine.random_(1, high), theirs.random_(1, high))
    assert same_state()


def test_randperm() -> None:
    both(9)
    for n in (0, 1, 2, 5, 1000, 60000):
        assert same_bits(konv.randperm(n), torch.randperm(n))
    assert same_bits(konv.randperm(9, dtype=konv.float32), torch.randperm(9, dtype=torch.float32))
    assert same_state()


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_over_many_ranges(dtype: str) -> None:
    pick = np.random.default_rng(0)
    for seed in range(40):
        both(seed)
        width = 1 / np.sqrt(pick.integers(1, 5000)) if seed % 2 else pick.uniform(0.001, 9)
        low = -width if seed % 2 else pick.uniform(-3, 3)
        mine = konv.empty(5003, dtype=getattr(konv, dtype)).uniform_(low, low + 2 * width)
        theirs = torch.empty(5003, dtype=getattr(torch, dtype)).uniform_(low, low + 2 * width)
        assert same_bits(mine, theirs)


@pytest.mark.parametrize("dtype", [*FLOATS, "bool", "int64"])
def test_bernoulli(dtype: str) -> None:
    both(4)
    for p in (0.0, 0.3, 0.5, 1.0):
        mine, theirs = konv.empty(1000, dtype=getattr(konv, dtype)), torch.empty(1000, dtype=getattr(torch, dtype))
        assert same_bits(mine.bernoulli_(p), theirs.bernoulli_(p))
    if dtype in FLOATS:
        chance = np.linspace(0, 1, 500).astype(np.float32)
        mine, theirs = konv.from_numpy(chance), torch.from_numpy(chance)
        mine, theirs = mine.to(getattr(konv, dtype)), theirs.to(getattr(torch, dtype))
        assert same_bits(konv.bernoulli(mine), torch.bernoulli(theirs))
    assert same_state()


@pytest.mark.parametrize("name", ["uniform_", "normal_", "bernoulli_"])
def test_memory_order(name: str) -> None:
    """A transposed or strided tensor is filled in the order of its memory."""
    for take in (lambda t: t.t(), lambda t: t[:, ::2], lambda t: t.reshape(4, 5, 6).permute(2, 0, 1)):
        both(6)
        mine, theirs = take(konv.zeros(20, 6)), take(torch.zeros(20, 6))
        getattr(mine, name)()
        getattr(theirs, name)()
        np.testing.assert_allclose(mine._array, theirs.numpy(), rtol=0, atol=1e-6)
        assert same_state()


@pytest.mark.parametrize("shape", [(2, 5), (5, 8)])
@pytest.mark.parametrize(
    "lay",
    [
        lambda x: x.t(),
        lambda x: x.t()[::2],
        lambda x: x[0].expand(4, x.shape[1]),
        lambda x: x[:, None].permute(2, 0, 1).expand(x.shape[1], x.shape[0], 3),
        lambda x: x[None, :, :, None].permute(3, 2, 0, 1),
    ],
)
@pytest.mark.parametrize(
    "draw",
    [
        lambda m, x: m.rand_like(x),
        lambda m, x: m.randn_like(x),
        lambda m, x: m.randint_like(x, 100),
        lambda m, x: m.randint_like(x, -5, 100, dtype=m.int32),
        lambda m, x: m.bernoulli(x + 0.5),
        lambda m, x: m.nn.functional.dropout(x),
        lambda m, x: m.zeros(*x.shape[::-1]).permute(*range(x.ndim)[::-1]).bernoulli_(x + 0.5),
    ],
)
def test_new_tensors_are_drawn_in_their_order_of_memory(draw, lay, shape) -> None:
    both(5)
    theirs = draw(torch, lay(torch.linspace(-0.5, 0.5, math.prod(shape)).reshape(shape)))
    mine = draw(konv, lay(konv.linspace(-0.5, 0.5, math.prod(shape)).reshape(shape)))
    for axis, size in enumerate(theirs.shape):
        assert size == 1 or mine.stride(axis) == theirs.stride(axis)
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-6, atol=1e-6)
    assert same_state()


def test_states_go_both_ways() -> None:
    both(11)
    torch.randn(3)  # leaves half a pair of normals behind
    konv.set_rng_state(konv.from_numpy(torch.get_rng_state().numpy()))
    assert same_bits(konv.randn(2), torch.randn(2))
    konv.rand(1000)
    torch.set_rng_state(torch.from_numpy(konv.get_rng_state()._array.copy()))
    assert same_bits(konv.rand(9), torch.rand(9))


def test_generators_of_their_own() -> None:
    mine, theirs = konv.Generator(), torch.Generator()
    assert mine.initial_seed() == theirs.initial_seed()
    assert same_bits(konv.rand(3, generator=mine), torch.rand(3, generator=theirs))
    mine.manual_seed(8)
    theirs.manual_seed(8)
    assert same_bits(konv.randperm(10, generator=mine), torch.randperm(10, generator=theirs))
    assert mine.get_state()._array.tobytes() == theirs.get_state().numpy().tobytes()


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout(p: float) -> None:
    both(2)
    x = np.random.default_rng(0).standard_normal((4, 6, 5, 5)).astype(np.float32)
    mine, theirs = konv.from_numpy(x), torch.from_numpy(x)
    functional = konv.nn.functional
    assert same_bits(functional.dropout(mine, p), torch.nn.functional.dropout(theirs, p))
    assert same_bits(functional.dropout2d(mine, p), torch.nn.functional.dropout2d(theirs, p))
    assert same_state()


@pytest.mark.parametrize(
    "code",
    [
        "randint(5, 5, (2,))",
        "randint(7, 5, (2,))",
        "randint(0, 300, (3,), dtype=uint8)",
        "randint(5, (3,), dtype=bool)",
        "randperm(-1)",
        "randperm(300, dtype=uint8)",
        "rand(3, dtype=int64)",
        "randn(3, dtype=int32)",
        "rand(-1)",
        "rand_like(zeros(3, dtype=int32))",
        "empty(3).uniform_(2, 1)",
        "empty(3).uniform_(0, 1e39)",
        "empty(3).normal_(0, -1)",
        "empty(3).bernoulli_(2)",
        "manual_seed('a')",
        "manual_seed(2**64)",
        "manual_seed(-2**63 - 1)",
        "set_rng_state(zeros(3))",
        "set_rng_state(zeros(3, dtype=uint8))",
        "set_rng_state(zeros(5056, dtype=uint8))",
        "Generator('cuda')",
    ],
)
def test_refusals(code: str) -> None:
    """What PyTorch refuses is refused, with the same built-in type."""
    with pytest.raises(Exception) as theirs:
        eval(code, {**vars(torch)})
    with pytest.raises(konv.errors.KonvError) as mine:
        eval(code, {**vars(konv)})
    assert isinstance(mine.value, theirs.type)
