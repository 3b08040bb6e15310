"""Padding: a tensor inside a larger one, the edge filled by a constant or from the tensor itself.

Each mode is linear, so its gradient is its transpose, and the gradient of that is the mode again: derivatives of any
order need two Functions. What the modes copy, and the transpose of that, is the business of ``borders``.

Negative amounts crop: before the edges are filled for circular, after for the others (as in PyTorch).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import borders
from ..autograd import Function
from ..errors import ArgumentTypeError, ShapeError, UnsupportedError, text
from ..tensor import Tensor
from ._table import refuse_overflow

MODES = ("constant", "reflect", "replicate", "circular")
NAMES = {"reflect": "ReflectionPad", "replicate": "ReplicationPad", "circular": "CircularPad"}
Pads = tuple[tuple[int, int], ...]


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Pad the last dimensions of a tensor.

    Args:
        input: (..., H, W), any dtype.
        pad: cells before and after, last dimension first: (left, right, top, bottom, ...); negative ones crop.
        mode: 'constant' for any dimensions; 'reflect', 'replicate' or 'circular' for the last one, two or three of an
            input with one or two more.
        value: what 'constant' fills in, 0 if None.

    Returns:
        The padded tensor, a new one.

    Raises:
        ArgumentTypeError: if pad is not a sequence of ints.
        ShapeError: if its length does not fit the input, or an amount is too large for the mode or the size.
        UnsupportedError: for an unknown mode, or dimensions that the mode does not pad.

    Example:
        >>> import konv
        >>> konv.nn.functional.pad(konv.tensor([[1, 2, 3]]), (2, 1), "reflect")
        tensor([[3, 2, 1, 2, 3, 2]])
    """
    pads = _pairs(input, pad, mode)
    if mode == "constant":
        value = 0.0 if value is None else float(value)
        refuse_overflow(value, input._dtype, "pad")
        return ConstantPad.apply(input, pads, value)
    if value:
        raise ShapeError(text("pad", f"value={value} with mode={mode!r}", "only mode 'constant' takes a value"))
    _check_edges(input, pads, len(pad) // 2, mode)
    return EdgePad.apply(input, pads, mode)


def _pairs(input: Tensor, pad: Any, mode: str) -> Pads:
    """(before, after) of every dimension, first dimension first."""
    if not isinstance(input, Tensor):
        raise ArgumentTypeError(text("pad", f"input is a {type(input).__name__}", "it must be a Tensor"))
    if isinstance(pad, (str, bytes)) or not isinstance(pad, Sequence) or not all(_is_int(p) for p in pad):
        rule = "it must be a tuple of ints such as (left, right, top, bottom)"
        raise ArgumentTypeError(text("pad", f"pad={pad!r}", rule))
    if mode not in MODES:
        raise UnsupportedError(text("pad", f"mode={mode!r}", f"it is one of {', '.join(map(repr, MODES))}"))
    if len(pad) % 2:
        raise ShapeError(text("pad", f"pad has {len(pad)} numbers", "two a dimension make an even number"))
    if len(pad) > 2 * input.ndim:
        rule = f"the input has {input.ndim} dimensions, so at most {2 * input.ndim}"
        raise ShapeError(text("pad", f"pad has {len(pad)} numbers", rule))
    pairs = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)][::-1]
    pads = ((0, 0),) * (input.ndim - len(pairs)) + tuple(pairs)
    for axis, (size, (before, after)) in enumerate(zip(input._array.shape, pads, strict=True)):
        if size + before + after < 0 or (size and -min(before, after) > size):
            rule = "no cell would be left"
            raise ShapeError(text("pad", f"dimension {axis} of size {size} with ({before}, {after})", rule))
    return pads


def _is_int(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, Tensor)


