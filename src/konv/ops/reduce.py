"""Sums, means, extremes and other operations that fold dimensions away.

The half types sum in float32, integers in int64. The gradient of a fold is its own shape spread back over the folded
dimensions (``_spread``), times what the fold's derivative says.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentRangeError, DtypeError, IndexRangeError
from ..tensor import Tensor, distinct_dims, register
from ._table import as_tensor_operand, maybe_cast, named, to_float

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "count_nonzero",
    "logsumexp",
    "mean",
    "norm",
    "prod",
    "sum",
]


# NumPy declares these with narrower types than they take.
_add: Any = np.add.reduce
_multiply: Any = np.multiply.reduce


def axes_of(dim: Any, ndim: int) -> tuple[int, ...]:
    """The dimensions to fold: None or () is all of them."""
    if dim is None or dim == () or dim == []:
        return tuple(range(ndim))
    axes = tuple(distinct_dims(dim, ndim))
    return axes if ndim else ()


def _named_axes(dim: Any, ndim: int) -> tuple[int, ...]:
    """The dimensions that ``any`` and ``all`` fold: () is none of them."""
    return () if dim == () or dim == [] else axes_of(dim, ndim)


def folded_shape(shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> tuple[int, ...]:
    """The shape that is left when ``axes`` are folded away."""
    if keepdim:
        return tuple([1 if i in axes else n for i, n in enumerate(shape)])
    return tuple([n for i, n in enumerate(shape) if i not in axes])


def _spread(g: Tensor, shape: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """A folded gradient seen in the shape before the fold."""
    return g.reshape(folded_shape(shape, axes, True)).expand(shape)


def work_array(x: Tensor) -> np.ndarray[Any, Any]:
    """The array to fold; the half types as float32."""
    return x._array.astype(np.float32) if x._dtype.is_half else x._array


class Fold(Function):
    """Base of the folds of a table: ``compute(array, axes, keepdim)`` and ``gradient(g, x, y, axes)``."""

    fresh = True
    compute: Any = None
    gradient: Any = None
    needs: str = ""  # which of 'x', 'y' the gradient uses
    result: Any = None

    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
        dtype = x._dtype if ctx.result is None else ctx.result(x._dtype)
        shape = folded_shape(x._array.shape, axes, keepdim)
        if x._meta:
            made = Tensor._wrap_meta(shape, dtype)
        else:
            array = work_array(x)
            with np.errstate(all="ignore"):
                made = Tensor._wrap(maybe_cast(ctx.compute(array, axes, keepdim), dtype), dtype)
        ctx.axes, ctx.keepdim, ctx.shape = axes, keepdim, x._array.shape
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(x if "x" in ctx.needs else None, made if "y" in ctx.needs else None)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, y = ctx.saved_tensors
        kept = folded_shape(ctx.shape, ctx.axes, True)
        y = y if y is None else y.reshape(kept)
        return ctx.gradient(grads[0].reshape(kept), x, y, ctx), None, None


def _fold(name: str, compute: Any, gradient: Any, needs: str = "", result: Any = None) -> Any:
    return type(
        name,
        (Fold,),
        {
            "compute": staticmethod(compute),
            "gradient": staticmethod(gradient),
            "needs": needs,
            "result": None if result is None else staticmethod(result),
            "node_name": f"{name}Backward0",
        },
    )


def _to_sum(dtype: dtypes.dtype) -> dtypes.dtype:
    return dtypes.int64 if dtype.kind < dtypes.FLOATING else dtype


def _to_truth(dtype: dtypes.dtype) -> dtypes.dtype:
    return dtype if dtype is dtypes.uint8 else dtypes.bool  # uint8 was PyTorch's bool once


def _sum_array(a: np.ndarray[Any, Any], axes: tuple[int, ...], keepdim: bool) -> Any:
    return _add(a, axes, dtype=np.int64 if a.dtype.kind in "iub" else a.dtype, keepdims=keepdim)


def count_of(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many elements are folded into one."""
    return math.prod(shape[a] for a in axes)


def mean_array(a: np.ndarray[Any, Any], axes: tuple[int, ...], keepdim: bool) -> Any:
    """The mean over ``axes``, in the dtype of ``a``."""
    return _sum_array(a, axes, keepdim) / np.asarray(count_of(a.shape, axes)).astype(a.real.dtype)


