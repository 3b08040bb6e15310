"""Resizing images: nearest and (bi)linear.

Both are linear and work axis by axis, so an axis's plan is one or two rows of source indices with weights, and the
gradient is the transpose: the same plan read the other way. Indices rise along an axis, so the transpose can sum
runs of neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentError, ShapeError, UnsupportedError, text
from ..geometry import interpolated_size
from ..tensor import Tensor
from ._table import named

MODES = {"nearest": (1, 2, 3), "nearest-exact": (1, 2, 3), "linear": (1,), "bilinear": (2,)}
Array = np.ndarray[Any, Any]
Rows = tuple[tuple[Array, Array | None], ...]  # (source indices, weights or None for 1)


@dataclass(frozen=True, eq=False)
class Axis:
    """How one axis of ``size`` cells is resized to ``outputs``: each is the sum of weight * source over the rows.

    ``at`` gives the rows of any outputs: the table of all of them, which may be long, is made when numbers are.
    """

    axis: int
    size: int
    outputs: int
    at: Callable[[Array], Rows]

    @cached_property
    def rows(self) -> Rows:
        """The rows of every output."""
        return self.at(np.arange(self.outputs))


class Resize(Function):
    """Each axis of the plan, one after another."""

    node_name = "UpsampleBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: tuple[Axis, ...]) -> Tensor:
        ctx.plan = plan
        if x._meta:
            return Tensor._wrap_meta(_shape(x._array.shape, plan, forward=True), x._dtype)
        array = x._array.astype(np.float32) if x._dtype.is_half else x._array
        for step in plan:
            parts = [_weighted(array.take(index, step.axis), weight, step.axis) for index, weight in step.rows]
            array = sum(parts[1:], parts[0])
        return Tensor._wrap(np.ascontiguousarray(array.astype(x._array.dtype, copy=False)), x._dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        return ResizeBack.apply(g, ctx.plan), None


class ResizeBack(Function):
    """The transpose of Resize."""

    fresh = True

    @staticmethod
    def forward(ctx: Any, g: Tensor, plan: tuple[Axis, ...]) -> Tensor:
        ctx.plan = plan
        if g._meta:
            return Tensor._wrap_meta(_shape(g._array.shape, plan, forward=False), g._dtype)
        array = g._array.astype(np.float32) if g._dtype.is_half else g._array
        for step in reversed(plan):
            array = _gathered(array, step)
        return Tensor._wrap(array.astype(g._array.dtype, copy=False), g._dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        return Resize.apply(g, ctx.plan), None


def _shape(shape: Sequence[int], plan: tuple[Axis, ...], forward: bool) -> tuple[int, ...]:
    sizes = {step.axis: step.outputs if forward else step.size for step in plan}
    return tuple(sizes.get(axis, size) for axis, size in enumerate(shape))


def _weighted(array: Array, weight: Array | None, axis: int) -> Array:
    if weight is None:
        return array
    return array * weight.astype(array.dtype).reshape([-1 if a == axis else 1 for a in range(array.ndim)])


def _gathered(array: Array, step: Axis) -> Array:
    shape = list(array.shape)
    shape[step.axis] = step.size
    out = np.zeros(shape, array.dtype)
    for index, weight in step.rows:
        starts = np.flatnonzero(np.diff(index, prepend=-1))  # where a run of the same source begins
        sums = np.add.reduceat(_weighted(array, weight, step.axis), starts, step.axis)
        where = (slice(None),) * step.axis + (index[starts],)
        out[where] += sums
    return out


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize the dimensions after batch and channels.

    Args:
        input: (N, C, L), (N, C, H, W) or, for nearest, (N, C, D, H, W).
        size: the new size, a number or one a dimension.
        scale_factor: or by how much, a number or one a dimension.
        mode: 'nearest', 'nearest-exact', 'linear' (3 dimensions), 'bilinear' (4 dimensions).
        align_corners: for the linear ones: whether the first and last cell centres of input and output coincide.
        recompute_scale_factor: use the ratio of the sizes rather than scale_factor itself.
        antialias: False alone.

    Raises:
        ArgumentError: if neither or both of size and scale_factor are given, or their number does not fit.
        ShapeError: if a size is not positive.
        UnsupportedError: for another mode.

    Example:
        >>> import konv
        >>> konv.nn.functional.interpolate(konv.tensor([[[1.0, 2.0]]]), scale_factor=2)
        tensor([[[1., 1., 2., 2.]]])
    """
    spatial = input.ndim - 2
    if mode not in MODES or antialias:
        rule = f"it is one of {', '.join(map(repr, MODES))}, without antialias"
        raise UnsupportedError(text("interpolate", f"mode={mode!r}, antialias={antialias}", rule))
    if spatial not in MODES[mode]:
        dims = " or ".join(str(n + 2) for n in MODES[mode])
        raise UnsupportedError(text("interpolate", f"input has {input.ndim} dimensions", f"{mode!r} takes {dims}"))
    if align_corners is not None and mode.startswith("nearest"):
        raise ArgumentError(text("interpolate", "align_corners with mode 'nearest'", "only linear modes take it"))
    sizes, scales = _sizes(input, size, scale_factor, bool(recompute_scale_factor))
    if min(sizes, default=1) < 1 or min(input.shape[2:], default=1) < 1:
        got = f"input {tuple(input.shape[2:])} to output {tuple(sizes)}"
        raise ShapeError(text("interpolate", got, "input and output sizes should be greater than 0"))
    kind = np.float64 if input._dtype is dtypes.float64 else np.float32
    plan = tuple(
        _axis(axis + 2, input.shape[axis + 2], out, scale, mode, bool(align_corners), kind)
        for axis, (out, scale) in enumerate(zip(sizes, scales, strict=True))
    )
    kind_of = "".join(word.title() for word in mode.split("-"))
    return named(Resize.apply(input, plan), f"Upsample{kind_of}{spatial}DBackward0")


