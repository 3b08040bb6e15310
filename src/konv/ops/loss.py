"""Losses: one number that says how far an output is from its target.

``reduction`` is 'mean', 'sum' or 'none' (one number an element) everywhere.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentError, ArgumentTypeError, DtypeError, IndexRangeError, ShapeError, text
from ..tensor import Tensor
from ._table import named
from .activation import log_softmax, logsigmoid

REDUCTIONS = ("mean", "sum", "none")


# --- classes ---


class Pick(Function):
    """x[n, index[n, ...], ...]: one class of each sample, zero where ``kept`` is False."""

    node_name = "NllLossBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: np.ndarray[Any, Any], kept: np.ndarray[Any, Any]) -> Tensor:
        ctx.case = (index, kept, x._array.shape)
        if x._meta:
            return Tensor._wrap_meta(index.shape, x._dtype)
        picked = np.take_along_axis(x._array, index[:, None], 1)[:, 0]
        return Tensor._wrap(np.where(kept, picked, picked.dtype.type(0)), x._dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        return Place.apply(g, *ctx.case), None, None


class Place(Function):
    """The transpose of Pick: each value at its class, zeros elsewhere."""

    fresh = True

    @staticmethod
    def forward(ctx: Any, g: Tensor, index: Any, kept: Any, shape: tuple[int, ...]) -> Tensor:
        ctx.case = (index, kept)
        if g._meta:
            return Tensor._wrap_meta(shape, g._dtype)
        out = np.zeros(shape, g._array.dtype)
        np.put_along_axis(out, index[:, None], np.where(kept, g._array, g._array.dtype.type(0))[:, None], 1)
        return Tensor._wrap(out, g._dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        return Pick.apply(g, *ctx.case), None, None, None


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability of the right class.

    Args:
        input: (N, C, ...) or (C,), log-probabilities.
        target: (N, ...) or (), class numbers, int64 or uint8.
        weight: (C,), how much each class counts; the mean is over these weights.
        ignore_index: a class number that counts for nothing.
        reduction: 'mean', 'sum' or 'none'.

    Raises:
        IndexRangeError: if a class number is not in [0, C).
        ArgumentError: if the batches differ, or for another reduction.
        ShapeError: if other sizes differ.
        DtypeError: if target has another dtype.
    """
    _check_reduction(reduction)
    _need_tensors("nll_loss", input, target)
    if input.ndim == 0 or (input.ndim > 1 and target.ndim == 0):
        raise ShapeError(text("nll_loss", f"input {tuple(input.shape)}", "it must be (C,), (N, C) or (N, C, ...)"))
    if input.ndim == 1:
        one = nll_loss(input.unsqueeze(0), target.unsqueeze(0), weight, ignore_index, reduction)
        return named(one.squeeze(0) if reduction == "none" else one, "NllLossBackward0")
    _check_target(input, target)
    classes = input.shape[1]
    if weight is not None and tuple(weight.shape) != (classes,):
        rule = f"it must have one number for each of {classes} classes"
        raise ShapeError(text("nll_loss", f"weight has the shape {tuple(weight.shape)}", rule))
    index, kept = _classes(target, classes, ignore_index)
    picked = Pick.apply(input, index, kept)
    node = "NllLossBackward0" if input.ndim == 2 else "NllLoss2DBackward0"
    if weight is None:
        loss, total = -picked, float(kept.sum())
        mean = loss.sum() * (1.0 / total if total else math.nan) if reduction == "mean" else None
    else:
        each = weight.detach()[Tensor._wrap(index)] * Tensor._wrap(kept.astype(weight._array.dtype))
        loss = -(picked * each)
        mean = loss.sum() / each.sum() if reduction == "mean" else None
    return named(_reduced(loss, reduction) if mean is None else mean, node)


