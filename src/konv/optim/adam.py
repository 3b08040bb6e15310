"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..tensor import Tensor
from .optimizer import Array, Group, Optimizer, Work, real_parts


class Adam(Optimizer):
    """Steps by the mean of the gradients over the root of the mean of their squares.

    ``m = b1 * m + (1 - b1) * g``; ``v = b2 * v + (1 - b2) * g**2``;
    ``p -= lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)``.

    Args:
        params: parameters, or dicts with 'params' and options of their own.
        lr: learning rate.
        betas: how slowly m and v forget.
        eps: added below the line.
        weight_decay: added to the gradient as ``weight_decay * p``.
        amsgrad: use the greatest v so far.
        foreach: taken for compatibility; there is one implementation.
        maximize: step along the gradient instead.
        capturable: taken for compatibility.
        differentiable: taken for compatibility; False alone.
        fused: taken for compatibility; there is one implementation.
        decoupled_weight_decay: shrink parameters by ``lr * weight_decay`` instead, as AdamW does.

    Raises:
        ArgumentError: if a number is out of range.

    Source: D. Kingma and J. Ba, Adam: a method for stochastic optimization (2015), algorithm 1.

    Example:
        >>> import konv
        >>> weight = konv.tensor([1.0], requires_grad=True)
        >>> optimizer = konv.optim.Adam([weight], lr=0.1)
        >>> (weight * 3).sum().backward()
        >>> optimizer.step()
        >>> round(weight.item(), 4)
        0.9
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        for name, label in (("lr", "learning rate"), ("eps", "epsilon value"), ("weight_decay", "weight_decay value")):
            if not float(group[name]) >= 0:
                self._refuse(label, group[name], "it must not be negative")
        for i, beta in enumerate(group["betas"]):
            if not 0 <= float(beta) < 1:
                self._refuse(f"beta parameter at index {i}", beta, "it must lie in [0, 1)")

    def _step_one(self, param: Tensor, group: Group) -> None:
        names = ["exp_avg", "exp_avg_sq"] + (["max_exp_avg_sq"] if group["amsgrad"] else [])
        state = self._kept(param, names)
        state["step"] = count = int(state.get("step", 0)) + 1
        assert param._grad is not None
        arrays = [param._array, param._grad._array] + [state[name]._array for name in names]
        for parts in zip(*map(real_parts, arrays), strict=True):
            work = Work(parts[0], *parts[2:])
            _update(work.arrays, parts[1].astype(work.arrays[0].dtype, copy=False), group, count)
            work.done()


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters themselves: ``p -= lr * weight_decay * p`` before each step.

    Args:
        params: parameters, or dicts with 'params' and options of their own.
        lr: learning rate.
        betas: how slowly the means of gradients and squares forget.
        eps: added below the line.
        weight_decay: how strongly parameters are drawn to zero.
        amsgrad: use the greatest mean of squares so far.
        options: ``maximize``, and what Adam takes for compatibility.

    Source: I. Loshchilov and F. Hutter, Decoupled weight decay regularization (2019), algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True, **options)


def _update(arrays: tuple[Array, ...], gradient: Array, group: Group, count: int) -> None:
    value, mean, square = arrays[:3]
    lr, eps, decay = float(group["lr"]), float(group["eps"]), float(group["weight_decay"])
    beta1, beta2 = (float(beta) for beta in group["betas"])
    if group["maximize"]:
        gradient = -gradient
    if decay and group["decoupled_weight_decay"]:
        value *= 1.0 - lr * decay
    elif decay:
        gradient = gradient + decay * value
    scratch = gradient - mean
    scratch *= 1.0 - beta1
    mean += scratch
    np.multiply(gradient, gradient, out=scratch)
    scratch *= 1.0 - beta2
    square *= beta2
    square += scratch
    if group["amsgrad"]:
        square = np.maximum(arrays[3], square, out=arrays[3])
    np.sqrt(square, out=scratch)
    scratch /= (1.0 - beta2**count) ** 0.5
    scratch += eps
    np.divide(mean, scratch, out=scratch)
    scratch *= lr / (1.0 - beta1**count)
    value -= scratch
