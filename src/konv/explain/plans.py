"""Which algorithm konv runs for a layer: asked of the kernels, in one place."""

from __future__ import annotations

from .. import kernels
from ..errors import KonvError
from ..geometry import ConvGeometry, Pair
from .spec import parse_dtype
from .trace import Plan


def plan_of(geometry: ConvGeometry, image: Pair, dtype: str) -> Plan | None:
    """The plan for images of this size, or None where the kernels have none (another dtype, no channels).

    A transposed convolution runs as the input gradient of the convolution that it undoes: a plan for each phase of the
    stride.
    """
    if not geometry.in_channels:
        return None
    try:
        kind = parse_dtype(dtype).numpy
        if not geometry.transposed:
            found = kernels.plan(geometry, *image, kind)
            return Plan(found.name, found.reason)
        phases = kernels.grad_input_plan(geometry.adjoint, *geometry.output_size(*image), kind).names
    except KonvError:
        return None
    names = ", ".join(dict.fromkeys(phases))
    how = f"{len(phases)} phases of the stride, each run" if len(phases) > 1 else "run"
    return Plan(names, f"the input gradient of the convolution that it undoes, {how} as a plain convolution")
