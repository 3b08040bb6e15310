"""What ``konv.explain`` returns: plain frozen dataclasses, and their JSON.

Nothing here computes or prints: ``layer.py`` and ``model.py`` fill these in, ``report.py`` writes them as text and
HTML. ``to_dict()`` gives the fields below as they stand, tuples as lists, plus ``"kind"`` at the top::

    LayerReport  {"kind": "layer", "layer": "Conv2d", "call": "Conv2d(3, 64, kernel_size=5, padding=2)",
                  "dtype": "float32", "input_shape": [8, 3, 28, 28], "output_shape": [8, 64, 28, 28],
                  "options": {"in_channels": 3, "out_channels": 64, "kernel_size": [5, 5], "stride": [1, 1],
                              "padding": [[2, 2], [2, 2]], "padding_word": null, "dilation": [1, 1], "groups": 1,
                              "padding_mode": "zeros", "transposed": false, "output_padding": [0, 0], "bias": true},
                  "axes": [AxisReport of height, AxisReport of width],
                  "weight": TensorReport | null, "bias": TensorReport | null, "cost": Cost,
                  "field": [AxisField, AxisField], "init": Init | null, "groups": Groups | null,
                  "plan": Plan | null, "measured": Measured | null, "hints": [Hint, ...]}
    AxisReport   {"name": "height", "input": 28, "before": 2, "after": 2, "padded": 32, "kernel": 5, "dilation": 1,
                  "extent": 5, "stride": 1, "output_padding": 0, "output": 28, "unused": 0, "dropped": 0,
                  "blind": [0, 0], "steps": ["...", ...]}
    ModelReport  {"kind": "model", "name": "SimpleCNN", "dtype": "float32", "input_shape": [...],
                  "output_shape": [...], "rows": [Row, ...], "totals": Totals, "dominating": [Share, ...]}
    Row          {"index": 0, "name": "conv1", "layer": "Conv2d", "call": "...", "inputs": [-1],
                  "input_shapes": [[1, 1, 28, 28]], "output_shape": [1, 32, 28, 28], "kernel": [3, 3] | null,
                  "parameters": 320, "multiply_adds": 225792, "weight_bytes": 1280, "output_bytes": 100352,
                  "forward_bytes": 103488, "training_bytes": 103488, "field": [AxisField, AxisField] | null,
                  "reads": [[Reads of height, Reads of width] | null for each of "inputs"],
                  "hints": [Hint, ...], "detail": LayerReport | null}
    WeightsReport {"kind": "weights", "name": "net.safetensors", "rows": [{"name": "conv1.weight",
                  "shape": [32, 1, 3, 3], "dtype": "float32", "bytes": 1152, "layer": "Conv2d(1, 32, ...)"}, ...],
                  "parameters": 50378, "bytes": 201512}
    AxisField    {"size": 3, "jump": 1.0, "first": -1.0, "last": 1.0, "center": 0.0, "whole": false}
    Reads        {"kind": "same"} | {"kind": "window", "kernel": 3, "stride": 1, "dilation": 1, "before": 1,
                  "mode": "zeros"} | {"kind": "spread", ...} | {"kind": "adaptive"} |
                  {"kind": "table", "first": [...], "last": [...]} | {"kind": "flipped"} | {"kind": "whole"}

``inputs`` are indices of rows, -1 for the model's own input. Output ``i`` of an axis sees the input indices from
``ceil(first + jump*i)`` to ``floor(last + jump*i)``, cut at the image; ``size`` is the most that this can be, and
``center`` the middle of the field of output 0. ``whole`` says that the axis is gone or averaged: every unit sees
everything. ``reads`` says for one step which cells of its input an output cell reads: ``window`` reads
``i*stride - before + t*dilation`` for ``t`` below ``kernel``; ``spread`` (a transposed convolution) reads
``(i + before - t*dilation) / stride`` where that is whole; ``table`` (resizing) reads ``first[i]`` to ``last[i]``;
``adaptive`` shares the input evenly. null: more than one step, or a table of more than 65,536 cells.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field as own, fields, is_dataclass
from fractions import Fraction
from typing import Any

from ..geometry import Pair

Shape = tuple[int, ...]


class Record:
    """What all parts of a report have in common: plain data on request."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and words, ready for JSON."""
        result: dict[str, Any] = _plain(self)
        return result


class Report(Record):
    """A whole answer of ``konv.explain``: data, JSON, HTML, and text by ``str()``."""

    __slots__ = ()
    kind = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data, with ``"kind"`` first (the shapes stand at the head of this module)."""
        return {"kind": self.kind, **Record.to_dict(self)}

    def to_json(self, indent: int | None = 2) -> str:
        """``to_dict()`` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def to_html(self, image: Any = None) -> str:
        """One self-contained page to play with: no server, no request, all names escaped.

        Args:
            image: (C, H, W) numbers to show as the input; feature maps are then computed by konv.
        """
        from .page import build

        return build(self, image)

    def __str__(self) -> str:
        from . import report

        return report.plain(self)

    def _repr_html_(self) -> str:
        from .page import embedded

        return embedded(self)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        kept = [item.name for item in fields(value) if item.metadata.get("json", True)]
        return {name: _plain(getattr(value, name)) for name in kept}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, Fraction) else value


