"""Layers, losses, padding and resizing against PyTorch: values, gradients and the first values of parameters."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from tests.live.test_random import both, same_bits

import konv

FLOATS = ["float32", "float64", "float16", "bfloat16"]


def array(tensor) -> np.ndarray:
    """A PyTorch tensor as NumPy's float64 or complex128."""
    tensor = tensor.detach()
    if tensor.dtype in (torch.int64, torch.bool, torch.int32, torch.uint8):
        return tensor.numpy()
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64).numpy(force=True)


def close(mine, theirs, tolerance: float = 1e-9) -> None:
    assert tuple(mine.shape) == tuple(theirs.shape)
    assert str(mine.dtype) == str(theirs.dtype)
    values = mine.detach()._array
    np.testing.assert_allclose(values.astype(array(theirs).dtype), array(theirs), rtol=tolerance, atol=tolerance)


def compare(function, *arrays, tolerance: float = 1e-9, second: bool = True) -> None:
    """Value, gradients and gradients of gradients of ``function(module, functional, *tensors)``."""
    mine = [konv.tensor(a, requires_grad=a.dtype.kind in "fc") for a in arrays]
    theirs = [torch.tensor(a, requires_grad=a.dtype.kind in "fc") for a in arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = function(konv.nn.functional, *mine), function(torch.nn.functional, *theirs)
    close(a, b, tolerance)
    if not b.requires_grad:
        return
    mine_in = [t for t in mine if t.requires_grad]
    their_in = [t for t in theirs if t.requires_grad]
    seed = np.random.default_rng(1).standard_normal(array(b).shape)
    mine_seed = konv.tensor(seed, requires_grad=True).to(a.dtype)
    their_seed = torch.tensor(seed, requires_grad=True).to(b.dtype)
    ga = konv.autograd.grad(a, mine_in, mine_seed, create_graph=second)
    gb = torch.autograd.grad(b, their_in, their_seed, create_graph=second)
    for x, y in zip(ga, gb, strict=True):
        close(x, y, tolerance)
    if second and any(g.requires_grad for g in gb):
        ta, tb = (sum((g * g.conj()).real.sum() if g.is_complex() else (g * g).sum() for g in gs) for gs in (ga, gb))
        ga = konv.autograd.grad(ta, mine_in, allow_unused=True)
        gb = torch.autograd.grad(tb, their_in, allow_unused=True)
        for x, y in zip(ga, gb, strict=True):
            if y is None or x is None:
                assert x is None or not x._array.any()
                assert y is None or not y.any()
            else:
                close(x, y, tolerance)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# --- first values ---


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sizes", [(1, 1), (3, 4), (7, 200), (3136, 10), (100, 1000)])
def test_linear_starts_with_the_same_bits(sizes, dtype: str) -> None:
    both(sum(sizes))
    mine, theirs = (
        konv.nn.Linear(*sizes, dtype=getattr(konv, dtype)),
        torch.nn.Linear(*sizes, dtype=getattr(torch, dtype)),
    )
    assert same_bits(mine.weight, theirs.weight)
    assert same_bits(mine.bias, theirs.bias)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "options", [(1, 1, 1), (3, 64, 7), (16, 33, (3, 5)), (64, 64, 3), (8, 16, 3, 1, 0, 1, 4), (5, 3, 1)]
)
@pytest.mark.parametrize("layer", ["Conv2d", "ConvTranspose2d"])
def test_convolutions_start_with_the_same_bits(layer: str, options, dtype: str) -> None:
    both(len(str(options)))
    if layer == "ConvTranspose2d":
        options = options[:3]
    mine = getattr(konv.nn, layer)(*options, dtype=getattr(konv, dtype))
    theirs = getattr(torch.nn, layer)(*options, dtype=getattr(torch, dtype))
    assert same_bits(mine.weight, theirs.weight)
    assert same_bits(mine.bias, theirs.bias)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name, options",
    [
        ("uniform_", {"a": -2.0, "b": 3.0}),
        ("normal_", {"mean": 1.0, "std": 0.3}),
        ("xavier_uniform_", {"gain": 1.7}),
        ("xavier_normal_", {}),
        ("kaiming_uniform_", {"nonlinearity": "relu", "mode": "fan_out"}),
        ("kaiming_normal_", {"a": 0.3}),
        ("trunc_normal_", {"std": 0.02}),
        ("trunc_normal_", {"a": 0.5, "b": 0.9}),
        ("trunc_normal_", {"mean": 1.0, "a": -1.0, "b": 2.5}),
        ("orthogonal_", {"gain": 1.5}),
        ("constant_", {"val": 0.3}),
        ("ones_", {}),
        ("zeros_", {}),
    ],
)
def test_init(name: str, options: dict, dtype: str) -> None:
    for shape in ((6, 4), (5, 30), (4, 3, 3, 3)):
        both(7)
        mine = getattr(konv.nn.init, name)(konv.empty(shape, dtype=getattr(konv, dtype)), **options)
        theirs = getattr(torch.nn.init, name)(torch.empty(shape, dtype=getattr(torch, dtype)), **options)
        close(mine, theirs, 3e-6 if dtype == "float32" else 1e-12)
        if "uniform" in name and "trunc" not in name:
            assert same_bits(mine, theirs)


