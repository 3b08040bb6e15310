"""Sums, means, extremes and other operations that fold dimensions away.

The half types sum in float32, integers in int64. The gradient of a fold is its own shape spread back over the folded
dimensions (``_spread``), times what the fold's derivative says.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentRangeError, DtypeError, IndexRangeError, ShapeError
from ..tensor import Tensor, normalize_dim, register
from ._table import as_tensor_operand, maybe_cast, to_float

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "std",
    "sum",
    "var",
]


def axes_of(dim: Any, ndim: int) -> tuple[int, ...]:
    """The dimensions to fold: None or () is all of them."""
    if dim is None or dim == () or dim == []:
        return tuple(range(ndim))
    if isinstance(dim, (tuple, list)):
        axes = tuple([normalize_dim(d, ndim) for d in dim])
        if len(set(axes)) != len(axes):
            raise ShapeError(f"dim appears multiple times in the list of dims {list(dim)}")
    else:
        axes = (normalize_dim(dim, ndim),)
    return axes if ndim else ()


def folded_shape(shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> tuple[int, ...]:
    """The shape that is left when ``axes`` are folded away."""
    if keepdim:
        return tuple([1 if i in axes else n for i, n in enumerate(shape)])
    return tuple([n for i, n in enumerate(shape) if i not in axes])


def _spread(g: Tensor, shape: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """A folded gradient seen in the shape before the fold."""
    return g.reshape(folded_shape(shape, axes, True)).expand(shape)


def _work(x: Tensor) -> tuple[np.ndarray[Any, Any], Any]:
    """The array to fold, and the dtype to sum it in."""
    if x._dtype.is_half:
        return x._array.astype(np.float32), np.float32
    return x._array, x._dtype.numpy


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
            array, _ = _work(x)
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
            "name": f"{name}Backward0",
        },
    )


def _to_sum(dtype: dtypes.dtype) -> dtypes.dtype:
    return dtypes.int64 if dtype.kind < dtypes.FLOATING else dtype


def _sum_array(a: np.ndarray[Any, Any], axes: tuple[int, ...], keepdim: bool) -> Any:
    return np.add.reduce(a, axes, dtype=np.int64 if a.dtype.kind in "iub" else a.dtype, keepdims=keepdim)


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    return math.prod(shape[a] for a in axes)


def _mean_array(a: np.ndarray[Any, Any], axes: tuple[int, ...], keepdim: bool) -> Any:
    return _sum_array(a, axes, keepdim) / np.asarray(_count(a.shape, axes)).astype(a.real.dtype)


def _prod_array(a: np.ndarray[Any, Any], axes: tuple[int, ...], keepdim: bool) -> Any:
    return np.multiply.reduce(a, axes, dtype=np.int64 if a.dtype.kind in "iub" else a.dtype, keepdims=keepdim)


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
    top = np.max(a, axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(a.dtype)
    total = np.log(np.add.reduce(np.exp(a - top), axes, keepdims=True)) + top
    return total if keepdim else total.reshape(folded_shape(a.shape, axes, False))


def _norm_array(a: np.ndarray[Any, Any], axes: tuple[int, ...], keepdim: bool) -> Any:
    return np.sqrt(np.add.reduce((a * a.conj()).real, axes, keepdims=keepdim))


Sum = _fold("Sum", _sum_array, lambda g, x, y, ctx: g.expand(ctx.shape), "", _to_sum)
Mean = _fold("Mean", _mean_array, lambda g, x, y, ctx: (g / _count(ctx.shape, ctx.axes)).expand(ctx.shape))
Prod = _fold("Prod", _prod_array, _prod_gradient, "xy", _to_sum)
Amax = _fold("Amax", lambda a, ax, k: np.max(a, ax, keepdims=k), _extreme_gradient, "xy")
Amin = _fold("Amin", lambda a, ax, k: np.min(a, ax, keepdims=k), _extreme_gradient, "xy")
LogSumExp = _fold("Logsumexp", _logsumexp_array, lambda g, x, y, ctx: g * (x - y).exp(), "xy")
Norm = _fold(
    "LinalgVectorNorm",
    _norm_array,
    lambda g, x, y, ctx: (g * (x / y)).masked_fill(y == 0, 0),
    "xy",
    dtypes.dtype.to_real,
)
Any_ = _fold("Any", lambda a, ax, k: np.any(a, ax, keepdims=k), None, "", lambda d: dtypes.bool)
All_ = _fold("All", lambda a, ax, k: np.all(a, ax, keepdims=k), None, "", lambda d: dtypes.bool)


class Var(Function):
    """Mean squared distance from the mean, the divisor lowered by ``correction``; ``root`` gives std."""

    fresh = True
    name = "VarBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...], keepdim: bool, correction: float, root: bool) -> Tensor:
        dtype, shape = x._dtype.to_real(), folded_shape(x._array.shape, axes, keepdim)
        ctx.axes, ctx.shape, ctx.root = axes, x._array.shape, root
        ctx.divisor = max(_count(x._array.shape, axes) - correction, 0)
        if root:
            ctx.name = "StdBackward0"
        if x._meta:
            made = Tensor._wrap_meta(shape, dtype)
        else:
            array, _ = _work(x)
            with np.errstate(all="ignore"):
                off = array - _mean_array(array, axes, True)
                total = np.add.reduce((off * off.conj()).real, axes, keepdims=keepdim)
                value = total / np.asarray(ctx.divisor).astype(total.dtype)
                made = Tensor._wrap(maybe_cast(np.sqrt(value) if root else value, dtype), dtype)
        ctx.save_for_backward(x, made if root else None)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, y = ctx.saved_tensors
        kept = folded_shape(ctx.shape, ctx.axes, True)
        g = grads[0].reshape(kept)
        if ctx.root:
            y = y.reshape(kept)
            g = (g / (y * 2)).masked_fill(y == 0, 0)
        divisor = ctx.divisor or float("nan")
        return (g * (x - x.mean(ctx.axes, keepdim=True)) * (2 / divisor), None, None, None, None)


class Extreme(Function):
    """The largest or smallest element along one dimension, and where it stands."""

    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, keepdim: bool, largest: bool) -> tuple[Tensor, Tensor]:
        ctx.dim, ctx.keepdim, ctx.shape = dim, keepdim, x._array.shape
        ctx.name = "MaxBackward0" if largest else "MinBackward0"
        if x._meta:
            shape = folded_shape(x._array.shape, (dim,), keepdim)
            return Tensor._wrap_meta(shape, x._dtype), Tensor._wrap_meta(shape, dtypes.int64)
        array, _ = _work(x)
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


# ---- functions --------------------------------------------------------------------------------------------------------------


def _input(input: Any, who: str, dtype: Any = None) -> Tensor:
    input = as_tensor_operand(input, who)
    return input if dtype is None else input.to(dtypes.as_dtype(dtype))


def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:  # noqa: A001
    """The sum over ``dim`` (an int, several, or all); integers sum in int64, half types in float32.

    Example:
        >>> import konv
        >>> konv.tensor([[1, 2], [3, 4]]).sum(0)
        tensor([4, 6])
    """
    input = _input(input, "sum", dtype)
    return Sum.apply(input, axes_of(dim, input._array.ndim), keepdim)  # type: ignore[no-any-return]


def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over ``dim`` of a floating or complex tensor.

    Raises:
        DtypeError: An integer tensor; say ``x.float().mean()``.
    """
    input = _input(input, "mean", dtype)
    if input._dtype.kind < dtypes.FLOATING:
        raise DtypeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {input._dtype.label}; use x.float().mean()"
        )
    return Mean.apply(input, axes_of(dim, input._array.ndim), keepdim)  # type: ignore[no-any-return]


