"""Tensors joined, split, repeated and turned round."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentRangeError, IndexRangeError, ShapeError
from ..tensor import Size, Tensor, distinct_dims, normalize_dim, register
from ._table import any_meta, as_tensor_operand, named
from .shape import share, sizes_of, unsqueeze

__all__ = [
    "cat",
    "chunk",
    "concat",
    "flip",
    "narrow",
    "roll",
    "split",
    "stack",
    "unbind",
]


class Cat(Function):
    fresh = True
    node_name = "CatBackward0"

    @staticmethod
    def forward(ctx: Any, dim: int, *tensors: Tensor) -> Tensor:
        ctx.dim, ctx.sizes = dim, [t._array.shape[dim] for t in tensors]
        dtype = dtypes.result_of([(t._dtype, 0 if t._array.ndim else 1) for t in tensors])
        if any_meta(tensors):
            first = tensors[0]._array.shape
            return Tensor._wrap_meta((*first[:dim], sum(ctx.sizes), *first[dim + 1 :]), dtype)
        arrays = [t._array.astype(dtype.numpy, copy=False) for t in tensors]
        return Tensor._wrap(np.concatenate(arrays, dim), dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        starts = np.cumsum([0, *ctx.sizes]).tolist()
        return None, *[
            narrow(grads[0], ctx.dim, start, size) if need else None
            for start, size, need in zip(starts, ctx.sizes, ctx.needs_input_grad[1:], strict=False)
        ]


def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors joined along an existing dimension.

    Raises:
        ShapeError: No tensors, or sizes that differ in another dimension.

    Example:
        >>> import konv
        >>> konv.cat([konv.zeros(1, 2), konv.ones(2, 2)]).shape
        torch.Size([3, 2])
    """
    parts = [as_tensor_operand(t, "cat") for t in tensors]
    if not parts:
        raise ArgumentRangeError("cat: expected a non-empty list of Tensors")
    for i, part in enumerate(parts):
        if not part._array.ndim:
            raise ShapeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    full = [p for p in parts if p._array.shape != (0,)] or parts[:1]
    first = full[0]._array.shape
    d = normalize_dim(dim, len(first))
    for i, part in enumerate(full):
        have = part._array.shape
        if len(have) != len(first) or have[:d] + have[d + 1 :] != first[:d] + first[d + 1 :]:
            raise ShapeError(
                f"cat: Sizes of tensors must match except in dimension {d}: tensor 0 has shape {list(first)}, "
                f"tensor {i} has {list(have)}"
            )
    return Cat.apply(d, *full)


def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    parts = [as_tensor_operand(t, "stack") for t in tensors]
    if not parts:
        raise ArgumentRangeError("stack: expected a non-empty list of Tensors")
    for i, part in enumerate(parts):
        if part._array.shape != parts[0]._array.shape:
            raise ShapeError(
                f"stack expects each tensor to be equal size, but got {list(parts[0].shape)} at entry 0 and "
                f"{list(part.shape)} at entry {i}"
            )
    d = normalize_dim(dim, parts[0]._array.ndim + 1)
    return named(Cat.apply(d, *[unsqueeze(p, d) for p in parts]), "StackBackward0")


class Split(Function):
    """Several views at once: the parts of one dimension."""

    fresh = True
    node_name = "SplitBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
        ctx.dim = dim
        parts, start = [], 0
        for size in sizes:
            array = x._array[(slice(None),) * dim + (slice(start, start + size),)]
            made = Tensor._wrap_meta(array.shape, x._dtype) if x._meta else Tensor._wrap(array, x._dtype)
            parts.append(share(made, x))
            start += size
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return cat(grads, ctx.dim), None, None


class Unbind(Function):
    """Several views at once: the slices of one dimension."""

    fresh = True
    node_name = "UnbindBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> tuple[Tensor, ...]:
        ctx.dim = dim
        parts = []
        for i in range(x._array.shape[dim]):
            array = x._array[(slice(None),) * dim + (i, Ellipsis)]
            made = Tensor._wrap_meta(array.shape, x._dtype) if x._meta else Tensor._wrap(array, x._dtype)
            parts.append(share(made, x))
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return stack(grads, ctx.dim), None


