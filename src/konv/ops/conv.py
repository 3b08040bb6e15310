"""Convolution as differentiable operations: three Functions, each the derivative of the others.

With ``conv(x, w)`` the forward, ``ig(g, w)`` its input gradient and ``wg(x, g)`` its weight gradient, every derivative
of every one is again one of the three, so derivatives of any order need nothing more. A transposed convolution is
``ig`` run forward. Complex gradients follow PyTorch's convention: the adjoint, that is, with conjugated factors.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .. import dtypes, kernels
from ..autograd import Function, listeners
from ..errors import ArgumentError, DeviceError, DtypeError, ShapeError, UnsupportedError, text
from ..geometry import ConvGeometry, Pair
from ..modes import _mode
from ..tensor import Tensor
from ._operands import as_tensor_operand
from .pad import pad

PACKED_KEPT = 4  # packed forms of one weight that are kept: image sizes and directions that take turns


class Convolution(Function):
    """(N, C_in, H, W), (C_out, C_in/groups, kh, kw), (C_out,) -> (N, C_out, H_out, W_out)."""

    node_name = "ConvolutionBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return _convolved(x, weight, bias, geometry)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        geometry = ctx.geometry
        need_x, need_weight, need_bias, _ = ctx.needs_input_grad
        return (
            ConvolutionInputGradient.apply(grad, weight, None, geometry, x.shape[2:]) if need_x else None,
            ConvolutionWeightGradient.apply(x, grad, geometry) if need_weight else None,
            ConvolutionBiasGradient.apply(grad, geometry.out_channels) if need_bias else None,
            None,
        )


class ConvolutionInputGradient(Function):
    """(N, C_out, H_out, W_out), weight -> (N, C_in, H, W): the adjoint of the convolution in its input.

    With ``bias`` (C_in,) it is the forward of a transposed convolution.
    """

    node_name = "ConvolutionBackward0"
    fresh = True

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry, size: Pair
    ) -> Tensor:
        ctx.save_for_backward(grad, weight)
        ctx.geometry = geometry
        h, w = size
        if grad._meta or not grad._array.shape[1] or not geometry.in_channels:
            return _empty((grad._array.shape[0], geometry.in_channels, h, w), grad)
        b = None if bias is None else bias._array
        packed = _packed(weight, kernels.pack_grad_input, geometry, h, w)
        out = kernels.conv2d_grad_input(grad._array, weight._array, geometry, (h, w), packed, b)
        return Tensor._wrap(out, grad._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, weight = ctx.saved_tensors
        need_y, need_weight, need_bias, _, _ = ctx.needs_input_grad
        return (
            Convolution.apply(grad, weight, None, ctx.geometry) if need_y else None,
            ConvolutionWeightGradient.apply(grad, y, ctx.geometry) if need_weight else None,
            ConvolutionBiasGradient.apply(grad, ctx.geometry.in_channels) if need_bias else None,
            None,
            None,
        )


class ConvolutionWeightGradient(Function):
    """(N, C_in, H, W), (N, C_out, H_out, W_out) -> (C_out, C_in/groups, kh, kw)."""

    node_name = "ConvolutionWeightBackward0"
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, grad: Tensor, geometry: ConvGeometry) -> Tensor:
        ctx.save_for_backward(x, grad)
        ctx.geometry = geometry
        if x._meta or not x._array.shape[1]:
            return _empty(geometry.weight_shape, x)
        return Tensor._wrap(kernels.conv2d_grad_weight(x._array, grad._array, geometry), x._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        need_x, need_y, _ = ctx.needs_input_grad
        return (
            ConvolutionInputGradient.apply(y, grad, None, ctx.geometry, x.shape[2:]) if need_x else None,
            Convolution.apply(x, grad, None, ctx.geometry) if need_y else None,
            None,
        )


class ConvolutionBiasGradient(Function):
    """(N, C_out, H_out, W_out) -> (C_out,): the sum over images and pixels."""

    node_name = "SumBackward1"
    fresh = True

    @staticmethod
    def forward(ctx: Any, grad: Tensor, channels: int) -> Tensor:
        ctx.shape = grad._array.shape
        if grad._meta or not grad._array.shape[1]:
            return _empty((channels,), grad)
        return Tensor._wrap(kernels.conv2d_grad_bias(grad._array), grad._dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad.reshape(1, -1, 1, 1).expand(ctx.shape), None


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    array = x._array
    n, channels, h, w = array.shape
    if x._meta or not channels:
        size = geometry.output_size(h, w)
        # An image without channels gives an output without channels, as in PyTorch.
        return _empty((n, geometry.out_channels if channels else 0, *size), x)
    prepared = _packed(weight, kernels.prepare, geometry, h, w)
    return Tensor._wrap(kernels.run(array, None if bias is None else bias._array, prepared), x._dtype)


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A result of zeros: all that an operation without data (meta) or without channels has to give."""
    if like._meta:
        return Tensor._wrap_meta(shape, like._dtype)
    return Tensor._wrap(kernels.zeros(shape, like._array.dtype), like._dtype)