def test_init_without_randomness() -> None:
    for groups in (1, 2):
        close(
            konv.nn.init.dirac_(konv.empty(4, 3, 3, 5), groups), torch.nn.init.dirac_(torch.empty(4, 3, 3, 5), groups)
        )
    close(konv.nn.init.eye_(konv.empty(3, 5)), torch.nn.init.eye_(torch.empty(3, 5)))
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert konv.nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)


# --- padding ---

PADS = [(1, 2, 3, 1), (0, 0, 2, 2), (3, 3, 3, 3), (-1, 2, 1, -2), (-1, -1, -1, -1), (0, 0, 0, 0), (2, 0, 0, -1)]


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("amounts", PADS)
def test_pad(mode: str, amounts) -> None:
    compare(lambda F, x: F.pad(x, amounts, mode) ** 2, numbers(2, 3, 5, 6))
    compare(lambda F, x: F.pad(x, amounts, mode), numbers(3, 5, 4))
    compare(lambda F, x: F.pad(x, amounts[:2], mode), numbers(3, 5))


@given(
    mode=st.sampled_from(["constant", "reflect", "replicate", "circular"]),
    amounts=st.tuples(*[st.integers(-3, 4)] * 4),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_pad_anywhere(mode: str, amounts, size) -> None:
    """Whatever PyTorch pads is the same, and what it refuses is refused."""
    x = numbers(1, 2, *size)
    # PyTorch crops past an edge without noticing (and reads memory that is not the tensor's): konv refuses that.
    past = any(-min(amounts[2 * i : 2 * i + 2]) > size[1 - i] for i in (0, 1))
    if mode == "circular":  # it also wraps around what is cropped away
        left = [size[1 - i] + sum(min(a, 0) for a in amounts[2 * i : 2 * i + 2]) for i in (0, 1)]
        past = past or any(max(amounts[2 * i : 2 * i + 2]) > left[i] for i in (0, 1))
    try:
        theirs = torch.nn.functional.pad(torch.tensor(x), amounts, mode)
    except RuntimeError:
        theirs = None
    if theirs is None or past or (mode != "constant" and 0 in theirs.shape):
        with pytest.raises(konv.errors.ShapeError):
            konv.nn.functional.pad(konv.tensor(x), amounts, mode)
        return
    compare(lambda F, x: F.pad(x, amounts, mode), x)


def test_pad_of_every_rank_and_dtype() -> None:
    compare(lambda F, x: F.pad(x, (1, 1, 2, 0, 1, 1), "reflect"), numbers(2, 3, 4, 5, 6))
    compare(lambda F, x: F.pad(x, (1, 2, 3, 4, 5, 6), "constant", 2.5), numbers(2, 3, 2))
    compare(lambda F, x: F.pad(x, (1, 1), value=1.5), numbers(4))
    compare(lambda F, x: F.pad(x, (1, 1, 1, 1), "replicate"), numbers(1, 1, 2, 2) + 1j * numbers(1, 1, 2, 2, seed=3))
    for kind in (np.int64, np.uint8, np.bool_, np.float16):
        for mode in ("constant", "reflect", "circular"):
            if kind is not np.bool_ or mode != "reflect":  # PyTorch has none
                compare(
                    lambda F, x, mode=mode: F.pad(x, (1, 2, 0, 1), mode),
                    numbers(1, 1, 3, 4).astype(kind),
                    tolerance=2e-3,
                )


PAD_REFUSALS = [
    "F.pad(x, (1,))",
    "F.pad(x, (1,) * 8)",
    "F.pad(x, (-3, -3))",
    "F.pad(x, (1, 1), 'foo')",
    "F.pad(x, (1, 1), 'reflect', 1.0)",
    "F.pad(x, (1,) * 6, 'reflect')",
    "F.pad(x[0, 0], (1, 1), 'reflect')",
    "F.pad(x, (5, 0), 'reflect')",
    "F.pad(x, (-5, 0), 'replicate')",
    "F.pad(x, (6, 0), 'circular')",
    "F.pad(x, (1.5, 1))",
    "F.pad(x, 2)",
    "F.pad(x.reshape(1, 5, 1)[:, :0], (1, 1), 'reflect')",
    "nn.ReflectionPad2d((1, 2))(x.reshape(1, 1, 1, 5))",
    "nn.ReflectionPad2d(5)(x.reshape(1, 1, 1, 5))",
]


@pytest.mark.parametrize("code", PAD_REFUSALS)
def test_pad_refusals(code: str) -> None:
    refused_alike(code)


def refused_alike(code: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as theirs:
            eval(code, {"F": torch.nn.functional, "nn": torch.nn, "k": torch, "x": torch.arange(5.0).reshape(1, 1, 5)})
        with pytest.raises(konv.errors.KonvError) as mine:
            eval(code, {"F": konv.nn.functional, "nn": konv.nn, "k": konv, "x": konv.arange(5.0).reshape(1, 1, 5)})
    assert isinstance(mine.value, theirs.type), f"{mine.value!r} for {theirs.value!r}"


# --- activations ---

KINKS = np.linspace(-7, 7, 57)  # all whole, half and quarter numbers: where derivatives jump
POINTS = np.concatenate([KINKS + 0.0137, numbers(40)])
ACTIVATIONS = {
    "relu": {},
    "relu6": {},
    "leaky_relu": {"negative_slope": 0.2},
    "elu": {"alpha": 1.3},
    "silu": {},
    "mish": {},
    "gelu": {},
    "hardswish": {},
    "hardsigmoid": {},
    "sigmoid": {},
    "tanh": {},
    "softplus": {"beta": 2.0, "threshold": 5.0},
    "logsigmoid": {},
    "hardtanh": {"min_val": -2.0, "max_val": 0.5},
    "softmax": {"dim": 0},
    "log_softmax": {"dim": 0},
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    options = ACTIVATIONS[name]
    tolerance = 1e-7 if name == "hardsigmoid" else 1e-9  # PyTorch keeps a sixth in float32
    second = name != "hardsigmoid"  # PyTorch has none
    compare(lambda F, x: getattr(F, name)(x, **options), POINTS, tolerance=tolerance, second=second)
    compare(lambda F, x: getattr(F, name)(x, **options), KINKS, tolerance=tolerance, second=False)
    for kind, limit in ((np.float32, 2e-6), (np.float16, 4e-3)):
        compare(lambda F, x: getattr(F, name)(x, **options), POINTS.astype(kind), tolerance=limit, second=False)


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "elu", "silu", "mish", "hardswish", "hardsigmoid"])
def test_in_place(name: str) -> None:
    def run(F, x):
        y = x * 1.5
        assert getattr(F, name)(y, inplace=True) is y
        return y

    compare(run, POINTS, tolerance=1e-7, second=False)


def test_gelu_by_tanh_and_prelu() -> None:
    compare(lambda F, x: F.gelu(x, approximate="tanh"), POINTS)
    compare(lambda F, x, w: F.prelu(x, w), numbers(2, 3, 4, 5), numbers(3))
    compare(lambda F, x, w: F.prelu(x, w), numbers(2, 3), numbers(1))


@pytest.mark.parametrize("dim", [0, 1, 2, -1, None])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_along_every_dimension(name: str, dim: int | None) -> None:
    compare(lambda F, x: getattr(F, name)(x, dim=dim), numbers(3, 4, 5) * 30)


# --- losses ---

CLASSES = np.array([0, 4, 2, 2])
REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [-100, 2])
def test_cross_entropy(reduction: str, smoothing: float, weighted: bool, ignore: int) -> None:
    weight = np.array([0.5, 1.0, 2.0, 0.1, 3.0])

    def run(F, x, target):
        w = None if not weighted else (konv if F is konv.nn.functional else torch).tensor(weight)
        return F.cross_entropy(x, target, w, ignore_index=ignore, reduction=reduction, label_smoothing=smoothing)

    compare(run, numbers(4, 5), CLASSES)
    compare(run, numbers(2, 5, 3, 2), np.random.default_rng(0).integers(0, 5, (2, 3, 2)))
    compare(run, numbers(5), np.array(3))
    if ignore == -100:
        shares = np.random.default_rng(3).dirichlet(np.ones(5), 4)
        compare(run, numbers(4, 5), shares, second=False)
        compare(run, numbers(5), shares[0], second=False)
    if not smoothing:
        compare(lambda F, x, t: F.nll_loss(x, t, ignore_index=ignore, reduction=reduction), numbers(4, 5), CLASSES)


