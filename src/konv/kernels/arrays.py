"""Arrays at the door of the core: the forms that it reads, and memory for its results."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..errors import ArgumentError, MemoryShortError, text
from ..geometry import INT64_MAX

Array = NDArray[Any]
REFUSALS = (ValueError, OverflowError)  # what the core raises for arguments that do not fit


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function`` of the arrays as they lie, or of plain copies where the core cannot read them (it answers None).

    Raises:
        ArgumentError: the core refuses the arguments.
    """
    try:
        found = function(*arguments)
        if found is None:
            found = function(*[plain(item) if isinstance(item, np.ndarray) else item for item in arguments])
        return found
    except REFUSALS as error:
        raise ArgumentError(str(error)) from None


def raw(array: Array) -> Array:
    """bfloat16 crosses the border as uint16: NumPy has no buffer of it."""
    dtype = array.dtype
    return array.view(np.uint16) if dtype.itemsize == 2 and dtype.name == "bfloat16" else array  # names take time


def plain(array: Array) -> Array:
    """A copy that kernels can read: native byte order, every element on its alignment."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A contiguous array for a result, 64-byte aligned."""
    memory = _core.allocate(min(math.prod(shape) * dtype.itemsize, INT64_MAX // 2))
    return np.ndarray(shape, dtype, memory)  # type: ignore[arg-type]  # memory is a buffer


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A contiguous array of zeros."""
    return np.zeros(shape, dtype)


def no_memory(who: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> MemoryShortError:
    """The error of a result that does not fit in memory."""
    got = f"the output of shape {list(shape)} takes {math.prod(shape) * dtype.itemsize:,} bytes"
    return MemoryShortError(text(who, got, "there is not enough memory", "use smaller images or less padding"))
