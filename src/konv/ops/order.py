"""Operations that order elements: max and min with their places, sort, topk."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import DtypeError, IndexRangeError, ShapeError
from ..tensor import Tensor, normalize_dim, register
from ._table import named
from .reduce import Amax, Amin, extreme, folded_shape, input_of, numpy_names, refuse_empty, work_array

__all__ = [
    "argmax",
    "argmin",
    "max",
    "min",
    "argsort",
    "sort",
    "topk",
]


class Extreme(Function):
    """The largest or smallest element along one dimension, and where it stands."""

    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, keepdim: bool, largest: bool) -> tuple[Tensor, Tensor]:
        ctx.dim, ctx.keepdim, ctx.shape = dim, keepdim, x._array.shape
        ctx.node_name = "MaxBackward0" if largest else "MinBackward0"
        if x._meta:
            shape = folded_shape(x._array.shape, (dim,), keepdim)
            return Tensor._wrap_meta(shape, x._dtype), Tensor._wrap_meta(shape, dtypes.int64)
        array = work_array(x)
        array = array if array.ndim else array.reshape(1)
        where = np.expand_dims((np.argmax if largest else np.argmin)(array, dim), dim).astype(np.int64)
        values = np.take_along_axis(x._array.reshape(array.shape), where, dim)
        shape = folded_shape(x._array.shape, (dim,), keepdim)
        index = Tensor._wrap(where.reshape(shape))
        ctx.mark_non_differentiable(index)
        ctx.save_for_backward(index)
        return Tensor._wrap(values.reshape(shape), x._dtype), index

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (index,) = ctx.saved_tensors
        kept = folded_shape(ctx.shape, (ctx.dim,), True)
        zeros = Tensor._wrap(np.zeros(ctx.shape, grads[0]._dtype.numpy), grads[0]._dtype)
        return zeros.scatter(ctx.dim, index.reshape(kept), grads[0].reshape(kept)), None, None, None


class _Pair(NamedTuple):
    values: Tensor
    indices: Tensor


def _named_pair(name: str) -> type[_Pair]:
    def text(self: Any) -> str:
        parts = ",\n".join(f"{field}={getattr(self, field)!r}" for field in self._fields)
        return f"torch.return_types.{name}(\n{parts})"

    return type(name, (_Pair,), {"__repr__": text, "__slots__": ()})


MaxPair, MinPair, SortPair, TopkPair = map(_named_pair, ("max", "min", "sort", "topk"))


def _max_or_min(input: Any, dim: Any, keepdim: bool, largest: bool) -> Any:
    who = "max" if largest else "min"
    input = input_of(input, who)
    if dim is None:
        return named(extreme(input, None, False, Amax if largest else Amin, who), f"{who.title()}Backward1")
    if isinstance(dim, Tensor) or hasattr(dim, "__array__"):
        return (input.maximum if largest else input.minimum)(dim)
    axis = normalize_dim(dim, input._array.ndim)
    if input._dtype.is_complex:
        raise DtypeError(f"{who}: complex numbers have no order; {input._dtype} is not supported")
    if input._array.ndim and not input._meta:
        refuse_empty(input, (axis,), who)
    return (MaxPair if largest else MinPair)(*Extreme.apply(input, axis, keepdim, largest))


@numpy_names
def max(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element; with ``dim`` a pair (values, indices) along it; with a tensor, ``maximum``.

    Example:
        >>> import konv
        >>> values, indices = konv.tensor([[1.0, 5.0], [7.0, 2.0]]).max(1)
        >>> values, indices
        (tensor([5., 7.]), tensor([1, 0]))
    """
    return _max_or_min(input, dim, keepdim, True)


