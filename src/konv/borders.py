"""Borders that are filled from the array they surround, and the transpose of that, on plain arrays.

    reflect    c b | a b c d | c b        the edge itself is not repeated
    replicate  a a | a b c d | d d
    circular   c d | a b c d | a b

Borders are filled axis after axis, each from what the axes before have completed. Filling is linear; its transpose adds
every border to the cells that it was filled from, in the opposite order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Pads = Sequence[tuple[int, int]]  # (before, after) of every axis, none negative
Slices = tuple[slice, ...]


def inside(shape: Sequence[int], pads: Pads) -> Slices:
    """What an array of this shape has between its borders.

    Example:
        >>> from konv.borders import inside
        >>> inside((5, 6), ((0, 0), (1, 2)))
        (slice(0, 5, None), slice(1, 4, None))
    """
    return tuple(slice(before, size - after) for size, (before, after) in zip(shape, pads, strict=True))


def fill(array: Array, pads: Pads, mode: str) -> None:
    """Fill the borders of ``array`` from what is inside of them.

    Example:
        >>> import numpy as np
        >>> from konv import borders
        >>> row = np.array([0, 0, 1, 2, 3, 0])
        >>> borders.fill(row, [(2, 1)], "reflect")
        >>> row.tolist()
        [3, 2, 1, 2, 3, 2]
    """
    for _, border, origin in _borders(array.shape, pads, mode):
        array[border] = array[origin]


def fold(array: Array, pads: Pads, mode: str) -> Array:
    """Add the borders of ``array`` to the cells that ``fill`` takes them from.

    Returns:
        What is inside of the borders, a view; sums are in the dtype of the array.

    Example:
        >>> import numpy as np
        >>> from konv import borders
        >>> borders.fold(np.array([1, 2, 10, 20, 30, 4]), [(2, 1)], "reflect").tolist()
        [10, 26, 31]
    """
    for axis, border, origin in reversed(list(_borders(array.shape, pads, mode))):
        added = array[border]
        array[origin] += added.sum(axis, dtype=array.dtype, keepdims=True) if mode == "replicate" else added
    return array[inside(array.shape, pads)]


def _borders(shape: Sequence[int], pads: Pads, mode: str) -> Iterator[tuple[int, Slices, Slices]]:
    """(axis, border, origin) of every border in the order in which they are filled."""
    for axis, (size, (before, after)) in enumerate(zip(shape, pads, strict=True)):
        end = size - after
        if before:
            origin = {
                "reflect": slice(2 * before, before, -1),
                "replicate": slice(before, before + 1),
                "circular": slice(end - before, end),
            }[mode]
            yield axis, _along(axis, slice(0, before), len(shape)), _along(axis, origin, len(shape))
        if after:
            last = end - 2 - after
            origin = {
                "reflect": slice(end - 2, last if last >= 0 else None, -1),
                "replicate": slice(end - 1, end),
                "circular": slice(before, before + after),
            }[mode]
            yield axis, _along(axis, slice(end, size), len(shape)), _along(axis, origin, len(shape))


def _along(axis: int, part: slice, ndim: int) -> Slices:
    return tuple(part if a == axis else slice(None) for a in range(ndim))
