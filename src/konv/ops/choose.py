"""Choosing elements: where, masks, gather and scatter."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import IndexRangeError, ShapeError
from ..tensor import Tensor, normalize_dim, refuse_meta, register
from ._table import (
    any_meta,
    array_of,
    as_tensor_operand,
    broadcast_shape,
    common_dtype,
    named,
    operand,
    refuse_overflow,
    refuse_to_fill,
    shape_of,
)
from .index import PutBack

__all__ = [
    "gather",
    "index_select",
    "masked_fill",
    "masked_select",
    "nonzero",
    "scatter",
    "scatter_add",
    "select",
    "take_along_dim",
    "where",
]


class Where(Function):
    fresh = True
    node_name = "WhereBackward0"

    @staticmethod
    def forward(ctx: Any, condition: Tensor, a: Any, b: Any) -> Tensor:
        dtype = common_dtype((a, b))
        ctx.save_for_backward(condition)
        if any_meta((condition, a, b)):
            return Tensor._wrap_meta(broadcast_shape([shape_of(v) for v in (condition, a, b)]), dtype)
        broadcast_shape([shape_of(v) for v in (condition, a, b)])
        return Tensor._wrap(np.where(condition._array, array_of(a, dtype), array_of(b, dtype)), dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (condition,) = ctx.saved_tensors
        _, first, second = ctx.needs_input_grad
        g = grads[0]
        return None, where(condition, g, 0) if first else None, where(condition, 0, g) if second else None


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` is true, else ``other``; with the condition alone, ``nonzero(as_tuple=True)``.

    Example:
        >>> import konv
        >>> konv.where(konv.tensor([True, False]), 1.0, 0.0)
        tensor([1., 0.])
    """
    condition = operand(condition, "where")
    if not isinstance(condition, Tensor):
        condition = Tensor._wrap(np.asarray(condition))
    if condition._dtype is not dtypes.bool:
        if condition._dtype is not dtypes.uint8:
            raise ShapeError(
                f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition._dtype}"
            )
        condition = condition.to(dtypes.bool)
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    input, other = operand(input, "where"), operand(other, "where")
    for value in (input, other):
        if not isinstance(value, Tensor):
            refuse_to_fill(value, common_dtype((input, other)), "where")
    return Where.apply(condition, input, other)


def masked_fill(input: Tensor, mask: Any, value: Any) -> Tensor:
    """``value`` where ``mask`` is true, else ``input``; the dtype of ``input`` stays."""
    number = value.item() if isinstance(value, Tensor) and not value._array.ndim and not value._meta else value
    refuse_overflow(number, input._dtype, "masked_fill")
    if input._dtype is dtypes.bool and not isinstance(number, Tensor):
        value = bool(number)  # of any size, as it is true or false
    made = named(where(mask, value, input), "MaskedFillBackward0")
    return made if made._dtype is input._dtype else made.to(input._dtype)


def masked_fill_(self: Tensor, mask: Any, value: Any) -> Tensor:
    """``masked_fill``, written into this tensor."""
    return self.copy_(masked_fill(self, mask, value))


