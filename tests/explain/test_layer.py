"""The report of one layer against the layer itself, over thousands of random options."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest

import konv
from konv import nn, reference
from konv.errors import ArgumentError, ArgumentTypeError, KonvError, ShapeError
from konv.explain.layer import convolution
from konv.geometry import ConvGeometry


def options(rng: random.Random) -> dict[str, Any]:
    """Random options of Conv2d that construct."""
    groups = rng.choice([1, 1, 2, 3])
    chosen: dict[str, Any] = {
        "in_channels": groups * rng.randint(1, 4),
        "out_channels": groups * rng.randint(1, 4),
        "kernel_size": (rng.randint(1, 7), rng.randint(1, 7)),
        "stride": (rng.randint(1, 4), rng.randint(1, 4)),
        "dilation": (rng.randint(1, 3), rng.randint(1, 3)),
        "groups": groups,
        "bias": rng.random() < 0.5,
        "padding": ((rng.randint(0, 4), rng.randint(0, 4)), (rng.randint(0, 4), rng.randint(0, 4))),
        "padding_mode": rng.choice(["zeros", "zeros", "reflect", "replicate", "circular"]),
    }
    word = rng.choice([None, None, "same", "same_upper", "same_lower", "valid"])
    if word is not None:
        chosen["padding"] = word
        chosen["stride"] = 1 if word == "same" else chosen["stride"]
    return chosen


@pytest.mark.parametrize("seed", range(20))
def test_conv2d_agrees_with_the_layer(seed: int) -> None:
    rng = random.Random(seed)
    tried = 0
    for _ in range(200):
        layer = nn.Conv2d(**options(rng), device="meta")
        shape = (rng.randint(1, 3), layer.in_channels, rng.randint(1, 30), rng.randint(1, 30))[rng.randint(0, 1) :]
        try:
            made = layer(konv.empty(shape, device="meta"))
        except ShapeError:
            with pytest.raises(ShapeError):
                konv.explain(layer, shape)
            continue
        tried += 1
        check(konv.explain(layer, shape), layer, made)
    assert tried > 50


@pytest.mark.parametrize("seed", range(10))
def test_conv_transpose2d_agrees_with_the_layer(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        chosen = options(rng)
        chosen.pop("padding_mode")
        if isinstance(chosen["padding"], str):
            chosen["padding"] = 0
        chosen["stride"] = rng.randint(1, 4), rng.randint(1, 4)
        extra = [rng.randrange(max(s, d)) for s, d in zip(chosen["stride"], chosen["dilation"], strict=True)]
        layer = nn.ConvTranspose2d(**chosen, output_padding=extra, device="meta")
        shape = (rng.randint(1, 3), layer.in_channels, rng.randint(1, 12), rng.randint(1, 12))
        try:
            made = layer(konv.empty(shape, device="meta"))
        except ShapeError:
            continue
        check(konv.explain(layer, shape), layer, made)


def check(report: Any, layer: Any, made: Any) -> None:
    """Everything in a report that the layer and its output can say themselves."""
    assert report.output_shape == made.shape
    assert (report.axes[0].output, report.axes[1].output) == made.shape[-2:]
    assert report.weight.shape == layer.weight.shape
    assert report.weight.bytes == layer.weight.nbytes
    assert (report.bias is None) == (layer.bias is None)
    assert report.cost.parameters == sum(p.numel() for p in layer.parameters())
    assert report.cost.weight_bytes == sum(p.nbytes for p in layer.parameters())
    assert report.cost.output_bytes == made.nbytes
    assert report.init.bound == pytest.approx(1 / math.sqrt(math.prod(layer.weight.shape[1:])))
    cells = made.numel() * layer.weight[0].numel()
    if report.options["transposed"]:
        cells = math.prod(report.input_shape) * layer.weight[0].numel()
    assert report.cost.multiply_adds == cells
    for axis in report.axes:
        assert axis.steps[-1].startswith("the floor leaves") == bool(axis.unused)
        assert any(step.endswith(f"= {axis.output}") for step in axis.steps)
    rebuilt = konv.explain(report.call, report.input_shape)
    assert rebuilt.options == report.options
    assert json.loads(report.to_json())["options"]["groups"] == layer.groups


def test_rows_that_no_output_reads_and_rows_that_read_nothing() -> None:
    """``dropped`` and ``blind`` against the gradient and the values of a layer of ones."""
    rng = random.Random(5)
    for _ in range(2000):
        k, s, d = rng.randint(1, 4), rng.randint(1, 4), rng.randint(1, 5)
        pads, size = (rng.randint(0, 5), rng.randint(0, 5)), rng.randint(1, 12)
        geometry = ConvGeometry.of(1, 1, (k, 1), (s, 1), (pads, (0, 0)), (d, 1))
        try:
            axis = convolution(geometry, (1, 1, size, 1)).axes[0]
        except ShapeError:
            continue
        ones = np.ones((1, 1, k, 1))
        y = reference.conv2d(np.ones((1, 1, size, 1)), ones, None, geometry)[0, 0, :, 0]
        x = reference.conv2d_grad_input(np.ones((1, 1, axis.output, 1)), ones, geometry, (size, 1))[0, 0, :, 0]
        if d == 1 and s <= k:
            assert axis.dropped == zeros_at_end(x)
        else:
            assert axis.dropped <= zeros_at_end(x)
        assert axis.blind == (zeros_at_end(y[::-1]), zeros_at_end(y)) if y.any() else sum(axis.blind) == axis.output


def test_taps_that_stand_around_the_image_read_padding_alone() -> None:
    report = konv.explain("Conv2d(1, 1, 2, padding=1, dilation=2)", (1, 1, 1, 1))
    assert [axis.blind for axis in report.axes] == [(1, 0), (1, 0)]
    assert "padding-alone" in [hint.code for hint in report.hints]
    # Taps at i - 2 and i + 1 around pixel 0: outputs 0 and 1 have it between them, output 2 meets it.
    far = konv.explain("Conv2d(1, 1, 2, padding=((2, 3), (0, 0)), dilation=3)", (1, 1, 1, 10**12))
    assert [(axis.output, axis.blind) for axis in far.axes] == [(3, (2, 0)), (10**12 - 3, (0, 0))]


def zeros_at_end(values: np.ndarray[Any, Any]) -> int:
    """How many zeros stand at the end."""
    filled = np.flatnonzero(values)
    return len(values) - 1 - int(filled[-1]) if len(filled) else len(values)


@pytest.mark.parametrize("name", ["MaxPool2d", "AvgPool2d"])
def test_pooling_agrees_with_the_layer(name: str) -> None:
    rng = random.Random(7)
    for _ in range(1000):
        k = (rng.randint(1, 5), rng.randint(1, 5))
        chosen: dict[str, Any] = {"ceil_mode": rng.random() < 0.5, "padding": min(k) // 2}
        if rng.random() < 0.7:
            chosen["stride"] = (rng.randint(1, 4), rng.randint(1, 4))
        if name == "MaxPool2d":
            chosen["dilation"] = rng.randint(1, 2)
        layer = getattr(nn, name)(k, **chosen)
        shape = (2, 3, rng.randint(1, 20), rng.randint(1, 20))
        try:
            made = layer(konv.empty(shape, device="meta"))
        except ShapeError:
            continue
        report = konv.explain(layer, shape)
        assert report.output_shape == made.shape
        assert konv.explain(report.call, shape).options == report.options


def test_the_numbers_of_the_documents() -> None:
    report = konv.explain("Conv2d(3, 64, 5, stride=1, padding=2)", "8,3,28,28")
    assert report.output_shape == (8, 64, 28, 28)
    assert report.cost.parameters == 4864
    report = konv.explain(nn.Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2), dilation=(3, 1)), (20, 16, 50, 100))
    assert report.output_shape == (20, 33, 26, 100)


def test_any_size_costs_nothing() -> None:
    report = konv.explain("Conv2d(3, 64, 5, padding=2)", (1, 3, 2**20, 2**20))
    assert report.output_shape == (1, 64, 2**20, 2**20)
    assert report.cost.multiply_adds == 2**40 * 64 * 75
    assert report.axes[0].steps[-1].endswith(f"= {2**20}")


def test_depthwise_is_named() -> None:
    groups = konv.explain("Conv2d(6, 12, 3, groups=6)", (1, 6, 9, 9)).groups
    assert groups is not None
    assert (groups.depthwise, groups.multiplier, groups.in_each, groups.out_each) == (True, 2, 1, 2)
    assert groups.blocks[1] == ((1, 1), (2, 3))
    assert "depthwise, multiplier 2" in str(konv.explain("Conv2d(6, 12, 3, groups=6)", (1, 6, 9, 9)))


def test_the_plan_is_the_one_that_runs() -> None:
    plan = konv.explain("Conv2d(64, 64, 3, padding=1)", (1, 64, 56, 56)).plan
    assert plan is not None
    with konv.backends.force_plan("pixel_lane"):
        forced = konv.explain("Conv2d(64, 64, 3, padding=1)", (1, 64, 56, 56)).plan
    assert forced is not None
    assert "pixel_lane" in forced.name
    assert plan.reason
    transposed = konv.explain("ConvTranspose2d(64, 64, 2, stride=2)", (1, 64, 14, 14)).plan
    assert transposed is not None
    assert "4 phases of the stride" in transposed.reason
    assert konv.explain("Conv2d(3, 8, 3)", (1, 3, 8, 8), dtype="float16").plan is not None


def test_in_a_notebook_and_as_data() -> None:
    report = konv.explain("Conv2d(3, 8, 3)", (1, 3, 8, 8))
    assert "<" in report._repr_html_()
    told = report.to_dict()
    assert told["kind"] == "layer"
    assert json.loads(report.to_json()) == json.loads(json.dumps(told))
    with pytest.raises(AttributeError):
        report.layer = "other"


def test_measured() -> None:
    report = konv.explain("Conv2d(3, 8, 3)", (1, 3, 16, 16), measure=True)
    assert report.measured is not None
    assert report.measured.seconds > 0
    assert report.measured.share > 0
    assert "measured peak" in str(report)
    with pytest.raises(ArgumentError, match="GiB"):
        konv.explain("Conv2d(3, 8, 3)", (1, 3, 2**20, 2**10), measure=True)
    with pytest.raises(ArgumentTypeError, match="single convolution or pooling layer is timed"):
        konv.explain("ReLU()", (1, 3, 16, 16), measure=True)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((), "1 to 8 axes"),
        ((1, 3, -1, 5), "must be at least 0"),
        ((1, 3, 2**62, 5), "fit in 64 bits"),
        ("a,b", "whole numbers"),
        (7, "give the sizes of the input"),
        ((1, 3, 0.5, 5), "whole number"),
    ],
)
def test_shapes_refused(shape: Any, told: str) -> None:
    with pytest.raises(KonvError) as error:
        konv.explain("Conv2d(3, 8, 3)", shape)
    assert told in str(error.value)


def test_what_cannot_be_explained() -> None:
    with pytest.raises(ArgumentTypeError, match="give a Module, or text"):
        konv.explain(3, (1, 3, 8, 8))
