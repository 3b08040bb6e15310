"""Padding, losses, resizing, folding and dropout without PyTorch: NumPy's own padding, formulas, gradient checks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

import konv
from konv.autograd import gradcheck, gradgradcheck
from konv.nn import functional as F

NUMPY = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def variable(*shape: int, seed: int = 0) -> konv.Tensor:
    return konv.tensor(numbers(*shape, seed=seed), requires_grad=True)


def passes(function, *inputs: konv.Tensor) -> None:
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


@given(
    mode=st.sampled_from(list(NUMPY)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    size=st.tuples(st.integers(4, 7), st.integers(4, 6)),
)
def test_pad_is_numpys(mode: str, pads: tuple[int, ...], size: tuple[int, int]) -> None:
    x = numbers(2, 3, *size)
    left, right, top, bottom = pads
    expected = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), NUMPY[mode])
    np.testing.assert_array_equal(F.pad(konv.from_numpy(x), pads, mode).numpy(), expected)


@pytest.mark.parametrize("mode", NUMPY)
@pytest.mark.parametrize("pads", [(1, 2, 0, 1), (-1, 2, 1, -1), (2, 2, 2, 2)])
def test_pad_gradients(mode: str, pads: tuple[int, ...]) -> None:
    passes(lambda x: F.pad(x, pads, mode), variable(1, 2, 4, 3))


def test_pad_leaves_its_input_alone_and_gives_new_memory() -> None:
    x = konv.ones(1, 1, 2, 2)
    y = F.pad(x, (0, 0, 0, 0))
    y.zero_()
    assert x.sum().item() == 4.0


@pytest.mark.parametrize("mode", NUMPY)
def test_pad_on_meta_and_in_16_bits(mode: str) -> None:
    shape = F.pad(konv.empty(1, 1, 2**20, 2**20, device="meta"), (1, 2, 3, 4), mode).shape
    assert shape == (1, 1, 2**20 + 7, 2**20 + 3)
    for dtype in (konv.float16, konv.bfloat16):
        x = konv.tensor(numbers(1, 1, 3, 3)).to(dtype).requires_grad_()
        y = F.pad(x, (1, 1, 1, 1), mode)
        y.sum().backward()
        assert y.dtype is x.grad.dtype is dtype


def test_cross_entropy_by_hand() -> None:
    scores, target = numbers(6, 4), np.array([0, 1, 2, 3, 0, 1])
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    got = F.cross_entropy(konv.from_numpy(scores), konv.from_numpy(target))
    assert got.item() == pytest.approx(-logs[np.arange(6), target].mean())
    kept = F.cross_entropy(konv.from_numpy(scores), konv.from_numpy(target), ignore_index=0)
    assert kept.item() == pytest.approx(-logs[np.arange(6), target][target != 0].mean())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_gradients(reduction: str, smoothing: float) -> None:
    target = konv.tensor([[0, 2], [1, -100], [2, 2]])
    weight = konv.tensor([0.5, 1.0, 2.0], dtype=konv.float64)
    options = {"reduction": reduction, "label_smoothing": smoothing, "weight": weight}
    passes(lambda x: F.cross_entropy(x, target, **options), variable(3, 3, 2))
    shares = konv.softmax(variable(3, 3, 2, seed=4).detach(), 1)
    passes(lambda x: F.cross_entropy(x, shares, **options), variable(3, 3, 2))


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"])
def test_gradients_of_losses(name: str) -> None:
    passes(lambda x, y: getattr(F, name)(x, y), variable(3, 4), variable(3, 4, seed=1))


def test_losses_that_overflow_elsewhere_do_not() -> None:
    big = konv.tensor([[1000.0, -1000.0]])
    assert F.cross_entropy(big, konv.tensor([0])).item() == 0.0
    assert F.cross_entropy(big, konv.tensor([1])).item() == 2000.0
    assert F.binary_cross_entropy_with_logits(big, konv.tensor([[1.0, 0.0]])).item() == 0.0


def test_losses_on_meta() -> None:
    scores = konv.empty(2**20, 2**20, device="meta")
    assert F.cross_entropy(scores, konv.empty(2**20, dtype=konv.int64, device="meta")).shape == ()
    assert F.mse_loss(scores, scores, reduction="none").shape == (2**20, 2**20)


@pytest.mark.parametrize(
    "mode, corners", [("nearest", None), ("nearest-exact", None), ("bilinear", False), ("bilinear", True)]
)
@pytest.mark.parametrize("size", [(3, 7), (8, 2), (4, 5), (1, 1)])
def test_resize_gradients(mode: str, corners: bool | None, size: tuple[int, int]) -> None:
    passes(lambda x: F.interpolate(x, size, mode=mode, align_corners=corners), variable(1, 2, 4, 5))


def test_resize_by_hand() -> None:
    x = konv.arange(6.0).reshape(1, 1, 2, 3)
    twice = F.interpolate(x, scale_factor=2).numpy()
    np.testing.assert_array_equal(twice, x.numpy().repeat(2, 2).repeat(2, 3))
    ramp = F.interpolate(x, size=(2, 5), mode="bilinear", align_corners=True).numpy()[0, 0, 0]
    np.testing.assert_allclose(ramp, [0, 0.5, 1, 1.5, 2])
    assert F.interpolate(konv.empty(1, 1, 2**15, 2**15, device="meta"), scale_factor=2).shape == (1, 1, 2**16, 2**16)


def test_fold_undoes_unfold_where_windows_do_not_overlap() -> None:
    x = konv.from_numpy(numbers(2, 3, 6, 8))
    np.testing.assert_array_equal(F.fold(F.unfold(x, 2, stride=2), (6, 8), 2, stride=2).numpy(), x.numpy())


def test_unfold_is_convolution_as_a_matrix() -> None:
    x, weight = variable(2, 3, 6, 5), variable(4, 3, 2, 3, seed=1)
    for padding, stride, dilation in itertools.product((0, 1), (1, 2), (1, 2)):
        options = {"padding": padding, "stride": stride, "dilation": dilation}
        expected = F.conv2d(x, weight, None, **options)
        columns = F.unfold(x, (2, 3), **options)
        got = (weight.reshape(4, -1) @ columns).reshape(expected.shape)
        np.testing.assert_allclose(got.detach().numpy(), expected.detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"padding": 1, "stride": 2}, {"dilation": (1, 2)}])
def test_fold_gradients(options: dict) -> None:
    x = variable(1, 2, 4, 5)
    passes(lambda x: F.unfold(x, 2, **options), x)
    shape = F.unfold(x, 2, **options).shape
    passes(lambda c: F.fold(c, (4, 5), 2, **options), variable(*shape))


def test_dropout() -> None:
    konv.manual_seed(0)
    x = konv.ones(100, 100, requires_grad=True)
    y = F.dropout(x, 0.25)
    assert set(np.unique(y.detach().numpy()).tolist()) == {0.0, np.float32(1 / 0.75)}
    assert abs(float(y.mean()) - 1) < 0.03
    y.sum().backward()
    assert (x.grad == y).all()
    assert F.dropout(x, 0.25, training=False) is x
    assert F.dropout(x, 1.0).sum().item() == 0.0
    z = F.dropout2d(konv.ones(4, 8, 3, 3), 0.5).numpy()
    assert ((z == 0).all((2, 3)) | (z == 2).all((2, 3))).all()
    flat = konv.ones(50)
    assert F.dropout(flat, 0.5, inplace=True) is flat
    assert (flat == 0).any()


@pytest.mark.parametrize(
    "name", ["relu", "relu6", "silu", "mish", "hardswish", "hardsigmoid", "leaky_relu", "elu", "gelu"]
)
def test_activation_gradients(name: str) -> None:
    passes(getattr(F, name), konv.tensor(numbers(5, 4) * 3 + 0.01, requires_grad=True))


@pytest.mark.parametrize("name", ["relu", "silu", "hardswish", "leaky_relu", "elu"])
def test_in_place_is_the_same_with_gradients(name: str) -> None:
    x, y = variable(4, 4), variable(4, 4)
    apart = getattr(F, name)(x * 2)
    within = getattr(F, name)(y * 2, inplace=True)
    apart.sum().backward()
    within.sum().backward()
    assert (apart == within).all()
    assert (x.grad == y.grad).all()


def test_meta_and_dtypes_of_activations() -> None:
    for name in ("relu", "silu", "gelu", "hardswish", "sigmoid", "tanh"):
        assert getattr(F, name)(konv.empty(2**40, device="meta")).shape == (2**40,)
        assert getattr(F, name)(konv.ones(2, dtype=konv.bfloat16)).dtype is konv.bfloat16


def test_clipping() -> None:
    weight = konv.tensor([3.0, 4.0], requires_grad=True)
    weight.grad = konv.tensor([30.0, 40.0])
    assert konv.nn.utils.clip_grad_norm_(weight, 5.0).item() == 50.0
    np.testing.assert_allclose(weight.grad.numpy(), [3, 4], rtol=1e-6)
    konv.nn.utils.clip_grad_value_([weight], 3.5)
    np.testing.assert_allclose(weight.grad.numpy(), [3, 3.5], rtol=1e-6)
    vector = konv.nn.utils.parameters_to_vector([weight, weight * 2])
    assert vector.tolist() == [3.0, 4.0, 6.0, 8.0]
    konv.nn.utils.vector_to_parameters(konv.zeros(2), [weight])
    assert weight.tolist() == [0.0, 0.0]


def test_messages() -> None:
    x = konv.zeros(1, 1, 4, 4)
    cases = {
        "pad: (4, 0) at dimension 3 of size 4; reflect needs a padding less than the size; use 'replicate'": lambda: (
            F.pad(x, (4, 0, 0, 0), "reflect")
        ),
        "pad: pad has 3 numbers; two a dimension make an even number": lambda: F.pad(x, (1, 2, 3)),
        "pad: mode='zeros'; it is one of 'constant', 'reflect', 'replicate', 'circular'": lambda: F.pad(
            x, (1, 1), "zeros"
        ),
        "nll_loss: Target 5 is out of bounds; there are 4 classes, 0 to 3": lambda: F.cross_entropy(
            konv.zeros(1, 4), konv.tensor([5])
        ),
        "interpolate: neither is given; exactly one of size and scale_factor must be defined": lambda: F.interpolate(x),
        "fold: dimension 2 has the size 5; an image of 3x3 has 2 * 2 = 4 windows": lambda: F.fold(
            konv.zeros(1, 4, 5), 3, 2
        ),
    }
    for message, call in cases.items():
        with pytest.raises(konv.errors.KonvError) as caught:
            call()
        assert str(caught.value) == message
