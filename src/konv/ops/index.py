"""Indexing and choosing: ``x[key]``, ``x[key] = value``, where, gather, scatter, sort.

A key is read once into two steps, as PyTorch does: first the part that is a view (ints, slices, None, ...), then, on
that view, the tensors and lists of indices. NumPy alone would do both at once and place dimensions differently.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentError, ArgumentTypeError, IndexRangeError, ShapeError
from ..tensor import Tensor, normalize_dim, refuse_meta, register
from ._table import NUMBERS, begin_write, broadcast_shape, cast, operand
from .shape import View, share

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

# ---- reading a key ----------------------------------------------------------------------------------------------------------


def _as_index(part: Any) -> Any:
    """An element of a key: a whole number, a slice, None, Ellipsis, or an ndarray of bools or ints."""
    if part is None or part is Ellipsis:
        return part
    if isinstance(part, slice):
        return _checked_slice(part)
    if isinstance(part, (bool, np.bool_)):
        return np.asarray(part)
    if isinstance(part, Tensor):
        if part._meta:
            return part
        array = part._array
        if part._dtype.kind == dtypes.INTEGER and not array.ndim:
            return int(array)
    elif isinstance(part, (list, tuple, range)):
        array = np.asarray([p.item() if isinstance(p, Tensor) else p for p in part] if part else np.zeros(0, np.int64))
    elif isinstance(part, np.ndarray):
        array = part
    elif hasattr(part, "__index__"):
        return part.__index__()
    else:
        raise IndexRangeError(
            "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
            f"(got {type(part).__name__})"
        )
    if array.dtype.kind not in "iub":
        raise IndexRangeError(f"tensors used as indices must be long, int, byte or bool tensors, got {array.dtype}")
    return array.astype(bool) if array.dtype == np.uint8 else array


def _checked_slice(part: slice) -> slice:
    ends = [None if e is None else e.__index__() for e in (part.start, part.stop, part.step)]
    if ends[2] is not None and ends[2] <= 0:
        raise ArgumentError(f"slice step must be positive, got {ends[2]}; use flip() for the reverse order")
    return slice(*ends)


def _consumed(part: Any) -> int:
    """How many dimensions of the tensor this part of a key stands for."""
    if part is None:
        return 0
    if isinstance(part, np.ndarray) and part.dtype.kind == "b":
        return part.ndim
    return 1


def read_key(key: Any, shape: tuple[int, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    """The view part of a key, and the index arrays to apply to the view (None if there are none).

    Raises:
        IndexRangeError: Too many indices, or one out of range.
    """
    parts = [_as_index(p) for p in key] if isinstance(key, tuple) else [_as_index(key)]
    used = sum([_consumed(p) for p in parts if p is not Ellipsis])
    if used > len(shape):
        raise IndexRangeError(f"too many indices for tensor of dimension {len(shape)}")
    dots = [i for i, p in enumerate(parts) if p is Ellipsis]
    if len(dots) > 1:
        raise IndexRangeError("an index can only have a single ellipsis ('...')")
    at = dots[0] if dots else len(parts)
    parts[at : at + len(dots)] = [slice(None)] * (len(shape) - used)
    basic: list[Any] = []
    arrays: list[Any] = []  # for each dimension of the view, a slice or an index array
    dim = 0
    for part in parts:
        if isinstance(part, int):
            _check_bounds(part, dim, shape[dim])
            basic.append(part)
        elif isinstance(part, slice) or part is None:
            basic.append(part)
            arrays.append(slice(None))
        else:
            count = _consumed(part)
            if isinstance(part, np.ndarray):
                _check_array(part, dim, shape)
            basic.extend([slice(None)] * count or [None])
            arrays.append(part if count else part.reshape(1))
        dim += _consumed(part)
    if all([isinstance(a, slice) for a in arrays]):
        return tuple(basic), None
    return tuple(basic), tuple(arrays)


def _check_bounds(index: int, dim: int, size: int) -> None:
    if not -size <= index < size:
        raise IndexRangeError(f"index {index} is out of bounds for dimension {dim} with size {size}")


def _check_array(index: np.ndarray[Any, Any], dim: int, shape: tuple[int, ...]) -> None:
    if index.dtype.kind == "b":
        if index.shape != shape[dim : dim + index.ndim]:
            raise IndexRangeError(
                f"The shape of the mask {list(index.shape)} at index {dim} does not match the shape of the indexed tensor "
                f"{list(shape)} at index {dim}"
            )
        return
    if index.size:
        for end in (int(index.min()), int(index.max())):
            _check_bounds(end, dim, shape[dim])


# ---- x[key] -----------------------------------------------------------------------------------------------------------------

_WHOLE = slice(None)


def _zeros_with(g: Tensor, shape: tuple[int, ...], key: tuple[Any, ...]) -> Tensor:
    return PutBack.apply(g, shape, key)  # type: ignore[no-any-return]


class Slice(View):
    """Basic indexing: a view."""

    name = "SliceBackward0"
    take = staticmethod(lambda a, key: a[(*key, Ellipsis)])
    give = staticmethod(_zeros_with)

    @staticmethod
    def forward(ctx: Any, x: Tensor, key: tuple[Any, ...]) -> Tensor:
        for part in key:
            if part is None:
                ctx.name = "UnsqueezeBackward0"
            elif isinstance(part, int):
                ctx.name = "SelectBackward0"
        return View.forward(ctx, x, key)


class PutBack(Function):
    """Zeros with a gradient added where it was taken from; the gradient of both kinds of indexing."""

    fresh = True

    @staticmethod
    def forward(ctx: Any, g: Tensor, shape: tuple[int, ...], key: tuple[Any, ...]) -> Tensor:
        ctx.key = key
        if g._meta:
            return Tensor._wrap_meta(shape, g._dtype)
        total = np.zeros(shape, g._array.dtype)
        if any([isinstance(part, np.ndarray) and part.dtype.kind != "b" for part in key]):
            np.add.at(total, key, g._array)  # an index may come twice
        else:
            total[key] = g._array
        return Tensor._wrap(total, g._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        advanced = any([isinstance(part, np.ndarray) for part in ctx.key])
        taken = Index.apply(grads[0], ctx.key) if advanced else Slice.apply(grads[0], ctx.key)
        return taken, None, None


class Index(Function):
    """Indexing with arrays of indices or a mask: a copy."""

    fresh = True
    name = "IndexBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, key: tuple[Any, ...]) -> Tensor:
        ctx.shape, ctx.key = x._array.shape, key
        if x._meta:
            return Tensor._wrap_meta(_indexed_shape(x._array.shape, key), x._dtype)
        array = x._array[key]
        return Tensor._wrap(array if array.flags.c_contiguous else array.copy(), x._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return PutBack.apply(grads[0], ctx.shape, ctx.key), None


def _indexed_shape(shape: tuple[int, ...], key: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of ``x[key]`` without looking at x: index arrays broadcast, in the place of the first if adjacent."""
    kept: list[int] = []
    arrays: list[tuple[int, ...]] = []
    places: list[int] = []
    dim = 0
    for place, part in enumerate(key):
        if isinstance(part, slice):
            kept.append(shape[dim])
            dim += 1
            continue
        if isinstance(part, Tensor) and part._dtype in (dtypes.bool, dtypes.uint8):
            raise refuse_meta("indexing with a mask")
        counted = isinstance(part, np.ndarray) and part.dtype.kind == "b"
        arrays.append((int(np.count_nonzero(part)),) if counted else tuple(part.shape))
        places.append(place)
        dim += part.ndim if counted else 1
    kept.extend(shape[dim:])
    at = places[0] if places[-1] - places[0] == len(places) - 1 else 0
    return (*kept[:at], *broadcast_shape(arrays), *kept[at:])