def _check_target(input: Tensor, target: Tensor) -> None:
    if target._dtype not in (dtypes.int64, dtypes.uint8):
        fix = "convert with target.long()"
        raise DtypeError(
            text("nll_loss", f"expected target dtype to be Long or Byte, but got {target._dtype}", "", fix)
        )
    if input.shape[0] != target.shape[0]:
        got = f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({target.shape[0]})"
        raise ArgumentError(text("nll_loss", got, ""))
    expected = (input.shape[0], *input.shape[2:])
    if tuple(target.shape) != expected:
        raise ShapeError(text("nll_loss", f"Expected target size {list(expected)}, got {list(target.shape)}", ""))


def _classes(target: Tensor, classes: int, ignore_index: int) -> tuple[Any, Any]:
    """The class numbers with ignored ones as 0, and which are not ignored."""
    if target._meta:
        shape = target._array.shape
        return np.broadcast_to(np.int64(0), shape), np.broadcast_to(np.True_, shape)
    numbers = target._array.astype(np.int64, copy=False)
    kept = numbers != ignore_index
    wrong = kept & ((numbers < 0) | (numbers >= classes))
    if wrong.any():
        rule = f"there are {classes} classes, 0 to {classes - 1}"
        raise IndexRangeError(text("nll_loss", f"Target {numbers[wrong].flat[0]} is out of bounds", rule))
    return np.where(kept, numbers, 0), kept


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Minus the log-probability of the right class, from scores that need not be normalised.

    Args:
        input: (N, C, ...) or (C,), scores.
        target: (N, ...) or (), class numbers; or probabilities of the input's shape and a floating dtype.
        weight: (C,), how much each class counts.
        ignore_index: a class number that counts for nothing.
        reduction: 'mean', 'sum' or 'none'.
        label_smoothing: the share of the target that is spread over all classes.

    Raises:
        IndexRangeError: if a class number is not in [0, C).
        ArgumentError: if the batches differ, or for another reduction.
        ShapeError: if other sizes differ, or label_smoothing is not in [0, 1].

    Example:
        >>> import konv
        >>> konv.nn.functional.cross_entropy(konv.tensor([[2.0, 0.0]]), konv.tensor([0]))
        tensor(0.1269)
    """
    _check_reduction(reduction)
    _need_tensors("cross_entropy", input, target)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ShapeError(text("cross_entropy", f"label_smoothing={label_smoothing}", "it must be between 0.0 and 1.0"))
    if input.ndim == 0:
        raise ShapeError(text("cross_entropy", "input is a single number", "it must be (C,) or (N, C, ...)"))
    dim = 0 if input.ndim == 1 else 1
    logs = log_softmax(input, dim)
    if tuple(target.shape) == tuple(input.shape) and target._dtype.is_floating_point:
        return _soft_target(logs, target, weight, reduction, label_smoothing, dim)
    loss = nll_loss(logs, target, weight, ignore_index, reduction)
    if label_smoothing == 0.0:
        return loss
    spread = _spread(logs, target, weight, ignore_index, reduction, dim)
    return loss * (1 - label_smoothing) + spread * (label_smoothing / input.shape[dim])


def _soft_target(
    logs: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float, dim: int
) -> Tensor:
    classes = logs.shape[dim]
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    loss = logs * target if weight is None else logs * target * _along(weight, logs.ndim, dim)
    loss = -loss.sum(dim)
    return loss.sum() / max(loss.numel(), 1) if reduction == "mean" else _reduced(loss, reduction)


def _spread(logs: Tensor, target: Tensor, weight: Tensor | None, ignore: int, reduction: str, dim: int) -> Tensor:
    """The part of the loss that asks for every class alike."""
    loss = -(logs if weight is None else logs * _along(weight, logs.ndim, dim)).sum(dim)
    if target._meta:
        return _reduced(loss, reduction)
    kept = target != ignore
    loss = loss * kept.to(loss.dtype)
    if reduction != "mean":
        return _reduced(loss, reduction)
    if weight is None:
        return loss.sum() / kept.sum()
    return loss.sum() / (weight.detach()[target * kept] * kept.to(weight.dtype)).sum()


def _along(weight: Tensor, ndim: int, dim: int) -> Tensor:
    return weight.reshape([-1 if axis == dim else 1 for axis in range(ndim)])


# --- numbers ---


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """The squared difference, each times ``weight`` if given; shapes broadcast (with a warning)."""
    difference = _difference(input, target, reduction, "mse_loss")
    loss = difference * difference
    return named(_reduced(loss if weight is None else loss * weight, reduction), "MseLossBackward0")


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """The absolute difference, each times ``weight`` if given; shapes broadcast (with a warning)."""
    loss = _difference(input, target, reduction, "l1_loss").abs()
    return _reduced(loss if weight is None else loss * weight, reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Squared over 2 beta where the difference is below beta, else absolute less beta / 2."""
    if beta < 0:
        raise ShapeError(text("smooth_l1_loss", f"beta={beta}", "it must not be negative"))
    size = _difference(input, target, reduction, "smooth_l1_loss").abs()
    if beta == 0:
        return _reduced(size, reduction)
    inner = size.clamp(max=beta)
    return named(_reduced(inner * inner * (0.5 / beta) + (size - inner), reduction), "SmoothL1LossBackward0")