def _kept(weight: Tensor, key: tuple[Any, ...]) -> Any:
    """The packed form that was kept under ``key``, or None: the weight or a setting has changed, or there is none."""
    cache, counter = weight._packed, weight._counter
    entry = None if cache is None or counter.exported else cache.get(key)
    if entry is not None and entry[0] == counter.value and entry[1] == kernels.settings_version():
        return entry[2]
    return None


def _packed(weight: Tensor, pack: Any, geometry: ConvGeometry, h: int, w: int) -> Any:
    """``pack(weight, geometry, h, w)``, made at most once a version of the weight and of the settings.

    Memory that has been handed out (``numpy()``, ``from_numpy``, DLPack) can change without a new version, so its
    packed form is never kept.
    """
    counter, key = weight._counter, (pack, id(geometry), h, w)
    packed = _kept(weight, key)
    if packed is not None:
        return packed
    version, settings = counter.value, kernels.settings_version()  # read first: a write meanwhile makes the entry stale
    packed = pack(weight._array, geometry, h, w)
    if not counter.exported:
        cache = weight._packed = weight._packed or {}
        if len(cache) >= PACKED_KEPT:
            cache.pop(next(iter(cache)), None)
        cache[key] = (version, settings, packed, geometry)  # the geometry is kept, so that its id stays its own
    return packed


def check(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry, who: str) -> tuple[int, ...]:
    """The shape of ``x``, or an error for what no convolution can take, before anything is computed.

    Raises:
        ShapeError: the rank, the channels or the bias do not fit the weight.
        DtypeError: the dtypes differ.
        UnsupportedError: they are not numbers.
        DeviceError: some tensors have data and some have not.
    """
    shape = x._array.shape
    if len(shape) == 4:
        _, channels, h, w = shape
    elif len(shape) == 3:
        channels, h, w = shape
    else:
        got = f"got an input of shape {list(shape)}"
        fix = "add axes with x.unsqueeze(0), or reshape"
        rule = "Expected 3D (unbatched) or 4D (batched) input: (C, H, W) or (N, C, H, W)"
        raise ShapeError(text(who, got, rule, fix))
    dtype, meta = x._dtype, x._meta
    if weight._dtype is not dtype or weight._meta is not meta:
        raise _unlike(x, weight, "weight", who)
    if bias is not None and (bias._dtype is not dtype or bias._meta is not meta):
        raise _unlike(x, bias, "bias", who)
    if dtype is dtypes.bool:
        raise UnsupportedError(text(who, "the input is torch.bool", "a convolution needs numbers", "use input.float()"))
    if channels != geometry.in_channels:
        first = f"weight of size {list(weight._array.shape)} and groups={geometry.groups}"
        got = f"got an input of shape {list(shape)} with {channels} channels"
        raise ShapeError(
            text(who, got, f"{first} expect {geometry.in_channels} channels", _channel_fix(shape, geometry))
        )
    if not h or not w:
        got = f"got an input of shape {list(shape)}"
        raise ShapeError(text(who, got, "only the batch and the channels may be zero, not the height or the width"))
    if bias is not None and bias._array.shape != geometry.bias_shape:
        got = f"got a bias of shape {list(bias._array.shape)}"
        raise ShapeError(text(who, got, f"the bias must be of shape [{geometry.out_channels}]"))
    return shape