def getitem(self: Tensor, key: Any) -> Tensor:
    """``x[key]``: a view for ints, slices, None and ``...``; a copy for lists and tensors of indices, and for masks."""
    if type(key) is int:  # the usual loop over a batch, without reading a key
        shape = self._array.shape
        if not shape:
            raise IndexRangeError(
                "invalid index of a 0-dim tensor. Use `tensor.item()` in Python to convert a 0-dim tensor to a number"
            )
        _check_bounds(key, 0, shape[0])
        return Slice.apply(self, (key,))  # type: ignore[no-any-return]
    basic, arrays = read_key(key, self._array.shape)
    if arrays is None:
        return Slice.apply(self, basic)  # type: ignore[no-any-return]
    viewed = self if all([part == _WHOLE for part in basic]) else Slice.apply(self, basic)
    if not self._meta and any([isinstance(part, Tensor) for part in arrays]):
        raise refuse_meta("an index")
    return Index.apply(viewed, arrays)  # type: ignore[no-any-return]


# ---- x[key] = value ---------------------------------------------------------------------------------------------------------


class IndexPut(Function):
    """Values written at arrays of indices."""

    fresh = True
    name = "IndexPutBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, key: tuple[Any, ...], value: Any, accumulate: bool) -> Tensor:
        ctx.key, ctx.accumulate = key, accumulate
        if not x._meta:
            array = cast(value._array if isinstance(value, Tensor) else np.asarray(value), x._dtype)
            if accumulate:
                np.add.at(x._array, key, array)
            else:
                x._array[key] = array
        x._counter.value += 1
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        rest, g = None, grads[0]
        if ctx.needs_input_grad[0]:
            rest = g
            if not ctx.accumulate:
                rest = g.clone()
                IndexPut.apply(rest, ctx.key, 0, False)
        return rest, None, Index.apply(g, ctx.key) if ctx.needs_input_grad[2] else None, None


