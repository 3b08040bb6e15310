"""A model, explained: one run on the meta device, and a row for every layer and every operation between layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..geometry import ConvGeometry, Pair
from ..nn.module import Module
from . import rules
from .edges import Edge, Reshape, Track, joined
from .field import Reads, Same, Whole
from .graph import Call, Event, Graph
from .layer import convolution, plain, pooling
from .line import identity
from .memory import Ledger
from .plans import plan_of
from .trace import Hint, LayerReport, ModelReport, Row, Shape, Share, Totals

DOMINATING: Final = 0.2  # a row is named when it carries this share of a total
MOST_NAMED: Final = 3


@dataclass(slots=True)
class Unit:
    """What becomes one row: a leaf module's call with its operations, or one operation of a container."""

    call: Call | None
    events: list[int]
    module: Module | None
    output: int
    inputs: list[int] = field(default_factory=list)


def model_report(graph: Graph, dtype: str) -> ModelReport:
    """The report of a traced model."""
    units = _units(graph)
    ledger = Ledger(graph)
    forward, training = ledger.forward(), ledger.training()
    tracks = track_values(graph)
    owner: dict[int, int] = dict.fromkeys(graph.inputs, -1)
    counted: set[int] = set()
    rows: list[Row] = []
    resting = ledger.weight_bytes + sum(graph.values[i].bytes for i in graph.inputs)
    for index, unit in enumerate(units):
        unit.inputs = [v for v in _read_by(graph, unit) if v in owner]
        alive = max((forward[e] for e in unit.events), default=rows[-1].forward_bytes if rows else resting)
        kept = max((training[e] for e in unit.events), default=rows[-1].training_bytes if rows else resting)
        rows.append(_row(graph, unit, index, owner, counted, tracks, alive, kept, dtype))
        for number in _made_by(graph, unit):
            owner[number] = index
    made = tuple(graph.shape(graph.outputs[0])) if graph.outputs else ()
    given = graph.shape(graph.inputs[0])
    totals = _totals(graph, ledger, rows)
    return ModelReport(type(graph.root).__name__, dtype, given, made, tuple(rows), totals, _dominating(rows))


def _units(graph: Graph) -> list[Unit]:
    """Leaf calls and loose operations in the order in which they ran."""
    found: list[tuple[int, int, int, Unit]] = []
    for number, call in enumerate(graph.calls):
        if not call.leaf or not call.outputs:
            continue
        events = [i for i in range(call.first_event, call.last_event) if graph.events[i].call == number]
        live = [i for i in events if graph.events[i].live]
        found.append((call.first_event, bool(events), number, Unit(call, live, call.module, call.outputs[0])))
    for index, event in enumerate(graph.events):
        if event.live and (event.call is None or not graph.calls[event.call].leaf):
            found.append((index, 1, event.call or 0, Unit(None, [index], None, event.outputs[0])))
    return [unit for *_, unit in sorted(found, key=lambda entry: entry[:3])]


def _read_by(graph: Graph, unit: Unit) -> list[int]:
    """Values that a unit takes from outside, weights left out."""
    made = {number for index in unit.events for number in graph.events[index].outputs}
    taken = [number for index in unit.events for number in graph.events[index].inputs]
    if not unit.events and unit.call is not None:
        taken = unit.call.inputs[:1]
    outside = [n for n in taken if n not in made and not graph.values[n].weight]
    return list(dict.fromkeys(outside))


def _made_by(graph: Graph, unit: Unit) -> list[int]:
    made = [number for index in unit.events for number in graph.events[index].outputs]
    return made + (unit.call.outputs if unit.call is not None else [])


