"""First values for parameters, written in place; the same as PyTorch's after the same seed.

Every function takes the tensor first, fills it without recording gradients, and returns it. On the device 'meta'
there is nothing to fill.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from ..autograd import no_grad
from ..errors import ArgumentError, text
from ..ops.random import normal_ as _normal, uniform_ as _uniform
from ..random import Generator
from ..tensor import Tensor

GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What a nonlinearity's input must be scaled by so that its output has the variance of its input.

    Args:
        nonlinearity: 'linear', 'conv2d', 'sigmoid', 'tanh', 'relu', 'leaky_relu', 'selu'.
        param: the negative slope of leaky_relu, 0.01 if None.

    Raises:
        ArgumentError: for another name or slope.

    Example:
        >>> import konv
        >>> round(konv.nn.init.calculate_gain("leaky_relu", 0.2), 4)
        1.3868
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ArgumentError(text("calculate_gain", f"negative_slope {slope}", "it must be a number"))
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in GAINS:
        rule = f"it is one of {', '.join([*GAINS, 'leaky_relu'])}"
        raise ArgumentError(text("calculate_gain", f"Unsupported nonlinearity {nonlinearity}", rule))
    return GAINS[nonlinearity]


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Inputs that feed one output and outputs that one input feeds, of a weight (out, in, ...).

    Raises:
        ArgumentError: below two dimensions.
    """
    shape = tensor.shape
    if len(shape) < 2:
        got = f"fan in and fan out can not be computed for a tensor of shape {tuple(shape)}"
        raise ArgumentError(text("init", got, "it needs at least 2 dimensions"))
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _fan(tensor: Tensor, mode: str) -> int:
    modes = ("fan_in", "fan_out")
    if mode.lower() not in modes:
        raise ArgumentError(text("init", f"Mode {mode} not supported", f"it is one of {', '.join(modes)}"))
    return _calculate_fan_in_and_fan_out(tensor)[modes.index(mode.lower())]


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Numbers of U[a, b)."""
    return _uniform(tensor, a, b, generator=generator)


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Numbers of N(mean, std**2)."""
    return _normal(tensor, mean, std, generator=generator)


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """One number everywhere."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Ones everywhere."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros everywhere."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, (rows, columns).

    Raises:
        ArgumentError: unless the tensor has 2 dimensions.
    """
    if tensor.ndim != 2:
        raise ArgumentError(
            text("eye_", f"got {tensor.ndim} dimensions", "only tensors with 2 dimensions are supported")
        )
    return _filled(tensor, np.eye(*tensor.shape))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Weights of a convolution that passes as many channels through unchanged as it can.

    Args:
        tensor: (out, in, k...) with one to three kernel dimensions.
        groups: the convolution's groups.

    Raises:
        ArgumentError: for other dimensions, or channels that the groups do not divide.
    """
    shape = tensor.shape
    if len(shape) not in (3, 4, 5):
        rule = "only tensors with 3, 4, or 5 dimensions are supported"
        raise ArgumentError(text("dirac_", f"got {len(shape)} dimensions", rule))
    if shape[0] % groups:
        raise ArgumentError(text("dirac_", f"dim 0 of size {shape[0]}", f"it must be divisible by groups={groups}"))
    values = np.zeros(shape)
    each = shape[0] // groups
    middle = tuple(size // 2 for size in shape[2:])
    for group in range(groups):
        for channel in range(min(each, shape[1])):
            values[(group * each + channel, channel, *middle)] = 1
    return _filled(tensor, values)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """U[-a, a) with a = gain * sqrt(6 / (fan_in + fan_out)).

    Source: X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward neural networks (2010).
    """
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    bound = math.sqrt(3.0) * (gain * math.sqrt(2.0 / float(fan_in + fan_out)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """N(0, s**2) with s = gain * sqrt(2 / (fan_in + fan_out)); source as ``xavier_uniform_``."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / float(fan_in + fan_out)), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """U[-b, b) with b = gain * sqrt(3 / fan).

    Args:
        tensor: the weight, (out, in, ...).
        a: negative slope of the nonlinearity, if it is 'leaky_relu'.
        mode: 'fan_in' keeps the variance forward, 'fan_out' backward.
        nonlinearity: what follows; see ``calculate_gain``.
        generator: where the numbers come from.

    Source: K. He et al., Delving deep into rectifiers (2015).

    Example:
        >>> import konv
        >>> _ = konv.manual_seed(0)
        >>> konv.nn.init.kaiming_uniform_(konv.empty(1, 3))
        tensor([[-0.0106,  0.7586, -1.1640]])
    """
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    bound = math.sqrt(3.0) * (calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """N(0, s**2) with s = gain / sqrt(fan); arguments and source as ``kaiming_uniform_``."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator)