def _dim_of(input: Tensor, dim: int, who: str) -> int:
    """``dim`` counted from the front, of a tensor that has it."""
    if not input._array.ndim:
        raise ShapeError(f"{who}: a 0-dim tensor has no parts; it takes at least 1 dimension, as after reshape(1)")
    return normalize_dim(dim, input._array.ndim)


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of a size (the last may be smaller), or of each of the given sizes; views."""
    d = _dim_of(tensor, dim, "split")
    length, wanted = tensor._array.shape[d], split_size_or_sections
    if isinstance(wanted, (tuple, list)):
        sizes = tuple(wanted)
        if sum(sizes) != length or min(sizes, default=0) < 0:
            raise ShapeError(f"split: sizes {list(sizes)} must sum to {length}, the size of dimension {d}")
    elif wanted <= 0 and (wanted < 0 or length):
        raise ShapeError(f"split: split_size={wanted}; it must be positive")
    else:
        sizes = tuple([min(wanted, length - start) for start in range(0, length, wanted or 1)]) or (0,)
    return Split.apply(tensor, d, sizes)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` parts of equal size (the last may be smaller); views."""
    if chunks < 1:
        raise ShapeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    length = input._array.shape[_dim_of(input, dim, "chunk")]
    return split(input, max(-(-length // chunks), 1), dim) if length else split(input, [0] * chunks, dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along ``dim``, each without it; views."""
    d = normalize_dim(dim, input._array.ndim)
    if not input._array.ndim:
        raise IndexRangeError("unbind: Dimension specified as 0 but tensor has no dimensions")
    return Unbind.apply(input, d) if input._array.shape[d] else ()


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """``length`` slices of ``dim`` from ``start`` on; a view."""
    d = _dim_of(input, dim, "narrow")
    size = input._array.shape[d]
    begin = start + size if start < 0 else start
    if not 0 <= begin <= size or length < 0 or begin + length > size:
        raise ShapeError(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return input[(slice(None),) * d + (slice(begin, begin + length),)]


# ---- copies in another order ---------------------------------------------------------------------------------------


class Flip(Function):
    fresh = True
    node_name = "FlipBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        ctx.dims = dims
        if x._meta:
            return Tensor._wrap_meta(x._array.shape, x._dtype)
        return Tensor._wrap(np.flip(x._array, dims).copy(), x._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return flip(grads[0], ctx.dims), None


def flip(input: Tensor, *dims: Any) -> Tensor:
    """The order of the elements along ``dims`` reversed; a copy."""
    input = as_tensor_operand(input, "flip")
    axes = distinct_dims(sizes_of(dims, "flip"), input._array.ndim)
    return Flip.apply(input, tuple(axes) if input._array.ndim else ())


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements shifted along ``dims``, those that fall off one end coming in at the other; a copy."""
    if dims is None:
        return roll(input.flatten(), shifts, 0).reshape(input.shape)
    moves = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [dims] if isinstance(dims, int) else list(dims)
    if len(moves) != len(axes):
        raise ShapeError(f"shifts and dimensions must align. shifts: {len(moves)}, dims:{len(axes)}")
    rolled = input
    if axes and not input._array.ndim:
        raise IndexRangeError(f"roll: dimension {axes[0]} of a tensor that has no dimensions; leave dims out")
    for move, dim in zip(moves, axes, strict=True):
        size = input._array.shape[normalize_dim(dim, input._array.ndim)]
        cut = move % size if size else 0
        if cut:
            rolled = cat([narrow(rolled, dim, size - cut, cut), narrow(rolled, dim, 0, size - cut)], dim)
    return input.clone() if rolled is input else rolled


def repeat(input: Tensor, *sizes: Any) -> Tensor:
    """The tensor laid out ``sizes`` times along each dimension; a copy."""
    times = sizes_of(sizes, "repeat")
    have = (1,) * (len(times) - input._array.ndim) + input._array.shape
    if len(times) < input._array.ndim:
        raise ShapeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    apart = [n for size in have for n in (1, size)]
    grown = [n for count, size in zip(times, have, strict=True) for n in (count, size)]
    final = Size([count * size for count, size in zip(times, have, strict=True)])
    return input.reshape(apart).expand(grown).clone().reshape(final)


concat = cat
METHODS: dict[str, Any] = {f.__name__: f for f in (split, chunk, unbind, narrow, flip, roll, repeat)}
METHODS["__reversed__"] = lambda self: flip(self, 0)
register(METHODS)
