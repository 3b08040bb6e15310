"""Convolution on plain arrays: plans, packed weights, and the forward call."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..errors import ArgumentError, ArgumentRangeError, DtypeError, MemoryShortError, text
from ..geometry import ConvGeometry
from . import choices, settings

Array = NDArray[Any]
PLANS_KEPT = 1024


class _Entry(NamedTuple):
    """What one call needs, found by one look-up."""

    geometry: ConvGeometry  # kept, so that its id stays its own
    plan: _core.Plan
    tail: tuple[int, int, int]  # (out_channels, oh, ow)
    dtype: np.dtype[Any]  # in native byte order
    raw: bool  # bfloat16: NumPy has no buffer of it, so it crosses the border as uint16


_recent: dict[tuple[int, int, int, np.dtype[Any]], _Entry] = {}
_plans: dict[tuple[Any, ...], _core.Plan] = {}
settings.on_change(_recent.clear)


def conv2d(
    x: Array, weight: Array, bias: Array | None, geometry: ConvGeometry, packed: _core.Packed | None = None
) -> Array:
    """``y[n, o] = bias[o] + sum_i x[n, i] * weight[o, i]`` (cross-correlation), as ``geometry`` says.

    Args:
        x: (N, C_in, H, W), any strides.
        weight: (C_out, C_in/groups, kh, kw) of the same dtype.
        bias: (C_out,) of the same dtype, or None.
        geometry: The layer's options.
        packed: ``pack_weight`` of this weight for this geometry and image size; None packs for this call alone.

    Returns:
        (N, C_out, H_out, W_out), contiguous, of the same dtype.

    Raises:
        ShapeError: the image is too small for the kernel.
        DtypeError: there is no convolution of this dtype.
        ArgumentError: the arrays do not have the shapes or dtypes above.
    """
    n, _, h, w = x.shape
    entry = _recent.get((id(geometry), h, w, x.dtype)) or _remember(geometry, h, w, x.dtype)
    if packed is None:
        packed = pack_weight(weight, geometry, h, w)
    if entry.raw:
        x, bias = _as_raw(x), None if bias is None else _as_raw(bias)
    try:
        memory = _core.conv2d_forward(entry.plan, x, packed, bias)
        if memory is None:
            bias = None if bias is None else plain(bias)
            memory = _core.conv2d_forward(entry.plan, plain(x), packed, bias)
    except ValueError as error:
        raise ArgumentError(str(error)) from None
    except MemoryError as error:
        raise no_memory("conv2d", (n, *entry.tail), entry.dtype) from error
    return np.ndarray((n, *entry.tail), entry.dtype, memory)  # type: ignore[arg-type]  # memory is a buffer


def no_memory(who: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> MemoryShortError:
    """The error of a result that does not fit in memory."""
    got = f"the output of shape {list(shape)} takes {math.prod(shape) * dtype.itemsize:,} bytes"
    return MemoryShortError(text(who, got, "there is not enough memory", "use smaller images or less padding"))


def pack_weight(weight: Array, geometry: ConvGeometry, h: int, w: int) -> _core.Packed:
    """The weight in the order in which the plan for images of ``h`` x ``w`` reads it.

    It stays valid until the weight or the settings change.
    """
    entry = _recent.get((id(geometry), h, w, weight.dtype)) or _remember(geometry, h, w, weight.dtype)
    if entry.raw:
        weight = _as_raw(weight)
    try:
        packed = _core.pack_weight(entry.plan, weight)
        if packed is None:
            packed = _core.pack_weight(entry.plan, plain(weight))
        return packed  # type: ignore[return-value]  # a plain array is never refused
    except ValueError as error:
        raise ArgumentError(str(error)) from None


def plan(geometry: ConvGeometry, h: int, w: int, dtype: Any = "float32") -> _core.Plan:
    """What will run for images of ``h`` x ``w``: ``name``, ``algorithm``, ``reason``, ``tile``, ``isa``, memory.

    Example:
        >>> from konv import kernels
        >>> from konv.geometry import ConvGeometry
        >>> kernels.plan(ConvGeometry.of(3, 16, 1), 32, 32).algorithm
        'pointwise'
    """
    name = np.dtype(dtype).name
    isa, precision = settings.current_isa(), settings.get_float32_precision()
    forced = settings.forced_plan() or choices.find(geometry, h, w, name, isa, precision)
    key = (geometry, h, w, name, isa, precision, forced)
    found = _plans.get(key)
    if found is None:
        if len(_plans) >= PLANS_KEPT:
            _plans.clear()
        found = _plans[key] = _make_plan(geometry, h, w, name, precision, forced)
    return found


def _make_plan(geometry: ConvGeometry, h: int, w: int, name: str, precision: str, forced: str) -> _core.Plan:
    arguments = core_arguments(geometry, h, w, name, precision)
    try:
        if forced and forced != settings.forced_plan() and forced not in _core.plan_candidates(*arguments):
            forced = ""  # a file of choices does not decide how exact results are
        return _core.Plan(*arguments, forced)
    except OverflowError:
        size = " x ".join(map(str, (geometry.out_channels, *geometry.output_size(h, w))))
        got = f"an image of {h} x {w} makes an output of {size}"
        raise ArgumentRangeError(text("conv2d", got, "sizes must fit in 64 bits", "use less padding")) from None
    except ValueError as error:
        raise ArgumentError(str(error)) from None


def core_arguments(
    geometry: ConvGeometry, h: int, w: int, name: str, precision: str
) -> tuple[list[int], str, str, str]:
    """A convolution as the core counts it: sizes, padding mode, dtype, precision.

    Raises:
        ShapeError: the image is too small for the kernel.
        DtypeError: there is no convolution of this dtype.
    """
    if name not in DTYPES:
        raise DtypeError(text("conv2d", f"got {name}", f"a convolution computes in {', '.join(DTYPES)}"))
    (top, _), (left, _) = geometry.pads(h, w)
    sizes = [
        *(geometry.in_channels, h, w),
        *(geometry.out_channels, *geometry.output_size(h, w)),
        *(*geometry.kernel_size, *geometry.stride, *geometry.dilation),
        *(top, left, geometry.groups),
    ]
    return sizes, geometry.padding_mode, name, precision


DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64", "uint8"),
)


def _remember(geometry: ConvGeometry, h: int, w: int, dtype: np.dtype[Any]) -> _Entry:
    found = plan(geometry, h, w, dtype)
    tail = (geometry.out_channels, *geometry.output_size(h, w))
    entry = _Entry(geometry, found, tail, dtype.newbyteorder("="), dtype.name == "bfloat16")
    if len(_recent) >= PLANS_KEPT:
        _recent.clear()
    _recent[id(geometry), h, w, dtype] = entry
    return entry


def _as_raw(array: Array) -> Array:
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


def plain(array: Array) -> Array:
    """A copy that kernels can read: native byte order, every element on its alignment."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A contiguous array of zeros."""
    return np.zeros(shape, dtype)
