"""The few plans that are worth timing for one convolution, each ready to be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from ..geometry import ConvGeometry
from .arrays import Array, plain, raw
from .conv import by_group, named_plan, problem


def candidates(geometry: ConvGeometry, h: int, w: int, dtype: Any = "float32") -> list[str]:
    """Names for ``force_plan``, within the precision that is set; what geometry alone would choose comes first.

    Example:
        >>> from konv import kernels
        >>> from konv.geometry import ConvGeometry
        >>> sorted(kernels.candidates(ConvGeometry.of(64, 64, 1), 14, 14))
        ['output_lane', 'pixel_lane']
    """
    return problem(geometry, h, w, np.dtype(dtype).name).candidates()


def contender(x: Array, weight: Array, geometry: ConvGeometry, name: str) -> Callable[[], object]:
    """A call of the plan ``name`` on these arrays: no look-up, no packing, the result thrown away."""
    h, w = x.shape[2:]
    plan = named_plan(geometry, h, w, x.dtype.name, name)
    packed = _core.pack_weight(plan, by_group(plain(weight), geometry))
    assert packed is not None  # a plain array needs no other copy
    x = raw(plain(x))
    return lambda: _core.conv2d_forward(plan, x, packed, None)
