"""Convolution on plain arrays: plans, packed weights, and the forward call."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..errors import ArgumentError, ArgumentRangeError, DtypeError, text
from ..geometry import ConvGeometry
from . import choices, entries, settings
from .arrays import REFUSALS, Array, call, no_memory, plain, raw


class Prepared(NamedTuple):
    """A weight and the plan for images of one size: what a call needs beside image and bias."""

    plan: _core.Plan
    weight: _core.Packed
    oc: int
    oh: int
    ow: int
    dtype: np.dtype[Any]  # in native byte order
    raw: bool  # bfloat16


def conv2d(x: Array, weight: Array, bias: Array | None, geometry: ConvGeometry) -> Array:
    """``y[n, o] = bias[o] + sum_i x[n, i] * weight[o, i]`` (cross-correlation), as ``geometry`` says.

    Args:
        x: (N, C_in, H, W), any strides.
        weight: (C_out, C_in/groups, kh, kw) of the same dtype.
        bias: (C_out,) of the same dtype, or None.
        geometry: The layer's options.

    Returns:
        (N, C_out, H_out, W_out), contiguous, of the same dtype.

    Raises:
        ShapeError: the image is too small for the kernel.
        DtypeError: there is no convolution of this dtype.
        ArgumentError: the arrays do not have the shapes or dtypes above.
    """
    _, _, h, w = x.shape
    return run(x, bias, prepare(weight, geometry, h, w))


def prepare(weight: Array, geometry: ConvGeometry, h: int, w: int) -> Prepared:
    """The plan for images of ``h`` x ``w``, and the weight in the order in which it reads it: for many calls.

    It stays valid until the weight or the settings change.

    Raises:
        The errors of ``conv2d``.
    """
    entry = entries.find(make_plan, geometry, h, w, weight.dtype)
    packed = call(_core.pack_weight, entry.plan, by_group(weight, geometry))
    return Prepared(entry.plan, packed, geometry.out_channels, *entry.output, entry.dtype, entry.raw)


def run(x: Array, bias: Array | None, prepared: Prepared) -> Array:
    """``conv2d`` with a weight that was prepared for images of this size."""
    plan, weight, oc, oh, ow, dtype, is_raw = prepared
    if is_raw:
        x, bias = raw(x), None if bias is None else raw(bias)
    shape = (len(x), oc, oh, ow)
    try:
        memory = _core.conv2d_forward(plan, x, weight, bias)  # what `call` does, without its 0.2 us
        if memory is None:
            memory = _core.conv2d_forward(plan, plain(x), weight, None if bias is None else plain(bias))
    except MemoryError as error:
        raise no_memory("conv2d", shape, dtype) from error
    except REFUSALS as error:
        raise ArgumentError(str(error)) from None
    return np.ndarray(shape, dtype, memory)  # type: ignore[arg-type]  # memory is a buffer


def by_group(weight: Array, geometry: ConvGeometry) -> Array:
    """The weight of a layer as the core reads it: (groups, out_channels/groups, in_channels/groups, kh, kw).

    Raises:
        ArgumentError: it does not have the layer's shape.
    """
    if weight.shape != geometry.weight_shape:
        got = f"got a weight of shape {list(weight.shape)}"
        raise ArgumentError(text("conv2d", got, f"the layer has one of {list(geometry.weight_shape)}"))
    out_channels, *others = weight.shape
    return raw(weight).reshape(geometry.groups, out_channels // geometry.groups, *others)


def plan(geometry: ConvGeometry, h: int, w: int, dtype: Any = "float32") -> _core.Plan:
    """What will run for images of ``h`` x ``w``: ``name``, ``algorithm``, ``reason``, ``tile``, ``isa``, memory.

    Example:
        >>> from konv import kernels
        >>> from konv.geometry import ConvGeometry
        >>> kernels.plan(ConvGeometry.of(3, 16, 1), 32, 32).algorithm
        'pixel_lane'
    """
    return entries.plan(make_plan, geometry, h, w, dtype)


def make_plan(geometry: ConvGeometry, h: int, w: int, name: str) -> _core.Plan:
    """The plan under the settings of the moment, for ``entries`` to keep."""
    isa, forced = settings.current_isa(), settings.forced_plan()
    found = named_plan(geometry, h, w, name, forced)
    chosen = "" if forced else choices.find(geometry, h, w, name, isa, settings.get_float32_precision())
    # A file of choices does not decide how exact results are.
    if chosen and chosen in problem(geometry, h, w, name).candidates():
        return named_plan(geometry, h, w, name, chosen)
    return found


def named_plan(geometry: ConvGeometry, h: int, w: int, name: str, forced: str) -> _core.Plan:
    """The plan called ``forced``, or what geometry alone chooses if that is empty.

    Raises:
        ArgumentRangeError: a size does not fit in 64 bits.
        ArgumentError: that plan cannot run this geometry.
    """
    try:
        return problem(geometry, h, w, name).plan(forced)
    except OverflowError:
        size = " x ".join(map(str, (geometry.out_channels, *geometry.output_size(h, w))))
        got = f"an image of {h} x {w} makes an output of {size}"
        fix = "use a smaller padding, stride or dilation"
        raise ArgumentRangeError(text("conv2d", got, "sizes must fit in 64 bits", fix)) from None
    except ValueError as error:
        raise ArgumentError(str(error)) from None


def problem(geometry: ConvGeometry, h: int, w: int, name: str) -> _core.Problem:
    """A convolution as the core counts it, in the precision of the moment.

    Raises:
        ShapeError: the image is too small for the kernel.
        DtypeError: there is no convolution of this dtype.
    """
    check_dtype(name)
    (top, _), (left, _) = geometry.pads(h, w)
    sizes = [
        *(geometry.in_channels, h, w),
        *(geometry.out_channels, *geometry.output_size(h, w)),
        *(*geometry.kernel_size, *geometry.stride, *geometry.dilation),
        *(top, left, geometry.groups),
    ]
    return _core.Problem(sizes, geometry.padding_mode, name, settings.get_float32_precision())


def check_dtype(name: str) -> None:
    """Raise DtypeError where there is no convolution of this dtype."""
    if name not in DTYPES:
        raise DtypeError(text("conv2d", f"got {name}", f"a convolution computes in {', '.join(DTYPES)}"))


DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64", "uint8"),
)
