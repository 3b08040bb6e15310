"""DLPack capsules to and from NumPy arrays, on top of NumPy's own.

What NumPy leaves open is settled here: read-only and reversed memory, versions of the protocol, and bfloat16, which
NumPy's exporter does not know and which travels as 16-bit integers whose type code is changed in the capsule.

Source: the DLPack specification, https://dmlc.github.io/dlpack/latest/ (structs DLManagedTensor and
DLManagedTensorVersioned).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import dtypes
from .errors import ArgumentTypeError, DeviceError, KonvError, UnsupportedError, text

CPU = (1, 0)
_BFLOAT, _UNSIGNED = 4, 1  # DLDataTypeCode
# Bytes from the start of the struct to DLTensor.dtype: data 8, device 8, ndim 4; versioned structs have
# version 8, manager 8, deleter 8 and flags 8 in front of the DLTensor.
_TYPE_OFFSET = {b"dltensor": 20, b"dltensor_versioned": 52}


def give(array: np.ndarray[Any, Any], bfloat: bool, max_version: Any, copy: bool | None) -> Any:
    """A capsule over ``array``; a copy of it where its memory cannot be described to the consumer.

    Raises:
        BufferError: A copy would be needed and ``copy`` is False.
    """
    versioned = max_version is not None and tuple(max_version) >= (1, 0)
    unsayable = any(s < 0 for s in array.strides) or not (array.flags.writeable or (versioned and _NUMPY_VERSIONED))
    if unsayable and copy is False:
        raise BufferError("__dlpack__: read-only memory or negative strides cannot be shared with this consumer")
    if copy or unsayable:
        array = array.copy()
    if bfloat:
        array = array.view(np.uint16)
    capsule = array.__dlpack__(max_version=max_version) if versioned and _NUMPY_VERSIONED else array.__dlpack__()
    if bfloat:
        _set_type_code(capsule, _BFLOAT)
    return capsule


def take(source: Any) -> np.ndarray[Any, Any]:
    """An array over the memory of a DLPack object or capsule."""
    try:
        return _taken(source)
    except KonvError:
        raise
    except (BufferError, RuntimeError, ValueError) as error:  # what libraries say of memory that they cannot share
        got = f"a {type(source).__name__} hands out no memory ({error})"
        raise UnsupportedError(
            text("from_dlpack", got, "it must be dense, on the CPU, of numbers that NumPy has")
        ) from error


def _taken(source: Any) -> np.ndarray[Any, Any]:
    if type(source).__name__ == "PyCapsule":
        source = _Holder(source)
    if not hasattr(source, "__dlpack__"):
        raise ArgumentTypeError(f"from_dlpack: expected an object with __dlpack__, got {type(source).__name__}")
    kind = tuple(source.__dlpack_device__())
    if int(kind[0]) != CPU[0]:
        raise DeviceError(f"from_dlpack: the memory is on DLPack device {int(kind[0])}; copy it to the CPU first")
    if str(getattr(source, "dtype", "")) == "torch.bfloat16":
        # Only versioned capsules say that memory may be written to; NumPy takes the others as read-only.
        capsule = source.__dlpack__(max_version=(1, 0)) if _NUMPY_VERSIONED else source.__dlpack__()
        _set_type_code(capsule, _UNSIGNED)
        return np.from_dlpack(_Holder(capsule)).view(dtypes.bfloat16.numpy)
    array = np.from_dlpack(source)
    if not array.flags.writeable and not _NUMPY_VERSIONED and hasattr(source, "__array__"):
        # Older NumPy marks everything it imports as read-only; the library's own array says how it really is.
        again = np.asarray(source)
        if again.dtype == array.dtype and np.may_share_memory(again, array):
            return again
    return array


class _Holder:
    """A capsule as the object that ``np.from_dlpack`` wants."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU


def _set_type_code(capsule: Any, code: int) -> None:
    """Write the DLDataTypeCode into a capsule that nobody has consumed yet."""
    import ctypes

    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    name = api.PyCapsule_GetName(capsule)
    if name not in _TYPE_OFFSET:
        raise ArgumentTypeError(f"from_dlpack: a capsule named {name!r}; it may have been consumed already")
    start = api.PyCapsule_GetPointer(capsule, name)
    ctypes.c_uint8.from_address(start + _TYPE_OFFSET[name]).value = code


_NUMPY_VERSIONED = tuple(map(int, np.__version__.split(".")[:2])) >= (2, 1)
