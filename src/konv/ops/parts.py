"""The two parts of complex numbers: conjugate, real, imaginary, and both as a dimension of real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import DtypeError, ShapeError
from ..tensor import Tensor, register
from .shape import share, view_function

__all__ = [
    "conj",
    "imag",
    "real",
    "view_as_complex",
    "view_as_real",
]


Real = view_function("Real", lambda a: a.real, lambda g, s: g)
Imag = view_function("Imag", lambda a: a.imag, lambda g, s: g * 1j)


class Conj(Function):
    fresh = True
    node_name = "ConjBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if x._meta:
            return Tensor._wrap_meta(x._array.shape, x._dtype)
        return Tensor._wrap(np.conjugate(x._array), x._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return (conj(grads[0]),)


def conj(input: Tensor) -> Tensor:
    """The complex conjugate; a real tensor is its own."""
    return Conj.apply(input) if input._dtype.is_complex else input


def real(input: Tensor) -> Tensor:
    """The real part, a view; a real tensor is its own."""
    return Real.apply(input) if input._dtype.is_complex else input


def imag(input: Tensor) -> Tensor:
    """The imaginary part of a complex tensor; a view."""
    if not input._dtype.is_complex:
        raise DtypeError("imag is not implemented for tensors with non-complex dtypes.")
    return Imag.apply(input)


class ViewAsReal(Function):
    fresh = True
    node_name = "ViewAsRealBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        part, shape = x._dtype.to_real(), (*x._array.shape, 2)
        if x._meta:
            return share(Tensor._wrap_meta(shape, part), x)
        return share(Tensor._wrap(_reread(x._array[..., None], part.numpy, shape), part), x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return (view_as_complex(grads[0].contiguous()),)


class ViewAsComplex(Function):
    fresh = True
    node_name = "ViewAsComplexBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        whole, shape = x._dtype.to_complex(), x._array.shape[:-1]
        if x._meta:
            return share(Tensor._wrap_meta(shape, whole), x)
        return share(Tensor._wrap(_reread(x._array, whole.numpy, (*shape, 1))[..., 0], whole), x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return (view_as_real(grads[0]),)


def _reread(array: np.ndarray[Any, Any], dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The last dimension's bytes read as ``dtype``."""
    return array.view(dtype) if array.size else np.zeros(shape, dtype)


def view_as_real(input: Tensor) -> Tensor:
    """(..., 2) real and imaginary parts of a complex tensor; a view."""
    if not input._dtype.is_complex:
        raise DtypeError("view_as_real is only supported for complex tensors")
    return ViewAsReal.apply(input)


def view_as_complex(input: Tensor) -> Tensor:
    """Pairs along the last dimension read as complex numbers; a view."""
    if input._dtype not in (dtypes.float32, dtypes.float64):
        raise DtypeError(f"view_as_complex is only supported for float32 and float64 tensors, got {input._dtype}")
    if input._array.shape[-1:] != (2,):
        raise ShapeError(f"view_as_complex: the last dimension must be 2, the shape is {list(input._array.shape)}")
    if not input._meta and input._array.size and input._array.strides[-1] != input._dtype.itemsize:
        raise ShapeError("view_as_complex: the last dimension must have stride 1; use contiguous()")
    return ViewAsComplex.apply(input)


register({"conj": conj, "real": property(real), "imag": property(imag)})
