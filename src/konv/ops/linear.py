"""Matrix products: ``matmul`` and its named forms, and ``linear``.

Half types are multiplied in float32 and rounded once at the end.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import DtypeError, ShapeError
from ..tensor import Tensor, register
from ._table import any_meta, as_tensor_operand, broadcast_shape, maybe_cast, named

__all__ = [
    "addmm",
    "bmm",
    "dot",
    "matmul",
    "mm",
    "mv",
    "outer",
]


def _adjoint(x: Tensor) -> Tensor:
    return x.transpose(-2, -1).conj()


def _product(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], dtype: dtypes.dtype) -> np.ndarray[Any, Any]:
    if dtype.is_half:
        a, b = a.astype(np.float32), b.astype(np.float32)
    with np.errstate(all="ignore"):
        return maybe_cast(np.matmul(a, b), dtype)


class MatMul(Function):
    """(..., n, k) @ (..., k, m) with broadcasting of the leading dimensions."""

    fresh = True

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.node_name = "MmBackward0" if a._array.ndim == b._array.ndim == 2 else "BmmBackward0"
        if True in ctx.needs_input_grad:
            ctx.save_for_backward(a if ctx.needs_input_grad[1] else None, b if ctx.needs_input_grad[0] else None)
        if any_meta((a, b)):
            lead = broadcast_shape([a._array.shape[:-2], b._array.shape[:-2]])
            return Tensor._wrap_meta((*lead, a._array.shape[-2], b._array.shape[-1]), a._dtype)
        return Tensor._wrap(_product(a._array, b._array, a._dtype), a._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        a, b = ctx.saved_tensors
        g = grads[0]
        return (
            None if b is None else MatMul.apply(g, _adjoint(b)),
            None if a is None else MatMul.apply(_adjoint(a), g),
        )


def _checked(a: Any, b: Any, who: str) -> tuple[Tensor, Tensor]:
    a, b = as_tensor_operand(a, who), as_tensor_operand(b, who)
    if a._dtype is not b._dtype:
        raise DtypeError(
            f"{who}: expected both operands to have the same dtype, but got: {a._dtype} != {b._dtype}; "
            "cast one with .to()"
        )
    return a, b


def matmul(input: Any, other: Any) -> Tensor:
    """The matrix product, PyTorch's rules for 1-D and batched operands; also ``@``.

    Raises:
        ShapeError: The inner sizes differ.

    Example:
        >>> import konv
        >>> konv.ones(2, 3) @ konv.ones(3)
        tensor([3., 3.])
    """
    a, b = _checked(input, other, "matmul")
    have, want = a._array.shape, b._array.shape
    if not have or not want:
        raise ShapeError(f"both arguments to matmul need to be at least 1D, but they are {len(have)}D and {len(want)}D")
    if have[-1] != want[-1 if len(want) == 1 else -2]:
        if len(have) == len(want) == 1:
            raise ShapeError(
                "inconsistent tensor size, expected tensor "
                f"{list(have)} and src {list(want)} to have the same number of elements"
            )
        raise ShapeError(
            f"mat1 and mat2 shapes cannot be multiplied ({_times(have)} and {_times(want)}); "
            f"{have[-1]} must equal {want[-1 if len(want) == 1 else -2]}"
        )
    if len(have) > 1 and len(want) > 1:
        return MatMul.apply(a, b)
    made = MatMul.apply(a.unsqueeze(0) if len(have) == 1 else a, b.unsqueeze(1) if len(want) == 1 else b)
    if len(want) == 1:
        made = made.squeeze(-1)
        return named(made.squeeze(-1), "DotBackward0") if len(have) == 1 else named(made, "MvBackward0")
    return made.squeeze(-2)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _of_rank(name: str, first: int, second: int) -> Any:
    def function(input: Any, other: Any) -> Tensor:
        a, b = _checked(input, other, name)
        if (a._array.ndim, b._array.ndim) != (first, second):
            raise ShapeError(
                f"{name}: expected {first}D and {second}D tensors, got {list(a._array.shape)} and "
                f"{list(b._array.shape)}"
            )
        if first == 3 and a._array.shape[0] != b._array.shape[0]:
            raise ShapeError(f"{name}: batch sizes differ: {list(a._array.shape)} and {list(b._array.shape)}")
        return matmul(a, b)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``matmul`` of a {first}-D and a {second}-D tensor, nothing broadcast."
    return function


mm, bmm, mv, dot = _of_rank("mm", 2, 2), _of_rank("bmm", 3, 3), _of_rank("mv", 2, 1), _of_rank("dot", 1, 1)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """(n,) and (m,) to (n, m): every product of two elements."""
    for vector in (input, vec2):
        if vector._array.ndim != 1:
            raise ShapeError(f"outer: got a tensor of shape {list(vector.shape)}; it takes two of one dimension")
    return input.unsqueeze(1) * vec2.unsqueeze(0)


def _rows(x: Any) -> Any:
    """An array or a tensor as one matrix: all dimensions but the last merged, of which there may be none."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


