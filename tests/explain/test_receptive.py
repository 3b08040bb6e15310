"""Receptive fields against the truth: with positive weights every pixel that a unit depends on has a gradient."""

from __future__ import annotations

import math
import random
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import konv
from konv import nn
from konv.errors import ArgumentError, IndexRangeError, KonvError
from konv.explain.entry import module_of, shape_of, traced
from konv.explain.field import folded, merged
from konv.explain.line import Line, of_geometry
from konv.explain.model import track_values
from konv.geometry import ConvGeometry

MODES = ("zeros", "zeros", "zeros", "reflect", "replicate", "circular")


def positive(model: nn.Module) -> nn.Module:
    """The model in float64 with weights that cancel nothing."""
    model = model.double().eval()
    with konv.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(konv.zeros(parameter.shape) if name.endswith("bias") else konv.rand(parameter.shape) + 0.5)
    return model


def seen(model: nn.Module, shape: tuple[int, ...], index: tuple[int, ...]) -> Any:
    """First and last row and column of the input that the output unit has a gradient in, or None."""
    x = konv.ones(shape, dtype=konv.float64, requires_grad=True)
    y = model(x)
    y[index].sum().backward()
    gradient = np.abs(x.grad.numpy()).reshape(-1, *shape[-2:]).sum(0)
    if not gradient.any():
        return None, None
    rows, columns = (np.flatnonzero(gradient.sum(axis)) for axis in (1, 0))
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


