"""Indexing and choosing: ``x[key]``, ``x[key] = value``, where, gather, scatter, sort.

A key is read once into two steps, as PyTorch does: first the part that is a view (ints, slices, None, ...), then, on
that view, the tensors and lists of indices. NumPy alone would do both at once and place dimensions differently.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentError, IndexRangeError, ShapeError
from ..tensor import Tensor, refuse_meta, register
from ._table import begin_write, broadcast_shape, cast, operand, refuse_to_fill
from .shape import View

# ---- reading a key -------------------------------------------------------------------------------------------------


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
    _check_together([a for a in arrays if isinstance(a, np.ndarray)])
    if all(isinstance(a, slice) for a in arrays):
        return tuple(basic), None
    return tuple(basic), tuple(arrays)


def _check_bounds(index: int, dim: int, size: int) -> None:
    if not -size <= index < size:
        raise IndexRangeError(f"index {index} is out of bounds for dimension {dim} with size {size}")


def _check_together(indices: list[np.ndarray[Any, Any]]) -> None:
    """Index arrays must broadcast; a mask counts as as many indices as it has true elements."""
    if len(indices) > 1:
        shapes = [(int(np.count_nonzero(i)),) if i.dtype.kind == "b" else i.shape for i in indices]
        try:
            np.broadcast_shapes(*shapes)
        except ValueError:
            listed = ", ".join(str(list(s)) for s in shapes)
            raise IndexRangeError(
                f"shape mismatch: indexing tensors could not be broadcast together with shapes {listed}"
            ) from None


def _check_array(index: np.ndarray[Any, Any], dim: int, shape: tuple[int, ...]) -> None:
    if index.dtype.kind == "b":
        if index.shape != shape[dim : dim + index.ndim]:
            raise IndexRangeError(
                f"The shape of the mask {list(index.shape)} at index {dim} does not match the shape of the indexed "
                f"tensor {list(shape)} at index {dim}"
            )
        return
    if index.size:
        for end in (int(index.min()), int(index.max())):
            _check_bounds(end, dim, shape[dim])


# ---- x[key] --------------------------------------------------------------------------------------------------------

_WHOLE = slice(None)


def _zeros_with(g: Tensor, shape: tuple[int, ...], key: tuple[Any, ...]) -> Tensor:
    return PutBack.apply(g, shape, key)


class Slice(View):
    """Basic indexing: a view."""

    node_name = "SliceBackward0"
    take = staticmethod(lambda a, key: a[(*key, Ellipsis)])
    give = staticmethod(_zeros_with)

    @staticmethod
    def forward(ctx: Any, x: Tensor, key: tuple[Any, ...]) -> Tensor:
        for part in key:
            if part is None:
                ctx.node_name = "UnsqueezeBackward0"
            elif isinstance(part, int):
                ctx.node_name = "SelectBackward0"
            elif part != _WHOLE:
                ctx.node_name = "SliceBackward0"
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
        if any(isinstance(part, np.ndarray) and part.dtype.kind != "b" for part in key):
            np.add.at(total, key, g._array)  # an index may come twice
        else:
            total[key] = g._array
        return Tensor._wrap(total, g._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        advanced = any(isinstance(part, np.ndarray) for part in ctx.key)
        taken = Index.apply(grads[0], ctx.key) if advanced else Slice.apply(grads[0], ctx.key)
        return taken, None, None


class Index(Function):
    """Indexing with arrays of indices or a mask: a copy."""

    fresh = True
    node_name = "IndexBackward0"

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
        return Slice.apply(self, (key,))
    basic, arrays = read_key(key, self._array.shape)
    if arrays is None:
        return Slice.apply(self, basic)
    viewed = self if all(part == _WHOLE for part in basic) else Slice.apply(self, basic)
    if not self._meta and any(isinstance(part, Tensor) for part in arrays):
        raise refuse_meta("an index")
    return Index.apply(viewed, arrays)


# ---- x[key] = value ------------------------------------------------------------------------------------------------


class IndexPut(Function):
    """Values written at arrays of indices."""

    fresh = True
    node_name = "IndexPutBackward0"

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
    refuse_to_fill(value, self._dtype, "setitem")
    if arrays is None:
        target = Slice.apply(self, basic)
        if isinstance(value, Tensor):
            value = _without_leading_ones(value, target._array.ndim)
        target.copy_(value)
        return
    target = self if all(part == _WHOLE for part in basic) else Slice.apply(self, basic)
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


register({"__getitem__": getitem, "__setitem__": setitem})
