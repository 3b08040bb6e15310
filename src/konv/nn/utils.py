"""Helpers over parameters: clipping of gradients, and parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..autograd import no_grad
from ..errors import ShapeError, text
from ..ops import cat
from ..tensor import Tensor


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    one = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad for p in one if p.grad is not None]


@no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients in place so that their norm, as one vector, is at most max_norm.

    Args:
        parameters: a tensor, or an iterable of them.
        max_norm: the greatest norm.
        norm_type: which norm; ``float('inf')`` for the greatest element.
        error_if_nonfinite: refuse a norm that is NaN or infinite.
        foreach: taken for compatibility; there is one implementation.

    Returns:
        The norm before, a 0-dim tensor.

    Raises:
        ShapeError: for a norm that is not finite, if asked for.

    Example:
        >>> import konv
        >>> weight = konv.tensor([3.0, 4.0], requires_grad=True)
        >>> (weight * weight).sum().backward()
        >>> konv.nn.utils.clip_grad_norm_([weight], 1.0)
        tensor(10.)
        >>> weight.grad
        tensor([0.6000, 0.8000])
    """
    grads = _gradients(parameters)
    if not grads:
        return Tensor._wrap(np.float32(0.0))
    kind = grads[0]
    norms = [grad.norm(norm_type).item() for grad in grads]
    if math.isinf(norm_type):
        total = max(norms)
    else:
        total = float(np.linalg.norm(np.asarray(norms, np.float64), norm_type))
    if error_if_nonfinite and not math.isfinite(total):
        rule = "the gradients have no finite norm to clip by"
        raise ShapeError(text("clip_grad_norm_", f"the total norm is {total}", rule))
    share = float(max_norm) / (total + 1e-6)
    if not share >= 1.0:
        for grad in grads:
            grad.mul_(share)
    return Tensor._wrap(np.asarray(total, kind._array.real.dtype), kind.dtype.to_real())


@no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Limit every element of the gradients to [-clip_value, clip_value], in place."""
    for grad in _gradients(parameters):
        grad.clamp_(-float(clip_value), float(clip_value))


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened one after another: (total,)."""
    return cat([parameter.reshape(-1) for parameter in parameters])


@no_grad()
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """The inverse of ``parameters_to_vector``: write parts of ``vec`` into the parameters.

    Raises:
        ShapeError: if the vector is too short.
    """
    start = 0
    for parameter in parameters:
        part = vec[start : start + parameter.numel()]
        if part.numel() != parameter.numel():
            raise ShapeError(text("vector_to_parameters", f"the vector has {vec.numel()} numbers", "it is too short"))
        parameter.copy_(part.reshape(parameter.shape))
        start += parameter.numel()