def _unlike(x: Tensor, other: Tensor, name: str, who: str) -> DtypeError | DeviceError:
    if other._dtype is not x._dtype:
        got = f"the input is {x._dtype!r} and the {name} is {other._dtype!r}"
        return DtypeError(text(who, got, "they should be the same", f"use input.to({other._dtype!r})"))
    got = f"the input is on {x.device} and the {name} on {other.device}"
    return DeviceError(text(who, got, "all tensors must be on one device", "use .to(device)"))


def _channel_fix(shape: tuple[int, ...], geometry: ConvGeometry) -> str:
    if shape[-1] == geometry.in_channels:
        return "the last axis has that many: for channels-last images use x.movedim(-1, -3)"
    if len(shape) == 3 and geometry.in_channels == 1:
        return "an image without a channel axis needs x.unsqueeze(-3)"
    return f"make the layer with in_channels={shape[-3]}, or give it images of {geometry.in_channels} channels"


def convolve(x: Any, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry, who: str = "Conv2d") -> Tensor:
    """Convolution with options that are already a ``ConvGeometry``: what ``nn.Conv2d`` calls."""
    if not isinstance(x, Tensor):
        x = as_tensor_operand(x, who)
    y = None if _mode.grad or listeners else _again(x, weight, bias, geometry)
    if y is not None:
        return y
    if len(check(x, weight, bias, geometry, who)) == 4:
        return Convolution.apply(x, weight, bias, geometry)
    return Convolution.apply(x.unsqueeze(0), weight, bias, geometry).squeeze(0)


