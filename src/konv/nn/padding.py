"""Layers that pad the last two dimensions."""

from __future__ import annotations

from typing import Any

from ..ops.pad import pad
from ..tensor import Tensor
from .module import Module


class _Pad2d(Module):
    """What the layers share: padding is one int or (left, right, top, bottom)."""

    mode = "constant"

    def __init__(self, padding: int | tuple[int, int, int, int]) -> None:
        super().__init__()
        self.padding: Any = (padding,) * 4 if isinstance(padding, int) else tuple(padding)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W) to the same with H + top + bottom and W + left + right."""
        return pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad2d(_Pad2d):
    """A constant around the image."""

    def __init__(self, padding: int | tuple[int, int, int, int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        """(..., H, W) to (..., H + top + bottom, W + left + right)."""
        return pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ZeroPad2d(_Pad2d):
    """Zeros around the image.

    Example:
        >>> import konv
        >>> konv.nn.ZeroPad2d(1)(konv.ones(1, 1, 1))
        tensor([[[0., 0., 0.],
                 [0., 1., 0.],
                 [0., 0., 0.]]])
    """


class ReflectionPad2d(_Pad2d):
    """The image mirrored at its edges, which are not repeated."""

    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """The edges of the image repeated."""

    mode = "replicate"


class CircularPad2d(_Pad2d):
    """The image again from its other side."""

    mode = "circular"