def _difference(input: Tensor, target: Tensor, reduction: str, who: str) -> Tensor:
    _check_reduction(reduction)
    _need_tensors(who, input, target)
    if tuple(input.shape) != tuple(target.shape):
        sizes = f"a target of size {tuple(target.shape)} and an input of size {tuple(input.shape)}"
        warnings.warn(f"{who}: {sizes} will be broadcast; make them the same", stacklevel=3)
    return input - target


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Minus the log-probability of yes (target 1) or no (0), from scores.

    Args:
        input: any shape, scores; yes has the probability sigmoid(score).
        target: the same shape, numbers in [0, 1].
        weight: broadcasts; how much each element counts.
        reduction: 'mean', 'sum' or 'none'.
        pos_weight: broadcasts; how much yes counts.

    Raises:
        ArgumentError: if the shapes differ.
    """
    _check_sizes(input, target, reduction, "binary_cross_entropy_with_logits")
    share = logsigmoid(input)
    if pos_weight is not None:
        share = share * ((pos_weight - 1) * target + 1)
    loss = (1 - target) * input - share
    loss = _reduced(loss if weight is None else loss * weight, reduction)
    return named(loss, "BinaryCrossEntropyWithLogitsBackward0")


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """Minus the log-probability of yes (target 1) or no (0), from probabilities; logarithms end at -100.

    Raises:
        ArgumentError: if the shapes differ.
        ShapeError: if an input is not in [0, 1].
    """
    _check_sizes(input, target, reduction, "binary_cross_entropy")
    if not input._meta and not bool(((input._array >= 0) & (input._array <= 1)).all()):
        raise ShapeError(text("binary_cross_entropy", "an input is not a probability", "all must be between 0 and 1"))
    loss = (target - 1) * (1 - input).log().clamp(min=-100) - target * input.log().clamp(min=-100)
    return named(_reduced(loss if weight is None else loss * weight, reduction), "BinaryCrossEntropyBackward0")


def _check_sizes(input: Tensor, target: Tensor, reduction: str, who: str) -> None:
    _check_reduction(reduction)
    _need_tensors(who, input, target)
    if tuple(input.shape) != tuple(target.shape):
        got = f"Target size ({tuple(target.shape)}) must be the same as input size ({tuple(input.shape)})"
        raise ArgumentError(text(who, got, ""))


# --- reductions ---


def _need_tensors(who: str, *values: Any) -> None:
    for value in values:
        if not isinstance(value, Tensor):
            raise ArgumentTypeError(text(who, f"got {type(value).__name__}", "input and target must be Tensors"))


def _check_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        rule = f"it is one of {', '.join(REDUCTIONS)}"
        raise ArgumentError(text("loss", f"{reduction} is not a valid value for reduction", rule))


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()
