"""Conv2d against PyTorch 2.13 over the whole parameter space: values, gradients, and every refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from tests.tolerances import tolerance

import konv
import konv.nn.functional as F

DTYPES = ["float32", "float64", "float16", "bfloat16", "complex64", "complex128"]
INTEGERS = ["uint8", "int8", "int16", "int32", "int64"]


def both(value, low, high):
    """One number for both axes, or an unequal pair."""
    return st.one_of(st.integers(low, high), st.tuples(st.integers(low, high), st.integers(low, high)))


@st.composite
def layers(draw, dtypes=DTYPES):
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    mode = draw(st.sampled_from(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"]))
    stride = draw(both("stride", 1, 3))
    padding = draw(both("padding", 0, 3))
    if stride == 1 and draw(st.booleans()):
        padding = draw(st.sampled_from(["same", "valid"]))
    return {
        "options": dict(
            in_channels=groups * draw(st.integers(1, 4)),
            out_channels=groups * draw(st.integers(1, 4)),
            kernel_size=draw(both("kernel_size", 1, 4)),
            stride=stride,
            padding=padding,
            dilation=draw(both("dilation", 1, 3)),
            groups=groups,
            bias=draw(st.booleans()),
            padding_mode=mode,
        ),
        "batch": draw(st.sampled_from([None, 0, 1, 2])),
        "size": (draw(st.integers(1, 14)), draw(st.integers(1, 14))),
        "dtype": draw(st.sampled_from(dtypes)),
        "seed": draw(st.integers(0, 2**31)),
        "layout": draw(st.sampled_from(["plain", "transposed", "sliced", "negative", "expanded", "channels_last"])),
    }


def random_array(shape, dtype, rng):
    if dtype in INTEGERS:
        return torch.from_numpy(rng.integers(0 if dtype == "uint8" else -9, 10, shape)).to(getattr(torch, dtype))
    values = rng.standard_normal(shape)
    if dtype.startswith("complex"):
        values = values + 1j * rng.standard_normal(shape)
    return torch.from_numpy(np.asarray(values)).to(getattr(torch, dtype))


def to_konv(tensor):
    """The same numbers as a konv tensor, without sharing memory."""
    name = str(tensor.dtype).removeprefix("torch.")
    plain = tensor.detach().resolve_conj()
    if name == "bfloat16":
        return konv.tensor(plain.float().numpy()).to(konv.bfloat16)
    return konv.tensor(plain.numpy().copy())


def from_konv(tensor):
    tensor = tensor.detach()
    if tensor.dtype is konv.bfloat16:
        return torch.from_numpy(tensor.float().numpy().copy()).to(torch.bfloat16)
    return torch.from_numpy(np.array(tensor.numpy()))


def laid_out(x, layout):
    """The same values in other memory, made by the same views in both libraries."""
    if layout == "transposed":
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "channels_last":
        return x.movedim(-3, -1).contiguous().movedim(-1, -3)
    return x


def relaid(x, layout):
    """konv only: strides that PyTorch cannot have."""
    if layout == "negative":
        return konv.from_numpy(np.flip(np.flip(x.numpy(), (-1, -2)).copy(), (-1, -2)))
    if layout == "sliced":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.numpy().dtype)
        wide[..., 1::2] = x.numpy()
        return konv.from_numpy(wide)[..., 1::2]
    return laid_out(x, layout)


def close(got, expected, dtype, terms, what):
    expected = expected.detach().resolve_conj()
    assert tuple(got.shape) == tuple(expected.shape), what
    assert str(got.dtype) == str(expected.dtype), what
    wide = torch.complex128 if expected.is_complex() else torch.float64
    g, e = from_konv(got).to(wide), expected.to(wide)
    if e.numel():
        scale = max(1.0, float(e.abs().max()))
        assert float((g - e).abs().max()) <= tolerance(dtype, terms) * scale, what


@settings(max_examples=400, deadline=None)
@given(layers())
def test_values_and_gradients(case):
    options, dtype = case["options"], case["dtype"]
    rng = np.random.default_rng(case["seed"])
    theirs = torch.nn.Conv2d(**options, dtype=getattr(torch, dtype))
    ours = konv.nn.Conv2d(**options, dtype=getattr(konv, dtype))
    assert repr(ours) == repr(theirs)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(random_array(parameter.shape, dtype, rng))
            with konv.no_grad():
                getattr(ours, name).copy_(to_konv(parameter))
    leading = () if case["batch"] is None else (case["batch"],)
    x = random_array((*leading, options["in_channels"], *case["size"]), dtype, rng)
    mine = to_konv(x)
    mine = (relaid(mine, case["layout"]) if x.numel() else mine).detach().requires_grad_()
    x = laid_out(x, case["layout"]).detach().requires_grad_()
    try:
        expected = theirs(x)
    except RuntimeError:
        with pytest.raises(RuntimeError):
            ours(mine)
        return
    got = ours(mine)
    k = theirs.weight[0].numel()
    close(got, expected, dtype, k, "output")
    grad = random_array(expected.shape, dtype, rng)
    expected.backward(grad)
    got.backward(to_konv(grad))
    close(mine.grad, x.grad, dtype, theirs.weight[:, 0].numel(), "input gradient")
    pixels = max(1, grad.numel() // options["out_channels"])
    for name, parameter in theirs.named_parameters():
        close(getattr(ours, name).grad, parameter.grad, dtype, pixels, f"{name} gradient")


@settings(max_examples=150, deadline=None)
@given(layers(INTEGERS))
def test_integers_wrap_as_pytorch_does(case):
    options, dtype = case["options"], case["dtype"]
    rng = np.random.default_rng(case["seed"])
    leading = () if case["batch"] is None else (case["batch"],)
    x = random_array((*leading, options["in_channels"], *case["size"]), dtype, rng)
    weight = random_array(konv.geometry.ConvGeometry.of(
        options["in_channels"], options["out_channels"], options["kernel_size"], groups=options["groups"]
    ).weight_shape, dtype, rng)  # fmt: skip
    arguments = {name: options[name] for name in ("stride", "padding", "dilation", "groups")}
    try:
        expected = torch.nn.functional.conv2d(x, weight, None, **arguments)
    except RuntimeError as error:
        if "not implemented" in str(error):  # PyTorch has no dilated convolution of integers; konv has
            wide = torch.nn.functional.conv2d(x.double(), weight.double(), None, **arguments)
            expected = wide.long().to(x.dtype)
        else:
            with pytest.raises(RuntimeError):
                F.conv2d(to_konv(x), to_konv(weight), None, **arguments)
            return
    got = F.conv2d(to_konv(x), to_konv(weight), None, **arguments)
    assert str(got.dtype) == str(expected.dtype)
    np.testing.assert_array_equal(got.numpy(), expected.numpy())


@settings(max_examples=200, deadline=None)
@given(layers(["float32", "float64", "complex64"]), st.integers(0, 2), st.integers(0, 2))
def test_transposed(case, extra_h, extra_w):
    options, dtype = dict(case["options"]), case["dtype"]
    del options["padding_mode"]
    if isinstance(options["padding"], str):
        options["padding"] = 1
    rng = np.random.default_rng(case["seed"])
    options["output_padding"] = (extra_h, extra_w)
    theirs = torch.nn.ConvTranspose2d(**options, dtype=getattr(torch, dtype))
    x = random_array(((case["batch"] or 1), options["in_channels"], *case["size"]), dtype, rng).requires_grad_()
    try:
        expected = theirs(x)
        if not expected.numel():  # an empty output: PyTorch's engines refuse it or not, each for itself
            raise RuntimeError("empty")
    except RuntimeError:
        with pytest.raises((RuntimeError, ValueError)):
            konv.nn.ConvTranspose2d(**options, dtype=getattr(konv, dtype))(to_konv(x))
        return
    ours = konv.nn.ConvTranspose2d(**options, dtype=getattr(konv, dtype))
    assert repr(ours) == repr(theirs)
    with konv.no_grad():
        for name, parameter in theirs.named_parameters():
            getattr(ours, name).copy_(to_konv(parameter))
    mine = to_konv(x).requires_grad_()
    got = ours(mine)
    close(got, expected, dtype, theirs.weight[:, 0].numel(), "output")
    grad = random_array(expected.shape, dtype, rng)
    expected.backward(grad)
    got.backward(to_konv(grad))
    close(mine.grad, x.grad, dtype, theirs.weight[0].numel(), "input gradient")
    for name, parameter in theirs.named_parameters():
        close(getattr(ours, name).grad, parameter.grad, dtype, grad.numel(), f"{name} gradient")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(16, 33, (3, 5)), (3, 64, 7), (8, 8, 1), (1, 1, 1), (6, 4, 2)])
def test_initial_weights_are_bit_identical(dtype, shape):
    torch.manual_seed(11)
    konv.manual_seed(11)
    theirs = torch.nn.Conv2d(*shape, dtype=getattr(torch, dtype))
    ours = konv.nn.Conv2d(*shape, dtype=getattr(konv, dtype))
    for name, parameter in theirs.named_parameters():
        assert torch.equal(from_konv(getattr(ours, name)), parameter.detach()), name


REFUSED_AT_CONSTRUCTION = [
    dict(groups=2, in_channels=3),
    dict(groups=2, out_channels=3),
    dict(groups=0),
    dict(groups=-1),
    dict(padding="full"),
    dict(padding="same", stride=2),
    dict(padding_mode="mirror"),
    dict(padding_mode=3),
    dict(in_channels=-1),
    dict(out_channels=-2),
    dict(kernel_size=-3),
    dict(in_channels="a"),
    dict(kernel_size="a"),
    dict(device="moon"),
    dict(dtype="float32"),
]


@pytest.mark.parametrize("change", REFUSED_AT_CONSTRUCTION, ids=str)
def test_what_pytorch_refuses_at_construction(change):
    options = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, **change}
    with pytest.raises(Exception) as theirs:
        torch.nn.Conv2d(**options)
    with pytest.raises(konv.errors.KonvError) as ours:
        konv.nn.Conv2d(**options)
    assert shares_builtin(ours.value, theirs.value)


def shares_builtin(ours, theirs):
    """Whoever catches PyTorch's built-in error catches ours."""
    builtin = next(t for t in type(theirs).__mro__ if t.__module__ == "builtins")
    return isinstance(ours, builtin)