@no_grad()
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """N(mean, std**2) cut to [a, b]: values outside are drawn again.

    Where less than three tenths of the curve lie inside, values are drawn from U[a, b) and kept with the probability
    that the curve gives them.

    Source: rejection sampling; L. Devroye, Non-uniform random variate generation (1986), chapter II.3.
    """
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn("mean is more than 2 std from [a, b] in nn.init.trunc_normal_", stacklevel=2)
    if tensor.is_meta:
        return tensor

    def below(x: float) -> float:
        return (1.0 + math.erf((x - mean) / std / math.sqrt(2.0))) / 2.0

    if below(b) - below(a) > 0.3:
        result = _cut_normal(tensor, mean, std, a, b, generator)
    else:
        result = _cut_uniform(tensor, mean, std, a, b, generator)
    return tensor.copy_(result)


def _cut_normal(like: Tensor, mean: float, std: float, a: float, b: float, generator: Generator | None) -> Tensor:
    result = _normal(like.detach().clone(), mean, std, generator=generator)
    low, high = np.asarray([a, b]).astype(result._array.dtype)
    while True:
        outside = (result._array < low) | (result._array > high)
        if not outside.any():
            return result
        again = _normal(like.detach().clone(), mean, std, generator=generator)
        result = Tensor._wrap(np.where(outside, again._array, result._array), like.dtype)


def _cut_uniform(like: Tensor, mean: float, std: float, a: float, b: float, generator: Generator | None) -> Tensor:
    peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
    result = like.detach().clone()
    pending = Tensor._wrap(np.ones(like._array.shape, np.bool_))
    while True:
        drawn = _uniform(like.detach().clone(), a, b, generator=generator)
        result = Tensor._wrap(np.where(pending._array, drawn._array, result._array), like.dtype)
        log_chance = ((drawn - mean) / std) ** 2 * -0.5 - peak
        luck = _uniform(like.detach().clone(), generator=generator).log()
        pending = pending & (luck > log_chance)
        if not bool(pending.any()):
            return result


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """A matrix (out, in * ...) with orthonormal rows or columns, whichever are fewer, times gain.

    Raises:
        ArgumentError: below two dimensions.

    Source: A. Saxe et al., Exact solutions to the nonlinear dynamics of learning (2014); uniform by F. Mezzadri, How
        to generate random matrices from the classical compact groups (2007).
    """
    if tensor.ndim < 2:
        rule = "only tensors with 2 or more dimensions are supported"
        raise ArgumentError(text("orthogonal_", f"got {tensor.ndim} dimensions", rule))
    if tensor.numel() == 0 or tensor.is_meta:
        return tensor
    rows = tensor.shape[0]
    drawn = tensor.detach().clone().contiguous()
    matrix = _normal(drawn, 0.0, 1.0, generator=generator)._array.reshape(rows, -1)
    if matrix.dtype.itemsize == 2:
        matrix = matrix.astype(np.float32)
    wide = rows < matrix.shape[1]
    q, r = np.linalg.qr(matrix.T if wide else matrix)
    q = q * np.sign(np.diagonal(r))
    return _filled(tensor, (q.T if wide else q).reshape(tensor.shape) * gain)


@no_grad()
def _filled(tensor: Tensor, values: np.ndarray) -> Tensor:
    if tensor.is_meta:
        return tensor
    return tensor.copy_(Tensor._wrap(values.astype(tensor._array.dtype), tensor.dtype))
