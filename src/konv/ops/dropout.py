"""Dropout: elements or whole channels set to zero at random, the rest scaled up so that the mean stays."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, text
from ..tensor import Tensor
from .random import bernoulli_, empty_like_in_memory


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability p, and divide the rest by 1 - p; nothing unless ``training``.

    The mask is the one of PyTorch's CPU code without Intel's MKL generator, after the same seed.

    Args:
        input: any shape.
        p: the probability, in [0, 1].
        training: whether to do it at all.
        inplace: write into the input.

    Raises:
        ArgumentError: if p is not in [0, 1].

    Source: N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting (2014).
    """
    return _dropped(input, p, training, inplace, tuple(input.shape))


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels; arguments as ``dropout``.

    Args:
        input: (N, C, H, W), or (N, C, ...).
        p: the probability, in [0, 1].
        training: whether to do it at all.
        inplace: write into the input.

    Raises:
        ArgumentError: if p is not in [0, 1], or the input has less than 2 dimensions.

    Source: J. Tompson et al., Efficient object localization using convolutional networks (2015).
    """
    if input.ndim < 2:
        raise ArgumentError(text("dropout2d", f"input has {input.ndim} dimensions", "it takes (N, C, H, W)"))
    shape = tuple(size if axis < 2 else 1 for axis, size in enumerate(input.shape))
    return _dropped(input, p, training, inplace, shape)


def check_probability(p: float) -> None:
    """Refuse p outside [0, 1].

    Raises:
        ArgumentError: as its name says.
    """
    if not 0.0 <= p <= 1.0:
        raise ArgumentError(text("dropout", f"p={p}", "the dropout probability has to be between 0 and 1"))


def _dropped(input: Tensor, p: float, training: bool, inplace: bool, shape: tuple[int, ...]) -> Tensor:
    check_probability(p)
    if not training or p == 0.0 or not input.numel():
        return input
    if input._meta:
        noise = Tensor._wrap_meta(shape, input._dtype)
    else:
        if shape == input._array.shape:
            noise = empty_like_in_memory(input)
        else:
            noise = Tensor._wrap(np.empty(shape, input._array.dtype), input._dtype)
        noise = bernoulli_(noise, 1.0 - p) / (1.0 - p) if p < 1.0 else noise.zero_()
    return input.mul_(noise) if inplace else input * noise