REFUSED_AT_THE_CALL = {
    "two axes": lambda t, f: f.conv2d(t.zeros(4, 4), t.zeros(1, 1, 2, 2)),
    "five axes": lambda t, f: f.conv2d(t.zeros(1, 1, 1, 4, 4), t.zeros(1, 1, 2, 2)),
    "channels": lambda t, f: f.conv2d(t.zeros(1, 3, 4, 4), t.zeros(1, 1, 2, 2)),
    "weight axes": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2)),
    "bias": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), t.zeros(2)),
    "bias axes": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(2, 1, 2, 2), t.zeros(2, 1)),
    "dtype": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2, dtype=t.float64)),
    "bias dtype": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), t.zeros(1, dtype=t.float64)),
    "bool": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4, dtype=t.bool), t.zeros(1, 1, 2, 2, dtype=t.bool)),
    "kernel too large": lambda t, f: f.conv2d(t.zeros(1, 1, 2, 4), t.zeros(1, 1, 3, 3)),
    "empty height": lambda t, f: f.conv2d(t.zeros(1, 1, 0, 4), t.zeros(1, 1, 1, 1), padding=1),
    "stride 0": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), stride=0),
    "stride -1": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), stride=-1),
    "dilation 0": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), dilation=0),
    "padding -1": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), padding=-1),
    "groups 0": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), groups=0),
    "groups 3": lambda t, f: f.conv2d(t.zeros(1, 3, 4, 4), t.zeros(4, 1, 2, 2), groups=3),
    "three strides": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), stride=(1, 1, 1)),
    "stride text": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), stride="a"),
    "stride float": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), stride=1.5),
    "padding word": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), padding="full"),
    "same with stride": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), padding="same", stride=2),
    "reflect too far": lambda t, f: t.nn.Conv2d(1, 1, 3, padding=4, padding_mode="reflect")(t.zeros(1, 1, 4, 4)),
    "circular too far": lambda t, f: t.nn.Conv2d(1, 1, 3, padding=5, padding_mode="circular")(t.zeros(1, 1, 4, 4)),
    "zero outputs": lambda t, f: f.conv2d(t.zeros(1, 1, 4, 4), t.zeros(0, 1, 2, 2)),
    "output padding": lambda t, f: f.conv_transpose2d(t.zeros(1, 1, 4, 4), t.zeros(1, 1, 2, 2), output_padding=1),
    "transposed too small": lambda t, f: f.conv_transpose2d(t.zeros(1, 1, 1, 1), t.zeros(1, 1, 2, 2), padding=2),
}