def _sizes(input: Tensor, size: Any, factor: Any, recompute: bool) -> tuple[list[int], list[float | None]]:
    """Output sizes, and the scales that were given."""
    spatial = input.ndim - 2
    if (size is None) == (factor is None):
        got = "neither is given" if size is None else "both are given"
        raise ArgumentError(text("interpolate", got, "exactly one of size and scale_factor must be defined"))
    given = size if size is not None else factor
    values = list(given) if isinstance(given, (tuple, list)) else [given] * spatial
    if len(values) != spatial:
        got = f"{len(values)} values for {spatial} dimensions"
        raise ArgumentError(text("interpolate", got, "size and scale_factor have one value a dimension"))
    if size is not None:
        return [int(value) for value in values], [None] * spatial
    sizes = [interpolated_size(have, float(value)) for have, value in zip(input.shape[2:], values, strict=True)]
    return sizes, [None if recompute else float(value) for value in values]


def _axis(axis: int, have: int, want: int, scale: float | None, mode: str, corners: bool, kind: Any) -> Axis:
    if mode.startswith("nearest"):
        return Axis(axis, have, want, partial(_nearest, have, want, scale, mode))
    if want == have:  # whatever scale led here
        return Axis(axis, have, want, lambda cells: ((cells, None),))
    return Axis(axis, have, want, partial(_linear, have, want, scale, corners, kind))


def _linear(have: int, want: int, scale: float | None, corners: bool, kind: Any, cells: Array) -> Rows:
    """The two sources of each output cell with their shares."""
    cells = cells.astype(kind)
    step = kind(have / want) if scale is None else kind(1.0 / scale)
    if corners:
        place = cells * kind((have - 1) / (want - 1) if want > 1 else 0.0)
    else:
        place = np.maximum(step * (cells + kind(0.5)) - kind(0.5), kind(0))
    first = np.minimum(place.astype(np.int64), have - 1)
    share = np.clip(place - first, 0, 1).astype(kind)
    second = np.minimum(first + 1, have - 1)
    return (first, 1 - share), (second, share)


def _nearest(have: int, want: int, scale: float | None, mode: str, cells: Array) -> Rows:
    """The source of each output cell; like PyTorch in float32 whatever the tensor is, so that ties fall alike."""
    if mode == "nearest" and want in (have, 2 * have):  # whatever scale led here
        return ((cells * have // want, None),)
    step = np.float32(have) / np.float32(want) if scale is None else np.float32(1.0 / scale)
    half = np.float32(0.5 if mode == "nearest-exact" else 0.0)
    index = np.floor((cells.astype(np.float32) + half) * step).astype(np.int64)
    return ((np.minimum(index, have - 1), None),)
