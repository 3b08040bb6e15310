"""Which algorithm konv runs for a layer: asked of the kernels, in one place."""

from __future__ import annotations

from .. import kernels
from ..errors import KonvError
from ..geometry import ConvGeometry, Pair
from .spec import parse_dtype
from .trace import Plan


def plan_of(geometry: ConvGeometry, image: Pair, dtype: str) -> Plan | None:
    """The plan for images of this size, or None where the kernels have none (another dtype, no channels).

    A transposed convolution runs as the input gradient of the convolution that it undoes.
    """
    if geometry.transposed or not geometry.in_channels:
        return None
    try:
        found = kernels.plan(geometry, *image, parse_dtype(dtype).numpy)
    except KonvError:
        return None
    return Plan(found.name, found.reason)
