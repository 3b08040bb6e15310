"""Errors teach: the exact text that a beginner reads for each of the usual faults, and that a hint never does harm."""

from __future__ import annotations

from typing import Any

import pytest

import konv
from konv import errors, nn
from konv.errors import KonvError, ShapeError
from konv.explain import hints


def told(model: nn.Module, *shape: int) -> str:
    """The last line of the error that the model raises for an input of this shape."""
    with pytest.raises(KonvError) as error:
        model(konv.zeros(*shape))
    return str(error.value).split("\n")[-1].strip()


class Digits(nn.Module):
    """A network as tutorials write it: features, flatten, classifier; made for 28x28."""

    def __init__(self, flatten: bool = True) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 2, stride=2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.Conv2d(64, 64, 2, stride=2),
        )
        self.classifier = nn.Sequential(nn.Linear(3136, 10))
        self.flatten = flatten

    def forward(self, x: Any) -> Any:
        x = self.features(x)
        return self.classifier(x.flatten(1) if self.flatten else x)


class Residual(nn.Module):
    """A block that adds its input to what two convolutions make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3)
        self.conv2 = nn.Conv2d(4, 4, 3)

    def forward(self, x: Any) -> Any:
        return x + self.conv2(self.conv1(x))


# ---- 1: the channels come last --------------------------------------------------------------------------------------


def test_channels_last() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    text = "`0` got 4 x 28 x 28 x 3: the channels come last; x.permute(0, 3, 1, 2) gives 4 x 3 x 28 x 28"
    assert told(model, 4, 28, 28, 3) == text
    text = "`Conv2d` got 32 x 32 x 3: the channels come last; x.permute(2, 0, 1) gives 3 x 32 x 32"
    assert told(nn.Conv2d(3, 8, 3), 32, 32, 3) == text


# ---- 2: an axis is missing ------------------------------------------------------------------------------------------


def test_missing_channel_axis() -> None:
    text = "`features.0` got 64 x 28 x 28: the channel axis is missing; x.unsqueeze(1) gives 64 x 1 x 28 x 28"
    assert told(Digits(), 64, 28, 28) == text


def test_missing_batch_and_channel_axes() -> None:
    text = "`features.0` got 28 x 28: the batch and channel axes are missing; x[None, None] gives 1 x 1 x 28 x 28"
    assert told(Digits(), 28, 28) == text


def test_missing_batch_axis_is_noticed_late() -> None:
    text = (
        "`classifier.0` expects 3136 features, got 49: the batch axis is missing; x.unsqueeze(0) gives 1 x 1 x 28 x 28"
    )
    assert told(Digits(), 1, 28, 28) == text
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8))
    assert told(model, 1, 28, 28) == "`1` needs a batch: x.unsqueeze(0) gives the model 1 x 1 x 28 x 28"


def test_flat_images() -> None:
    text = "`features.0` got 64 x 784: the images are flat; x.reshape(64, 1, 28, 28) gives them rows and columns"
    assert told(Digits(), 64, 784) == text


# ---- 3: channels that no longer fit after a change ------------------------------------------------------------------


def test_wrong_in_channels() -> None:
    model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(16, 64, 3, padding=1))
    text = (
        "`2` expects 16 channels, got 32 from `0`: "
        "write Conv2d(32, 64, kernel_size=3, padding=1), or give `0` 16 output channels"
    )
    assert told(model, 4, 1, 28, 28) == text


def test_wrong_channels_of_a_norm() -> None:
    model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(16))
    text = "`1` expects 16 channels, got 32 from `0`: write BatchNorm2d(32), or give `0` 16 output channels"
    assert told(model, 4, 1, 28, 28) == text


def test_gray_images_for_a_colour_model() -> None:
    text = (
        "`Conv2d` expects 3 channels, got 1: "
        "write Conv2d(1, 8, kernel_size=3), or repeat the channel with x.expand(-1, 3, -1, -1)"
    )
    assert told(nn.Conv2d(3, 8, 3), 4, 1, 28, 28) == text


def test_depthwise_stays_depthwise() -> None:
    text = "`Conv2d` expects 8 channels, got 6: write Conv2d(6, 6, kernel_size=3, groups=6)"
    assert told(nn.Conv2d(8, 8, 3, groups=8), 1, 6, 9, 9) == text


# ---- 4: the size of a linear layer after flatten --------------------------------------------------------------------


def test_linear_after_flatten() -> None:
    text = (
        "`classifier.0` expects 3136 features, got 1024 = 64*4*4: "
        "the input was 16x16, the model needs 28x28, or Linear(1024, 10)"
    )
    assert told(Digits(), 4, 1, 16, 16) == text
    wide = (
        "`classifier.0` expects 3136 features, got 4480 = 64*7*10: "
        "the input was 29x40, the model needs 28x28, or Linear(4480, 10)"
    )
    assert told(Digits(), 4, 1, 29, 40) == wide


def test_linear_that_no_image_fits() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(50, 10, bias=False))
    assert told(model, 2, 1, 8, 8) == "`2` expects 50 features, got 256 = 4*8*8: write Linear(256, 10, bias=False)"


def test_flatten_forgotten() -> None:
    text = "`classifier.0` expects 3136 features, got 4 x 64 x 7 x 7: flatten the image first, x.flatten(1)"
    assert told(Digits(flatten=False), 4, 1, 28, 28) == text
    text = (
        "`classifier.0` expects 3136 features, got 4 x 64 x 4 x 4: "
        "flatten the image first; x.flatten(1) gives 1024 features"
    )
    assert told(Digits(flatten=False), 4, 1, 16, 16) == text


# ---- 5: padding forgotten -------------------------------------------------------------------------------------------


def test_padding_forgotten_until_the_image_is_gone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    text = (
        "`3` gets 2x2 for a kernel of 3x3: `0` and `1` have no padding and shrink the image; "
        "padding=1 in each keeps its size, or an input of 7x7 or more fits as it is"
    )
    assert told(model, 2, 1, 6, 6) == text


def test_padding_forgotten_before_pooling() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 5), nn.MaxPool2d(4))
    text = (
        "`1` gets 2x2 for a kernel of 4x4: `0` has no padding and shrinks the image; "
        "padding=2 keeps its size, or an input of 8x8 or more fits as it is"
    )
    assert told(model, 2, 1, 6, 6) == text


def test_padding_forgotten_in_a_residual() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Residual())
    text = (
        "`1` joins 28x28 with 24x24: `1.conv1` and `1.conv2` have no padding and shrink the image; "
        "padding=1 in each keeps its size"
    )
    assert told(model, 2, 3, 28, 28) == text


# ---- the whole message ----------------------------------------------------------------------------------------------


def test_the_trace_stands_before_the_hint() -> None:
    with pytest.raises(ShapeError) as error:
        Digits()(konv.zeros(4, 1, 16, 16))
    lines = str(error.value).split("\n")
    assert lines[1:] == [
        "  in layer classifier.0 of Digits",
        "  input: (4, 1, 16, 16)",
        "  features.0: Conv2d(1, 32, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)) gave (4, 32, 16, 16)",
        "  features.1: ReLU() gave (4, 32, 16, 16)",
        "  features.2: Conv2d(32, 32, kernel_size=(2, 2), stride=(2, 2)) gave (4, 32, 8, 8)",
        "  features.3: Conv2d(32, 64, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)) gave (4, 64, 8, 8)",
        "  features.4: Conv2d(64, 64, kernel_size=(2, 2), stride=(2, 2)) gave (4, 64, 4, 4)",
        "  `classifier.0` expects 3136 features, got 1024 = 64*4*4: "
        "the input was 16x16, the model needs 28x28, or Linear(1024, 10)",
    ]


def test_a_hint_leaves_the_model_alone() -> None:
    model = Digits()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    told(model, 4, 1, 16, 16)
    assert model.training
    for name, tensor in model.state_dict().items():
        assert not tensor.is_meta
        assert (tensor == before[name]).all()


def test_nothing_is_said_where_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hints.hint(KonvError("something")) == ""
    assert hints.hint(ShapeError("no module")) == ""

    def broken(error: KonvError) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(hints, "_hint", broken)
    with pytest.raises(ShapeError) as error:
        nn.Conv2d(3, 8, 3)(konv.zeros(4, 1, 9, 9))
    assert "\n" not in str(error.value)


def test_hints_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "teacher", None)
    with pytest.raises(ShapeError) as error:
        nn.Conv2d(3, 8, 3)(konv.zeros(4, 1, 9, 9))
    assert "\n" not in str(error.value)
