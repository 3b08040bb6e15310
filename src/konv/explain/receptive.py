"""The exact rectangle of input pixels behind one unit of an output: its cells followed backwards through the graph.

Source: A. Araujo, W. Norris, J. Sim, "Computing receptive fields of convolutional neural networks", Distill 2019; there
intervals, here sets of cells, so that dilation, padding modes and the edges of the image come out exactly.
"""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError, ArgumentTypeError, IndexRangeError, text
from . import rules
from .edges import Box, united
from .entry import dtype_of, module_of, shape_of, traced
from .graph import Graph
from .model import track_values
from .trace import Field, Shape


def receptive_field(model: Any, input_shape: Any, output_index: Any = None) -> Field:
    """See ``konv.receptive_field``."""
    module, shape = module_of(model), shape_of(input_shape)
    if len(shape) not in (3, 4):
        rule = "a receptive field is asked of an image: (N, C, H, W) or (C, H, W)"
        raise ArgumentError(text("receptive_field", f"input_shape={shape}", rule))
    graph = traced(module, shape, dtype_of(module, None))
    made = graph.shape(graph.outputs[0])
    box = unit(made, output_index)
    cells = behind(graph, graph.outputs[0], box)
    image = shape[-2], shape[-1]
    if cells is None:
        return Field(None, None, image)
    rows, columns = ((runs[0][0], runs[-1][1]) for runs in cells[-2:])
    center = _center(graph, box)
    if center is None:
        return Field(rows, columns, image)
    sides = center[0] - rows[0], rows[1] - center[0], center[1] - columns[0], columns[1] - center[1]
    return Field(rows, columns, image, center, sides)


def unit(made: Shape, index: Any) -> Box:
    """The box of one unit; axes that the index does not name are taken whole.

    Raises:
        IndexRangeError: there is no such unit. ArgumentTypeError: the index is no whole number or tuple of such.
    """
    if 0 in made:
        raise IndexRangeError(text("receptive_field", f"the output is {made}", "it has no units"))
    if index is None:
        index = tuple(size // 2 for size in made[-2:]) if len(made) in (3, 4) else (0,) * len(made)
    given = index if isinstance(index, (tuple, list)) else (index,)
    if not all(hasattr(place, "__index__") for place in given):
        rule = "give whole numbers, one an axis, such as (0, 0, 5, 5)"
        raise ArgumentTypeError(text("receptive_field", f"output_index={index!r}", rule))
    if len(given) > len(made):
        rule = f"the output {made} has {len(made)} axes"
        raise IndexRangeError(text("receptive_field", f"output_index={tuple(given)}", rule))
    box: list[Any] = [((0, size - 1),) for size in made[: len(made) - len(given)]]
    for size, place in zip(made[len(made) - len(given) :], given, strict=True):
        at = place.__index__()
        if not -size <= at < size:
            raise IndexRangeError(text("receptive_field", f"output_index={tuple(given)}", f"the output is {made}"))
        box.append(((at % size, at % size),))
    return tuple(box)


def behind(graph: Graph, number: int, box: Box) -> Box | None:
    """The cells of the model's first input that the cells ``box`` of a value depend on; None for none at all."""
    boxes: dict[int, Box] = {number: box}
    for event in reversed(graph.events):
        if not event.live:
            continue
        for position, output in enumerate(event.outputs):
            cells = boxes.get(output)
            if cells is None:
                continue
            for edge in rules.edges(graph, event, position):
                if graph.values[edge.source].weight:
                    continue
                read = edge.back(cells, graph.shape(edge.source), graph.shape(output))
                if read is not None:
                    boxes[edge.source] = united(boxes.get(edge.source), read)
    return boxes.get(graph.inputs[0])


def _center(graph: Graph, box: Box) -> tuple[float, float] | None:
    """The input position under a unit, where both axes of the image are still there."""
    track = track_values(graph).get(graph.outputs[0])
    if track is None or any(dim is None or line.whole for dim, line in track):
        return None
    places = [line.jump * box[dim][0][0] + line.center for dim, line in track if dim is not None]
    return float(places[0]), float(places[1])
