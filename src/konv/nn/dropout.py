"""Dropout layers: active in training alone."""

from __future__ import annotations

from ..ops.dropout import check_probability, dropout, dropout2d
from ..tensor import Tensor
from .module import Module


class _Dropout(Module):
    """What the layers share."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        check_probability(p)
        self.p, self.inplace = p, inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Zero each element with probability p in training, and scale the rest by 1 / (1 - p).

    Example:
        >>> import konv
        >>> konv.nn.Dropout(0.2).eval()(konv.ones(2))
        tensor([1., 1.])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        return dropout(input, self.p, self.training, self.inplace)


class Dropout2d(_Dropout):
    """Zero whole channels with probability p in training, and scale the rest by 1 / (1 - p)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W)."""
        return dropout2d(input, self.p, self.training, self.inplace)
