"""Normalisation layers: batch norm, which learns running statistics, and group norm."""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..errors import ArgumentError, text
from ..geometry import integer
from ..ops.creation import empty, ones, tensor, zeros
from ..ops.norm import batch_norm, count_batch, group_norm
from ..tensor import Tensor
from . import init
from .module import Module
from .parameter import Parameter


class _Affine(Module):
    """What normalisation layers share: a weight of ones and a bias of zeros for each channel, or none."""

    weight: Parameter | None
    bias: Parameter | None

    def _make_affine(self, channels: int, affine: bool, bias: bool, device: Any, dtype: Any) -> None:
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            value = Parameter(empty(channels, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, value)

    def _reset_affine(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _BatchNorm(_Affine):
    """Batch norm for inputs of any rank."""

    _version = 2  # of the state dict: the first had no num_batches_tracked
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = integer(num_features, "num_features", type(self).__name__, 0)
        self.eps, self.momentum = eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._make_affine(self.num_features, affine, bias, device, dtype)
        where = {"device": device, "dtype": dtype}
        count = tensor(0, dtype=dtypes.int64, device=device) if track_running_stats else None
        self.register_buffer("running_mean", zeros(self.num_features, **where) if track_running_stats else None)
        self.register_buffer("running_var", ones(self.num_features, **where) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", count)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget the batches seen so far: mean 0, variance 1."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Forget the statistics, and set weight to 1 and bias to 0."""
        self.reset_running_stats()
        self._reset_affine()

    def _check_input_dim(self, input: Tensor) -> None:
        """Refuse inputs of the wrong rank; each class has its own."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; in training mode by the batch's own statistics, which also move the running ones."""
        self._check_input_dim(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            seen = count_batch(self.num_batches_tracked)
            if self.momentum is None:  # the plain average of all batches so far
                momentum = 1.0 / seen
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        keep = not self.training or self.track_running_stats
        running = (self.running_mean, self.running_var) if keep else (None, None)
        return batch_norm(input, *running, self.weight, self.bias, by_batch, momentum, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        version = local_metadata.get("version")
        key = prefix + "num_batches_tracked"
        if (version is None or version < 2) and self.track_running_stats and key not in state_dict:
            mine = self.num_batches_tracked
            state_dict[key] = tensor(0, dtype=dtypes.int64) if mine is None or mine.is_meta else mine
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class BatchNorm2d(_BatchNorm):
    """Brings each channel to mean 0 and variance 1 over the batch: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    In training mode the statistics are those of the batch (the biased variance), and the running ones move towards
    them (the unbiased variance) by ``momentum``; in evaluation mode the running ones are used.

    Args:
        num_features: channels, C.
        eps: added to the variance.
        momentum: how far running statistics move with each batch; None for the plain average of all batches.
        affine: whether weight and bias are learned.
        track_running_stats: whether to keep running statistics; without, the batch's own are always used.
        device: ``'cpu'`` or ``'meta'``.
        dtype: of parameters and statistics.
        bias: whether there is a bias (keyword only).

    Shape:
        (N, C, H, W) to the same.

    Attributes:
        weight, bias: (C,) parameters, 1 and 0 at first, or None.
        running_mean, running_var: (C,) buffers, 0 and 1 at first, or None.
        num_batches_tracked: int64 count of the batches seen in training mode, or None.

    Raises:
        ArgumentError (ValueError): when called on an input that is not 4D, or trained on one value a channel.
        ShapeError (RuntimeError): when called on another number of channels.
        DtypeError (RuntimeError): when called on another dtype.

    Source: S. Ioffe, C. Szegedy, "Batch normalization", arXiv:1502.03167.

    Example:
        >>> import konv
        >>> konv.nn.BatchNorm2d(100, affine=False)(konv.randn(20, 100, 35, 45)).shape
        torch.Size([20, 100, 35, 45])
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim != 4:
            rule = f"expected 4D input (got {input.ndim}D input)"
            raise ArgumentError(text(type(self).__name__, rule, "it must be (N, C, H, W)", "use x.unsqueeze(0)"))


class BatchNorm1d(_BatchNorm):
    """``BatchNorm2d`` for (N, C) or (N, C, L).

    Args:
        num_features: channels, C; the other arguments are those of ``BatchNorm2d``.

    Raises:
        ArgumentError (ValueError): when called on an input of another rank, or trained on one value a channel.
        ShapeError, DtypeError (RuntimeError): as ``BatchNorm2d``.

    Example:
        >>> import konv
        >>> konv.nn.BatchNorm1d(2)(konv.tensor([[1.0, 2.0], [3.0, 6.0]])).tolist()[1][0] > 0.99
        True
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 3):
            rule = f"expected 2D or 3D input (got {input.ndim}D input)"
            raise ArgumentError(text(type(self).__name__, rule, "it must be (N, C) or (N, C, L)"))


class GroupNorm(_Affine):
    """Brings each group of channels of each image to mean 0 and variance 1, then scales and shifts each channel.

    Args:
        num_groups: groups that the channels are cut into; divides ``num_channels``.
        num_channels: channels, C.
        eps: added to the variance.
        affine: whether weight and bias are learned.
        device: ``'cpu'`` or ``'meta'``.
        dtype: of the parameters.
        bias: whether there is a bias (keyword only).

    Shape:
        (N, C, *) to the same.

    Attributes:
        weight, bias: (C,) parameters, 1 and 0 at first, or None.

    Raises:
        ArgumentError (ValueError): ``num_channels`` is not divisible by ``num_groups``, or a group has one value.
        ShapeError (RuntimeError): when called on another number of channels.
        DtypeError (RuntimeError): when called on another dtype.

    Source: Y. Wu, K. He, "Group normalization", arXiv:1803.08494.

    Example:
        >>> import konv
        >>> konv.nn.GroupNorm(3, 6)(konv.randn(20, 6, 10, 10)).shape
        torch.Size([20, 6, 10, 10])
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_groups = integer(num_groups, "num_groups", type(self).__name__, 1)
        self.num_channels = integer(num_channels, "num_channels", type(self).__name__, 0)
        if self.num_channels % self.num_groups:
            got = f"num_channels={num_channels} and num_groups={num_groups}"
            raise ArgumentError(text(type(self).__name__, got, "num_channels must be divisible by num_groups"))
        self.eps, self.affine = eps, affine
        self._make_affine(self.num_channels, affine, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0."""
        self._reset_affine()

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, *) to the same."""
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        has_bias = self.bias is not None
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={has_bias}"