@numpy_names
def min(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element; with ``dim`` a pair (values, indices) along it; with a tensor, ``minimum``."""
    return _max_or_min(input, dim, keepdim, False)


def _argextreme(input: Any, dim: int | None, keepdim: bool, largest: bool) -> Tensor:
    who = "argmax" if largest else "argmin"
    input = input_of(input, who)
    if dim is not None:
        normalize_dim(dim, input._array.ndim)
    if input._dtype is dtypes.bool or input._dtype.is_complex:
        raise DtypeError(f"{who}(): does not support {input._dtype} input")
    if dim is None and not input._array.size and not input._meta:
        raise IndexRangeError(f"{who}(): Expected reduction dim to be specified for input.numel() == 0.")
    flat = input.detach() if dim is not None else input.detach().reshape(-1)
    found = _max_or_min(flat, dim if dim is not None else 0, keepdim and dim is not None, largest).indices
    return found.reshape((1,) * input._array.ndim) if keepdim and dim is None else found


@numpy_names
def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest element stands: along ``dim``, or in the flattened tensor; the first of equals."""
    return _argextreme(input, dim, keepdim, True)


@numpy_names
def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the smallest element stands: along ``dim``, or in the flattened tensor; the first of equals."""
    return _argextreme(input, dim, keepdim, False)


class Sort(Function):
    """Elements in order along one dimension, and where they stood."""

    fresh = True
    node_name = "SortBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, descending: bool, count: int) -> tuple[Tensor, Tensor]:
        ctx.dim, ctx.shape = dim, x._array.shape
        shape = (*x._array.shape[:dim], count, *x._array.shape[dim + 1 :]) if x._array.ndim else ()
        if x._meta:
            return Tensor._wrap_meta(shape, x._dtype), Tensor._wrap_meta(shape, dtypes.int64)
        array = work_array(x).reshape(x._array.shape or (1,))
        order = _descending(array, dim) if descending else np.argsort(array, dim, kind="stable")
        order = order[(slice(None),) * dim + (slice(count),)].astype(np.int64)
        values = np.take_along_axis(x._array.reshape(array.shape), order, dim)
        index = Tensor._wrap(order.reshape(shape))
        ctx.mark_non_differentiable(index)
        ctx.save_for_backward(index)
        return Tensor._wrap(values.reshape(shape), x._dtype), index

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (index,) = ctx.saved_tensors
        zeros = Tensor._wrap(np.zeros(ctx.shape, grads[0]._dtype.numpy), grads[0]._dtype)
        return zeros.scatter(ctx.dim, index, grads[0]), None, None, None


def _descending(array: np.ndarray[Any, Any], dim: int) -> np.ndarray[Any, Any]:
    """Where the elements stand from the largest down (NaN first), equal ones in the order they came."""
    order = np.argsort(np.flip(array, dim), dim, kind="stable")
    return array.shape[dim] - 1 - np.flip(order, dim)


def _sorted(input: Any, dim: int, descending: bool, count: int | None, who: str) -> Any:
    input = input_of(input, who)
    axis = normalize_dim(dim, input._array.ndim)
    if input._dtype.is_complex:
        raise DtypeError(f"{who}: complex numbers have no order; {input._dtype} is not supported")
    length = input._array.shape[axis] if input._array.ndim else 1
    if count is not None and not 0 <= count <= length:
        raise ShapeError(f"{who}: selected index k out of range: k={count}, dimension {axis} has size {length}")
    return Sort.apply(input, axis, descending, length if count is None else count)


def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """A pair (values, indices) with the elements in order along ``dim``; equal elements keep their order.

    Example:
        >>> import konv
        >>> konv.tensor([3, 1, 2]).sort().indices
        tensor([1, 2, 0])
    """
    return SortPair(*_sorted(input, dim, descending, None, "sort"))


def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices that ``sort`` gives."""
    return _sorted(input, dim, descending, None, "argsort")[1]


def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """A pair (values, indices) of the ``k`` largest (or smallest) elements along ``dim``, in order."""
    return TopkPair(*_sorted(input, dim, largest, k, "topk"))


register({f.__name__: f for f in (max, min, argmax, argmin, sort, argsort, topk)})
