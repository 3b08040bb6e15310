"""The random stream against recorded numbers of PyTorch, and what a generator promises by itself."""

import copy
import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

import konv
from konv import random as streams
from konv.random import _fma64, _odd_sum

SEED = 2024
RECORDS = np.load(Path(__file__).parent / "recorded" / "random.npz")
KINDS = ["float32", "float64", "float16", "bfloat16"]
CLOSE = {"float32": 1e-6, "float64": 1e-14, "float16": 2e-3, "bfloat16": 2e-2}


def wide(tensor) -> np.ndarray:
    tensor = tensor.detach()
    return tensor.to(konv.float64 if tensor.dtype is konv.float64 else konv.float32)._array


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [5, 16, 37])
def test_recorded_numbers(kind: str, count: int) -> None:
    dtype = getattr(konv, kind)
    konv.manual_seed(SEED)
    np.testing.assert_array_equal(wide(konv.rand(count, dtype=dtype)), RECORDS[f"rand_{kind}_{count}"])
    konv.manual_seed(SEED)
    values = wide(konv.randn(count, dtype=dtype))
    np.testing.assert_allclose(values, RECORDS[f"randn_{kind}_{count}"], rtol=0, atol=CLOSE[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_first_values_of_layers(kind: str) -> None:
    konv.manual_seed(SEED)
    linear = konv.nn.Linear(7, 3, dtype=getattr(konv, kind))
    konv.manual_seed(SEED)
    conv = konv.nn.Conv2d(4, 6, (3, 2), groups=2, dtype=getattr(konv, kind))
    for name, layer in (("linear", linear), ("conv", conv)):
        np.testing.assert_array_equal(wide(layer.weight), RECORDS[f"{name}_weight_{kind}"])
        np.testing.assert_array_equal(wide(layer.bias), RECORDS[f"{name}_bias_{kind}"])


def test_recorded_whole_numbers_and_state() -> None:
    konv.manual_seed(SEED)
    assert konv.randint(-5, 1000, (20,)).tolist() == RECORDS["randint"].tolist()
    assert konv.randint(0, 2**40, (20,)).tolist() == RECORDS["randint_wide"].tolist()
    assert konv.randperm(50).tolist() == RECORDS["randperm"].tolist()
    assert konv.empty(30).bernoulli_(0.3).tolist() == RECORDS["bernoulli"].tolist()
    assert konv.get_rng_state().tolist() == RECORDS["state"].tolist()


def test_state_restores_the_stream() -> None:
    konv.manual_seed(1)
    konv.randn(3)
    state = konv.get_rng_state()
    first = konv.randn(5).tolist()
    konv.set_rng_state(state)
    assert konv.randn(5).tolist() == first
    with streams.fork_rng():
        konv.rand(100)
    konv.set_rng_state(state)
    with streams.fork_rng():
        konv.rand(100)
    assert konv.randn(5).tolist() == first


def test_generators_are_apart_and_can_be_copied() -> None:
    one = konv.Generator().manual_seed(7)
    before = konv.get_rng_state().tolist()
    konv.rand(3, generator=one)
    assert konv.get_rng_state().tolist() == before
    for twin in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert konv.rand(4, generator=twin).tolist() == konv.rand(4, generator=pickle.loads(pickle.dumps(one))).tolist()
    assert one.seed() == one.initial_seed()
    assert str(one.device) == "cpu"


def test_seeds() -> None:
    assert konv.manual_seed(-1).initial_seed() == 2**64 - 1
    assert konv.initial_seed() == 2**64 - 1
    konv.seed()
    assert konv.initial_seed() < 2**64


def test_meta_draws_nothing() -> None:
    konv.manual_seed(3)
    before = konv.get_rng_state().tolist()
    for made in (
        konv.rand(2**40, device="meta"),
        konv.randn(2**40, device="meta"),
        konv.randint(5, (2**40,), device="meta"),
        konv.empty(2**40, device="meta").uniform_(),
        konv.empty(2**40, device="meta").normal_(),
        konv.rand_like(konv.empty(2**40, device="meta")),
    ):
        assert made.is_meta
        assert made.shape == (2**40,)
    assert konv.get_rng_state().tolist() == before


@pytest.mark.parametrize(
    ("draw", "plain"),
    [
        (konv.rand_like, lambda: konv.rand(4, 5, 3)),
        (lambda x: konv.rand_like(x.expand(2, 3, 4, 5)[0]), lambda: konv.rand(4, 5, 3)),
        (lambda x: konv.randint_like(x, -3, 9), lambda: konv.randint(-3, 9, (4, 5, 3), dtype=konv.float32)),
        (lambda x: konv.nn.functional.dropout(x + 1), lambda: konv.empty(4, 5, 3).bernoulli_(0.5) * 2),
    ],
)
def test_numbers_are_drawn_in_the_order_of_memory(draw, plain) -> None:
    konv.manual_seed(3)
    expected = plain()
    konv.manual_seed(3)
    made = draw(konv.zeros(4, 5, 3).permute(2, 0, 1))
    assert made.tolist() == expected.permute(2, 0, 1).tolist()


def test_bernoulli_draws_in_the_order_of_its_result() -> None:
    chances = konv.full((3, 40), 0.5)
    chances[1] = 0.1
    konv.manual_seed(3)
    expected = chances.bernoulli()
    konv.manual_seed(3)
    assert chances.t().contiguous().t().bernoulli().tolist() == expected.tolist()  # which is new, and contiguous


def test_in_place_counts_as_a_write() -> None:
    x = konv.ones(3, requires_grad=True)
    y = x * 2
    z = y * y
    y.uniform_()
    with pytest.raises(konv.errors.AutogradError, match="modified by an inplace operation"):
        z.sum().backward()
    with pytest.raises(konv.errors.AutogradError):
        x.normal_()


def test_rounding_once() -> None:
    """The fused multiply-add is exact: compared with whole-number arithmetic on the words themselves."""
    low, high = -0.1924500897298753, 0.1924500897298753
    values = konv.Generator().manual_seed(5).uniform(2000, low, high, double=True)
    words = konv.Generator().manual_seed(5).words64(2000)
    span = Fraction(high - low)
    for value, word in zip(values.tolist(), words.tolist(), strict=True):
        exact = Fraction(word % 2**53, 2**53) * span + Fraction(low)
        assert value == float(exact)


def test_messages() -> None:
    cases = {
        "generator: got int; it must be a konv.Generator": lambda: konv.rand(2, generator=3),
        "manual_seed: seed='a'; it must be a whole number": lambda: konv.manual_seed("a"),
        "uniform_: from=2.0 > to=1.0; it returns a [from, to) range": lambda: konv.empty(2).uniform_(2, 1),
        "bernoulli_: p=2; expects p to be in [0, 1]": lambda: konv.empty(2).bernoulli_(2),
        "randint: from=5 >= to=5; random_ expects 'from' to be less than 'to'": lambda: konv.randint(5, 5, (1,)),
        "randint: to - 1 = 299 is out of bounds for torch.uint8": lambda: konv.randint(300, (1,), dtype=konv.uint8),
        "rand: not implemented for torch.int64; it draws floating point numbers; use randint for integers": lambda: (
            konv.rand(2, dtype=konv.int64)
        ),
        "set_state: got 3 bytes; a state has 5056 bytes; pass what get_state returned": lambda: konv.set_rng_state(
            konv.zeros(3, dtype=konv.uint8)
        ),
    }
    for message, call in cases.items():
        with pytest.raises(konv.errors.KonvError) as caught:
            call()
        assert str(caught.value) == message


def test_fused_multiply_add_where_rounding_twice_is_wrong() -> None:
    half_way = np.array([1 + 2.0**-24])  # between two float32 numbers
    assert _odd_sum(half_way, 2.0**-60).astype(np.float32)[0] == np.float32(1 + 2.0**-23)
    assert _odd_sum(half_way, -(2.0**-60)).astype(np.float32)[0] == np.float32(1)
    assert _odd_sum(-half_way, -(2.0**-60)).astype(np.float32)[0] == -np.float32(1 + 2.0**-23)
    assert _odd_sum(half_way, 0.0)[0] == half_way[0]
    a, b = np.array([(1 + 2.0**-27) * 2.0**-26]), np.float64((1 - 2.0**-27) * 2.0**-27)  # a * b = 2**-53 - 2**-107
    assert _fma64(a, b, np.float64(1 + 2.0**-52))[0] == 1 + 2.0**-52
    assert (a * b + (1 + 2.0**-52))[0] == 1 + 2.0**-51


@given(st.integers(0, 2**53 - 1), st.floats(1e-6, 10), st.floats(-10, 10))
def test_fused_multiply_add_is_exact(word: int, span: float, low: float) -> None:
    unit = word / 2**53
    got = _fma64(np.array([unit]), np.float64(span), np.float64(low))[0]
    assert got == float(Fraction(unit) * Fraction(span) + Fraction(low))