def _check_edges(input: Tensor, pads: Pads, count: int, mode: str) -> None:
    shape = input._array.shape
    if count not in (1, 2, 3) or len(shape) not in (count + 1, count + 2):
        rule = f"mode {mode!r} pads the last n dimensions of an input with n+1 or n+2, n = 1, 2 or 3"
        raise UnsupportedError(text("pad", f"{2 * count} numbers for {len(shape)} dimensions", rule))
    batched = len(shape) == count + 2
    if any(size == 0 for size in shape[1 if batched else 0 :]):
        rule = "only the batch may be empty"
        raise ShapeError(text("pad", f"input of shape {tuple(shape)}", rule))
    for axis, (size, (before, after)) in enumerate(zip(shape, pads, strict=True)):
        where = f"({before}, {after}) at dimension {axis} of size {size}"
        if mode == "reflect" and max(before, after) >= size and max(before, after) > 0:
            raise ShapeError(text("pad", where, "reflect needs a padding less than the size", "use 'replicate'"))
        held = size + min(before, 0) + min(after, 0)
        if mode == "circular" and max(before, after) > held:
            raise ShapeError(text("pad", where, "circular can wrap around only once"))
        if size + before + after < 1 and (before or after):
            raise ShapeError(text("pad", where, "the input is too small, no cell would be left"))


def _negated(pads: Pads) -> Pads:
    return tuple((-before, -after) for before, after in pads)


def _split(pads: Pads) -> tuple[Pads, Pads]:
    """The growing and the cropping part, both as non-negative amounts."""
    grow = tuple((max(before, 0), max(after, 0)) for before, after in pads)
    crop = tuple((max(-before, 0), max(-after, 0)) for before, after in pads)
    return grow, crop


def _total(shape: Sequence[int], pads: Pads) -> tuple[int, ...]:
    return tuple(size + before + after for size, (before, after) in zip(shape, pads, strict=True))


class ConstantPad(Function):
    """A constant around the tensor; the transpose crops, which is the same operation with the signs turned."""

    node_name = "ConstantPadNdBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, pads: Pads, value: Any) -> Tensor:
        ctx.pads = pads
        shape = _total(x._array.shape, pads)
        if x._meta:
            return Tensor._wrap_meta(shape, x._dtype)
        grow, crop = _split(pads)
        kept = x._array[borders.inside(x._array.shape, crop)]
        out = np.empty(shape, kept.dtype)
        out[...] = value
        out[borders.inside(shape, grow)] = kept
        return Tensor._wrap(out, x._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return ConstantPad.apply(grad, _negated(ctx.pads), 0), None, None


class EdgePad(Function):
    """Edges filled from the tensor."""

    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, pads: Pads, mode: str) -> Tensor:
        ctx.case = (pads, mode, x._array.shape)
        ctx.node_name = f"{NAMES[mode]}{sum(p != (0, 0) for p in pads)}DBackward0"
        if x._meta:
            return Tensor._wrap_meta(_total(x._array.shape, pads), x._dtype)
        grow, crop = _split(pads)
        source = x._array[borders.inside(x._array.shape, crop)] if mode == "circular" else x._array
        out = np.empty(_total(source.shape, grow), source.dtype)
        out[borders.inside(out.shape, grow)] = source
        borders.fill(out, grow, mode)
        if mode != "circular" and any(before or after for before, after in crop):
            out = out[borders.inside(out.shape, crop)].copy()
        return Tensor._wrap(out, x._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return EdgeUnpad.apply(grad, *ctx.case), None, None


class EdgeUnpad(Function):
    """The transpose of EdgePad: every edge is added to the cells that it was filled from."""

    fresh = True

    @staticmethod
    def forward(ctx: Any, grad: Tensor, pads: Pads, mode: str, shape: tuple[int, ...]) -> Tensor:
        ctx.case = (pads, mode)
        if grad._meta:
            return Tensor._wrap_meta(shape, grad._dtype)
        grow, crop = _split(pads)
        kept = borders.inside(shape, crop) if mode == "circular" else tuple(slice(0, size) for size in shape)
        source = tuple(part.stop - part.start for part in kept)
        kind = np.dtype(np.float32) if grad._dtype.is_half else grad._array.dtype
        work = np.zeros(_total(source, grow), kind)
        work[borders.inside(work.shape, crop) if mode != "circular" else ...] = grad._array
        out = np.zeros(shape, grad._array.dtype)
        out[kept] = borders.fold(work, grow, mode)
        return Tensor._wrap(out, grad._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return EdgePad.apply(grad, *ctx.case), None, None, None
