"""Gradients of convolution on plain arrays, and the transposed convolution, which is one of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..errors import ArgumentError, DtypeError, text
from ..geometry import ConvGeometry, Pair
from . import settings
from .conv import DTYPES, PLANS_KEPT, Array, no_memory, plain

FLOATING = DTYPES[:6]
GRADIENT_PLANS = ("matrix", "depthwise", "winograd")


class _Entry(NamedTuple):
    """What one call needs, found by one look-up."""

    geometry: ConvGeometry  # kept, so that its id stays its own
    plan: _core.GradInputPlan
    tail: tuple[int, int, int]  # (channels, rows, columns) of the result
    dtype: np.dtype[Any]  # in native byte order
    raw: bool  # bfloat16: NumPy has no buffer of it, so it crosses the border as uint16


_recent: dict[tuple[Any, ...], _Entry] = {}
_plans: dict[tuple[Any, ...], _core.GradInputPlan] = {}
settings.on_change(_recent.clear)


def conv2d_grad_input(
    gy: Array,
    weight: Array,
    geometry: ConvGeometry,
    size: Pair,
    packed: _core.Packed | None = None,
    bias: Array | None = None,
) -> Array:
    """Gradient of the image of ``conv2d``: its adjoint, applied to ``gy``.

    Args:
        gy: (N, C_out, H_out, W_out), any strides.
        weight: (C_out, C_in/groups, kh, kw) of the same dtype.
        geometry: The layer's options.
        size: (H, W) of the image.
        packed: ``pack_grad_input`` of this weight; None packs for this call alone.
        bias: (C_in,) added to every cell, or None.

    Returns:
        (N, C_in, H, W), contiguous, of the same dtype.

    Raises:
        ArgumentError: the arrays do not have the shapes or dtypes above.

    Source: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, section 4.

    Example:
        >>> import numpy as np
        >>> from konv import kernels
        >>> from konv.geometry import ConvGeometry
        >>> geometry = ConvGeometry.of(1, 1, 2)
        >>> gy, weight = np.ones((1, 1, 1, 2)), np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> kernels.conv2d_grad_input(gy, weight, geometry, (2, 3))[0, 0].tolist()
        [[1.0, 3.0, 2.0], [3.0, 7.0, 4.0]]
    """
    entry = _entry(geometry, size[0], size[1], gy.dtype)
    return _run(entry, gy, _pack(entry, weight) if packed is None else packed, bias)


def conv_transpose2d(
    x: Array, weight: Array, bias: Array | None, geometry: ConvGeometry, packed: _core.Packed | None = None
) -> Array:
    """Transposed convolution: the adjoint of the convolution whose options ``geometry`` carries, plus a bias.

    Args:
        x: (N, C_in, H, W), any strides.
        weight: (C_in, C_out/groups, kh, kw) of the same dtype.
        bias: (C_out,) of the same dtype, or None.
        geometry: The layer's options, ``transposed``.
        packed: ``pack_grad_input`` of this weight for images of H x W; None packs for this call alone.

    Returns:
        (N, C_out, H_out, W_out), contiguous, of the same dtype.

    Raises:
        ShapeError: the output would be empty.
        ArgumentError: the arrays do not have the shapes or dtypes above.

    Example:
        >>> import numpy as np
        >>> from konv import kernels
        >>> from konv.geometry import ConvGeometry
        >>> geometry = ConvGeometry.of(1, 1, 2, stride=2, transposed=True)
        >>> x, weight = np.array([[[[1.0, 2.0]]]]), np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> kernels.conv_transpose2d(x, weight, None, geometry)[0, 0].tolist()
        [[1.0, 2.0, 2.0, 4.0], [3.0, 4.0, 6.0, 8.0]]
    """
    entry = _entry(geometry, x.shape[2], x.shape[3], x.dtype)
    return _run(entry, x, _pack(entry, weight) if packed is None else packed, bias)


def pack_grad_input(weight: Array, geometry: ConvGeometry, h: int, w: int) -> _core.Packed:
    """The weight as ``conv2d_grad_input`` reads it for images of ``h`` x ``w``, or ``conv_transpose2d`` if transposed.

    It stays valid until the weight or the settings change.
    """
    return _pack(_entry(geometry, h, w, weight.dtype), weight)


def grad_input_plan(geometry: ConvGeometry, h: int, w: int, dtype: Any = "float32") -> _core.GradInputPlan:
    """What fills the gradient of images of ``h`` x ``w``: ``names`` of the plans, one a phase of the stride.

    Example:
        >>> from konv import kernels
        >>> from konv.geometry import ConvGeometry
        >>> kernels.grad_input_plan(ConvGeometry.of(4, 4, 3, groups=4), 8, 8).names
        ['depthwise']
    """
    name = np.dtype(dtype).name
    isa, precision, forced = settings.current_isa(), settings.get_float32_precision(), settings.forced_plan()
    key = (geometry, h, w, name, isa, precision, forced)
    found = _plans.get(key)
    if found is None:
        if len(_plans) >= PLANS_KEPT:
            _plans.clear()
        found = _plans[key] = _make_plan(geometry, h, w, name, precision, forced)
    return found


def conv2d_grad_weight(x: Array, gy: Array, geometry: ConvGeometry, force: str = "") -> Array:
    """Gradient of the weight of ``conv2d``; complex: ``gy`` times the conjugate of ``x``.

    Args:
        x: (N, C_in, H, W), any strides.
        gy: (N, C_out, H_out, W_out) of the same dtype.
        geometry: The layer's options.
        force: A way to sum by name (``'matrix'``, ``'depthwise'``) instead of the chosen one.

    Returns:
        (C_out, C_in/groups, kh, kw), contiguous, of the same dtype.

    Raises:
        ArgumentError: the arrays do not have the shapes or dtypes above.
        DtypeError: the dtype has no gradient.

    Example:
        >>> import numpy as np
        >>> from konv import kernels
        >>> from konv.geometry import ConvGeometry
        >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
        >>> kernels.conv2d_grad_weight(x, np.ones((1, 1, 2, 2)), ConvGeometry.of(1, 1, 2))[0, 0].tolist()
        [[8.0, 12.0], [20.0, 24.0]]
    """
    name = _floating(x.dtype, "conv2d_grad_weight")
    raw = name == "bfloat16"
    ins = (_raw(x), _raw(gy)) if raw else (x, gy)
    sizes = _sizes(geometry, x.shape[2], x.shape[3])
    precision = settings.get_float32_precision()
    try:
        memory = _core.grad_weight(sizes, geometry.padding_mode, name, precision, *ins, force)
        if memory is None:
            ins = (plain(ins[0]), plain(ins[1]))
            memory = _core.grad_weight(sizes, geometry.padding_mode, name, precision, *ins, force)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(str(error)) from None
    return np.ndarray(geometry.weight_shape, x.dtype.newbyteorder("="), memory)  # type: ignore[arg-type]


def conv2d_grad_bias(gy: Array) -> Array:
    """Gradient of the bias: the sum of ``gy`` (N, C_out, H_out, W_out) over images and pixels, (C_out,).

    Sums are kept in double precision.

    Example:
        >>> import numpy as np
        >>> from konv import kernels
        >>> kernels.conv2d_grad_bias(np.ones((2, 1, 2, 3))).tolist()
        [12.0]
    """
    raw = _floating(gy.dtype, "conv2d_grad_bias") == "bfloat16"
    given = _raw(gy) if raw else gy
    try:
        memory = _core.grad_bias(given)
        if memory is None:
            memory = _core.grad_bias(plain(given))
    except ValueError as error:
        raise ArgumentError(str(error)) from None
    return np.ndarray((gy.shape[1],), gy.dtype.newbyteorder("="), memory)  # type: ignore[arg-type]


def _entry(geometry: ConvGeometry, h: int, w: int, dtype: np.dtype[Any]) -> _Entry:
    """Of a convolution ``h`` x ``w`` is the size of the result, of a transposed one that of its input."""
    found = _recent.get((id(geometry), h, w, dtype))
    if found is not None:
        return found
    if geometry.transposed:
        tail = (geometry.out_channels, *geometry.output_size(h, w, "conv_transpose2d"))
    else:
        tail = (geometry.in_channels, h, w)
    plan = grad_input_plan(geometry, h, w, dtype)
    entry = _Entry(geometry, plan, tail, dtype.newbyteorder("="), dtype.name == "bfloat16")
    if len(_recent) >= PLANS_KEPT:
        _recent.clear()
    _recent[id(geometry), h, w, dtype] = entry
    return entry


def _pack(entry: _Entry, weight: Array) -> _core.Packed:
    if entry.raw:
        weight = _raw(weight)
    try:
        packed = _core.pack_grad_input(entry.plan, weight)
        if packed is None:
            packed = _core.pack_grad_input(entry.plan, plain(weight))
    except ValueError as error:
        raise ArgumentError(str(error)) from None
    return packed  # type: ignore[return-value]  # a plain array is never refused


def _run(entry: _Entry, gy: Array, packed: _core.Packed, bias: Array | None) -> Array:
    if entry.raw:
        gy, bias = _raw(gy), None if bias is None else _raw(bias)
    try:
        memory = _core.run_grad_input(entry.plan, gy, packed, bias)
        if memory is None:
            bias = None if bias is None else plain(bias)
            memory = _core.run_grad_input(entry.plan, plain(gy), packed, bias)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(str(error)) from None
    except MemoryError as error:
        raise no_memory("conv_transpose2d", (gy.shape[0], *entry.tail), entry.dtype) from error
    return np.ndarray((gy.shape[0], *entry.tail), entry.dtype, memory)  # type: ignore[arg-type]


def _make_plan(geometry: ConvGeometry, h: int, w: int, name: str, precision: str, forced: str) -> _core.GradInputPlan:
    if name not in DTYPES:
        raise DtypeError(text("conv2d", f"got {name}", f"a convolution computes in {', '.join(DTYPES)}"))
    sizes = _sizes(geometry, h, w)
    conjugate = not geometry.transposed
    try:
        return _core.GradInputPlan(sizes, geometry.padding_mode, name, precision, conjugate, forced)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(str(error)) from None


def _sizes(geometry: ConvGeometry, h: int, w: int) -> list[int]:
    """The convolution as the core counts it; of a transposed layer the one that it is the adjoint of."""
    image, output = (geometry.in_channels, h, w), (geometry.out_channels, *geometry.output_size(h, w))
    if geometry.transposed:
        image, output = output, image
    (top, _), (left, _) = geometry.pads(h, w)
    options = (*geometry.kernel_size, *geometry.stride, *geometry.dilation, top, left, geometry.groups)
    return [*image, *output, *options]


def _floating(dtype: np.dtype[Any], who: str) -> str:
    if dtype.name not in FLOATING:
        raise DtypeError(text(who, f"got {dtype.name}", f"a gradient is of {', '.join(FLOATING)}"))
    return dtype.name


def _raw(array: Array) -> Array:
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array