def masked_select(input: Tensor, mask: Any) -> Tensor:
    """The elements where ``mask`` is true, in one dimension."""
    shape = broadcast_shape([input._array.shape, mask._array.shape])
    return input.expand(shape)[mask.expand(shape)]


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Where the elements that are not zero stand: (count, ndim), or one tensor a dimension."""
    if input._meta:
        raise refuse_meta("nonzero()")
    array = np.atleast_1d(input._array) if as_tuple else input._array
    if as_tuple:
        return tuple([Tensor._wrap(found.astype(np.int64)) for found in np.nonzero(array)])
    return Tensor._wrap(np.argwhere(array).astype(np.int64))


# ---- gather and scatter --------------------------------------------------------------------------------------------


def _grid(index: np.ndarray[Any, Any], dim: int) -> tuple[np.ndarray[Any, Any], ...]:
    """The full index of every element of ``index``, itself standing for ``dim``; no dimensions count as one."""
    index = np.atleast_1d(index)
    grid = list(np.ix_(*[np.arange(n) for n in index.shape]))
    grid[dim] = index
    return tuple(grid)


class Gather(Function):
    fresh = True
    node_name = "GatherBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, index: Tensor) -> Tensor:
        ctx.dim, ctx.shape = dim, x._array.shape
        ctx.save_for_backward(index)
        if x._meta or index._meta:
            return Tensor._wrap_meta(index._array.shape, x._dtype)
        found = np.atleast_1d(x._array)[_grid(index._array, dim)]
        return Tensor._wrap(found.reshape(index._array.shape), x._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (index,) = ctx.saved_tensors
        zeros = Tensor._wrap(np.zeros(ctx.shape, grads[0]._dtype.numpy), grads[0]._dtype)
        return scatter_add(zeros, ctx.dim, index, grads[0]), None, None


def _check_scatter(input: Tensor, dim: int, index: Any, who: str) -> tuple[int, Tensor]:
    index = index if isinstance(index, Tensor) else operand(index, who)
    d = normalize_dim(dim, input._array.ndim)
    if index._dtype not in (dtypes.int64, dtypes.int32):
        raise ShapeError(f"{who}(): Expected dtype int32/int64 for index, got {index._dtype}")
    have, want = input._array.shape, index._array.shape
    if max(len(have), 1) != max(len(want), 1):
        raise ShapeError(f"{who}(): Index tensor must have the same number of dimensions as input tensor")
    for axis, (n, m) in enumerate(zip(have, want, strict=False)):
        if axis != d and m > n:
            raise ShapeError(
                f"{who}(): Size does not match at dimension {axis}: index has {list(want)}, the tensor {list(have)}"
            )
    if not index._meta and index._array.size:
        size = have[d] if have else 1
        if index._array.min() < 0 or index._array.max() >= size:
            wrong = index._array.min() if index._array.min() < 0 else index._array.max()
            raise ShapeError(f"index {wrong} is out of bounds for dimension {d} with size {size}")
    return d, index


def gather(input: Tensor, dim: int, index: Any) -> Tensor:
    """``input[..., index[...], ...]`` along ``dim``, the other dimensions in step.

    Example:
        >>> import konv
        >>> konv.tensor([[1, 2], [3, 4]]).gather(1, konv.tensor([[0], [1]]))
        tensor([[1],
                [4]])
    """
    d, index = _check_scatter(input, dim, index, "gather")
    return Gather.apply(input, d, index)


class Scatter(Function):
    """A copy of ``x`` with ``source`` written (or added) where ``index`` says."""

    fresh = True
    node_name = "ScatterBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, index: Tensor, source: Any, accumulate: bool) -> Tensor:
        ctx.dim, ctx.accumulate, ctx.source = dim, accumulate, shape_of(source)
        ctx.save_for_backward(index)
        if x._meta or index._meta:
            return Tensor._wrap_meta(x._array.shape, x._dtype)
        total = x._array.copy()
        values = source
        if isinstance(source, Tensor):
            values = np.atleast_1d(source._array)[tuple([slice(0, n) for n in index._array.shape or (1,)])]
        cells, grid = np.atleast_1d(total), _grid(index._array, dim)
        if accumulate:
            np.add.at(cells, grid, values)
        else:
            cells[grid] = values
        return Tensor._wrap(total, x._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (index,) = ctx.saved_tensors
        rest, g = grads[0], grads[0]
        if ctx.needs_input_grad[0] and not ctx.accumulate:
            rest = scatter(g, ctx.dim, index, 0)
        given = None
        if ctx.needs_input_grad[3]:
            given = gather(g, ctx.dim, index)
            if given._array.shape != ctx.source:  # only the corner of the source that the index covers was read
                given = PutBack.apply(given, ctx.source, tuple([slice(0, n) for n in given._array.shape]))
        return rest if ctx.needs_input_grad[0] else None, None, None, given, None


def scatter(input: Tensor, dim: int, index: Any, src: Any = None, *, value: Any = None) -> Tensor:
    """A copy of ``input`` with ``src`` (a tensor or a number) written where ``index`` points along ``dim``."""
    d, index = _check_scatter(input, dim, index, "scatter")
    return Scatter.apply(input, d, index, src if value is None else value, False)


def scatter_add(input: Tensor, dim: int, index: Any, src: Tensor) -> Tensor:
    """A copy of ``input`` with ``src`` added where ``index`` points along ``dim``."""
    d, index = _check_scatter(input, dim, index, "scatter_add")
    return Scatter.apply(input, d, index, src, True)


def index_select(input: Tensor, dim: int, index: Any) -> Tensor:
    """The slices of ``dim`` that ``index`` (one dimension, or a single number) names; a copy."""
    d, index = normalize_dim(dim, input._array.ndim), as_tensor_operand(index, "index_select")
    if index._array.ndim > 1:
        raise IndexRangeError(f"index_select: got an index of shape {list(index.shape)}; it has one dimension")
    index = index.reshape(-1)
    if not input._array.ndim:
        if index.numel() != 1:
            raise ShapeError(f"index_select: got {index.numel()} indices into a 0-dim tensor; it takes one")
        return input.reshape(1)[index].reshape(())
    return input[(slice(None),) * d + (index,)]


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One slice of ``dim``, without it; a view."""
    d = normalize_dim(dim, input._array.ndim)
    return input[(slice(None),) * d + (index,)]


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """``gather`` with broadcasting of the other dimensions; without ``dim``, of the flattened tensor."""
    if dim is None:
        return gather(input.reshape(-1), 0, indices.reshape(-1))
    d = normalize_dim(dim, input._array.ndim)
    shapes = [(*s[:d], 1, *s[d + 1 :]) for s in (input._array.shape, indices._array.shape)]
    shape = broadcast_shape(shapes)
    wide = [t.expand(*shape[:d], t._array.shape[d], *shape[d + 1 :]) for t in (input, indices)]
    return gather(wide[0], d, wide[1])


METHODS = {
    f.__name__: f
    for f in (
        *(masked_fill, masked_fill_, masked_select, nonzero, gather, scatter, scatter_add),
        *(index_select, select, take_along_dim),
    )
}
METHODS["where"] = lambda self, condition, other: where(condition, self, other)
register(METHODS)