def _prod_array(a: np.ndarray[Any, Any], axes: tuple[int, ...], keepdim: bool) -> Any:
    return _multiply(a, axes, dtype=np.int64 if a.dtype.kind in "iub" else a.dtype, keepdims=keepdim)


def _prod_gradient(g: Tensor, x: Tensor, y: Tensor, ctx: Any) -> Tensor:
    """Product of all the others; with one zero in the fold only that element has a gradient."""
    zero = x == 0
    zeros = zero.sum(ctx.axes, keepdim=True)
    others = x.masked_fill(zero, 1)
    product = Prod.apply(others, ctx.axes, True)
    at_zero = (product * (zeros == 1)) * zero
    elsewhere = (product / others) * (zeros == 0)
    return g * (at_zero + elsewhere).conj()


def _extreme_gradient(g: Tensor, x: Tensor, y: Tensor, ctx: Any) -> Tensor:
    """Shared evenly by all elements that equal the extreme."""
    chosen = ((x == y) | ((x != x) & (y != y))).to(g.dtype)
    return g * (chosen / chosen.sum(ctx.axes, keepdim=True))


def _logsumexp_array(a: np.ndarray[Any, Any], axes: tuple[int, ...], keepdim: bool) -> Any:
    top = np.max(a.real, axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(a.dtype)
    total = np.log(_add(np.exp(a - top), axes, keepdims=True)) + top
    return total if keepdim else total.reshape(folded_shape(a.shape, axes, False))


def _norm_array(a: np.ndarray[Any, Any], axes: tuple[int, ...], keepdim: bool) -> Any:
    return np.sqrt(_add((a * a.conj()).real, axes, keepdims=keepdim))


Sum = _fold("Sum", _sum_array, lambda g, x, y, ctx: g.expand(ctx.shape), "", _to_sum)
Mean = _fold("Mean", mean_array, lambda g, x, y, ctx: (g / count_of(ctx.shape, ctx.axes)).expand(ctx.shape))
Prod = _fold("Prod", _prod_array, _prod_gradient, "xy", _to_sum)
Amax = _fold("Amax", lambda a, ax, k: np.max(a, ax, keepdims=k), _extreme_gradient, "xy")
Amin = _fold("Amin", lambda a, ax, k: np.min(a, ax, keepdims=k), _extreme_gradient, "xy")
LogSumExp = _fold("Logsumexp", _logsumexp_array, lambda g, x, y, ctx: g * (x - y).exp().conj(), "xy")
Norm = _fold(
    "LinalgVectorNorm",
    _norm_array,
    lambda g, x, y, ctx: (g * (x / y)).masked_fill(y == 0, 0),
    "xy",
    dtypes.dtype.to_real,
)
Any_ = _fold("Any", lambda a, ax, k: np.any(a, ax, keepdims=k), None, "", _to_truth)
All_ = _fold("All", lambda a, ax, k: np.all(a, ax, keepdims=k), None, "", _to_truth)


def numpy_names(function: Any) -> Any:
    """Let a fold be called with NumPy's ``axis`` and ``keepdims``, as ``np.sum(tensor)`` does."""

    @functools.wraps(function)
    def fold(input: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            if "axis" in kwargs:
                kwargs["dim"] = kwargs.pop("axis")
            if "keepdims" in kwargs:
                kwargs["keepdim"] = kwargs.pop("keepdims")
            if kwargs.get("out", 0) is None:
                del kwargs["out"]
            if "dim" in kwargs and kwargs["dim"] is None and function.__name__ in ("amax", "amin"):
                del kwargs["dim"]
        return function(input, *args, **kwargs)

    return fold


# ---- functions -----------------------------------------------------------------------------------------------------


def input_of(input: Any, who: str, dtype: Any = None) -> Tensor:
    """The tensor to fold, cast to ``dtype`` if one is given."""
    input = as_tensor_operand(input, who)
    return input if dtype is None else input.to(dtypes.as_dtype(dtype))


def _of_dims(made: Tensor, dim: Any, node: str) -> Tensor:
    return made if dim is None else named(made, node)


@numpy_names
def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over ``dim`` (an int, several, or all); integers sum in int64 (cut to ``dtype``), half types in float32.

    Example:
        >>> import konv
        >>> konv.tensor([[1, 2], [3, 4]]).sum(0)
        tensor([4, 6])
    """
    input = input_of(input, "sum", dtype)
    made = _of_dims(Sum.apply(input, axes_of(dim, input._array.ndim), keepdim), dim, "SumBackward1")
    return made if dtype is None else made.to(input._dtype)


@numpy_names
def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over ``dim`` of a floating or complex tensor.

    Raises:
        DtypeError: An integer tensor; say ``x.float().mean()``.
    """
    input = input_of(input, "mean", dtype)
    if input._dtype.kind < dtypes.FLOATING:
        raise DtypeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {input._dtype.label}; use x.float().mean()"
        )
    return _of_dims(Mean.apply(input, axes_of(dim, input._array.ndim), keepdim), dim, "MeanBackward1")


@numpy_names
def prod(input: Any, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product over ``dim``, or of all elements."""
    input = input_of(input, "prod", dtype)
    made = _of_dims(Prod.apply(input, axes_of(dim, input._array.ndim), keepdim), dim, "ProdBackward1")
    return made if dtype is None else made.to(input._dtype)


def extreme(input: Any, dim: Any, keepdim: bool, function: Any, who: str) -> Tensor:
    """``amax`` or ``amin`` over ``dim``, refused for complex numbers and empty folds."""
    input = input_of(input, who)
    axes = axes_of(dim, input._array.ndim)
    if input._dtype.is_complex:
        raise DtypeError(f"{who}: complex numbers have no order; {input._dtype} is not supported")
    if not input._meta:
        if dim in (None, (), []) and not input._array.size:
            raise ArgumentRangeError(
                f"{who}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                "with the 'dim' argument."
            )
        refuse_empty(input, axes, who)
    return function.apply(input, axes, keepdim)


def refuse_empty(input: Tensor, axes: tuple[int, ...], who: str) -> None:
    """Refuse to look for an extreme among no elements."""
    empty = [a for a in axes if input._array.shape[a] == 0]
    if empty:
        raise IndexRangeError(
            f"{who}(): Expected reduction dim {empty[0]} to have non-zero size; "
            f"the input has shape {list(input._array.shape)}"
        )


@numpy_names
def amax(input: Any, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The largest element over ``dim``; NaN wins. Equal elements share the gradient."""
    return extreme(input, dim, keepdim, Amax, "amax")


@numpy_names
def amin(input: Any, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The smallest element over ``dim``; NaN wins. Equal elements share the gradient."""
    return extreme(input, dim, keepdim, Amin, "amin")


@numpy_names
def any(input: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """True where an element along ``dim`` is not zero."""
    input = input_of(input, "any")
    return Any_.apply(input.detach(), _named_axes(dim, input._array.ndim), keepdim)


@numpy_names
def all(input: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """True where every element along ``dim`` is not zero."""
    input = input_of(input, "all")
    return All_.apply(input.detach(), _named_axes(dim, input._array.ndim), keepdim)


def count_nonzero(input: Any, dim: Any = None) -> Tensor:
    """How many elements along ``dim`` are not zero."""
    return sum(input_of(input, "count_nonzero").detach() != 0, dim)


def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over ``dim``, without overflow."""
    input = input_of(input, "logsumexp")
    if input._dtype.kind < dtypes.FLOATING:
        input = input.to(to_float(input._dtype))
    return LogSumExp.apply(input, axes_of(dim, input._array.ndim), keepdim)


def norm(input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The p-norm over ``dim``: 'fro' or 2, inf, -inf, 0 (count of non-zeros), or any number."""
    input = input_of(input, "norm", dtype)
    if input._dtype.kind < dtypes.FLOATING:
        raise DtypeError(f"norm(): input dtype should be either floating point or complex. Got {input._dtype.label}")
    p = 2 if p in ("fro", None) else float(p)
    if p == 2:
        return Norm.apply(input, axes_of(dim, input._array.ndim), keepdim)
    size = input.abs()
    if math.isinf(p):
        return (
            amax(size, () if dim is None else dim, keepdim)
            if p > 0
            else amin(size, () if dim is None else dim, keepdim)
        )
    if p == 0:
        return sum((input != 0).to(size.dtype), dim, keepdim)
    return sum(size, dim, keepdim) if p == 1 else sum(size**p, dim, keepdim) ** (1 / p)


METHODS = {f.__name__: f for f in (sum, mean, prod, amax, amin, any, all, count_nonzero, logsumexp, norm)}
register(METHODS)