@pytest.mark.parametrize("name", REFUSED_AT_THE_CALL)
def test_what_pytorch_refuses_at_the_call(name):
    call = REFUSED_AT_THE_CALL[name]
    with pytest.raises(Exception) as theirs:
        call(torch, torch.nn.functional)
    with pytest.raises(konv.errors.KonvError) as ours:
        call(konv, F)
    assert shares_builtin(ours.value, theirs.value)
    assert len(str(ours.value)) > 30


def test_zero_channels_in_and_out():
    for shape in [(2, 0, 8, 8), (0, 3, 8, 8)]:
        weight = torch.zeros(4, shape[1], 3, 3)
        expected = torch.nn.functional.conv2d(torch.zeros(shape), weight, torch.zeros(4))
        got = F.conv2d(konv.zeros(*shape), konv.zeros(*weight.shape), konv.zeros(4))
        assert tuple(got.shape) == tuple(expected.shape)


def test_state_dict_goes_both_ways():
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 1, bias=False)
    )
    ours = konv.nn.Sequential(konv.nn.Conv2d(3, 4, 3), konv.nn.BatchNorm2d(4), konv.nn.Conv2d(4, 2, 1, bias=False))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: to_konv(value) for name, value in theirs.state_dict().items()})
    x = torch.randn(2, 3, 9, 8)
    theirs.eval(), ours.eval()
    np.testing.assert_allclose(ours(to_konv(x)).detach().numpy(), theirs(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_torch_tensor_just_works_as_input():
    layer = konv.nn.Conv2d(3, 4, 3)
    x = torch.randn(1, 3, 8, 8)
    got = layer(x)
    assert isinstance(got, konv.Tensor)
    np.testing.assert_array_equal(got.detach().numpy(), layer(konv.tensor(x.numpy())).detach().numpy())
