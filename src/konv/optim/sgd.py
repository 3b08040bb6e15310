"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import ArgumentError, text
from ..tensor import Tensor
from .optimizer import Array, Group, Optimizer, Work, real_parts


class SGD(Optimizer):
    """Steps against the gradient, with momentum if asked for.

    ``g += weight_decay * p``; ``v = momentum * v + (1 - dampening) * g`` (the first time ``v = g``);
    ``p -= lr * v``, or ``p -= lr * (g + momentum * v)`` with Nesterov's momentum.

    Args:
        params: parameters, or dicts with 'params' and options of their own.
        lr: learning rate.
        momentum: the share of the last step that goes on.
        dampening: what the gradient loses before it joins the momentum.
        weight_decay: how strongly parameters are drawn to zero.
        nesterov: whether to look ahead (needs momentum and no dampening).
        maximize: step along the gradient instead.
        foreach: taken for compatibility; there is one implementation.
        differentiable: taken for compatibility; False alone.
        fused: taken for compatibility; there is one implementation.

    Raises:
        ArgumentError: if a number is negative, or nesterov stands without momentum.

    Source: I. Sutskever et al., On the importance of initialization and momentum in deep learning (2013).

    Example:
        >>> import konv
        >>> weight = konv.tensor([1.0], requires_grad=True)
        >>> optimizer = konv.optim.SGD([weight], lr=0.1)
        >>> (weight * 3).sum().backward()
        >>> optimizer.step()
        >>> round(weight.item(), 4)
        0.7
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            got = f"momentum={momentum}, dampening={dampening}"
            raise ArgumentError(text("SGD", got, "Nesterov momentum requires a momentum and zero dampening"))
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        for name, label in (("lr", "learning rate"), ("momentum", "momentum value"), ("weight_decay", "weight_decay")):
            if not float(group[name]) >= 0:
                self._refuse(label, group[name], "it must not be negative")

    def _step_one(self, param: Tensor, group: Group) -> None:
        momentum = float(group["momentum"])
        assert param._grad is not None
        arrays = [param._array, param._grad._array]
        first = False
        if momentum:
            state = self.state.get(param, {})
            first = state.get("momentum_buffer") is None
            arrays.append(self._kept(param, ["momentum_buffer"])["momentum_buffer"]._array)
        for parts in zip(*map(real_parts, arrays), strict=True):
            work = Work(parts[0], *parts[2:])
            gradient = parts[1].astype(work.arrays[0].dtype, copy=False)
            _update(work.arrays, gradient, group, first)
            work.done()


def _update(arrays: tuple[Array, ...], gradient: Array, group: Group, first: bool) -> None:
    value = arrays[0]
    lr, momentum, decay = float(group["lr"]), float(group["momentum"]), float(group["weight_decay"])
    step = -gradient if group["maximize"] else gradient
    if decay:
        step = step + decay * value
    if momentum:
        velocity = arrays[1]
        if first:
            velocity[...] = step
        else:
            velocity *= momentum
            velocity += step if not group["dampening"] else (1.0 - float(group["dampening"])) * step
        step = step + momentum * velocity if group["nesterov"] else velocity
    value -= lr * step
