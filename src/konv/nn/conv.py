"""``Conv2d`` and ``ConvTranspose2d``: options normalised once into a ``ConvGeometry``, which knows everything else."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ..errors import ArgumentError, ArgumentTypeError, text
from ..geometry import ConvGeometry, pair
from ..kernels import ConvPlan, describe
from ..ops.conv import convolve, convolve_transposed
from ..ops.creation import empty
from ..tensor import Tensor
from . import init
from .module import Module
from .parameter import Parameter

_OPTIONS = frozenset(
    "in_channels out_channels kernel_size stride padding dilation groups padding_mode output_padding".split()
)


class _Convolution(Module):
    """What the two layers share: attributes, parameters, their initial values, and their description."""

    weight: Parameter
    bias: Parameter | None
    _geometry: ConvGeometry | None
    _transposed = False

    def __init__(self, bias: bool, device: Any, dtype: Any, **options: Any) -> None:
        super().__init__()
        who = type(self).__name__
        if not isinstance(bias, (bool, int)) or bias not in (0, 1):
            got = f"bias={bias!r} is a {type(bias).__name__}"
            raise ArgumentTypeError(text(who, got, "bias must be True or False"))
        geometry = ConvGeometry.of(**options, transposed=self._transposed, who=who)
        self.in_channels, self.out_channels = geometry.in_channels, geometry.out_channels
        self.kernel_size, self.stride, self.dilation = geometry.kernel_size, geometry.stride, geometry.dilation
        self.padding = _as_written(options["padding"], geometry)
        self.output_padding = geometry.output_padding
        self.groups, self.padding_mode = geometry.groups, geometry.padding_mode
        self.weight = Parameter(empty(geometry.weight_shape, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(geometry.bias_shape, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self._geometry = geometry
        self.reset_parameters()

    @property
    def transposed(self) -> bool:
        """Whether this is the adjoint of a convolution."""
        return self._transposed

    @property
    def geometry(self) -> ConvGeometry:
        """The layer's options, validated and normalised; follows the attributes when they are changed."""
        geometry = self._geometry
        if geometry is None:
            options = {name: getattr(self, name) for name in _OPTIONS}
            geometry = self._geometry = ConvGeometry.of(**options, transposed=self._transposed, who=type(self).__name__)
        return geometry

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OPTIONS or name == "weight":
            self.__dict__["_geometry"] = None
        super().__setattr__(name, value)

    def _fitting(self, weight: Any) -> ConvGeometry:
        """The geometry for the weight as it is now: a replaced weight may have other channels than the attributes."""
        if not isinstance(weight, Tensor):
            got = f"the weight is a {type(weight).__name__}"
            raise ArgumentTypeError(text(type(self).__name__, got, "it must be a tensor"))
        geometry = self._geometry or self.geometry
        shape = weight._array.shape
        if shape == geometry.weight_shape or len(shape) != 4:
            return geometry
        first, second = shape[0], shape[1] * geometry.groups
        channels = (first, second) if self._transposed else (second, first)
        return ConvGeometry.of(
            *channels, shape[2:], geometry.stride, geometry.padding, geometry.dilation, geometry.groups,
            geometry.padding_mode, self._transposed, geometry.output_padding, type(self).__name__,
        )  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw weight and bias anew from U(-sqrt(k), sqrt(k)), k = 1 / fan_in: the same stream as PyTorch's.

        Source: K. He et al., "Delving deep into rectifiers", arXiv:1502.01852, with a = sqrt(5).
        """
        if not self.weight.numel():
            return
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = self.geometry.init_bound
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """The options that differ from the defaults, as PyTorch writes them."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={self.dilation}")
        if self.output_padding != (0, 0):
            parts.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


def _as_written(padding: Any, geometry: ConvGeometry) -> Any:
    """The ``padding`` attribute: the word, or (height, width), or ((top, bottom), (left, right)) when they differ."""
    if isinstance(padding, str):
        return padding
    pads = geometry.padding
    assert not isinstance(pads, str)
    return (pads[0][0], pads[1][0]) if all(before == after for before, after in pads) else pads