class Branches(nn.Module):
    """A residual of two convolutions, or their concatenation."""

    def __init__(self, channels: int, rng: random.Random, join: str) -> None:
        super().__init__()
        k1, k2 = rng.choice([1, 3, 5]), rng.choice([1, 3])
        d = rng.choice([1, 2])
        self.one = nn.Conv2d(channels, channels, (k1, k2), padding=((0, k1 - 1), (k2 // 2, k2 // 2)))
        self.two = nn.Conv2d(channels, channels, 3, padding=d, dilation=d)
        self.join = join

    def forward(self, x: Any) -> Any:
        if self.join == "add":
            return x + self.one(x)
        if self.join == "cat":
            return konv.cat([self.one(x), self.two(x)], 1)[:, ::2]
        return (
            self.two(self.one(x)) * x.mean((2, 3), keepdim=True) if self.join == "gate" else self.two(x) + self.one(x)
        )


def layer(rng: random.Random, channels: int) -> nn.Module:
    """One random layer that keeps the number of channels."""
    kind = rng.randrange(12)
    if kind < 5:
        sizes = rng.randint(1, 4), rng.randint(1, 4)
        pads = tuple((rng.randint(0, 2), rng.randint(0, 2)) for _ in range(2))
        options: dict[str, Any] = {
            "stride": (rng.randint(1, 3), rng.randint(1, 3)),
            "dilation": rng.choice([1, 1, 2, 3]),
        }
        groups = rng.choice([1, channels])
        return nn.Conv2d(
            channels, channels, sizes, padding=pads, groups=groups, padding_mode=rng.choice(MODES), **options
        )
    if kind == 5:
        stride = rng.randint(1, 3)
        extra = rng.randint(0, stride - 1)
        return nn.ConvTranspose2d(
            channels, channels, rng.randint(1, 4), stride, rng.randint(0, 1), output_padding=extra
        )
    if kind == 6:
        return nn.Upsample(scale_factor=rng.choice([2, 3, 1.5]), mode=rng.choice(["nearest", "bilinear"]))
    if kind == 7:
        return nn.ZeroPad2d((rng.randint(-1, 2), 1, 0, rng.randint(-1, 2)))
    if kind == 8:
        return nn.AvgPool2d(rng.randint(1, 3), rng.randint(1, 3))
    if kind == 9:
        return nn.AdaptiveAvgPool2d((rng.randint(2, 7), rng.randint(2, 7)))
    return Branches(channels, rng, rng.choice(["add", "cat", "sum", "gate"]))


def random_case(seed: int) -> Any:
    """A network of one to five layers that runs, its input and a unit; None where the sizes do not fit."""
    rng = random.Random(seed)
    channels = 2
    model = nn.Sequential(*(layer(rng, channels) for _ in range(rng.randint(1, 5))))
    shape = (1, channels, rng.randint(6, 20), rng.randint(6, 20))
    try:
        made = model(konv.zeros(shape)).shape
    except KonvError:
        return None
    if 0 in made or max(made) > 200:
        return None
    return positive(model), shape, tuple(rng.randrange(size) for size in made)


@pytest.mark.parametrize("block", range(12))
def test_field_is_where_the_gradient_is(block: int) -> None:
    tried = 0
    for seed in range(block * 60, (block + 1) * 60):
        case = random_case(seed)
        if case is None:
            continue
        tried += 1
        model, shape, index = case
        field = konv.receptive_field(model, shape, index)
        assert (field.rows, field.columns) == seen(model, shape, index), (seed, model, shape, index)
    assert tried > 20


def test_sides_differ_with_asymmetric_padding() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=((2, 0), (0, 2))), nn.Conv2d(1, 1, 3, padding=((2, 0), (0, 2))))
    field = konv.receptive_field(model, (1, 1, 20, 20), (10, 10))
    assert (field.rows, field.columns) == ((6, 10), (10, 14))
    assert field.size == (5, 5)
    assert field.center == (8.0, 12.0)
    assert field.sides == (2.0, 2.0, 2.0, 2.0)
    edge = konv.receptive_field(model, (1, 1, 20, 20), (1, 19))
    assert (edge.rows, edge.columns) == ((0, 1), (19, 19))
    assert edge.sides == (-1.0, 2.0, 2.0, -2.0)


def test_padding_alone_sees_nothing() -> None:
    field = konv.receptive_field(nn.Conv2d(1, 1, 3, padding=4), (1, 1, 8, 8), (0, 0))
    assert (field.rows, field.columns, field.size) == (None, None, (0, 0))


def test_known_networks() -> None:
    """Figures that papers print: VGG-16's conv5_3 sees 196 pixels, one every 16."""
    layers: list[nn.Module] = []
    channels = 3
    for block, repeats in enumerate((2, 2, 3, 3, 3)):
        for _ in range(repeats):
            layers.append(nn.Conv2d(channels, 8, 3, padding=1))
            channels = 8
        if block < 4:
            layers.append(nn.MaxPool2d(2))
    model = nn.Sequential(*layers)
    report = konv.explain(model, (1, 3, 512, 512))
    last = report.rows[-1].field
    assert last is not None
    assert [(axis.size, axis.jump, axis.center) for axis in last] == [(196, 16, 7.5)] * 2
    assert konv.receptive_field(model, (1, 3, 512, 512), (16, 16)).size == (196, 196)


def test_the_line_of_every_value_holds_its_field() -> None:
    """What the table says for all units at once holds each unit's exact field, and is tight for plain chains."""
    for seed in range(300):
        case = random_case(seed)
        if case is None:
            continue
        model, shape, index = case
        graph = traced(module_of(model), shape_of(shape), konv.float64)
        track = track_values(graph)[graph.outputs[0]]
        exact = konv.receptive_field(model, shape, index)
        for axis, (cells, (dim, line)) in enumerate(zip((exact.rows, exact.columns), track, strict=True)):
            if cells is None or any(getattr(m, "padding_mode", "zeros") != "zeros" for m in model.modules()):
                continue
            place = 0 if dim is None else index[dim]
            low, high = line.span(place, place)
            assert low <= cells[0] <= cells[1] <= high, (seed, axis)
            told = line.field()
            assert high - low + 1 <= told.size, (seed, axis)
            assert told.jump * place + told.first <= low <= high <= told.jump * place + told.last, (seed, axis)


def test_the_line_is_exact_away_from_the_edges() -> None:
    rng = random.Random(11)
    for _ in range(25):
        layers: list[nn.Module] = []
        for _ in range(rng.randint(1, 5)):
            kernel = rng.randint(1, 4)
            stride = rng.randint(1, kernel)
            kind = rng.randrange(4)
            if kind < 2:
                layers.append(nn.Conv2d(1, 1, kernel, stride, rng.randint(0, 2)))
            elif kind == 2:
                layers.append(nn.ConvTranspose2d(1, 1, kernel, stride, rng.randint(0, 1)))
            else:
                layers.append(rng.choice([nn.Upsample(scale_factor=2), nn.MaxPool2d(kernel, stride)]))
        model = nn.Sequential(*layers)
        graph = traced(model, (1, 1, 300, 300), konv.float32)
        made = graph.shape(graph.outputs[0])
        track = track_values(graph)[graph.outputs[0]]
        for place in (made[-1] // 2, made[-1] // 2 + 1, made[-1] // 2 + 2):
            exact = konv.receptive_field(model, (1, 1, 300, 300), (place, place))
            assert (exact.rows, exact.columns) == tuple(line.span(place, place) for _, line in track), model


def test_long_strides_are_told_as_short_ones_are() -> None:
    """The line around the phases of a transposed convolution, against a walk over them."""
    rng = random.Random(5)
    for _ in range(40):
        stride = rng.randint(513, 700)
        sizes = rng.randint(1, 5), stride, rng.randint(0, 900), rng.choice([1, 2, 150, 400])
        geometry = ConvGeometry.of(1, 1, sizes[0], stride, sizes[2], sizes[3], transposed=True)
        reach = sizes[3] * (sizes[0] - 1)
        lows, highs = [], []
        for phase in range(stride):
            ends = math.ceil((sizes[2] - reach + phase) / stride), math.floor((sizes[2] + phase) / stride)
            lows.append(min(ends))
            highs.append(max(ends))
        assert of_geometry(geometry, 0, 8).field() == Line(1, tuple(lows), tuple(highs)).field(), sizes


def test_what_enlarges_costs_nothing_however_far() -> None:
    tracemalloc.start()
    far = konv.explain(nn.Sequential(nn.ConvTranspose2d(1, 1, 1, stride=10**8)), (1, 1, 8, 8))
    model = nn.Sequential(nn.Upsample(scale_factor=10**8))
    wide = konv.explain(model, (1, 1, 8, 8))
    unit = konv.receptive_field(model, (1, 1, 8, 8), (2 * 10**8, 10**8 - 100))
    smooth = konv.explain("Upsample(scale_factor=1000, mode='bilinear')", (1, 1, 8, 100_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26
    assert far.output_shape == (1, 1, 7 * 10**8 + 1, 7 * 10**8 + 1)
    assert wide.output_shape == (1, 1, 8 * 10**8, 8 * 10**8)
    assert (unit.rows, unit.columns) == ((2, 2), (0, 0))
    assert wide.rows[0].reads == (None,)
    for field in wide.rows[0].field:
        assert field.jump == Fraction(1, 10**8)
        assert abs(field.first + 1) < 1e-6  # the last of the outputs that repeat a cell, reckoned in float32
        assert abs(field.last) < 1e-6
    # Output 500 is the first past the middle of cell 0, so it sees cell 1 too; 1499 is the last to see cell 0.
    rows = smooth.rows[0].field[0]
    assert (rows.first, rows.last, rows.size) == (Fraction(-1499, 1000), Fraction(1, 2), 2)


def test_views_and_slices() -> None:
    class Sliced(nn.Module):
        def forward(self, x: Any) -> Any:
            x = x.permute(0, 2, 3, 1).flip(1).transpose(1, 2)
            return x[:, 2:, 1::3, None].unbind(0)[0].squeeze()

    model = Sliced()
    for index in [(0, 0, 0), (4, 1, 2), (-1, -1, -1)]:
        field = konv.receptive_field(model, (1, 3, 9, 7), index)
        assert (field.rows, field.columns) == seen(model, (1, 3, 9, 7), index)


def test_flatten_and_linear_see_everything() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 4, 3))
    assert konv.receptive_field(model, (1, 1, 6, 6), (0, 1)).size == (6, 6)
    flat = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    assert konv.receptive_field(flat, (1, 1, 6, 6), (0, 16 + 5)).rows == (1, 3)


def test_refusals() -> None:
    with pytest.raises(IndexRangeError, match=r"output_index=\(0, 6\); the output is \(1, 1, 6, 6\)"):
        konv.receptive_field("Conv2d(1, 1, 3)", (1, 1, 8, 8), (0, 6))
    with pytest.raises(IndexRangeError, match="has 4 axes"):
        konv.receptive_field("Conv2d(1, 1, 3)", (1, 1, 8, 8), (0, 0, 0, 0, 0))
    with pytest.raises(TypeError, match="whole numbers"):
        konv.receptive_field("Conv2d(1, 1, 3)", (1, 1, 8, 8), (0, 0.5))
    with pytest.raises(ArgumentError, match="asked of an image"):
        konv.receptive_field("Linear(3, 4)", (8, 3))


def test_runs() -> None:
    assert merged([(5, 6), (1, 2), (3, 3), (9, 8)]) == ((1, 3), (5, 6))
    assert folded([(-2, 1)], 5, "zeros") == ((0, 1),)
    assert folded([(-2, 1)], 5, "replicate") == ((0, 1),)
    assert folded([(-2, -1)], 5, "replicate") == ((0, 0),)
    assert folded([(-2, 1)], 5, "reflect") == ((0, 2),)
    assert folded([(3, 6)], 5, "reflect") == ((2, 4),)
    assert folded([(-2, 1)], 5, "circular") == ((0, 1), (3, 4))
