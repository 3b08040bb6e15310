"""Plans that were made, found again: at once by the identity of a geometry, else by its value.

A plan holds for the settings under which it was made. Their version is read before it is made and is part of the key:
a plan that was made while they changed is never found again. Every change empties both tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..geometry import ConvGeometry, Pair
from . import settings

PLANS_KEPT = 1024
Make = Callable[[ConvGeometry, int, int, str], Any]  # (geometry, h, w, name of the dtype) -> plan


class Entry(NamedTuple):
    """What one call needs, found by one look-up."""

    geometry: ConvGeometry  # kept, so that its id stays its own
    plan: Any
    output: Pair  # rows and columns of the convolution's output
    dtype: np.dtype[Any]  # in native byte order
    raw: bool  # bfloat16: NumPy has no buffer of it, so it crosses the border as uint16


_entries: dict[tuple[Any, ...], Entry] = {}
_plans: dict[tuple[Any, ...], Any] = {}
settings.on_change(_entries.clear)
settings.on_change(_plans.clear)


def find(make: Make, geometry: ConvGeometry, h: int, w: int, dtype: np.dtype[Any]) -> Entry:
    """The plan that ``make`` makes for images of ``h`` x ``w``, and what goes with it."""
    key = (make, id(geometry), h, w, dtype, settings.settings_version())
    found = _entries.get(key)
    if found is None:
        planned = plan(make, geometry, h, w, dtype)
        output = geometry.output_size(h, w)
        found = Entry(geometry, planned, output, dtype.newbyteorder("="), dtype.name == "bfloat16")
        _keep(_entries, key, found)
    return found


def plan(make: Make, geometry: ConvGeometry, h: int, w: int, dtype: Any) -> Any:
    """The plan alone."""
    name = np.dtype(dtype).name
    key = (make, geometry, h, w, name, settings.settings_version())
    found = _plans.get(key)
    if found is None:
        found = make(geometry, h, w, name)
        _keep(_plans, key, found)
    return found


def _keep(table: dict[Any, Any], key: Any, value: Any) -> None:
    if len(table) >= PLANS_KEPT:
        table.clear()
    table[key] = value