def setitem(self: Tensor, key: Any, value: Any) -> None:
    """``x[key] = value``: the value is broadcast and cast."""
    basic, arrays = read_key(key, self._array.shape)
    value = operand(value, "setitem")
    if arrays is None:
        target = Slice.apply(self, basic)
        if isinstance(value, Tensor):
            value = _without_leading_ones(value, target._array.ndim)
        target.copy_(value)
        return
    target = self if all([part == _WHOLE for part in basic]) else Slice.apply(self, basic)
    begin_write(target, "setitem")
    shape = _indexed_shape(target._array.shape, arrays)
    if isinstance(value, Tensor):
        value = _without_leading_ones(value, len(shape))
        if broadcast_shape([shape, value._array.shape]) != shape:
            raise ShapeError(
                f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to indexing result of "
                f"shape {list(shape)}"
            )
    IndexPut.apply(target, arrays, value, False)


def _without_leading_ones(value: Tensor, ndim: int) -> Tensor:
    while value._array.ndim > ndim and value._array.shape[0] == 1:
        value = value.squeeze(0)
    return value


# ---- choosing ---------------------------------------------------------------------------------------------------------------


class Where(Function):
    fresh = True
    name = "WhereBackward0"

    @staticmethod
    def forward(ctx: Any, condition: Tensor, a: Any, b: Any) -> Tensor:
        from ._table import any_meta, array_of, common_dtype, shape_of

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
    return Where.apply(condition, operand(input, "where"), operand(other, "where"))


def masked_fill(input: Tensor, mask: Any, value: Any) -> Tensor:
    """``value`` where ``mask`` is true, else ``input``; the dtype of ``input`` stays."""
    made: Tensor = where(mask, value, input)
    return made if made._dtype is input._dtype else made.to(input._dtype)


def masked_fill_(self: Tensor, mask: Any, value: Any) -> Tensor:
    """``masked_fill``, written into this tensor."""
    return self.copy_(masked_fill(self, mask, value))  # type: ignore[no-any-return]


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


# ---- gather and scatter -----------------------------------------------------------------------------------------------------


def _grid(index: np.ndarray[Any, Any], dim: int) -> tuple[np.ndarray[Any, Any], ...]:
    """The full index of every element of ``index``, itself standing for ``dim``."""
    grid = list(np.ix_(*[np.arange(n) for n in index.shape]))
    grid[dim] = index
    return tuple(grid)