def test_cross_entropy_of_nothing() -> None:
    compare(lambda F, x, t: F.cross_entropy(x, t), numbers(0, 5), np.zeros(0, np.int64), second=False)
    compare(lambda F, x, t: F.cross_entropy(x, t), numbers(2, 5), np.array([-100, -100]), second=False)
    compare(lambda F, x, t: F.cross_entropy(x, t, reduction="sum"), numbers(2, 5), np.array([-100, -100]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"])
def test_losses_of_numbers(name: str, reduction: str) -> None:
    compare(lambda F, x, y: getattr(F, name)(x, y, reduction=reduction), numbers(3, 4), numbers(3, 4, seed=2))
    if name in ("mse_loss", "l1_loss"):
        compare(lambda F, x, y: getattr(F, name)(x, y, reduction=reduction), numbers(3, 4), numbers(4, seed=2))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_losses(reduction: str) -> None:
    weight, positive = numbers(3, 4, seed=5) ** 2, numbers(4, seed=6) ** 2

    def logits(F, x, y):
        w, p = ((konv if F is konv.nn.functional else torch).tensor(a) for a in (weight, positive))
        return F.binary_cross_entropy_with_logits(x, y, w, reduction=reduction, pos_weight=p)

    compare(logits, numbers(3, 4) * 9, numbers(3, 4, seed=2), second=False)
    inside = 1 / (1 + np.exp(-numbers(3, 4)))
    compare(
        lambda F, x, y: F.binary_cross_entropy(x, y, reduction=reduction),
        inside,
        np.round(inside.T.reshape(3, 4)),
        second=False,
    )


LOSS_REFUSALS = [
    "F.cross_entropy(k.zeros(4, 5), k.tensor([0, 1, 2, 5]))",
    "F.cross_entropy(k.zeros(4, 5), k.tensor([0, 1, 2, -1]))",
    "F.cross_entropy(k.zeros(4, 5), k.tensor([0, 1, 2]))",
    "F.cross_entropy(k.zeros(4, 5), k.zeros(4))",
    "F.cross_entropy(k.zeros(4, 5), k.zeros(4, dtype=k.int32))",
    "F.cross_entropy(k.zeros(2, 3, 4), k.zeros(2, 5, dtype=k.int64))",
    "F.cross_entropy(k.zeros(4, 5), k.tensor([0, 1, 2, 3]), weight=k.ones(4))",
    "F.cross_entropy(k.zeros(4, 5), k.tensor([0, 1, 2, 3]), label_smoothing=2.0)",
    "F.cross_entropy(k.zeros(4, 5), k.tensor([0, 1, 2, 3]), reduction='foo')",
    "F.mse_loss(k.zeros(4, 5), k.zeros(4, 3))",
    "F.mse_loss(k.zeros(4, 5), k.zeros(4, 5), reduction='foo')",
    "F.binary_cross_entropy_with_logits(k.zeros(4, 5), k.zeros(5))",
    "F.binary_cross_entropy(k.full((2,), 1.5), k.zeros(2))",
    "F.dropout(x, 1.5)",
    "nn.Dropout(-0.1)",
    "nn.Linear(3, 4)(k.zeros(2, 5))",
    "nn.Linear(3, 4)(k.zeros(2, 3).double())",
    "nn.Linear(-1, 2)",
    "F.interpolate(x)",
    "F.interpolate(x, size=3, scale_factor=2.0)",
    "F.interpolate(x, size=(3, 4))",
    "F.interpolate(x, size=0)",
    "F.interpolate(x, size=3, mode='bilinear')",
    "F.interpolate(x, size=3, mode='foo')",
    "F.interpolate(x, size=3, align_corners=True)",
    "F.unfold(x.reshape(1, 1, 1, 5), 3)",
    "F.fold(x, (2, 2), 2)",
    "F.one_hot(x)",
    "nn.init.eye_(k.zeros(2, 2, 2))",
    "nn.init.dirac_(k.zeros(2, 2))",
    "nn.init.dirac_(k.zeros(3, 2, 1), 2)",
    "nn.init.xavier_uniform_(k.zeros(3))",
    "nn.init.orthogonal_(k.zeros(3))",
    "nn.init.calculate_gain('foo')",
    "nn.init.kaiming_uniform_(k.zeros(2, 2), mode='foo')",
    "nn.utils.clip_grad_norm_([p := k.ones(2, requires_grad=True), (p * float('inf')).sum().backward()][:1], 1.0, "
    "error_if_nonfinite=True)",
]


@pytest.mark.parametrize("code", LOSS_REFUSALS)
def test_refusals(code: str) -> None:
    refused_alike(code)


# --- resizing and folding ---


@pytest.mark.parametrize(
    "mode, corners", [("nearest", None), ("nearest-exact", None), ("bilinear", False), ("bilinear", True)]
)
def test_interpolate(mode: str, corners: bool | None) -> None:
    x = numbers(2, 3, 5, 7)
    for size in ((10, 14), (3, 4), (5, 7), (1, 1), (11, 2)):
        compare(lambda F, x, size=size: F.interpolate(x, size=size, mode=mode, align_corners=corners), x)
    for factor, again in itertools.product((2, 1.5, 0.6, (2.3, 0.7)), (None, True)):
        compare(
            lambda F, x, factor=factor, again=again: F.interpolate(
                x, scale_factor=factor, mode=mode, align_corners=corners, recompute_scale_factor=again
            ),
            x,
        )


@given(
    mode=st.sampled_from([("nearest", None), ("nearest-exact", None), ("bilinear", False), ("bilinear", True)]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    factor=st.tuples(st.floats(0.3, 4.0), st.floats(0.3, 4.0)),
)
def test_interpolate_anywhere(mode, size, factor) -> None:
    if min(int(n * f) for n, f in zip(size, factor, strict=True)) == 0:
        return
    compare(
        lambda F, x: F.interpolate(x, scale_factor=factor, mode=mode[0], align_corners=mode[1]), numbers(1, 2, *size)
    )


def test_interpolate_other_ranks() -> None:
    compare(lambda F, x: F.interpolate(x, size=9, mode="linear"), numbers(2, 3, 5))
    compare(lambda F, x: F.interpolate(x, scale_factor=2), numbers(2, 3, 5))
    compare(lambda F, x: F.interpolate(x, scale_factor=2), numbers(1, 2, 3, 2, 2))
    compare(
        lambda F, x: F.interpolate(x, size=(9, 5), mode="bilinear"),
        numbers(1, 2, 4, 4).astype(np.float32),
        tolerance=1e-5,
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 1}, {"stride": 2}, {"dilation": 2, "padding": 2}, {"stride": (2, 1), "padding": (0, 2)}],
)
def test_unfold_and_fold(options: dict) -> None:
    compare(lambda F, x: F.unfold(x, (2, 3), **options), numbers(2, 3, 6, 7))
    compare(lambda F, x: F.unfold(x, 2, **options), numbers(3, 6, 7))
    columns = torch.nn.functional.unfold(torch.zeros(2, 3, 6, 7), (2, 3), **options).shape
    compare(lambda F, x: F.fold(x, (6, 7), (2, 3), **options), numbers(*columns))
    compare(lambda F, x: F.fold(x, (6, 7), (2, 3), **options), numbers(*columns[1:]))


def test_one_hot() -> None:
    compare(lambda F, x: F.one_hot(x), np.array([[0, 2], [1, 1]]))
    compare(lambda F, x: F.one_hot(x, 5), np.array([0, 2]))


# --- descriptions ---

REPRS = [
    "nn.Linear(3, 4, bias=False)",
    "nn.ReLU()",
    "nn.ReLU(True)",
    "nn.ReLU6()",
    "nn.LeakyReLU(0.2, True)",
    "nn.PReLU(3)",
    "nn.SiLU()",
    "nn.GELU()",
    "nn.GELU('tanh')",
    "nn.Sigmoid()",
    "nn.Tanh()",
    "nn.Hardswish()",
    "nn.Hardsigmoid(True)",
    "nn.Softmax(1)",
    "nn.LogSoftmax(dim=1)",
    "nn.Softplus()",
    "nn.ELU()",
    "nn.Mish()",
    "nn.Flatten()",
    "nn.Unflatten(1, (2, 3))",
    "nn.Dropout(0.3)",
    "nn.Dropout2d(0.3, True)",
    "nn.Upsample(scale_factor=2)",
    "nn.Upsample(size=(3, 4), mode='bilinear', align_corners=True)",
    "nn.ZeroPad2d(2)",
    "nn.ConstantPad2d(1, 3.5)",
    "nn.ReflectionPad2d((1, 2, 3, 4))",
    "nn.ReplicationPad2d(1)",
    "nn.CircularPad2d(1)",
    "nn.Identity(3, a=4)",
    "nn.CrossEntropyLoss(label_smoothing=0.1)",
    "nn.NLLLoss()",
    "nn.MSELoss()",
    "nn.L1Loss()",
    "nn.BCEWithLogitsLoss()",
    "nn.Sequential(nn.Linear(1, 2), nn.Sequential(nn.ReLU(), nn.Flatten()))",
    "nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Linear(1, 1), nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())])",
    "nn.ModuleList()",
    "nn.ModuleDict({'a': nn.ReLU(), 'b': nn.ModuleList([nn.ReLU()])})",
    "nn.Sequential()",
    "nn.Parameter(k.zeros(2))",
]


@pytest.mark.parametrize("code", REPRS)
def test_reprs(code: str) -> None:
    assert repr(eval(code, {"nn": konv.nn, "k": konv})) == repr(eval(code, {"nn": torch.nn, "k": torch}))


def test_clipping() -> None:
    for norm in (2.0, 1.0, math.inf, 3):
        parts = [numbers(3, 4), numbers(5, seed=2)]
        mine = [konv.tensor(p, requires_grad=True) for p in parts]
        theirs = [torch.tensor(p, requires_grad=True) for p in parts]
        for t in (*mine, *theirs):
            (t * t).sum().backward()
        close(konv.nn.utils.clip_grad_norm_(mine, 0.7, norm), torch.nn.utils.clip_grad_norm_(theirs, 0.7, norm))
        for a, b in zip(mine, theirs, strict=True):
            close(a.grad, b.grad)
        konv.nn.utils.clip_grad_value_(mine, 0.1)
        torch.nn.utils.clip_grad_value_(theirs, 0.1)
        for a, b in zip(mine, theirs, strict=True):
            close(a.grad, b.grad)
