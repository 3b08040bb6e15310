"""Whole tensors compared, running sums, and questions about tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import DtypeError, ShapeError, UnsupportedError
from ..tensor import Tensor, normalize_dim, refuse_meta, register
from ._table import as_tensor_operand, common_dtype as _common_dtype, maybe_cast, operand
from .elementary import isfinite, isnan

__all__ = [
    "allclose",
    "cumsum",
    "equal",
    "is_complex",
    "is_floating_point",
    "is_tensor",
    "isclose",
    "numel",
    "result_type",
    "tril",
    "triu",
]


def isclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """True where ``|input - other| <= atol + rtol * |other|``.

    Raises:
        DtypeError: The dtypes differ.
    """
    a, b = as_tensor_operand(input, "isclose").detach(), as_tensor_operand(other, "isclose").detach()
    if a._dtype is not b._dtype:
        raise DtypeError(f"isclose: {a._dtype} did not match {b._dtype}; cast one with .to()")
    close = a == b
    if a._dtype.kind >= dtypes.FLOATING:
        finite = isfinite(a) & isfinite(b)
        near = (a - b).abs() <= b.abs() * rtol + atol
        close = close | (near & finite)
        if equal_nan:
            close = close | (isnan(a) & isnan(b))
        return close
    wide_a, wide_b = a.double(), b.double()
    return (wide_a - wide_b).abs() <= wide_b.abs() * rtol + atol


def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """True if ``isclose`` holds everywhere.

    Example:
        >>> import konv
        >>> konv.allclose(konv.ones(2), konv.tensor([1.0, 1.000001]))
        True
    """
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input: Any, other: Any) -> bool:
    """True if shapes and all elements are the same."""
    a, b = as_tensor_operand(input, "equal"), as_tensor_operand(other, "equal")
    if a._meta or b._meta:
        raise refuse_meta("equal()")
    return a._array.shape == b._array.shape and bool((a.detach() == b.detach()).all())


class CumSum(Function):
    """Sums of all elements up to each one along a dimension."""

    fresh = True
    node_name = "CumsumBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        dtype = dtypes.int64 if x._dtype.kind < dtypes.FLOATING else x._dtype
        if x._meta:
            return Tensor._wrap_meta(x._array.shape, dtype)
        work = np.float32 if dtype.is_half else dtype.numpy
        if not x._array.ndim:
            return Tensor._wrap(x._array.astype(dtype.numpy), dtype)
        with np.errstate(all="ignore"):
            return Tensor._wrap(maybe_cast(np.cumsum(x._array.astype(work, copy=False), dim, dtype=work), dtype), dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        g = grads[0]
        return (cumsum(g.flip(ctx.dim), ctx.dim).flip(ctx.dim) if g.ndim else g), None


def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """The sum of all elements up to each one along ``dim``; integers sum in int64 (cut to ``dtype``)."""
    input = as_tensor_operand(input, "cumsum")
    if dtype is not None:
        input = input.to(dtypes.as_dtype(dtype))
        if input._dtype is dtypes.bool:
            raise UnsupportedError("cumsum: there is no running sum in torch.bool; give an integer dtype")
    made: Tensor = CumSum.apply(input, normalize_dim(dim, input._array.ndim))
    return made if dtype is None else made.to(input._dtype)


def _matrix(input: Tensor, who: str) -> tuple[int, ...]:
    shape = input._array.shape
    if len(shape) < 2:
        raise ShapeError(f"{who}: got shape {list(shape)}; the input has at least 2 dimensions")
    return shape[-2:]


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of matrices; zeros above ``diagonal``."""
    rows, columns = _matrix(input, "tril")
    return input.masked_fill(Tensor._wrap(~np.tri(rows, columns, diagonal, bool)), 0)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of matrices; zeros below ``diagonal``."""
    rows, columns = _matrix(input, "triu")
    return input.masked_fill(Tensor._wrap(np.tri(rows, columns, diagonal - 1, bool)), 0)


def is_tensor(obj: Any) -> bool:
    """True for a konv tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """True for a tensor of real floating type."""
    return input.is_floating_point()


def is_complex(input: Tensor) -> bool:
    """True for a tensor of complex type."""
    return input.is_complex()


def numel(input: Tensor) -> int:
    """The number of elements."""
    return input.numel()


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """The dtype that an operation on the two computes in; numbers and 0-dim tensors count less than others.

    Example:
        >>> import konv
        >>> konv.result_type(konv.tensor([1], dtype=konv.int32), 1.0)
        torch.float32
    """
    return _common_dtype((operand(tensor1, "result_type"), operand(tensor2, "result_type")))


register({f.__name__: f for f in (isclose, allclose, equal, cumsum, tril, triu)})