class Gather(Function):
    fresh = True
    name = "GatherBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, index: Tensor) -> Tensor:
        ctx.dim, ctx.shape = dim, x._array.shape
        ctx.save_for_backward(index)
        if x._meta or index._meta:
            return Tensor._wrap_meta(index._array.shape, x._dtype)
        if not index._array.ndim:
            return Tensor._wrap(x._array.reshape(-1)[index._array].reshape(()), x._dtype)
        return Tensor._wrap(x._array[_grid(index._array, dim)], x._dtype)

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
    if len(have) != len(want) and have and want:
        raise ShapeError(f"{who}(): Index tensor must have the same number of dimensions as input tensor")
    for axis, (n, m) in enumerate(zip(have, want, strict=False)):
        if axis != d and m > n:
            raise ShapeError(
                f"{who}(): Size does not match at dimension {axis}: index has {list(want)}, the tensor {list(have)}"
            )
    if not index._meta and index._array.size and have:
        size = have[d]
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
    return Gather.apply(input, d, index)  # type: ignore[no-any-return]


class Scatter(Function):
    """A copy of ``x`` with ``source`` written (or added) where ``index`` says."""

    fresh = True
    name = "ScatterBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, index: Tensor, source: Any, accumulate: bool) -> Tensor:
        ctx.dim, ctx.accumulate = dim, accumulate
        ctx.save_for_backward(index)
        if x._meta or index._meta:
            return Tensor._wrap_meta(x._array.shape, x._dtype)
        total = x._array.copy()
        values = source
        if isinstance(source, Tensor):
            values = source._array[tuple([slice(0, n) for n in index._array.shape])]
        grid = _grid(index._array, dim) if index._array.ndim else ()
        if accumulate:
            np.add.at(total, grid, values)
        else:
            total[grid] = values
        return Tensor._wrap(total, x._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (index,) = ctx.saved_tensors
        rest, g = grads[0], grads[0]
        if ctx.needs_input_grad[0] and not ctx.accumulate:
            rest = scatter(g, ctx.dim, index, 0)
        given = gather(g, ctx.dim, index) if ctx.needs_input_grad[3] else None
        return rest if ctx.needs_input_grad[0] else None, None, None, given, None


def scatter(input: Tensor, dim: int, index: Any, src: Any = None, *, value: Any = None) -> Tensor:
    """A copy of ``input`` with ``src`` (a tensor or a number) written where ``index`` points along ``dim``."""
    d, index = _check_scatter(input, dim, index, "scatter")
    return Scatter.apply(input, d, index, src if value is None else value, False)  # type: ignore[no-any-return]


def scatter_add(input: Tensor, dim: int, index: Any, src: Tensor) -> Tensor:
    """A copy of ``input`` with ``src`` added where ``index`` points along ``dim``."""
    d, index = _check_scatter(input, dim, index, "scatter_add")
    return Scatter.apply(input, d, index, src, True)  # type: ignore[no-any-return]


def index_select(input: Tensor, dim: int, index: Any) -> Tensor:
    """The slices of ``dim`` that ``index`` (one dimension) names; a copy."""
    d = normalize_dim(dim, input._array.ndim)
    return input[(_WHOLE,) * d + (index,)]


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One slice of ``dim``, without it; a view."""
    d = normalize_dim(dim, input._array.ndim)
    return input[(_WHOLE,) * d + (index,)]


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """``gather`` with broadcasting of the other dimensions; without ``dim``, of the flattened tensor."""
    if dim is None:
        return gather(input.reshape(-1), 0, indices.reshape(-1))
    d = normalize_dim(dim, input._array.ndim)
    shapes = [s[:d] + (1,) + s[d + 1 :] for s in (input._array.shape, indices._array.shape)]
    shape = broadcast_shape(shapes)
    wide = [t.expand(*shape[:d], t._array.shape[d], *shape[d + 1 :]) for t in (input, indices)]
    return gather(wide[0], d, wide[1])


METHODS = {
    f.__name__: f
    for f in (
        where, masked_fill, masked_fill_, masked_select, nonzero, gather, scatter, scatter_add, index_select, select,
        take_along_dim,
    )
}  # fmt: skip
METHODS["where"] = lambda self, condition, other: where(condition, self, other)
METHODS.update({"__getitem__": getitem, "__setitem__": setitem})
register(METHODS)
_ = (share, ArgumentTypeError, NUMBERS)
