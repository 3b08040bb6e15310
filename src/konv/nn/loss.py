"""Losses as layers: each calls its function with the options that it was made with."""

from __future__ import annotations

from ..ops import loss as ops
from ..tensor import Tensor
from .module import Module


def _chosen(reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    """``reduction``, or what the two switches that came before it in PyTorch say."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


class _Loss(Module):
    """What the losses share."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None, reduction: str) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.reduction = reduction


class CrossEntropyLoss(_Loss):
    """Minus the log-probability of the right class, from scores; see ``functional.cross_entropy``.

    Args:
        weight: (C,), how much each class counts.
        size_average: older form of reduction.
        ignore_index: a class number that counts for nothing.
        reduce: older form of reduction.
        reduction: 'mean', 'sum' or 'none'.
        label_smoothing: the share of the target that is spread over all classes.

    Example:
        >>> import konv
        >>> konv.nn.CrossEntropyLoss()(konv.tensor([[2.0, 0.0]]), konv.tensor([0]))
        tensor(0.1269)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, _chosen(reduction, size_average, reduce))
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(N, C, ...) scores and (N, ...) class numbers or (N, C, ...) probabilities."""
        return ops.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class NLLLoss(_Loss):
    """Minus the log-probability of the right class, from log-probabilities; see ``functional.nll_loss``."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, _chosen(reduction, size_average, reduce))
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(N, C, ...) log-probabilities and (N, ...) class numbers."""
        return ops.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class _Difference(Module):
    """What the losses of differences share."""

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = _chosen(reduction, size_average, reduce)


class MSELoss(_Difference):
    """The squared difference."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return ops.mse_loss(input, target, self.reduction)


class L1Loss(_Difference):
    """The absolute difference."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return ops.l1_loss(input, target, self.reduction)


class SmoothL1Loss(_Difference):
    """Squared over 2 beta where the difference is below beta, else absolute less beta / 2."""

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return ops.smooth_l1_loss(input, target, self.reduction, self.beta)


class BCELoss(_Loss):
    """Minus the log-probability of yes or no, from probabilities; see ``functional.binary_cross_entropy``."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, _chosen(reduction, size_average, reduce))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return ops.binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Minus the log-probability of yes or no, from scores; see ``functional.binary_cross_entropy_with_logits``."""

    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(weight, _chosen(reduction, size_average, reduce))
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return ops.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)
