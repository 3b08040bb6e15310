"""One layer timed here, against what this machine's measured peaks would allow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import dtypes, kernels
from ..autograd import no_grad
from ..errors import ArgumentError, text
from ..machine import bound, burst
from ..nn.module import Module
from ..tensor import Tensor
from .trace import LayerReport, Measured, Shape

MAX_BYTES = 4 * 2**30
SECONDS = 0.25
ROUNDS = 5


def measured(report: LayerReport, model: Module, shape: Shape, dtype: dtypes.dtype) -> LayerReport:
    """``report`` with the time of a forward call.

    Raises:
        ArgumentError: weights, input and output need more memory than a measurement may take, or no data at all.
    """
    cost = report.cost
    moved = cost.weight_bytes + cost.input_bytes + cost.output_bytes
    if moved > MAX_BYTES or not cost.output_bytes:
        rule = f"a layer is timed that takes more than nothing and at most {MAX_BYTES // 2**30} GiB"
        raise ArgumentError(text("explain", f"the layer takes {moved} bytes", rule))
    layer = with_data(model)
    x = Tensor._wrap(_noise(shape, dtype))
    with no_grad():
        seconds = float(np.median([burst(lambda: layer(x), SECONDS / ROUNDS) for _ in range(ROUNDS)]))
    least = bound(cost.flops, moved, dtype.name)
    found = Measured(
        seconds=seconds,
        runs=ROUNDS,
        threads=kernels.get_num_threads(),
        flops_rate=cost.flops / seconds,
        bytes_rate=moved / seconds,
        peak_flops=least.peak.flops,
        peak_bytes=least.peak.bytes,
        bound=least.limit,
        share=least.seconds / seconds,
    )
    return replace(report, measured=found)


def with_data(model: Module) -> Module:
    """The layer itself, or a copy with random weights if it is on the meta device."""
    import copy

    known = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_meta:
            data = Tensor._wrap(_noise(tuple(tensor.shape), tensor.dtype))
            known[id(tensor)] = Tensor._make_subclass(type(tensor), data)
    keep = list(known.values())
    return copy.deepcopy(model, dict(known)) if keep else model


def _noise(shape: Shape, dtype: dtypes.dtype) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    return values.astype(dtype.numpy)
