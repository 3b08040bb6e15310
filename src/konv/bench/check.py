"""No time is printed for a wrong answer: what every peer computed is compared with plain float64 sums.

The sums come from ``konv.reference`` on a part that is cheap and meets every pixel: one image, a few output channels
of one group (forward, weight and bias gradient) or a few input channels (input gradient).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .. import dtypes, reference
from .peers import TRAINING, Problem

Array = np.ndarray[Any, Any]

# Largest error allowed, as a share of the largest value: room for any engine's fast algorithms, none for a wrong sum.
TOLERANCES = {"float32": 5e-4, "float64": 1e-11, "float16": 4e-3, "bfloat16": 2e-2}
CHANNELS = 4  # that are checked


class WrongResultError(AssertionError):
    """A peer computed something else than the convolution."""


def make_numbers(shape: tuple[int, ...], seed: int, dtype: str, scale: float = 1.0) -> Array:
    """Normal numbers, the same in every run: float32 that ``dtype`` holds exactly."""
    numbers = (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)
    return numbers.astype(getattr(dtypes, dtype).numpy).astype(np.float32)


def worst_error(problem: Problem, results: tuple[Array, ...]) -> float:
    """Largest difference between ``results`` and float64 sums, as a share of the largest sum.

    Args:
        problem: The layer and its numbers.
        results: (output,), or the gradients (d input, d weight, d bias), float64.

    Raises:
        WrongResultError: a shape is wrong, or a result is not finite.
    """
    errors = []
    for result, (expected, part) in zip(results, _expected(problem), strict=True):
        chosen = result[part]
        if chosen.shape != expected.shape:
            raise WrongResultError(f"a result of shape {result.shape} has no part of shape {expected.shape}")
        largest = float(np.abs(expected).max())
        errors.append(float(np.abs(chosen - expected).max()) / largest if largest else float(np.abs(chosen).max()))
    worst = max(errors)
    if not np.isfinite(worst):
        raise WrongResultError("a result is not finite")
    return worst


def _expected(problem: Problem) -> list[tuple[Array, Any]]:
    """For each result: the float64 sums of a part, and the index that picks this part out of the result."""
    g, (height, width) = problem.layer.geometry, (problem.layer.height, problem.layer.width)
    per_group, outs = g.in_channels // g.groups, g.out_channels // g.groups
    group = g.groups - 1
    ins = slice(group * per_group, (group + 1) * per_group)
    first = group * outs
    few = slice(first, first + min(CHANNELS, outs))
    narrow = dataclasses.replace(g, in_channels=per_group, out_channels=few.stop - first, groups=1)
    image = problem.layer.batch - 1
    x, weight, grad = (array.astype(np.float64) for array in (problem.x, problem.weight, problem.grad))
    if problem.mode != TRAINING:
        y = reference.conv2d(x[image : image + 1, ins], weight[few], problem.bias[few].astype(np.float64), narrow)
        return [(y, np.s_[image : image + 1, few])]
    few_ins = slice(ins.start, ins.start + min(CHANNELS, per_group))
    across = dataclasses.replace(g, in_channels=few_ins.stop - ins.start, out_channels=outs, groups=1)
    group_outs = slice(first, first + outs)
    d_x = reference.conv2d_grad_input(
        grad[image : image + 1, group_outs], weight[group_outs, : across.in_channels], across, (height, width)
    )
    d_weight = reference.conv2d_grad_weight(x[:, ins], grad[:, few], narrow)
    return [
        (d_x, np.s_[image : image + 1, few_ins]),
        (d_weight, np.s_[few]),
        (grad[:, few].sum((0, 2, 3)), np.s_[few]),
    ]
