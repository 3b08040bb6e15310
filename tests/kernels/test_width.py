"""Vectors half as long, where those of 64 bytes would stay half empty: chosen, told, asked for by name, and right."""

from __future__ import annotations

import numpy as np
import pytest

from konv import kernels, reference
from konv.errors import ArgumentError
from konv.geometry import ConvGeometry

SHORT = " of short vectors"
# Eight filters leave half of a long vector empty, in sums and in a transform.
NARROW = {
    "output_lane": (ConvGeometry.of(40, 40, 3, 2, 1, groups=5), 14, 9),
    "winograd": (ConvGeometry.of(64, 8, 5, padding=2), 20, 24),
}
FULL = {
    "depthwise": (ConvGeometry.of(6, 6, 7, padding=3, groups=6), 48, 48),
    "output_lane": (ConvGeometry.of(32, 64, 3, 2, 1), 8, 10),
    "winograd": (ConvGeometry.of(16, 32, 3, padding=1), 20, 23),
}


def has_long_vectors(isa: str) -> bool:
    """And shorter ones beside them: a build for the sanitizers may hold the best instruction set alone."""
    return isa.startswith("avx512") and "avx2" in kernels.available_isas()


@pytest.mark.parametrize("algorithm", NARROW)
def test_narrow_layers_get_short_vectors(isa: str, algorithm: str) -> None:
    geometry, h, w = NARROW[algorithm]
    plan = kernels.plan(geometry, h, w)
    assert plan.algorithm == algorithm
    assert plan.name.endswith(SHORT) == has_long_vectors(isa)
    assert plan.isa == ("avx2" if has_long_vectors(isa) else isa)


@pytest.mark.parametrize("algorithm", FULL)
def test_layers_that_fill_long_vectors_keep_them(isa: str, algorithm: str) -> None:
    geometry, h, w = FULL[algorithm]
    plan = kernels.plan(geometry, h, w)
    assert (plan.algorithm, plan.isa) == (algorithm, isa)
    assert SHORT not in plan.name


@pytest.mark.parametrize("plan", ["pixel_lane", "output_lane", "winograd", "depthwise", "channel_lane"])
def test_both_widths_by_name(isa: str, plan: str) -> None:
    groups = 10 if plan in ("depthwise", "channel_lane") else 1
    geometry = ConvGeometry.of(10, 10 if groups > 1 else 20, 3, padding=(1, 2), groups=groups)
    generator = np.random.default_rng(1)
    x = generator.standard_normal((2, 10, 13, 18), np.float32)
    weight = generator.standard_normal(geometry.weight_shape, np.float32)
    expected = reference.conv2d(x.astype(np.float64), weight.astype(np.float64), None, geometry)
    results = []
    for name in (plan, plan + SHORT):
        with kernels.force_plan(name):
            if name != plan and not has_long_vectors(isa):
                with pytest.raises(ArgumentError, match="cannot run this geometry, or there is no such plan"):
                    kernels.plan(geometry, 13, 18)
                continue
            assert kernels.plan(geometry, 13, 18).name.endswith(SHORT) == (name != plan)
            results.append(kernels.conv2d(x, weight, None, geometry))
        assert np.abs(results[-1] - expected).max() <= 2e-5 * np.abs(expected).max()
    np.testing.assert_array_equal(results[0], results[-1])  # in the same order, and fused alike
