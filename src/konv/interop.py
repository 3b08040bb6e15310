"""Tensors from and to NumPy and other libraries, without copying where memory can be shared.

Memory that came from outside or was handed out is marked (``VersionCounter.exported``): it can change without any
operation of konv, so nothing derived from it may be kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import dlpack, dtypes
from .errors import ArgumentError, ArgumentTypeError, AutogradError
from .tensor import Tensor, refuse_meta, register


def from_numpy(array: Any) -> Tensor:
    """A tensor over the memory of ``array``: a write to one is seen in the other.

    A read-only array gives a tensor that refuses in-place operations, with an error that says so.

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
    made = Tensor._wrap(np.asarray(array), dtypes.from_numpy(array.dtype))
    made._counter.exported = True
    return made


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor over the memory of another library's tensor, through the DLPack protocol.

    Args:
        ext_tensor: An object with ``__dlpack__``, on the CPU, or a DLPack capsule.

    Raises:
        DeviceError: The memory is not the CPU's.
        UnsupportedError: Its library does not hand it out: a sparse tensor, or one without data.
        ArgumentTypeError: No DLPack object, or a dtype that konv does not have.

    Example:
        >>> import numpy as np, konv
        >>> konv.from_dlpack(np.ones(2, np.float32))
        tensor([1., 1.])
    """
    if isinstance(ext_tensor, Tensor):
        return ext_tensor.detach()
    return from_numpy(dlpack.take(ext_tensor))


def from_foreign(value: Any, who: str) -> Tensor:
    """A NumPy array, another library's tensor, or a number as a Tensor; memory is shared, graphs are not."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return from_numpy(value)
    if isinstance(value, (bool, int, float, complex, np.generic)):
        dtype = dtypes.from_numpy(value.dtype) if isinstance(value, np.generic) else dtypes.of_scalar(value)
        return Tensor._wrap(np.asarray(value, dtype.numpy), dtype)
    if hasattr(value, "__dlpack__"):
        # Another library's graph ends here; it would refuse to hand out memory that requires its gradients.
        return from_dlpack(value.detach() if hasattr(value, "detach") else value)
    if hasattr(value, "__array__"):
        return from_numpy(np.asarray(value))
    raise ArgumentTypeError(f"{who}: expected a Tensor, an array or a number, got {type(value).__name__}")


# ---- methods -------------------------------------------------------------------------------------------------------


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


def _to_array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
    """NumPy's protocol: ``copy`` is True (always), None (if needed) or False (never)."""
    if self._meta or self.requires_grad:
        return numpy(self)  # refuses, and says why
    if copy or (dtype is not None and self._array.dtype != np.dtype(dtype)):
        if copy is False:
            raise ArgumentError(f"__array__: {self._dtype} cannot become {np.dtype(dtype)} without a copy")
        return np.array(self._array, dtype=dtype)
    return numpy(self)


def _wrap_array(self: Tensor, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
    """NumPy's ufuncs on tensors give tensors."""
    array = np.asarray(array)
    return from_numpy(array) if array.dtype in dtypes._BY_NUMPY else array


def _to_dlpack(
    self: Tensor, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
) -> Any:
    """A DLPack capsule over the tensor's memory."""
    if self._meta:
        raise BufferError("__dlpack__: a tensor on the 'meta' device has no memory to share")
    if self.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if dl_device is not None and tuple(dl_device) != dlpack.CPU:
        raise BufferError(f"__dlpack__: dl_device={dl_device}; konv has only the CPU, {dlpack.CPU}")
    self._counter.exported = True
    return dlpack.give(self._array, self._dtype is dtypes.bfloat16, max_version, copy)


register(
    {
        "numpy": numpy,
        "__array__": _to_array,
        "__array_wrap__": _wrap_array,
        "__dlpack__": _to_dlpack,
        "__dlpack_device__": lambda self: dlpack.CPU,
    }
)