class Conv2d(_Convolution):
    """Slides a bank of filters over images: ``out[n, o] = bias[o] + sum_i weight[o, i] * x[n, i]``.

    ``*`` is the valid 2-D cross-correlation of the padded image.

    Args:
        in_channels: channels of the input, C_in.
        out_channels: filters, and channels of the output, C_out.
        kernel_size: rows and columns of a filter, an int or (height, width).
        stride: step between windows, an int or (height, width).
        padding: cells added around the image: an int, (height, width), ((top, bottom), (left, right)), ``'valid'``
            (none), ``'same'`` (keeps the size; stride 1; an odd cell goes right/bottom), ``'same_upper'`` or
            ``'same_lower'`` (ONNX's and TensorFlow's conventions, any stride).
        dilation: distance between the cells that one window reads.
        groups: blocks of channels convolved apart; divides C_in and C_out. ``groups == in_channels`` is depthwise.
        bias: whether a learnable number is added to each output channel.
        padding_mode: what padding holds: ``'zeros'``, ``'reflect'``, ``'replicate'`` or ``'circular'``.
        device: ``'cpu'``, or ``'meta'`` for shapes without data.
        dtype: of weight and bias; default ``konv.get_default_dtype()``.

    Shape:
        Input (N, C_in, H, W) or (C_in, H, W); output (N, C_out, H_out, W_out) or (C_out, H_out, W_out) with
        ``H_out = floor((H + pads - dilation*(kernel_size - 1) - 1) / stride) + 1``, and W_out likewise.

    Attributes:
        weight: (C_out, C_in/groups, kh, kw), drawn from U(-sqrt(k), sqrt(k)), k = groups / (C_in*kh*kw).
        bias: (C_out,) from the same distribution, or None.

    Raises:
        ArgumentError (ValueError), ArgumentTypeError (TypeError): options that make no sense, at construction.
        ShapeError, DtypeError, DeviceError (RuntimeError): an input that does not fit, at the call.

    Example:
        >>> import konv
        >>> layer = konv.nn.Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2))
        >>> layer
        Conv2d(16, 33, kernel_size=(3, 5), stride=(2, 1), padding=(4, 2))
        >>> layer(konv.zeros(20, 16, 50, 100)).shape
        torch.Size([20, 33, 28, 100])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            bias, device, dtype, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size,
            stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=padding_mode,
        )  # fmt: skip

    def forward(self, input: Any) -> Tensor:
        """Convolve ``input``, (N, C_in, H, W) or (C_in, H, W)."""
        own: Any = self._parameters  # half a microsecond quicker than two attributes, on every call
        geometry = self._geometry
        try:
            weight, bias = own["weight"], own["bias"]
        except KeyError:  # a buffer, or a tensor that was computed
            weight, bias = self.weight, self.bias
        if geometry is None or weight._array.shape != geometry.weight_shape:
            geometry = self._fitting(weight)
        return convolve(input, weight, bias, geometry)

    def _conv_forward(self, input: Any, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What subclasses call with a weight that they have changed, as in PyTorch."""
        return convolve(input, weight, bias, self._fitting(weight))

    def plan(self, input_shape: tuple[int, ...]) -> ConvPlan:
        """What runs for inputs of this shape: algorithm, reason, tile, memory, and the bound of this machine.

        Args:
            input_shape: (N, C_in, H, W) or (C_in, H, W).

        Raises:
            ShapeError: the shape does not fit the layer.

        Example:
            >>> import konv
            >>> plan = konv.nn.Conv2d(64, 32, 1).plan((8, 64, 28, 28))
            >>> plan.name, plan.reason, plan.scratch_bytes < 2**20
            ('direct pixel_lane', '1x1: the image itself is the matrix', True)
            >>> plan.bound.limit in ("multiply-adds", "bytes")
            True
        """
        return describe(self._fitting(self.weight), tuple(input_shape), self.weight.dtype.numpy)


class ConvTranspose2d(_Convolution):
    """The adjoint of ``Conv2d``: every input cell adds a scaled filter to the output; strides enlarge.

    Args:
        in_channels, out_channels, kernel_size, stride, dilation, groups, bias: as for ``Conv2d``.
        padding: cells that are cut from each side of the output.
        output_padding: rows and columns added at the bottom and right, fewer than stride or dilation; it says which
            of the sizes that ``Conv2d`` maps to the input's size is wanted.
        padding_mode: only ``'zeros'``.

    Shape:
        Input (N, C_in, H, W) or (C_in, H, W); output with
        ``H_out = (H - 1)*stride - 2*padding + dilation*(kernel_size - 1) + output_padding + 1``.

    Attributes:
        weight: (C_in, C_out/groups, kh, kw).
        bias: (C_out,) or None.

    Raises:
        The errors of ``Conv2d``.

    Example:
        >>> import konv
        >>> up = konv.nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)
        >>> up(konv.zeros(1, 8, 7, 7)).shape
        torch.Size([1, 4, 14, 14])
    """

    _transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            bias, device, dtype, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size,
            stride=stride, padding=padding, output_padding=output_padding, dilation=dilation, groups=groups,
            padding_mode=padding_mode,
        )  # fmt: skip

    def forward(self, input: Any, output_size: Any = None) -> Tensor:
        """Transposed convolution of ``input``; ``output_size`` (H_out, W_out) chooses ``output_padding`` instead."""
        geometry = self._fitting(self.weight)
        if output_size is not None and len(input.shape) in (3, 4):  # other inputs are refused below
            geometry = self._sized(geometry, tuple(input.shape), output_size)
        return convolve_transposed(input, self.weight, self.bias, geometry)

    def _sized(self, geometry: ConvGeometry, shape: tuple[int, ...], output_size: Any) -> ConvGeometry:
        who, rank = "ConvTranspose2d", len(shape)
        if not hasattr(output_size, "__len__"):
            got = f"output_size={output_size!r} is a {type(output_size).__name__}"
            raise ArgumentTypeError(text(who, got, "it must be (height, width)"))
        if len(output_size) not in (2, rank):
            got = f"output_size={tuple(output_size)} has {len(output_size)} elements"
            raise ArgumentError(text(who, got, f"for an input of {rank} dimensions it must have 2 or {rank}"))
        wanted = pair(output_size[-2:], "output_size", who, 1)
        spare = geometry.stride[0] - 1, geometry.stride[1] - 1
        most = replace(geometry, output_padding=spare).output_size(shape[-2], shape[-1], who)
        least = most[0] - spare[0], most[1] - spare[1]
        if not all(low <= size <= high for low, size, high in zip(least, wanted, most, strict=True)):
            rule = f"an image of {shape[-2]} x {shape[-1]} can give {least} to {most}"
            raise ArgumentError(text(who, f"output_size={wanted}", rule))
        return replace(geometry, output_padding=(wanted[0] - least[0], wanted[1] - least[1]))
