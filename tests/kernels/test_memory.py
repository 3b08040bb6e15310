"""The promise about memory: scratch stays under a quarter of input and output, or 8 MiB, on any number of threads."""

from __future__ import annotations

from typing import Any

import pytest

from konv import kernels
from konv.errors import ArgumentError
from konv.geometry import ConvGeometry

# n, h, w, then the layer
LAYERS: list[tuple[int, int, int, dict[str, Any]]] = [
    (1, 224, 224, {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1}),
    (1, 28, 28, {"in_channels": 2048, "out_channels": 2048, "kernel_size": 3, "padding": 1}),
    (1, 7, 7, {"in_channels": 16384, "out_channels": 512, "kernel_size": 1}),
    (1, 4, 4096, {"in_channels": 2048, "out_channels": 64, "kernel_size": 3, "padding": 1}),
    (1, 4096, 4096, {"in_channels": 3, "out_channels": 16, "kernel_size": 1}),
    (1, 128, 128, {"in_channels": 64, "out_channels": 64, "kernel_size": 31, "padding": 15}),
    (1, 1024, 1024, {"in_channels": 1, "out_channels": 1, "kernel_size": 1024}),
    (1, 64, 64, {"in_channels": 512, "out_channels": 10, "kernel_size": 64}),
    (1, 256, 256, {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 36, "dilation": 36}),
    (8, 224, 224, {"in_channels": 3, "out_channels": 768, "kernel_size": 16, "stride": 16}),
    (20, 50, 100, {"in_channels": 16, "out_channels": 33, "kernel_size": 5}),
    (1, 112, 112, {"in_channels": 96, "out_channels": 96, "kernel_size": 3, "stride": 2, "padding": 1, "groups": 96}),
]


@pytest.mark.parametrize("threads", [1, 2, 8, 64])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("forced", ["", "planes", "output_lane", "pointwise", "winograd", "depthwise"])
def test_scratch_keeps_its_promise(forced: str, dtype: str, threads: int) -> None:
    before = kernels.get_num_threads()
    kernels.set_num_threads(threads)
    try:
        for n, h, w, options in LAYERS:
            geometry = ConvGeometry.of(**options)
            oh, ow = geometry.output_size(h, w)
            cells = n * (geometry.in_channels * h * w + geometry.out_channels * oh * ow)
            limit = max(8 << 20, cells * (4 if dtype == "float32" else 2) // 4)
            try:
                plan = _plan(geometry, h, w, dtype, forced)
            except ArgumentError:
                continue  # not for this geometry
            assert plan.scratch(n)[3] <= limit, (plan.name, options)
    finally:
        kernels.set_num_threads(before)


def _plan(geometry: ConvGeometry, h: int, w: int, dtype: str, forced: str) -> Any:
    if not forced:
        return kernels.plan(geometry, h, w, dtype)
    with kernels.force_plan(forced):
        return kernels.plan(geometry, h, w, dtype)