def _row(
    graph: Graph,
    unit: Unit,
    index: int,
    owner: dict[int, int],
    counted: set[int],
    tracks: dict[int, Track],
    alive: int,
    kept: int,
    dtype: str,
) -> Row:
    module, call = unit.module, unit.call
    weights = _weights_of(graph, unit) - counted
    counted |= weights
    parameters = sum(_cells(graph.shape(w)) for w in weights if graph.values[w].learned)
    shapes = tuple(graph.shape(number) for number in unit.inputs)
    detail = detail_of(module, shapes[0], dtype, _itemsize(graph, unit)) if module is not None and shapes else None
    value = graph.values[unit.output]
    track = tracks.get(unit.output)
    events = [graph.events[i] for i in unit.events]
    return Row(
        index=index,
        name=call.name if call is not None else _inside(graph, events[0]),
        layer=type(module).__name__ if module is not None else rules.title(events[0].function),
        call=call_of(module, detail) if module is not None else rules.title(events[0].function),
        inputs=tuple(owner[number] for number in unit.inputs),
        input_shapes=shapes,
        output_shape=value.shape,
        kernel=_kernel(module, detail),
        parameters=parameters,
        multiply_adds=sum(rules.multiply_adds(graph, event) for event in events),
        weight_bytes=sum(graph.values[w].bytes for w in weights),
        output_bytes=value.bytes,
        forward_bytes=alive,
        training_bytes=kept,
        field=None if track is None else (track[0][1].field(), track[1][1].field()),
        reads=tuple(_reads(graph, unit, number) for number in unit.inputs),
        hints=(*(detail.hints if detail is not None else ()), *_unknown(events)),
        detail=detail,
    )


def _weights_of(graph: Graph, unit: Unit) -> set[int]:
    used = {n for i in unit.events for n in graph.events[i].inputs if graph.values[n].weight}
    if unit.module is not None:
        tensors = (*unit.module._parameters.values(), *unit.module._buffers.values())
        own = {id(tensor._array) for tensor in tensors if tensor is not None}
        used |= {number for number in graph.parameters if graph.arrays[number] in own}
    return used


def _cells(shape: Shape) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _itemsize(graph: Graph, unit: Unit) -> int:
    return graph.values[unit.output].itemsize


def _inside(graph: Graph, event: Event) -> str:
    return "" if event.call is None else graph.calls[event.call].name


def _kernel(module: Module | None, detail: LayerReport | None) -> Pair | None:
    return None if module is None or detail is None else detail.options["kernel_size"]


def call_of(module: Module, detail: LayerReport | None) -> str:
    """The line that makes a layer."""
    return detail.call if detail is not None else repr(module).split("\n")[0]


def _unknown(events: list[Event]) -> list[Hint]:
    strange = sorted({event.function.__name__ for event in events if not rules.known(event.function)})
    if not strange:
        return []
    words = ", ".join(strange)
    return [Hint("unknown-operation", f"what {words} reads is not known; it is taken to read all of its input")]


# ---- layers in detail ------------------------------------------------------------------------------------------


def detail_of(module: Module, shape: Shape, dtype: str, itemsize: int) -> LayerReport | None:
    """The report of a convolution or a pooling layer alone; None for any other module."""
    if len(shape) not in (3, 4):
        return None
    name = type(module).__name__
    geometry = getattr(module, "geometry", None)
    if isinstance(geometry, ConvGeometry):
        plan = plan_of(geometry, (shape[-2], shape[-1]), dtype)
        bias = getattr(module, "bias", None) is not None
        return convolution(geometry, shape, bias=bias, itemsize=itemsize, dtype=dtype, plan=plan)
    if name in ("MaxPool2d", "AvgPool2d"):
        own = vars(module)
        stride = own["kernel_size"] if own.get("stride") is None else own["stride"]
        channels, sizes = shape[-3], (own["kernel_size"], stride, own["padding"], own.get("dilation", 1))
        window = ConvGeometry.of(channels, channels, *sizes, channels or 1, who=name)
        shown = f"{name}({_options(module)})"
        ceil_mode = bool(own.get("ceil_mode", False))
        return pooling(name, window, shape, ceil_mode=ceil_mode, itemsize=itemsize, dtype=dtype, shown=shown)
    return None


def _options(module: Module) -> str:
    """A pooling layer's options as people write them."""
    own = vars(module)
    parts = [plain(_paired(own["kernel_size"]))]
    for name, usual in (("stride", own["kernel_size"]), ("padding", 0), ("dilation", 1), ("ceil_mode", False)):
        value = own.get(name, usual)
        if value is not None and _paired(value) != _paired(usual):
            parts.append(f"{name}={plain(_paired(value))}")
    return ", ".join(parts)


def _paired(value: Any) -> Any:
    return tuple(value) if isinstance(value, (tuple, list)) else value if isinstance(value, bool) else (value, value)


