"""What describes a tensor without its data: shape, device, memory format, strides."""

from __future__ import annotations

import math
from typing import Any, SupportsIndex

import numpy as np

from . import dtypes
from .errors import ArgumentRangeError, ArgumentTypeError, DeviceError, IndexRangeError, ShapeError, text


class Size(tuple[int, ...]):
    """A shape: a tuple of ints that prints as PyTorch's.

    Example:
        >>> import konv
        >>> konv.Size([2, 3]), konv.Size([2, 3]).numel(), konv.Size([2, 3])[:1]
        (torch.Size([2, 3]), 6, torch.Size([2]))
    """

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements of a tensor of this shape."""
        return math.prod(self)

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"

    def __getitem__(self, key: Any) -> Any:
        item = tuple.__getitem__(self, key)
        return Size(item) if isinstance(key, slice) else item

    def __add__(self, other: Any) -> Size:
        return Size(tuple.__add__(self, tuple(other)))


class device:
    """Where a tensor lives: ``cpu``, or ``meta`` for a tensor that has a shape and no data.

    Example:
        >>> import konv
        >>> konv.device("cpu"), str(konv.device("meta"))
        (device(type='cpu'), 'meta')
    """

    __slots__ = ("index", "type")

    def __init__(self, type: Any = "cpu", index: int | None = None) -> None:
        name, colon, number = str(type).partition(":")
        if name not in ("cpu", "meta") or (colon and not number.isdigit()):
            raise DeviceError(f"device: got {str(type)!r}; konv has 'cpu', and 'meta' for shapes without data")
        self.type = name
        self.index = int(number) if colon else index

    def __repr__(self) -> str:
        return f"device(type={self.type!r}{'' if self.index is None else f', index={self.index}'})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> tuple[Any, ...]:
        return device, (self.type, self.index)


_CPU, _META = device("cpu"), device("meta")


class memory_format:
    """The order of a tensor's elements in memory: one of the three objects below."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return self.name


contiguous_format = memory_format("contiguous_format")
channels_last = memory_format("channels_last")
preserve_format = memory_format("preserve_format")


def meta_array(shape: tuple[int, ...], dtype: dtypes.dtype) -> np.ndarray[Any, Any]:
    """One element of ``dtype`` seen as ``shape`` through zero strides.

    Raises:
        ArgumentRangeError: its bytes would pass 64 bits.
    """
    try:
        return np.lib.stride_tricks.as_strided(np.zeros((), dtype.numpy), shape, (0,) * len(shape), writeable=False)
    except (ValueError, OverflowError):
        got = f"a shape of {list(shape)} and {dtype}"
        raise ArgumentRangeError(text("tensor", got, "its bytes must fit in 64 bits", "use smaller sizes")) from None


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a C-ordered tensor of ``shape``."""
    strides, step = [0] * len(shape), 1
    for axis in range(len(shape) - 1, -1, -1):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def normalize_dim(dim: SupportsIndex, ndim: int) -> int:
    """``dim`` counted from the front, checked; a 0-dim tensor takes 0 and -1 as PyTorch's does."""
    try:
        index = dim.__index__()
    except AttributeError:
        raise ArgumentTypeError(f"dim: expected an int, got {type(dim).__name__}") from None
    least = max(ndim, 1)
    if not -least <= index < least:
        raise IndexRangeError(
            f"Dimension out of range (expected to be in range of [{-least}, {least - 1}], but got {index})"
        )
    return index + least if index < 0 else index


def distinct_dims(dims: Any, ndim: int) -> list[int]:
    """``dims``, one or a sequence, counted from the front and checked: each is named once."""
    found = [normalize_dim(d, ndim) for d in (dims if isinstance(dims, (tuple, list)) else (dims,))]
    if len(set(found)) != len(found):
        raise ShapeError(f"dim appears multiple times in the list of dims {list(dims)}; name each once")
    return found


def memory_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    """The axes from the outermost in memory to the innermost, as PyTorch lays out a new tensor like another.

    A repeated axis (stride 0) says nothing of its place: it stays where it is, and others pass it.
    """
    inwards = list(range(len(shape)))[::-1]
    for last in range(1, len(inwards)):
        moved = last
        for i in range(last - 1, -1, -1):
            a, b = inwards[i], inwards[moved]
            if not strides[a] or not strides[b]:
                continue
            if abs(strides[a]) < abs(strides[b]):
                break
            if abs(strides[a]) > abs(strides[b]) or shape[a] > shape[b]:
                inwards[i], inwards[moved], moved = b, a, i
    return inwards[::-1]
