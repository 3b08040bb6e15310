"""No time is printed for a wrong answer: what every peer computed is compared with float64 sums, and with konv's.

The float64 sums come from ``konv.reference`` on a part that is cheap and meets every pixel: one image, the first and
last channels of one group. Then all of a result is compared with all of konv's; where the two differ, the sums of just
that image and channel say who is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import dtypes, reference
from .peers import TRAINING, Problem

Array = np.ndarray[Any, Any]
Arrays = tuple[Array, ...]

# Largest error allowed, as a share of the largest value: room for any engine's fast algorithms, none for a wrong sum.
TOLERANCES = {"float32": 5e-4, "float64": 1e-11, "float16": 4e-3, "bfloat16": 2e-2}


class WrongResultError(AssertionError):
    """A peer computed something else than the convolution."""


class OwnResultError(WrongResultError):
    """A peer was right where konv was wrong."""


def make_numbers(shape: tuple[int, ...], seed: int, dtype: str, scale: float = 1.0) -> Array:
    """Normal numbers, the same in every run: float32 that ``dtype`` holds exactly."""
    numbers = (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)
    return numbers.astype(getattr(dtypes, dtype).numpy).astype(np.float32)


@dataclass(frozen=True)
class Part:
    """What is summed again: for the output and the input gradient one image, for the weight all of them."""

    image: int
    outs: tuple[int, ...]  # output channels of one group
    ins: tuple[int, ...]  # input channels of one group

    @staticmethod
    def edges(problem: Problem) -> Part:
        """The last image; the first two and the last two channels of the last group: where kernels have tails."""
        g = problem.layer.geometry

        def ends(channels: int) -> tuple[int, ...]:
            first, last = channels - channels // g.groups, channels - 1
            return tuple(sorted({first, min(first + 1, last), max(first, last - 1), last}))

        return Part(problem.layer.batch - 1, ends(g.out_channels), ends(g.in_channels))


def worst_error(problem: Problem, results: Arrays, part: Part | None = None) -> float:
    """Largest difference between ``results`` and float64 sums, as a share of the largest sum.

    Args:
        problem: The layer and its numbers.
        results: (output,), or the gradients (d input, d weight, d bias), float64.
        part: What is compared; ``Part.edges`` when None.

    Raises:
        WrongResultError: a shape is wrong, or a result is not finite.
    """
    worst = 0.0
    for result, (expected, chosen, shape) in zip(results, _expected(problem, part or Part.edges(problem)), strict=True):
        if result.shape != shape:
            raise WrongResultError(f"a result has the shape {result.shape}, not {shape}")
        if not np.isfinite(result).all():
            raise WrongResultError("a result is not finite")
        worst = max(worst, _share(result[chosen], expected))
    return worst


def where_they_differ(problem: Problem, results: Arrays, others: Arrays) -> Part | None:
    """The image and channels of the largest difference between two peers, None when it is within the tolerance."""
    part = Part.edges(problem)
    found = None
    for index, (a, b) in enumerate(zip(results, others, strict=True)):
        if _share(a, b) <= TOLERANCES[problem.dtype]:
            continue
        place = [int(i) for i in np.unravel_index(np.abs(a - b).argmax(), a.shape)]
        if problem.mode == TRAINING and index > 0:
            found = replace(found or part, outs=(place[0],))
        elif problem.mode == TRAINING:
            found = replace(found or part, image=place[0], ins=(place[1],))
        else:
            found = replace(part, image=place[0], outs=(place[1],))
    return found


def _share(values: Array, expected: Array) -> float:
    largest = float(np.abs(expected).max())
    return float(np.abs(values - expected).max()) / (largest or 1.0)


def _expected(problem: Problem, part: Part) -> list[tuple[Array, Any, tuple[int, ...]]]:
    """For each result: the float64 sums of a part, the index that picks this part, and the shape of the whole."""
    layer, g = problem.layer, problem.layer.geometry
    group_ins, group_outs = g.in_channels // g.groups, g.out_channels // g.groups
    image, outs, ins = slice(part.image, part.image + 1), list(part.outs), list(part.ins)
    x, weight, bias, grad = (
        array.astype(np.float64) for array in (problem.x, problem.weight, problem.bias, problem.grad)
    )
    seen = slice(outs[0] // group_outs * group_ins, (outs[0] // group_outs + 1) * group_ins)  # by these outputs
    narrow = replace(g, in_channels=group_ins, out_channels=len(outs), groups=1)
    if problem.mode != TRAINING:
        y = reference.conv2d(x[image, seen], weight[outs], bias[outs], narrow)
        return [(y, np.s_[image, outs], layer.output_shape)]
    group = ins[0] // group_ins
    fed = slice(group * group_outs, (group + 1) * group_outs)  # by these inputs
    across = replace(g, in_channels=len(ins), out_channels=group_outs, groups=1)
    filters = weight[fed][:, [i - group * group_ins for i in ins]]
    d_x = reference.conv2d_grad_input(grad[image, fed], filters, across, (layer.height, layer.width))
    d_weight = reference.conv2d_grad_weight(x[:, seen], grad[:, outs], narrow)
    d_bias = reference.conv2d_grad_bias(grad[:, outs])
    return [
        (d_x, np.s_[image, ins], layer.input_shape),
        (d_weight, np.s_[outs], g.weight_shape),
        (d_bias, np.s_[outs], g.bias_shape),
    ]
