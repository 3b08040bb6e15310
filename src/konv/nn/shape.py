"""Layers that change shapes: flattening and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ops.resize import interpolate
from ..ops.shape import flatten, unflatten
from ..tensor import Tensor
from .module import Module


class Flatten(Module):
    """Make one dimension of those from ``start_dim`` to ``end_dim``; the batch stays.

    Example:
        >>> import konv
        >>> konv.nn.Flatten()(konv.zeros(32, 1, 5, 5)).shape
        torch.Size([32, 25])
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        """(N, ...) to (N, product of ...)."""
        return flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Make several dimensions of one.

    Example:
        >>> import konv
        >>> konv.nn.Unflatten(1, (2, 5))(konv.zeros(3, 10)).shape
        torch.Size([3, 2, 5])
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input: Tensor) -> Tensor:
        """(..., size, ...) to (..., *unflattened_size, ...)."""
        return unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Upsample(Module):
    """Resize images; see ``functional.interpolate``.

    Args:
        size: the new size, or
        scale_factor: by how much.
        mode: 'nearest', 'nearest-exact', 'linear' or 'bilinear'.
        align_corners: for the linear ones: whether first and last cell centres coincide.
        recompute_scale_factor: use the ratio of the sizes rather than scale_factor itself.

    Example:
        >>> import konv
        >>> konv.nn.Upsample(scale_factor=2)(konv.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 3, 16, 16])
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size, self.mode, self.align_corners = size, mode, align_corners
        if isinstance(scale_factor, (tuple, list)):
            self.scale_factor: Any = tuple(float(factor) for factor in scale_factor)
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None  # type: ignore[arg-type]
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, new H, new W)."""
        return interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        how = f"scale_factor={self.scale_factor!r}" if self.scale_factor is not None else f"size={self.size!r}"
        return f"{how}, mode={self.mode!r}"