# ---- receptive fields ------------------------------------------------------------------------------------------


def track_values(graph: Graph) -> dict[int, Track]:
    """What every value sees of the model's first input; values that see nothing of it, or no image, are left out."""
    shape = graph.shape(graph.inputs[0])
    if len(shape) not in (3, 4):
        return {}
    tracks: dict[int, Track] = {graph.inputs[0]: ((len(shape) - 2, identity()), (len(shape) - 1, identity()))}
    for event in graph.events:
        if not event.live:
            continue
        for position, number in enumerate(event.outputs):
            made = graph.shape(number)
            seen = [
                edge.track(tracks[edge.source], graph.shape(edge.source), made)
                for edge in rules.edges(graph, event, position)
                if edge.source in tracks
            ]
            track = joined(seen, made)
            if track is not None:
                tracks[number] = track
    return tracks


def _reads(graph: Graph, unit: Unit, source: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """How the last two axes of a unit's output read those of one input: one step an axis, or None."""
    here = source
    steps: list[list[Reads]] = [[], []]
    for index in unit.events:
        event = graph.events[index]
        if here not in event.inputs:
            continue
        edge = next((e for e in rules.edges(graph, event, 0) if e.source == here), None)
        if edge is None:
            continue
        given, made = graph.shape(here), graph.shape(event.outputs[0])
        for axis in range(2):
            steps[axis].append(_step(edge, len(given) - 2 + axis, given, made, axis))
        here = event.outputs[0]
    told = [[step for step in along if not isinstance(step, Same)] for along in steps]
    if any(len(along) > 1 for along in told):
        return None
    height, width = ((along[0] if along else Same()).to_dict() for along in told)
    return None if height is None or width is None else (height, width)


def _step(edge: Edge | Reshape, dim: int, given: Shape, made: Shape, axis: int) -> Reads:
    if dim < 0 or len(given) < 3:
        return Whole()
    out, reads = edge.axes[dim] if isinstance(edge, Edge) else edge.to(dim, given, made)
    return reads if out is not None and out == len(made) - 2 + axis else Whole()


# ---- totals ----------------------------------------------------------------------------------------------------


def _totals(graph: Graph, ledger: Ledger, rows: list[Row]) -> Totals:
    parameters = [graph.values[n] for n in graph.parameters if graph.values[n].learned]
    buffers = [graph.values[n] for n in graph.parameters if not graph.values[n].learned]
    written = {
        graph.values[n].memory: graph.values[n].bytes
        for e in graph.events
        if e.live
        for n in e.outputs
        if graph.values[n].event == ledger.birth.get(graph.values[n].memory)
    }
    given = sum(graph.values[n].bytes for n in graph.inputs)
    forward = _peak(rows, lambda row: row.forward_bytes, ledger.weight_bytes + given)
    training = _peak(rows, lambda row: row.training_bytes, ledger.weight_bytes + given)
    return Totals(
        parameters=sum(_cells(value.shape) for value in parameters),
        trainable=sum(_cells(value.shape) for value in parameters if value.trainable),
        buffers=sum(_cells(value.shape) for value in buffers),
        multiply_adds=sum(row.multiply_adds for row in rows),
        weight_bytes=ledger.weight_bytes,
        input_bytes=given,
        activation_bytes=sum(written.values()),
        forward_peak=forward[0],
        forward_peak_row=forward[1],
        training_peak=training[0],
        training_peak_row=training[1],
    )


def _peak(rows: list[Row], measure: Callable[[Row], int], resting: int) -> tuple[int, int]:
    """The largest amount, and the first row that reaches it."""
    top = max(rows, key=measure, default=None)
    return (resting, 0) if top is None else (measure(top), top.index)


def _dominating(rows: list[Row]) -> tuple[Share, ...]:
    """The rows that carry a fifth or more of the parameters, the multiply-adds or the activations."""
    found = []
    for what in ("parameters", "multiply_adds", "output_bytes"):
        total = sum(getattr(row, what) for row in rows)
        ranked = sorted(rows, key=lambda row: getattr(row, what), reverse=True)[:MOST_NAMED]
        found += [
            Share(what, row.index, getattr(row, what) / total)
            for row in ranked
            if total and getattr(row, what) >= DOMINATING * total
        ]
    return tuple(found)
