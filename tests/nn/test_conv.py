"""The layers themselves: attributes, parameters, description, refusals, and results that depend on nothing else."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import konv
import konv.nn.functional as F
from konv import errors, reference
from konv.geometry import ConvGeometry
from konv.nn import Conv2d, ConvTranspose2d, Parameter
from konv.ops.conv import convolve


def test_attributes_are_pytorchs():
    layer = Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2), dilation=(3, 1))
    assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (16, 33, (3, 5))
    assert (layer.stride, layer.padding, layer.dilation) == ((2, 1), (4, 2), (3, 1))
    assert (layer.groups, layer.padding_mode, layer.transposed) == (1, "zeros", False)
    assert layer.output_padding == (0, 0)
    assert tuple(layer.weight.shape) == (33, 16, 3, 5)
    assert tuple(layer.bias.shape) == (33,)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert Conv2d(1, 1, 1, bias=False).bias is None


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Conv2d(3, 16, 3, padding=1), "Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"),
        (Conv2d(4, 8, 3, groups=2, bias=False),
         "Conv2d(4, 8, kernel_size=(3, 3), stride=(1, 1), groups=2, bias=False)"),
        (Conv2d(4, 8, 3, padding="same", dilation=2, padding_mode="reflect"),
         "Conv2d(4, 8, kernel_size=(3, 3), stride=(1, 1), padding=same, dilation=(2, 2), padding_mode=reflect)"),
        (Conv2d(1, 1, 3, padding=((0, 1), (2, 2))),
         "Conv2d(1, 1, kernel_size=(3, 3), stride=(1, 1), padding=((0, 1), (2, 2)))"),
        (ConvTranspose2d(4, 2, 3, stride=2, output_padding=1),
         "ConvTranspose2d(4, 2, kernel_size=(3, 3), stride=(2, 2), output_padding=(1, 1))"),
    ],
)  # fmt: skip
def test_repr(layer, text):
    assert repr(layer) == text


@pytest.mark.parametrize(
    ("change", "builtin", "message"),
    [
        (dict(bias="no"), TypeError, "Conv2d: bias='no' is a str; bias must be True or False"),
        (dict(bias=None), TypeError, "Conv2d: bias=None is a NoneType; bias must be True or False"),
        (dict(stride="a"), TypeError,
         "Conv2d: stride='a' is a str; stride must be an int or a pair of ints (height, width)"),
        (dict(groups=3), ValueError, "Conv2d: in_channels=4 is not divisible by groups=3; groups can be 1, 2 or 4"),
        (dict(kernel_size=(1, 2, 3)), ValueError, None),
        (dict(kernel_size=0), ValueError, None),
        (dict(dilation=2**62), ValueError, None),
        (dict(padding=-1, padding_mode="circular"), ValueError, None),
        (dict(device="cuda"), RuntimeError, None),
    ],
)  # fmt: skip
def test_refused_at_construction(change, builtin, message):
    with pytest.raises(builtin) as caught:
        Conv2d(**{"in_channels": 4, "out_channels": 8, "kernel_size": 3, **change})
    assert isinstance(caught.value, errors.KonvError)
    if message:
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 28, 28, 3),
         "Conv2d: got an input of shape [1, 28, 28, 3] with 28 channels; weight of size [8, 3, 3, 3] and groups=1 "
         "expect 3 channels; the last axis has that many: for channels-last images use x.movedim(-1, -3)"),
        ((1, 1, 28, 28),
         "Conv2d: got an input of shape [1, 1, 28, 28] with 1 channels; weight of size [8, 3, 3, 3] and groups=1 "
         "expect 3 channels; make the layer with in_channels=1, or give it images of 3 channels"),
        ((28, 28),
         "Conv2d: got an input of shape [28, 28]; Expected 3D (unbatched) or 4D (batched) input: (C, H, W) or "
         "(N, C, H, W); add axes with x.unsqueeze(0), or reshape"),
        ((1, 3, 0, 28),
         "Conv2d: got an input of shape [1, 3, 0, 28]; only the batch and the channels may be zero, not the height or "
         "the width"),
        ((1, 3, 2, 28),
         "Conv2d: the image of 2 x 28 is 2 x 28 when padded; the kernel of 3 x 3 can't be greater than the padded "
         "image; pad more, or use an image of at least 3 x 3"),
    ],
)  # fmt: skip
def test_shape_errors_say_how_to_mend_them(shape, message):
    layer = Conv2d(3, 8, 3)
    with pytest.raises(errors.ShapeError) as caught:
        layer(konv.zeros(*shape))
    assert str(caught.value).startswith(message)
    with konv.no_grad():
        if len(shape) == 4:  # a weight that lies packed for such images skips the checks, but not the refusal
            layer(konv.zeros(1, 3, max(3, shape[2]), max(3, shape[3])))
        with pytest.raises(errors.ShapeError) as caught:
            layer(konv.zeros(*shape))
    assert str(caught.value).startswith(message)


@konv.no_grad()
def test_a_packed_weight_refuses_what_a_new_one_does():
    layer, good = Conv2d(2, 3, 3), konv.rand(1, 2, 8, 8)
    first = layer(good)
    bias = layer.bias
    for image in (good.double(), good.half(), good.long()):
        with pytest.raises(errors.DtypeError, match="they should be the same"):
            layer(image)
    with pytest.raises(errors.DeviceError, match="the input is on meta"):
        layer(konv.empty(1, 2, 8, 8, device="meta"))
    for wrong, error in (
        (konv.zeros(4), errors.ShapeError),
        (konv.zeros(3, 1), errors.ShapeError),
        (konv.zeros(3, dtype=konv.float64), errors.DtypeError),
        (konv.zeros(3, device="meta"), errors.DeviceError),
    ):
        with pytest.raises(error):
            F.conv2d(good, layer.weight, wrong)
        layer.bias = Parameter(wrong)
        with pytest.raises(error):
            layer(good)
    layer.bias = bias
    np.testing.assert_array_equal(layer(good).numpy(), first.numpy())
    assert layer(good[:0]).shape == (0, 3, 6, 6)
    np.testing.assert_array_equal(layer(good[0]).numpy(), first[0].numpy())
    everywhere = konv.rand(1, 2, 1, 1).expand(1 << 50, 2, 8, 8)
    with pytest.raises((errors.ArgumentError, errors.MemoryShortError)):
        layer(everywhere)


def test_a_weight_need_not_be_a_parameter():
    layer, x = Conv2d(2, 4, 3), konv.rand(1, 2, 5, 5)
    expected = layer(x).detach() * 2
    weight, bias = layer.weight.detach(), layer.bias.detach()
    del layer.weight, layer.bias
    layer.weight = weight * 2  # computed, as under weight normalisation
    layer.register_buffer("bias", bias * 2)
    np.testing.assert_allclose(layer(x).numpy(), expected.numpy(), rtol=1e-6)
    del layer.bias
    layer.bias = None
    assert layer(x).shape == (1, 4, 3, 3)
    del layer.bias
    with pytest.raises(AttributeError, match="bias"):
        layer(x)
    layer.bias = None
    layer.weight = None
    with pytest.raises(TypeError, match="the weight is a NoneType"):
        layer(x)


def test_subclasses_may_change_the_weight():
    class Standardised(Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)

    layer = Standardised(2, 4, 3, padding=1, bias=False)
    found = layer(konv.ones(1, 2, 5, 5)).detach()
    centred = layer.weight.detach() - layer.weight.detach().mean()
    np.testing.assert_allclose(found[0, :, 2, 2].numpy(), centred.sum((1, 2, 3)).numpy(), atol=1e-5)


def test_options_are_looked_up_by_their_type_too():
    x, weight = konv.zeros(1, 3, 8, 8), konv.zeros(4, 3, 3, 3)
    assert F.conv2d(x, weight, stride=2).shape == (1, 4, 3, 3)
    for options in ({"stride": 2.0}, {"stride": (2, 2.0)}, {"groups": 1.0}, {"padding": ((0, 0.0), (0, 0))}):
        with pytest.raises(TypeError):
            F.conv2d(x, weight, **options)
    assert F.conv2d(x, weight, stride=np.int64(2)).shape == (1, 4, 3, 3)
    weight = konv.zeros(3, 4, 3, 3)
    assert F.conv_transpose2d(x, weight, stride=3, output_padding=2).shape == (1, 4, 26, 26)
    for wrong in (2.0, (2, 2.0), {2: 2}):
        with pytest.raises(TypeError):
            F.conv_transpose2d(x, weight, stride=3, output_padding=wrong)


def test_mixed_dtypes_and_devices_are_refused():
    layer = Conv2d(1, 1, 1)
    with pytest.raises(errors.DtypeError, match=r"the input is torch.float64 and the weight is torch.float32"):
        layer(konv.zeros(1, 1, 2, 2, dtype=konv.float64))
    with pytest.raises(errors.DeviceError, match="the input is on cpu and the weight on meta"):
        Conv2d(1, 1, 1, device="meta")(konv.zeros(1, 1, 2, 2))


def test_an_enormous_image_can_be_asked_about():
    layer = Conv2d(3, 8, 3, stride=2, device="meta")
    out = layer(konv.empty(1, 3, 2**20, 2**20, device="meta"))
    assert tuple(out.shape) == (1, 8, 2**19 - 1, 2**19 - 1)
    out.sum().backward()
    assert tuple(layer.weight.grad.shape) == (8, 3, 3, 3)


def test_changed_attributes_are_followed():
    layer = Conv2d(2, 4, 3, padding=1)
    x = konv.rand(1, 2, 8, 8)
    layer.stride = (2, 2)
    assert tuple(layer(x).shape) == (1, 4, 4, 4)
    layer.weight = Parameter(konv.rand(4, 2, 5, 5))
    np.testing.assert_array_equal(
        layer(x).detach().numpy(), F.conv2d(x, layer.weight, layer.bias, 2, 1).detach().numpy()
    )
    pruned = Conv2d(4, 6, 3)
    pruned.weight = Parameter(konv.rand(3, 4, 3, 3))
    pruned.bias = Parameter(konv.rand(3))
    assert tuple(pruned(konv.rand(1, 4, 8, 8)).shape) == (1, 3, 6, 6)


@pytest.mark.parametrize("make", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_compute_the_same_and_share_nothing(make):
    layer = Conv2d(2, 4, 3, padding="same", groups=2)
    x = konv.rand(1, 2, 6, 7)
    before = layer(x).detach().numpy().copy()
    other = make(layer)
    np.testing.assert_array_equal(other(x).detach().numpy(), before)
    with konv.no_grad():
        other.weight.zero_()
        other.bias.zero_()
    assert not other(x).detach().numpy().any()
    np.testing.assert_array_equal(layer(x).detach().numpy(), before)


def expected(layer, x):
    bias = None if layer.bias is None else layer.bias.detach().numpy().copy().astype(np.float64)
    return reference.conv2d(
        x.numpy().astype(np.float64), layer.weight.detach().clone().numpy().astype(np.float64), bias, layer.geometry
    )


def test_packed_weights_are_never_stale():
    layer = Conv2d(16, 32, 3, padding=1)
    x = konv.rand(1, 16, 12, 12)

    def check():
        with konv.no_grad():
            got = layer(x).numpy()
        np.testing.assert_allclose(got, expected(layer, x), rtol=1e-4, atol=1e-4)

    check()
    with konv.no_grad():
        layer.weight.mul_(2)
    check()
    layer.load_state_dict({name: value + 1 for name, value in layer.state_dict().items()})
    check()
    optimizer = konv.optim.SGD(layer.parameters(), lr=0.5)
    layer(x).sum().backward()
    optimizer.step()
    check()
    layer.weight.data = konv.rand(32, 16, 3, 3)
    check()
    flat = konv.rand(32 * 16 * 3 * 3)
    layer.weight.data = flat.view(32, 16, 3, 3)  # as whoever keeps all parameters in one tensor does
    check()
    flat.mul_(2)
    check()
    layer.weight.detach().mul_(2)
    check()
    flat.numpy()[:] = 0.5
    check()
    layer.weight.data = konv.rand(32, 16, 3, 3)
    check()
    view = layer.weight.detach().numpy()
    check()
    view[:] = 0.25  # behind our back: memory that was handed out is packed anew at each call
    check()
    view[3] = 7
    check()


@pytest.mark.parametrize("spec", [(16, 32, 3, 1, 1), (3, 8, 7, 2, 3), (32, 32, 3, 1, 1, 1, 32), (64, 16, 1)], ids=str)
def test_results_depend_on_nothing_but_the_image(spec):
    """Same bits alone or in a batch, for any number of threads, run after run."""
    layer = Conv2d(*spec)
    x = konv.rand(5, spec[0], 19, 23)
    threads = konv.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            konv.set_num_threads(count)
            with konv.no_grad():
                results.append(layer(x).numpy().copy())
                results.append(np.concatenate([layer(x[i : i + 1]).numpy() for i in range(5)]))
                results.append(np.stack([layer(x[i]).numpy() for i in range(5)]))
    finally:
        konv.set_num_threads(threads)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("dtype", [konv.float64, konv.complex128], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(stride=2, padding=1, dilation=2),
        dict(groups=2, padding="same", kernel_size=(2, 3)),
        dict(padding=((1, 0), (2, 1)), padding_mode="reflect"),
        dict(padding=2, padding_mode="circular", stride=(1, 2)),
        dict(padding=(1, 2), padding_mode="replicate"),
        dict(padding="same_upper", stride=2),
    ],
    ids=str,
)
def test_gradients_of_any_order(options, dtype):
    konv.manual_seed(0)
    geometry = {"kernel_size": 3, **options}
    layer = Conv2d(2, 4, dtype=dtype, **geometry)
    x = konv.randn(2, 2, 6, 7, dtype=dtype, requires_grad=True)

    def call(image, weight, bias):
        return convolve(image, weight, bias, layer.geometry)

    inputs = (x, layer.weight.detach().requires_grad_(), layer.bias.detach().requires_grad_())
    assert konv.autograd.gradcheck(call, inputs)
    assert konv.autograd.gradgradcheck(call, inputs)


def test_only_what_is_asked_for_is_computed():
    layer = Conv2d(2, 3, 3)
    layer.weight.requires_grad_(False)
    x = konv.rand(1, 2, 5, 5, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None
    assert layer.bias.grad is not None


def test_output_size_of_a_transposed_layer():
    up = ConvTranspose2d(4, 2, 3, stride=2, padding=1)
    x = konv.rand(1, 4, 5, 6)
    assert tuple(up(x).shape) == (1, 2, 9, 11)
    assert tuple(up(x, output_size=(10, 12)).shape) == (1, 2, 10, 12)
    assert tuple(up(x, output_size=(7, 8, 10, 12)).shape) == (1, 2, 10, 12)  # as PyTorch: the last two are asked for
    assert tuple(up(x[0], output_size=(2, 9, 11)).shape) == (2, 9, 11)
    # Sizes below one become possible ones by output padding.
    assert tuple(ConvTranspose2d(1, 1, 1, 3, 1)(konv.ones(1, 1, 1, 1), output_size=(1, 1)).shape) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("rank", "size", "told"),
    [
        (4, (20, 12), "output_size=(20, 12); an image of 5 x 6 can give (9, 11) to (10, 12)"),
        (4, (4, 9, 11), "output_size=(4, 9, 11) has 3 elements; for an input of 4 dimensions it must have 2 or 4"),
        (4, (1, 2, 3, 4, 9, 11),
         "output_size=(1, 2, 3, 4, 9, 11) has 6 elements; for an input of 4 dimensions it must have 2 or 4"),
        (3, (1, 4, 9, 11),
         "output_size=(1, 4, 9, 11) has 4 elements; for an input of 3 dimensions it must have 2 or 3"),
    ],
)  # fmt: skip
def test_output_sizes_that_are_refused(rank, size, told):
    up = ConvTranspose2d(4, 2, 3, stride=2, padding=1)
    with pytest.raises(errors.ArgumentError) as caught:
        up(konv.zeros(1, 4, 5, 6).reshape((1, 4, 5, 6)[-rank:]), output_size=size)
    assert str(caught.value).splitlines()[0] == f"ConvTranspose2d: {told}"
    # The range is the stride's, however far the dilation reaches: PyTorch says [21, 21] to [22, 22].
    with pytest.raises(ValueError, match=r"can give \(21, 21\) to \(22, 22\)"):
        ConvTranspose2d(3, 4, 3, stride=2, dilation=3)(konv.zeros(1, 3, 8, 8), output_size=(23, 23))


def test_options_that_are_tensors():
    """One number in a tensor is one number, and the number of now; a word is no cells for a transposed layer."""
    x, weight, step = konv.rand(1, 1, 6, 6), konv.rand(1, 1, 3, 3), konv.tensor(2)
    for given in (step, np.array(2), [step, step]):
        assert (F.conv2d(x, weight, stride=given) == F.conv2d(x, weight, stride=2)).all()
    assert Conv2d(1, 1, 3, stride=step).stride == (2, 2)
    step.fill_(1)
    assert F.conv2d(x, weight, stride=step).shape == (1, 1, 4, 4)
    with pytest.raises(errors.ArgumentTypeError, match=r"stride=2\.0 is a float"):
        F.conv2d(x, weight, stride=konv.tensor(2.0))
    with pytest.raises(errors.ArgumentTypeError, match="padding='same' is a str"):
        F.conv_transpose2d(x, weight, padding="same")


def test_transposed_values():
    geometry = ConvGeometry.of(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, transposed=True, output_padding=(1, 2))
    layer = ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, True, (1, 2))
    x = konv.rand(2, 4, 5, 6)
    want = reference.conv_transpose2d(
        x.numpy().astype(np.float64), layer.weight.detach().clone().numpy().astype(np.float64),
        layer.bias.detach().clone().numpy().astype(np.float64), geometry,
    )  # fmt: skip
    np.testing.assert_allclose(layer(x).detach().numpy(), want, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_in_memory_is_said():
    with pytest.raises(errors.MemoryShortError, match=r"a tensor of shape \[1048576, 1048576, 3, 3\]"):
        Conv2d(2**20, 2**20, 3)
    with pytest.raises(
        RuntimeError, match=r"an output of 4 x 2199023255552 x 2199023255552; sizes must fit in 64 bits"
    ):
        Conv2d(1, 4, 3, padding=2**40)(konv.zeros(1, 1, 2, 2))
    with pytest.raises(MemoryError, match="there is not enough memory"):
        Conv2d(1, 4, 3, padding=2**22)(konv.zeros(1, 1, 2, 2))
