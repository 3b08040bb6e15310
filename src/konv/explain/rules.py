"""What each operation reads: one small rule a Function, found by its name.

A rule gets the event as it was heard (``Seen``) and answers with one edge an input that carries pixels. Statistics of
a normalisation are not counted as reading: a batch norm in training and a group norm would otherwise see everything.
An operation without a rule is taken to read all of its inputs, and the model's report says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..autograd import Function
from .edges import Blocks, Edge, Reshape, broadcast, everything, permuted, reduced
from .field import Adaptive, Flipped, Reads, Same, Table, Whole, Window
from .graph import Event, Graph, Ref
from .trace import Shape

AnyEdge = Edge | Reshape


@dataclass(frozen=True, slots=True)
class Seen:
    """One output of one event: its arguments, and the shapes of everything."""

    args: tuple[Any, ...]
    made: Shape
    position: int
    graph: Graph

    def shape(self, ref: Ref) -> Shape:
        """The shape of an argument."""
        return self.graph.shape(ref.value)

    def refs(self) -> list[Ref]:
        """The tensors among the arguments, those in tuples too."""
        return list(_refs(self.args))


Rule = Callable[[Seen], list[AnyEdge]]
RULES: dict[str, Rule] = {}


def _refs(value: Any) -> list[Ref]:
    if isinstance(value, Ref):
        return [value]
    return [ref for item in value for ref in _refs(item)] if isinstance(value, tuple) else []


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for Functions by class name, with the file's where two share one; subclasses inherit it."""

    def keep(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return keep


def rule_of(function: type[Function]) -> Rule | None:
    """The rule of an operation, or of the class that it was made from."""
    for kind in function.__mro__:
        if not kind.__module__.startswith("konv."):
            continue  # a user's class may bear the same name
        file = kind.__module__.rpartition(".")[2]
        found = RULES.get(f"{file}.{kind.__name__}") or RULES.get(kind.__name__)
        if found is not None:
            return found
    return None


def known(function: type[Function]) -> bool:
    """Whether an operation has a rule."""
    return rule_of(function) is not None


TITLES: dict[str, str] = {"Convolution": "conv2d", "ConvolutionInputGradient": "conv_transpose2d"}
TITLES |= {"ConstantPad": "pad", "EdgePad": "pad", "ToCopy": "to"}


def title(function: type[Function]) -> str:
    """The name of an operation as users write it."""
    name = function.__name__
    return TITLES.get(name, name.strip("_").lower())


def edges(graph: Graph, event: Event, position: int) -> list[AnyEdge]:
    """How output number ``position`` of an event depends on the event's inputs."""
    seen = Seen(event.args, graph.shape(event.outputs[position]), position, graph)
    found = rule_of(event.function)
    if found is None:
        return [everything(ref.value, seen.shape(ref)) for ref in seen.refs()]
    return found(seen)


@rule("Pointwise", "Expand", "Conj", "Real", "Imag", "ToCopy", "Clone")
def _pointwise(seen: Seen) -> list[AnyEdge]:
    """Operands that broadcast against each other."""
    return [broadcast(ref.value, seen.shape(ref), seen.made) for ref in seen.refs()]


@rule("Convolution")
def _convolution(seen: Seen) -> list[AnyEdge]:
    x, _, _, geometry = seen.args
    image = seen.shape(x)[-2:]
    windows = [Window.of(geometry, axis, (image[0], image[1])) for axis in range(2)]
    return _filtered(x, geometry.in_channels, geometry.out_channels, geometry.groups, windows)


@rule("ConvolutionInputGradient")
def _transposed(seen: Seen) -> list[AnyEdge]:
    x, _, _, geometry, size = seen.args
    windows = []
    for axis in range(2):
        own = Window.of(geometry, axis, tuple(size))
        windows.append(Window(own.kernel, own.stride, own.dilation, own.before, transposed=True))
    return _filtered(x, geometry.out_channels, geometry.in_channels, geometry.groups, windows)


def _filtered(x: Ref, given: int, made: int, groups: int, windows: list[Window]) -> list[AnyEdge]:
    channels = Blocks(max(given // groups, 1), max(made // groups, 1))
    return [Edge(x.value, ((0, Same()), (1, channels), (2, windows[0]), (3, windows[1])))]


@rule("ConstantPad", "EdgePad")
def _padded(seen: Seen) -> list[AnyEdge]:
    x, pads, how = seen.args
    mode = how if isinstance(how, str) else "zeros"
    windows = (Window(1, before=before, mode=mode) if before or after else Same() for before, after in pads)
    return [Edge(x.value, tuple(enumerate(windows)))]


@rule("Reshape", "Squeeze", "Unsqueeze")
def _reshaped(seen: Seen) -> list[AnyEdge]:
    return [Reshape(seen.args[0].value)]


@rule("Permute")
def _permuted(seen: Seen) -> list[AnyEdge]:
    return [permuted(seen.args[0].value, tuple(seen.args[1]))]


@rule("Transpose")
def _swapped(seen: Seen) -> list[AnyEdge]:
    x, first, second = seen.args
    order = list(range(len(seen.made)))
    order[first], order[second] = order[second], order[first]
    return [permuted(x.value, tuple(order))]


@rule("Cat")
def _joined(seen: Seen) -> list[AnyEdge]:
    dim, *tensors = seen.args
    found: list[AnyEdge] = []
    start = 0
    for x in tensors:
        shape = seen.shape(x)
        found.append(Edge(x.value, _cut(len(shape), dim, Window(1, before=start))))
        start += shape[dim]
    return found


@rule("Split")
def _split(seen: Seen) -> list[AnyEdge]:
    x, dim, sizes = seen.args
    return [Edge(x.value, _cut(len(seen.made), dim, Window(1, before=-sum(sizes[: seen.position]))))]


@rule("Unbind")
def _unbound(seen: Seen) -> list[AnyEdge]:
    x, dim = seen.args
    shape = seen.shape(x)
    axes = [
        (d - (d > dim), Same()) if d != dim else (None, Window(1, before=-seen.position)) for d in range(len(shape))
    ]
    return [Edge(x.value, tuple(axes))]


def _cut(ndim: int, dim: int, how: Reads) -> tuple[tuple[int | None, Reads], ...]:
    return tuple((d, how if d == dim else Same()) for d in range(ndim))


@rule("Flip")
def _flipped(seen: Seen) -> list[AnyEdge]:
    x, dims = seen.args
    axes: list[tuple[int | None, Reads]] = [(d, Flipped() if d in dims else Same()) for d in range(len(seen.made))]
    return [Edge(x.value, tuple(axes))]


@rule("reduce.Fold", "Var")
def _folded(seen: Seen) -> list[AnyEdge]:
    return [reduced(seen.args[0].value, seen.shape(seen.args[0]), seen.made, seen.args[1])]


@rule("Extreme")
def _extreme(seen: Seen) -> list[AnyEdge]:
    return [reduced(seen.args[0].value, seen.shape(seen.args[0]), seen.made, (seen.args[1],))]


@rule("_Softmax", "_LogSoftmax")
def _softmax(seen: Seen) -> list[AnyEdge]:
    x, dim = seen.args
    return [Edge(x.value, _cut(len(seen.made), dim, Whole()))]


@rule("Linear")
def _linear(seen: Seen) -> list[AnyEdge]:
    x, *others = seen.args
    rank = len(seen.shape(x))
    axes: list[tuple[int | None, Reads]] = [(dim, Same()) for dim in range(rank - 1)]
    weights = [everything(ref.value, seen.shape(ref)) for ref in others if ref is not None]
    return [Edge(x.value, (*axes, (None, Whole()))), *weights]


@rule("MatMul")
def _matmul(seen: Seen) -> list[AnyEdge]:
    found: list[AnyEdge] = []
    made = seen.made
    for ref, place in zip(seen.args, (-2, -1), strict=True):
        shape = seen.shape(ref)
        lead = broadcast(ref.value, shape[:-2], made[:-2]).axes
        kept: tuple[int | None, Reads] = (len(made) + place, Same())
        last = (kept, (None, Whole())) if place == -2 else ((None, Whole()), kept)
        found.append(Edge(ref.value, (*lead, *last)))
    return found


@rule("Slice")
def _sliced(seen: Seen) -> list[AnyEdge]:
    x, key = seen.args
    shape = seen.shape(x)
    axes: list[tuple[int | None, Reads]] = []
    place = 0
    for part in key:
        if part is None:
            place += 1
            continue
        size = shape[len(axes)]
        if isinstance(part, slice):
            start, _, step = part.indices(size)
            axes.append((place, Same() if (start, step) == (0, 1) else Window(1, step, before=-start)))
            place += 1
        else:
            axes.append((None, Window(1, before=-(int(part) % size))))
    axes += [(place + extra, Same()) for extra in range(len(shape) - len(axes))]
    return [Edge(x.value, tuple(axes))]


@rule("Where")
def _where(seen: Seen) -> list[AnyEdge]:
    return _pointwise(seen)


@rule("Copy")
def _copied(seen: Seen) -> list[AnyEdge]:
    source = seen.args[1]
    return [broadcast(source.value, seen.shape(source), seen.made)] if isinstance(source, Ref) else []


@rule("Resize")
def _resized(seen: Seen) -> list[AnyEdge]:
    x, plan = seen.args
    axes: dict[int, Reads] = {step.axis: Table(step) for step in plan}
    return [Edge(x.value, tuple((dim, axes.get(dim, Same())) for dim in range(len(seen.made))))]


@rule("Normalize")
def _normalized(seen: Seen) -> list[AnyEdge]:
    x = seen.args[0]
    return [broadcast(x.value, seen.shape(x), seen.made)]


@rule("MaxPool", "AvgPool")
def _pooled(seen: Seen) -> list[AnyEdge]:
    x, options, *_ = seen.args
    ways: list[Reads] = []
    for axis in range(2):
        if hasattr(options, "kernel_size"):
            kernel, stride = options.kernel_size[axis], options.stride[axis]
            ways.append(Window(kernel, stride, options.dilation[axis], options.padding[axis]))
        else:
            ways.append(Adaptive())
    return [Edge(x.value, ((0, Same()), (1, Same()), (2, ways[0]), (3, ways[1])))]


# ---- multiply-adds ---------------------------------------------------------------------------------------------


def multiply_adds(graph: Graph, event: Event) -> int:
    """Multiply-adds of one operation: convolutions and matrix products; everything else counts as nothing."""
    if not event.live:
        return 0
    name = event.function.__name__
    if name == "Convolution":
        x, _, _, geometry = event.args
        n, _, h, w = graph.shape(x.value)
        return int(geometry.macs(n, h, w))
    if name == "ConvolutionInputGradient":
        x, _, _, geometry, size = event.args
        return int(geometry.macs(graph.shape(x.value)[0], *size))
    if name in ("Linear", "MatMul"):
        summed = graph.shape(event.args[0].value)[-1]
        return summed * math.prod(graph.shape(event.outputs[0]))
    return 0
