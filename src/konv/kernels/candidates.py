"""The few plans that are worth timing for one convolution, each ready to be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from ..geometry import ConvGeometry
from . import settings
from .conv import Array, _as_raw, _make_plan, core_arguments, plain


def candidates(geometry: ConvGeometry, h: int, w: int, dtype: Any = "float32") -> list[str]:
    """Names for ``force_plan``, within the precision that is set; what geometry alone would choose comes first.

    Example:
        >>> from konv import kernels
        >>> from konv.geometry import ConvGeometry
        >>> kernels.candidates(ConvGeometry.of(64, 64, 1), 14, 14)
        ['pointwise', 'output_lane']
    """
    name = np.dtype(dtype).name
    return _core.plan_candidates(*core_arguments(geometry, h, w, name, settings.get_float32_precision()))


def contender(x: Array, weight: Array, geometry: ConvGeometry, name: str) -> Callable[[], object]:
    """A call of the plan ``name`` on these arrays: no look-up, no packing, the result thrown away."""
    h, w = x.shape[2:]
    plan = _make_plan(geometry, h, w, x.dtype.name, settings.get_float32_precision(), name)
    x, weight = (_as_raw(plain(array)) for array in (x, weight))
    packed = _core.pack_weight(plan, weight)
    assert packed is not None  # a plain array needs no other copy
    return lambda: _core.conv2d_forward(plan, x, packed, None)