class Linear(Function):
    """x @ weight.T + bias, one node: (..., k), (m, k), (m,) -> (..., m)."""

    fresh = True
    node_name = "AddmmBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        needs = ctx.needs_input_grad
        ctx.save_for_backward(x if needs[1] else None, weight if needs[0] else None)
        shape = (*x._array.shape[:-1], *weight._array.shape[:-1])
        if any_meta((x, weight, bias)):
            return Tensor._wrap_meta(shape, x._dtype)
        # One product of two matrices: NumPy would otherwise loop over the leading dimensions.
        rows = _rows(x._array)
        half = x._dtype.is_half
        matrix = weight._array.swapaxes(-1, -2) if weight._array.ndim == 2 else weight._array
        out = _product(rows, matrix, dtypes.float32 if half else x._dtype)
        if bias is not None:
            if out.ndim:
                with np.errstate(all="ignore"):
                    out += bias._array
            else:
                out = out + bias._array
        return Tensor._wrap(maybe_cast(out, x._dtype).reshape(shape), x._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        g, needs = grads[0], ctx.needs_input_grad
        rows = _rows(g)
        to_x = None if weight is None else matmul(g, weight.conj())
        to_weight = None
        if x is not None:
            to_weight = matmul(rows.t(), _rows(x).conj())
        return to_x, to_weight, rows.sum(0) if needs[2] else None


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """``input @ weight.T + bias``.

    Args:
        input: (..., in_features).
        weight: (out_features, in_features), or (in_features,).
        bias: (out_features,) or None.

    Raises:
        ShapeError: in_features differ, or the bias does not fit.
        DtypeError: Dtypes differ.

    Example:
        >>> import konv
        >>> konv.nn.functional.linear(konv.ones(1, 3), konv.ones(2, 3), konv.tensor([0.0, 1.0]))
        tensor([[3., 4.]])
    """
    x, w = _checked(input, weight, "linear")
    if w._array.ndim == 1:
        made = matmul(x, w)
        return made if bias is None else made + bias
    if w._array.ndim != 2:
        raise ShapeError(f"linear: weight must be (out_features, in_features), got {list(w._array.shape)}")
    have = x._array.shape
    if not have or have[-1] != w._array.shape[1]:
        rows = (int(np.prod(have[:-1], dtype=object)), have[-1]) if have else have
        raise ShapeError(
            f"mat1 and mat2 shapes cannot be multiplied ({_times(rows)} and {_times(w._array.shape[::-1])}); "
            f"linear: the last dimension of the input must be in_features={w._array.shape[1]}, "
            f"the input has shape {list(have)}"
        )
    if bias is None:
        return Linear.apply(x, w, None)
    _, b = _checked(x, bias, "linear")
    if b._array.shape not in ((w._array.shape[0],), (1,), ()):
        raise ShapeError(f"linear: bias has shape {list(b._array.shape)}, expected [{w._array.shape[0]}]")
    return Linear.apply(x, w, b)


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * (mat1 @ mat2)``."""
    made = mm(mat1, mat2)
    return input * beta + (made if alpha == 1 else made * alpha)


METHODS = {f.__name__: f for f in (matmul, mm, bmm, mv, dot, outer, addmm)}
METHODS["__matmul__"] = matmul
METHODS["__rmatmul__"] = lambda self, other: matmul(other, self)
register(METHODS)
