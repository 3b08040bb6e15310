"""Pooling and normalisation layers: attributes, state, training and evaluation, what is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import konv
from konv import nn


def test_repr():
    for layer, shown in (
        (nn.MaxPool2d(2), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
        (
            nn.MaxPool2d((2, 3), 1, (1, 1), 2, True, True),
            "MaxPool2d(kernel_size=(2, 3), stride=1, padding=(1, 1), dilation=2, ceil_mode=True)",
        ),
        (nn.AvgPool2d(3, 2, 1), "AvgPool2d(kernel_size=3, stride=2, padding=1)"),
        (nn.AdaptiveAvgPool2d((None, 2)), "AdaptiveAvgPool2d(output_size=(None, 2))"),
        (nn.AdaptiveMaxPool2d(1), "AdaptiveMaxPool2d(output_size=1)"),
        (
            nn.BatchNorm2d(3),
            "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)",
        ),
        (nn.GroupNorm(2, 4, affine=False), "GroupNorm(2, 4, eps=1e-05, affine=False, bias=False)"),
    ):
        assert repr(layer) == shown


def test_pooling_layers_are_their_functions():
    x = konv.randn(2, 3, 9, 11)
    f = nn.functional
    pairs = [
        (nn.MaxPool2d(3, 2, 1), f.max_pool2d(x, 3, 2, 1)),
        (nn.AvgPool2d(3, 2, 1, True, False), f.avg_pool2d(x, 3, 2, 1, True, False)),
        (nn.AvgPool2d(2, divisor_override=3), f.avg_pool2d(x, 2, divisor_override=3)),
        (nn.AdaptiveAvgPool2d((4, None)), f.adaptive_avg_pool2d(x, (4, None))),
        (nn.AdaptiveMaxPool2d(4), f.adaptive_max_pool2d(x, 4)),
    ]
    for layer, expected in pairs:
        for same in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            np.testing.assert_array_equal(same(x).numpy(), expected.numpy())
        assert not list(layer.state_dict())
    y, at = nn.MaxPool2d(2, return_indices=True)(x)
    assert tuple(y.shape) == tuple(at.shape) == (2, 3, 4, 5)
    layer = nn.MaxPool2d(2)
    layer.stride = 1  # attributes may be changed
    assert tuple(layer(x).shape) == (2, 3, 8, 10)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: nn.MaxPool2d(0), ValueError, "MaxPool2d: kernel_size=0"),
        (lambda: nn.MaxPool2d("a"), TypeError, "MaxPool2d: kernel_size='a'"),
        (lambda: nn.AvgPool2d(2, padding=2), RuntimeError, "AvgPool2d: padding=2 with kernel_size=2"),
        (lambda: nn.AdaptiveAvgPool2d(-1), ValueError, "AdaptiveAvgPool2d: output_size=-1"),
        (lambda: nn.MaxPool2d(4)(konv.zeros(1, 1, 3, 9)), RuntimeError, "MaxPool2d: an axis of 3 cells"),
        (lambda: nn.BatchNorm2d(-1), RuntimeError, "BatchNorm2d: num_features=-1"),
        (lambda: nn.BatchNorm2d("a"), TypeError, "BatchNorm2d: num_features='a'"),
        (lambda: nn.BatchNorm2d(3)(konv.zeros(3, 4, 4)), ValueError, "expected 4D input \\(got 3D input\\)"),
        (lambda: nn.BatchNorm1d(3)(konv.zeros(3)), ValueError, "expected 2D or 3D input \\(got 1D input\\)"),
        (lambda: nn.BatchNorm2d(4)(konv.zeros(2, 3, 4, 4)), RuntimeError, "should contain 3 elements"),
        (lambda: nn.GroupNorm(2, 3), ValueError, "num_channels must be divisible by num_groups"),
        (lambda: nn.GroupNorm(0, 3), ValueError, "num_groups must be at least 1"),
    ],
)
def test_refused(make: Any, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        make()


def test_batch_norm_trains_and_evaluates():
    layer = nn.BatchNorm2d(3, momentum=0.5)
    x = konv.randn(8, 3, 4, 4) * 2 + 1
    y = layer(x)
    assert abs(y.mean().item()) < 1e-6
    assert abs(y.var(unbiased=False).item() - 1) < 1e-4
    assert layer.num_batches_tracked.item() == 1
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.5 * x.numpy().mean((0, 2, 3)), rtol=1e-5)
    layer.eval()
    before = layer.running_mean.clone()
    layer(x)
    assert konv.equal(layer.running_mean, before)
    layer.reset_running_stats()
    assert layer.running_var.tolist() == [1, 1, 1]
    assert layer.num_batches_tracked.item() == 0


def test_momentum_none_is_the_plain_average():
    layer = nn.BatchNorm2d(2, momentum=None)
    batches = [konv.randn(4, 2, 3, 3) for _ in range(5)]
    for x in batches:
        layer(x)
    means = np.mean([x.numpy().mean((0, 2, 3)) for x in batches], 0)
    np.testing.assert_allclose(layer.running_mean.numpy(), means, rtol=1e-4, atol=1e-6)


def test_without_running_statistics_the_batch_is_always_used():
    layer = nn.BatchNorm2d(2, affine=False, track_running_stats=False).eval()
    assert list(layer.state_dict()) == []
    assert abs(layer(konv.randn(9, 2, 4, 4) + 5).mean().item()) < 1e-5


def test_state():
    layer = nn.BatchNorm2d(3)
    state = layer.state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(nn.BatchNorm2d(3, bias=False).state_dict())[:2] == ["weight", "running_mean"]
    assert list(nn.GroupNorm(1, 3).state_dict()) == ["weight", "bias"]
    layer(konv.randn(4, 3, 2, 2))
    other = nn.BatchNorm2d(3)
    other.load_state_dict(layer.state_dict())
    assert konv.equal(other.running_var, layer.running_var)
    assert other.num_batches_tracked.item() == 1
    old = {k: v for k, v in layer.state_dict().items() if k != "num_batches_tracked"}  # as the first version wrote it
    assert str(other.load_state_dict(old)) == "<All keys matched successfully>"
    half = nn.BatchNorm2d(3).half()
    assert half.running_mean.dtype is konv.float16
    assert half.num_batches_tracked.dtype is konv.int64
    assert nn.BatchNorm2d(3, device="meta")(konv.empty(2, 3, 4, 4, device="meta")).is_meta


def test_a_network_learns_through_them():
    konv.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 2),
    )  # fmt: skip
    x = konv.randn(32, 1, 8, 8)
    target = (x.mean((1, 2, 3)) > 0).long()
    optimizer = konv.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