def _again(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor | None:
    """The result where the weight is packed for such images already: a small layer is 1.1 times as quick.

    The core compares the arrays with the plan; what it refuses is left to ``check``, which says why.
    """
    array = x._array
    shape = array.shape
    if len(shape) != 4 or x._meta or (bias is not None and bias._meta):
        return None
    prepared = _kept(weight, (kernels.prepare, id(geometry), shape[2], shape[3]))
    if prepared is None:
        return None
    try:
        return Tensor._wrap(kernels.run(array, None if bias is None else bias._array, prepared), x._dtype)
    except ArgumentError:
        return None


def convolve_transposed(
    x: Any, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry, who: str = "ConvTranspose2d"
) -> Tensor:
    """Transposed convolution with options that are already a ``ConvGeometry``: what ``nn.ConvTranspose2d`` calls."""
    if not isinstance(x, Tensor):
        x = as_tensor_operand(x, who)
    unbatched = len(check(x, weight, bias, geometry, who)) == 3
    if unbatched:
        x = x.unsqueeze(0)
    size = geometry.output_size(x._array.shape[2], x._array.shape[3], who)
    if x._dtype.is_complex:
        weight = weight.conj()  # the input gradient conjugates its weight; here it must not
    # Output padding of a stride or more makes room for windows of zeros after the last cell.
    rows, columns = (op // stride for op, stride in zip(geometry.output_padding, geometry.stride, strict=True))
    if rows or columns:
        x = pad(x, (0, columns, 0, rows))
    out: Tensor = ConvolutionInputGradient.apply(x, weight, bias, geometry.adjoint, size)
    return out.squeeze(0) if unbatched else out


@lru_cache(maxsize=4096)
def _geometry(
    shape: tuple[int, ...], stride: Any, padding: Any, dilation: Any, groups: Any, who: str, output_padding: Any = None
) -> ConvGeometry:
    if len(shape) != 4:
        rule = "the weight must have 4 axes: (out_channels, in_channels/groups, kh, kw)"
        raise ShapeError(text(who, f"got a weight of shape {list(shape)}", rule))
    if 0 in (shape[0], *shape[2:]):
        raise ShapeError(text(who, f"got a weight of shape {list(shape)}", "only in_channels may be zero"))
    first, second = shape[0], shape[1] * (groups if isinstance(groups, int) else 1)
    if output_padding is None:
        return ConvGeometry.of(second, first, shape[2:], stride, padding, dilation, groups, who=who)
    return ConvGeometry.of(
        first, second, shape[2:], stride, padding, dilation, groups, "zeros", True, output_padding, who
    )


def _hashable(value: Any) -> Any:
    if hasattr(value, "tolist"):  # a tensor or an array is known by its numbers: it may hold others at the next call
        value = value.tolist()
    return tuple(_hashable(item) for item in value) if isinstance(value, (list, tuple)) else value


def _geometry_of(shape: tuple[int, ...], options: tuple[Any, ...], *others: Any) -> ConvGeometry:
    """A geometry that was made before, or a new one. Only ints and words are looked up: 2.0 equals 2."""
    return (_geometry if _is_plain((options, others)) else _geometry.__wrapped__)(shape, *options, *others)


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, (int, str))


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Two-dimensional convolution (cross-correlation) of images with a bank of filters.

    Args:
        input: (N, C_in, H, W) or (C_in, H, W), any floating, complex or integer dtype; strides of any kind.
        weight: (C_out, C_in/groups, kh, kw), same dtype.
        bias: (C_out,) or None, same dtype.
        stride: step between windows, an int or (height, width).
        padding: zeros added on both sides of each axis: an int, (height, width), ((top, bottom), (left, right)),
            ``'valid'``, ``'same'`` (stride 1), ``'same_upper'`` or ``'same_lower'`` (any stride).
        dilation: distance between the cells that one window reads, an int or (height, width).
        groups: blocks of channels that are convolved apart.

    Returns:
        (N, C_out, H_out, W_out) in the input's dtype. float16 and bfloat16 accumulate in float32; integers accumulate
        in 64 bits and wrap.

    Raises:
        ShapeError (RuntimeError): shapes that do not fit.
        DtypeError (RuntimeError): dtypes that differ.
        ArgumentError (ValueError), ArgumentTypeError (TypeError): options that make no sense.

    Example:
        >>> import konv
        >>> import konv.nn.functional as F
        >>> F.conv2d(konv.ones(1, 1, 3, 3), konv.ones(1, 1, 2, 2))
        tensor([[[[4., 4.],
                  [4., 4.]]]])
    """
    weight = as_tensor_operand(weight, "conv2d")
    if bias is not None:
        bias = as_tensor_operand(bias, "conv2d")
    options = _hashable((stride, padding, dilation, groups))
    return convolve(input, weight, bias, _geometry_of(weight._array.shape, options, "conv2d"), "conv2d")


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution: the adjoint of ``conv2d`` with the same options.

    Args:
        input: (N, C_in, H, W) or (C_in, H, W).
        weight: (C_in, C_out/groups, kh, kw), same dtype.
        bias: (C_out,) or None.
        stride: of the convolution whose adjoint this is.
        padding: cells cut from each side of the output.
        output_padding: rows and columns added at the bottom and right of the output, less than stride or dilation.
        groups: blocks of channels.
        dilation: distance between the cells that one input cell is added to.

    Returns:
        (N, C_out, H_out, W_out) with ``H_out = (H-1)*stride - 2*padding + dilation*(kh-1) + output_padding + 1``.

    Raises:
        ShapeError, DtypeError, ArgumentError, ArgumentTypeError: as ``conv2d``.

    Example:
        >>> import konv
        >>> import konv.nn.functional as F
        >>> F.conv_transpose2d(konv.ones(1, 1, 1, 2), konv.ones(1, 1, 1, 2))
        tensor([[[[1., 2., 1.]]]])
    """
    who = "conv_transpose2d"
    weight = as_tensor_operand(weight, who)
    if bias is not None:
        bias = as_tensor_operand(bias, who)
    options = _hashable((stride, padding, dilation, groups))
    geometry = _geometry_of(weight._array.shape, options, who, _hashable(output_padding))
    return convolve_transposed(input, weight, bias, geometry, who)