@dataclass(frozen=True, slots=True)
class Hint(Record):
    """One remark: ``code`` is stable for programs, ``text`` is a sentence with the way out."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class AxisReport(Record):
    """The arithmetic of one axis.

    ``dropped`` counts real pixels among ``unused``; ``blind`` counts outputs at both ends fed by padding alone.
    """

    name: str
    input: int
    before: int
    after: int
    padded: int
    kernel: int
    dilation: int
    extent: int
    stride: int
    output_padding: int
    output: int
    unused: int
    dropped: int
    blind: Pair
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TensorReport(Record):
    """A learnable tensor: ``axes`` gives each size its reason."""

    name: str
    shape: Shape
    axes: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Cost(Record):
    """What one forward call needs. Bytes of gradients are those of a training step; ``intensity`` is flops a byte."""

    parameters: int
    multiply_adds: int
    flops: int
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    gradient_bytes: int
    intensity: float


@dataclass(frozen=True, slots=True)
class AxisField(Record):
    """The receptive field along one input axis, before it is cut at the image (see the head of this module)."""

    size: int
    jump: Fraction
    first: Fraction
    last: Fraction
    center: Fraction
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Init(Record):
    """Fresh weights and bias are uniform in ``[-bound, bound]``."""

    bound: float
    fan_in: int
    formula: str


@dataclass(frozen=True, slots=True)
class Groups(Record):
    """Which input channels meet which output channels: ``blocks`` of ((first in, last in), (first out, last out)).

    At most ``layer.MAX_BLOCKS`` blocks are listed; ``count`` is the true number.
    """

    count: int
    in_each: int
    out_each: int
    depthwise: bool
    multiplier: int
    blocks: tuple[tuple[Pair, Pair], ...]


@dataclass(frozen=True, slots=True)
class Plan(Record):
    """The algorithm that konv runs, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Measured(Record):
    """Time of one forward call here; the bound is what this machine's measured peaks would allow."""

    seconds: float
    runs: int
    threads: int
    flops_rate: float
    bytes_rate: float
    peak_flops: float
    peak_bytes: float
    bound: str
    share: float


@dataclass(frozen=True, slots=True)
class LayerReport(Report):
    """One layer, explained. Made by ``konv.explain``; the fields are drawn at the head of this module."""

    layer: str
    call: str
    dtype: str
    input_shape: Shape
    output_shape: Shape
    options: dict[str, Any]
    axes: tuple[AxisReport, AxisReport]
    weight: TensorReport | None
    bias: TensorReport | None
    cost: Cost
    field: tuple[AxisField, AxisField]
    init: Init | None
    groups: Groups | None
    plan: Plan | None
    measured: Measured | None
    hints: tuple[Hint, ...]
    subject: Any = own(default=None, repr=False, compare=False, metadata={"json": False})  # the module itself
    kind = "layer"


@dataclass(frozen=True, slots=True)
class Row(Record):
    """One call of a layer, or of an operation outside of any layer, in the order of the forward pass."""

    index: int
    name: str
    layer: str
    call: str
    inputs: tuple[int, ...]
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    kernel: Pair | None
    parameters: int
    multiply_adds: int
    weight_bytes: int
    output_bytes: int
    forward_bytes: int
    training_bytes: int
    field: tuple[AxisField, AxisField] | None
    reads: tuple[tuple[dict[str, Any], dict[str, Any]] | None, ...]
    hints: tuple[Hint, ...]
    detail: LayerReport | None = None


@dataclass(frozen=True, slots=True)
class Share(Record):
    """A row that carries much of a total: ``what`` is parameters, multiply_adds or output_bytes."""

    what: str
    row: int
    share: float


@dataclass(frozen=True, slots=True)
class Totals(Record):
    """Sums over a model. Peaks count weights, and for training their gradients and what backward keeps.

    The optimiser's own state is not counted.
    """

    parameters: int
    trainable: int
    buffers: int
    multiply_adds: int
    weight_bytes: int
    input_bytes: int
    activation_bytes: int
    forward_peak: int
    forward_peak_row: int
    training_peak: int
    training_peak_row: int


@dataclass(frozen=True, slots=True)
class ModelReport(Report):
    """A model, explained: one row a layer call, totals, and who dominates them."""

    name: str
    dtype: str
    input_shape: Shape
    output_shape: Shape
    rows: tuple[Row, ...]
    totals: Totals
    dominating: tuple[Share, ...]
    subject: Any = own(default=None, repr=False, compare=False, metadata={"json": False})  # the module itself
    kind = "model"


@dataclass(frozen=True, slots=True)
class WeightRow(Record):
    """One tensor of a file; ``layer`` is what its shape makes likely, empty where it says nothing."""

    name: str
    shape: Shape
    dtype: str
    bytes: int
    layer: str


@dataclass(frozen=True, slots=True)
class WeightsReport(Report):
    """The tensors of a file of weights."""

    name: str
    rows: tuple[WeightRow, ...]
    parameters: int
    bytes: int
    kind = "weights"


@dataclass(frozen=True, slots=True)
class Field(Record):
    """The input rectangle that one output unit sees: rows ``top..bottom`` and columns ``left..right``, inclusive.

    ``center`` is the input position under the unit; ``sides`` are the cells from there to each edge
    (top, bottom, left, right), which differ with asymmetric padding or where the image ends. A unit that sees
    nothing, fed by padding alone, has None.
    """

    rows: Pair | None
    columns: Pair | None
    image: Pair
    center: tuple[float, float] | None = own(default=None)
    sides: tuple[float, float, float, float] | None = own(default=None)

    @property
    def size(self) -> Pair:
        """Rows and columns seen."""
        if self.rows is None or self.columns is None:
            return 0, 0
        return self.rows[1] - self.rows[0] + 1, self.columns[1] - self.columns[0] + 1
