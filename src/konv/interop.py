"""Tensors from and to NumPy and other libraries, without copying where memory can be shared."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import dtypes
from .errors import ArgumentTypeError, AutogradError, UnsupportedError
from .tensor import Tensor, refuse_meta, register


def from_numpy(array: Any) -> Tensor:
    """A tensor over the memory of ``array``: a write to one is seen in the other.

    A read-only array gives a tensor that refuses in-place operations.

    Args:
        array: ndarray of any strides and of a dtype that konv has.

    Raises:
        ArgumentTypeError: Not an ndarray, or a dtype that konv does not have.

    Example:
        >>> import numpy as np, konv
        >>> a = np.arange(3.0)
        >>> t = konv.from_numpy(a)
        >>> t[0] = 7
        >>> a
        array([7., 1., 2.])
    """
    if not isinstance(array, np.ndarray):
        raise ArgumentTypeError(f"from_numpy: expected np.ndarray (got {type(array).__name__})")
    dtype = dtypes.from_numpy(array.dtype)
    made = Tensor._wrap(np.asarray(array), dtype)
    made._counter.exported = True
    return made


def from_foreign(value: Any, who: str) -> Tensor:
    """A NumPy array, another library's tensor, or anything with ``__array__``, as a Tensor that shares its memory."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return from_numpy(value)
    if isinstance(value, (bool, int, float, complex, np.generic)):
        dtype = dtypes.from_numpy(value.dtype) if isinstance(value, np.generic) else dtypes.of_scalar(value)
        return Tensor._wrap(np.asarray(value, dtype.numpy), dtype)
    if hasattr(value, "__dlpack__"):
        return from_dlpack(value.detach() if hasattr(value, "detach") else value)
    if hasattr(value, "__array__"):
        return from_numpy(np.asarray(value))
    raise ArgumentTypeError(f"{who}: expected a Tensor, an array or a number, got {type(value).__name__}")


def from_dlpack(value: Any) -> Tensor:
    return from_numpy(np.from_dlpack(value))


def numpy(self: Tensor, *, force: bool = False) -> np.ndarray[Any, Any]:
    """The tensor's memory as an ndarray; shared, so writes go both ways. ``force`` detaches first.

    Raises:
        AutogradError: The tensor requires grad and ``force`` is not set.
    """
    if self._meta:
        raise refuse_meta("numpy()")
    if self.requires_grad and not force:
        raise AutogradError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
    self._counter.exported = True
    return self._array.view()


def __array__(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
    array = numpy(self)
    if dtype is not None and array.dtype != np.dtype(dtype):
        if copy is False:
            raise ArgumentTypeError(f"__array__: {array.dtype} cannot become {np.dtype(dtype)} without a copy")
        return array.astype(dtype)
    return array.copy() if copy else array


register({"numpy": numpy, "__array__": __array__})
_ = UnsupportedError