def prod(input: Any, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product over ``dim``, or of all elements."""
    input = _input(input, "prod", dtype)
    return Prod.apply(input, axes_of(dim, input._array.ndim), keepdim)  # type: ignore[no-any-return]


def _extreme(input: Any, dim: Any, keepdim: bool, function: Any, who: str) -> Tensor:
    input = _input(input, who)
    if input._dtype.is_complex:
        raise DtypeError(f"{who}: complex numbers have no order; {input._dtype} is not supported")
    axes = axes_of(dim, input._array.ndim)
    if not input._meta:
        _refuse_empty(input, axes, who)
    return function.apply(input, axes, keepdim)  # type: ignore[no-any-return]


def _refuse_empty(input: Tensor, axes: tuple[int, ...], who: str) -> None:
    empty = [a for a in axes if input._array.shape[a] == 0]
    if empty:
        raise IndexRangeError(
            f"{who}(): Expected reduction dim {empty[0]} to have non-zero size; "
            f"the input has shape {list(input._array.shape)}"
        )


def amax(input: Any, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The largest element over ``dim``; NaN wins. Equal elements share the gradient."""
    return _extreme(input, dim, keepdim, Amax, "amax")


def amin(input: Any, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The smallest element over ``dim``; NaN wins. Equal elements share the gradient."""
    return _extreme(input, dim, keepdim, Amin, "amin")


def _max_or_min(input: Any, dim: Any, keepdim: bool, largest: bool) -> Any:
    who = "max" if largest else "min"
    input = _input(input, who)
    if dim is None:
        if not input._meta and not input.numel():
            raise ArgumentRangeError(
                f"{who}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                "with the 'dim' argument."
            )
        return _extreme(input, None, False, Amax if largest else Amin, who)
    if isinstance(dim, Tensor) or hasattr(dim, "__array__"):
        return (input.maximum if largest else input.minimum)(dim)
    if input._dtype.is_complex:
        raise DtypeError(f"{who}: complex numbers have no order; {input._dtype} is not supported")
    axis = normalize_dim(dim, input._array.ndim)
    if input._array.ndim and not input._meta:
        _refuse_empty(input, (axis,), who)
    return (MaxPair if largest else MinPair)(*Extreme.apply(input, axis, keepdim, largest))


def max(input: Any, dim: Any = None, keepdim: bool = False) -> Any:  # noqa: A001
    """The largest element; with ``dim`` a pair (values, indices) along it; with a tensor, ``maximum``.

    Example:
        >>> import konv
        >>> values, indices = konv.tensor([[1.0, 5.0], [7.0, 2.0]]).max(1)
        >>> values, indices
        (tensor([5., 7.]), tensor([1, 0]))
    """
    return _max_or_min(input, dim, keepdim, True)


def min(input: Any, dim: Any = None, keepdim: bool = False) -> Any:  # noqa: A001
    """The smallest element; with ``dim`` a pair (values, indices) along it; with a tensor, ``minimum``."""
    return _max_or_min(input, dim, keepdim, False)


def _arg_extreme(input: Any, dim: int | None, keepdim: bool, largest: bool) -> Tensor:
    input = _input(input, "argmax" if largest else "argmin")
    flat = input.detach() if dim is not None else input.detach().reshape(-1)
    found = _max_or_min(flat, dim if dim is not None else 0, keepdim and dim is not None, largest).indices
    return found.reshape((1,) * input._array.ndim) if keepdim and dim is None else found  # type: ignore[no-any-return]


def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest element stands: along ``dim``, or in the flattened tensor; the first of equals."""
    return _arg_extreme(input, dim, keepdim, True)


def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the smallest element stands: along ``dim``, or in the flattened tensor; the first of equals."""
    return _arg_extreme(input, dim, keepdim, False)


def _variance(input: Any, dim: Any, unbiased: Any, keepdim: bool, correction: Any, root: bool) -> Tensor:
    input = _input(input, "std" if root else "var")
    if isinstance(dim, bool):  # x.var(False): PyTorch's older spelling
        dim, unbiased = None, dim
    if input._dtype.kind < dtypes.FLOATING:
        raise DtypeError(
            f"{'std' if root else 'var'} only support floating point and complex dtypes, got {input._dtype}"
        )
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    return Var.apply(input, axes_of(dim, input._array.ndim), keepdim, correction, root)  # type: ignore[no-any-return]


def var(
    input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """The variance over ``dim``; the divisor is the count less ``correction`` (1 unless given or ``unbiased=False``)."""
    return _variance(input, dim, unbiased, keepdim, correction, False)


def std(
    input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """The square root of ``var``."""
    return _variance(input, dim, unbiased, keepdim, correction, True)


def any(input: Any, dim: Any = None, keepdim: bool = False) -> Tensor:  # noqa: A001
    """True where an element along ``dim`` is not zero."""
    input = _input(input, "any")
    return Any_.apply(input.detach(), axes_of(dim, input._array.ndim), keepdim)  # type: ignore[no-any-return]


def all(input: Any, dim: Any = None, keepdim: bool = False) -> Tensor:  # noqa: A001
    """True where every element along ``dim`` is not zero."""
    input = _input(input, "all")
    return All_.apply(input.detach(), axes_of(dim, input._array.ndim), keepdim)  # type: ignore[no-any-return]


def count_nonzero(input: Any, dim: Any = None) -> Tensor:
    """How many elements along ``dim`` are not zero."""
    return sum(_input(input, "count_nonzero").detach() != 0, dim)


def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over ``dim``, without overflow."""
    input = _input(input, "logsumexp")
    if input._dtype.kind < dtypes.FLOATING:
        input = input.to(to_float(input._dtype))
    return LogSumExp.apply(input, axes_of(dim, input._array.ndim), keepdim)  # type: ignore[no-any-return]


def norm(input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The p-norm over ``dim``: 'fro' or 2, inf, -inf, 0 (count of non-zeros), or any number."""
    input = _input(input, "norm", dtype)
    if input._dtype.kind < dtypes.FLOATING:
        raise DtypeError(f"norm(): input dtype should be either floating point or complex. Got {input._dtype.label}")
    p = 2 if p in ("fro", None) else float(p)
    if p == 2:
        return Norm.apply(input, axes_of(dim, input._array.ndim), keepdim)  # type: ignore[no-any-return]
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


METHODS = {
    f.__name__: f
    for f in (sum, mean, prod, amax, amin, max, min, argmax, argmin, var, std, any, all, count_nonzero, logsumexp, norm)
}
register(METHODS)
