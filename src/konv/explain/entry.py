"""``konv.explain``: text or module in, report out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .. import dtypes
from ..errors import ArgumentError, ArgumentTypeError, text
from ..geometry import INT64_MAX, integer
from ..nn.module import Module
from . import rules, spec
from .graph import Graph, meta_input, on_meta, trace
from .model import detail_of, model_report
from .trace import LayerReport, ModelReport, Shape

MAX_AXES = 8


def explained(x: Any, input_shape: Any, dtype: Any = None, measure: bool = False) -> LayerReport | ModelReport:
    """See ``konv.explain``."""
    model, shape = module_of(x), shape_of(input_shape)
    kind = dtype_of(model, dtype)
    if isinstance(x, str) and (kind.is_floating_point or kind.is_complex):
        model = model.to(kind)
    graph = traced(model, shape, kind)
    subject = None if isinstance(x, str) else model
    detail = detail_of(model, shape, kind.name, kind.itemsize)
    if detail is None:
        if measure:
            rule = "only a single convolution or pooling layer is timed"
            raise ArgumentTypeError(text("explain", f"measure=True for a {type(model).__name__}", rule))
        return replace(model_report(graph, kind.name), subject=subject)
    if measure:
        from .measure import measured

        detail = measured(detail, model, shape, kind)
    return replace(detail, subject=subject)


def traced(model: Module, shape: Shape, dtype: dtypes.dtype) -> Graph:
    """The model's graph for an input of this shape; the model itself is not touched."""
    return trace(on_meta(model), (meta_input(shape, dtype),), rules.known)


def module_of(x: Any) -> Module:
    """A module as it is, or the layer that text describes.

    Raises:
        ArgumentTypeError: neither of these.
    """
    if isinstance(x, str):
        return spec.build(x)
    if not isinstance(x, Module):
        got = f"{x!r} is a {type(x).__name__}"
        raise ArgumentTypeError(text("explain", got, 'give a Module, or text such as "Conv2d(3, 64, 5)"'))
    return x


def shape_of(shape: Any) -> Shape:
    """Sizes of an input: a sequence of whole numbers, text such as ``"8,3,28,28"``, or anything with a ``shape``.

    Raises:
        ArgumentError, ArgumentTypeError: no sizes, negative ones, or more of them than 64 bits can count.
    """
    if isinstance(shape, str):
        shape = spec.parse_shape(shape)
    shape = getattr(shape, "shape", shape)
    if not isinstance(shape, Sequence):
        got = f"input_shape={shape!r} is a {type(shape).__name__}"
        raise ArgumentTypeError(text("explain", got, "give the sizes of the input, such as (8, 3, 28, 28)"))
    sizes = tuple(integer(size, f"input_shape[{i}]", "explain", 0) for i, size in enumerate(shape))
    total = 1
    for size in sizes:
        total *= max(size, 1)
    if not sizes or len(sizes) > MAX_AXES or total * 16 > INT64_MAX:
        rule = f"an input has 1 to {MAX_AXES} axes and its bytes fit in 64 bits"
        raise ArgumentError(text("explain", f"input_shape={sizes}", rule))
    return sizes


def dtype_of(model: Module, dtype: Any) -> dtypes.dtype:
    """The dtype asked for, else that of the model's first weight, else the default."""
    if isinstance(dtype, str):
        dtype = spec.parse_dtype(dtype)
    if dtype is not None:
        return dtypes.as_dtype(dtype)
    first = next(iter(model.parameters()), None)
    return dtypes.get_default_dtype() if first is None else first.dtype
