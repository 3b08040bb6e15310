"""Schedules: what the learning rate is after so many steps.

A schedule changes ``lr`` in the groups; most multiply what stands there, so several can be chained. Call
``scheduler.step()`` after ``optimizer.step()``, once an epoch or a batch, as the schedule means it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..errors import ArgumentError, ArgumentTypeError, NameRefusedError, text
from .optimizer import Group, Optimizer


class LRScheduler:
    """Base of the schedules: counts steps and writes what ``get_lr`` says into the groups.

    Args:
        optimizer: whose groups it changes.
        last_epoch: the number of the step before; -1 to begin.

    Raises:
        ArgumentTypeError: if optimizer is none.
        NameRefusedError: (a KeyError) when resuming with groups that have no 'initial_lr'.
    """

    def __init__(self, optimizer: Any, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            got = f"{type(optimizer).__name__} is not an Optimizer"
            raise ArgumentTypeError(text(type(self).__name__, got, "a schedule changes an optimiser's groups"))
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                got = f"param 'initial_lr' is not specified in param_groups[{i}]"
                raise NameRefusedError(text(type(self).__name__, got, "it is needed when resuming"))
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def get_lr(self) -> list[float]:
        """The learning rate of each group at ``last_epoch``, often from the one that stands there."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The learning rates that the last step set."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next step, or to ``epoch``, and set the learning rates."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._last_lr: list[float] = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    """The initial rate times what a function says of the step.

    Args:
        optimizer: whose groups it changes.
        lr_lambda: a function of the step, or one for each group.
        last_epoch: the number of the step before; -1 to begin.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        count = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != count:
            got = f"got {len(self.lr_lambdas)} functions"
            raise ArgumentError(text("LambdaLR", got, f"expected {count} lr_lambdas, one a group"))
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The initial rates times the functions' values."""
        pairs = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [base * function(self.last_epoch) for base, function in pairs]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser and the functions."""
        return {name: value for name, value in super().state_dict().items() if name != "lr_lambdas"}


class StepLR(LRScheduler):
    """Times gamma every ``step_size`` steps.

    Example:
        >>> import konv
        >>> optimizer = konv.optim.SGD([konv.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = konv.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        >>> for _ in range(4):
        ...     schedule.step()
        >>> optimizer.param_groups[0]["lr"]
        0.25
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if step_size <= 0:
            raise ArgumentError(text("StepLR", f"step_size={step_size}", "it must be positive"))
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates, times gamma if a multiple of step_size is reached."""
        due = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return [lr * self.gamma if due else lr for lr in self._rates()]


class MultiStepLR(LRScheduler):
    """Times gamma at each of ``milestones``."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates, times gamma as often as the step is among the milestones."""
        return [lr * self.gamma ** self.milestones[self.last_epoch] for lr in self._rates()]


class ExponentialLR(LRScheduler):
    """Times gamma at every step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates times gamma."""
        return [lr * self.gamma if self.last_epoch > 0 else lr for lr in self._rates()]


class LinearLR(LRScheduler):
    """From ``start_factor`` of the initial rate to ``end_factor`` of it in ``total_iters`` equal steps: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ArgumentError(text("LinearLR", f"start_factor={start_factor}", "it must lie in (0, 1]"))
        if not 0 <= end_factor <= 1:
            raise ArgumentError(text("LinearLR", f"end_factor={end_factor}", "it must lie in [0, 1]"))
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self, step: int) -> float:
        return (
            self.start_factor + (self.end_factor - self.start_factor) * min(step, self.total_iters) / self.total_iters
        )

    def get_lr(self) -> list[float]:
        """The rates times the ratio of this step's factor to the one before."""
        if self.last_epoch > self.total_iters:
            return self._rates()
        before = 1.0 if self.last_epoch == 0 else self._factor(self.last_epoch - 1)
        return [lr * self._factor(self.last_epoch) / before for lr in self._rates()]


class CosineAnnealingLR(LRScheduler):
    """Down half a cosine from the initial rate to ``eta_min`` in ``T_max`` steps, and up again.

    Source: I. Loshchilov and F. Hutter, SGDR: stochastic gradient descent with warm restarts (2017), without restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates, moved from the last point of the cosine to this one."""
        step, length, least = self.last_epoch, self.T_max, self.eta_min
        if step == 0:
            return self._rates()
        if (step - 1 - length) % (2 * length) == 0:  # leaving the bottom, where the ratio below has no value
            rise = (1 - math.cos(math.pi / length)) / 2
            return [lr + (base - least) * rise for base, lr in zip(self.base_lrs, self._rates(), strict=True)]
        ratio = (1 + math.cos(math.pi * step / length)) / (1 + math.cos(math.pi * (step - 1) / length))
        return [ratio * (lr - least) + least for lr in self._rates()]


class OneCycleLR(LRScheduler):
    """Up from ``max_lr / div_factor`` to ``max_lr``, then down to far below, with momentum going the other way.

    Args:
        optimizer: whose groups it changes.
        max_lr: the top, one number or one a group.
        total_steps: length of the cycle; or ``epochs`` times ``steps_per_epoch``.
        epochs: number of epochs.
        steps_per_epoch: steps of each.
        pct_start: the share of the cycle that goes up.
        anneal_strategy: 'cos' or 'linear'.
        cycle_momentum: whether momentum (or Adam's first beta) moves too.
        base_momentum: momentum at the top.
        max_momentum: momentum at the ends.
        div_factor: the top over the start.
        final_div_factor: the start over the end.
        three_phase: go down to the start first, then on to the end.
        last_epoch: the number of the step before; -1 to begin.

    Raises:
        ArgumentError: if the length is not given, or a value is out of range.

    Source: L. Smith and N. Topin, Super-convergence: very fast training of neural networks (2018).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None and epochs is not None and steps_per_epoch is not None:
            total_steps = epochs * steps_per_epoch
        if not isinstance(total_steps, int) or total_steps <= 0:
            rule = "give a positive total_steps, or epochs and steps_per_epoch"
            raise ArgumentError(text("OneCycleLR", f"total_steps={total_steps}", rule))
        if not 0 <= pct_start <= 1:
            raise ArgumentError(text("OneCycleLR", f"pct_start={pct_start}", "it must lie in [0, 1]"))
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(text("OneCycleLR", f"anneal_strategy={anneal_strategy!r}", "it is 'cos' or 'linear'"))
        self.total_steps, self.anneal_strategy, self.cycle_momentum = total_steps, anneal_strategy, cycle_momentum
        first = float(pct_start * total_steps) - 1
        # (last step, rate from, rate to, momentum from, momentum to)
        up = (first, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        if three_phase:
            down = (2 * first, "max_lr", "initial_lr", "base_momentum", "max_momentum")
            self._phases = [up, down, (total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum")]
        else:
            self._phases = [up, (total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum")]
        if last_epoch == -1:
            self._prepare(optimizer, max_lr, div_factor, final_div_factor, base_momentum, max_momentum)
        super().__init__(optimizer, last_epoch)

    def _prepare(
        self, optimizer: Optimizer, max_lr: Any, div: float, final_div: float, least: float, most: float
    ) -> None:
        groups = optimizer.param_groups
        tops = list(max_lr) if isinstance(max_lr, (list, tuple)) else [max_lr] * len(groups)
        if len(tops) != len(groups):
            raise ArgumentError(text("OneCycleLR", f"{len(tops)} values for max_lr", f"expected {len(groups)}"))
        if self.cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            rule = "the optimiser must have momentum or betas for cycle_momentum"
            raise ArgumentError(text("OneCycleLR", type(optimizer).__name__, rule))
        for group, top in zip(groups, tops, strict=True):
            group.update(initial_lr=top / div, max_lr=top, min_lr=top / div / final_div)
            if self.cycle_momentum:
                group.update(base_momentum=least, max_momentum=most)
                _set_momentum(group, most)

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * share + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)

    def get_lr(self) -> list[float]:
        """The rates of this step; momentum is set on the way.

        Raises:
            ArgumentError: past the end of the cycle.
        """
        step = self.last_epoch
        if step > self.total_steps:
            rule = f"the specified number of total steps is {self.total_steps}"
            raise ArgumentError(text("OneCycleLR", f"Tried to step {step} times", rule))
        rates = []
        for group in self.optimizer.param_groups:
            begin = 0.0
            for phase in self._phases:
                end, *names = phase
                if step <= end or phase is self._phases[-1]:
                    break
                begin = end
            share = (step - begin) / (end - begin)
            start, stop, momentum, momentum_stop = (group.get(name, 0.0) for name in names)
            rates.append(self._between(start, stop, share))
            if self.cycle_momentum:
                _set_momentum(group, self._between(momentum, momentum_stop, share))
        return rates


def _set_momentum(group: Group, value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


class ReduceLROnPlateau:
    """Times ``factor`` when a measure has not improved for more than ``patience`` steps; ``step(measure)``.

    Args:
        optimizer: whose groups it changes.
        mode: 'min' if less is better, 'max' if more is.
        factor: what the rates are multiplied by, less than 1.
        patience: steps without improvement that are borne.
        threshold: how much counts as improvement.
        threshold_mode: 'rel' (a share of the best) or 'abs'.
        cooldown: steps after a reduction in which nothing is counted.
        min_lr: the least rate.
        eps: changes of the rate below this are left out.

    Raises:
        ArgumentError: if factor is not below 1, or a mode is unknown.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        who = "ReduceLROnPlateau"
        if factor >= 1.0:
            raise ArgumentError(text(who, f"factor={factor}", "it should be < 1.0"))
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            got = f"mode={mode!r}, threshold_mode={threshold_mode!r}"
            raise ArgumentError(text(who, got, "mode is 'min' or 'max', threshold_mode 'rel' or 'abs'"))
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        self.min_lr, self.eps = min_lr, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0
        self._last_lr = [group["lr"] for group in optimizer.param_groups]

    def step(self, metrics: Any) -> None:
        """Look at the measure (a number or a 0-dim tensor) and reduce the rates if it is time."""
        current = float(metrics)
        self.last_epoch += 1
        if self._better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group in self.optimizer.param_groups:
                lower = max(group["lr"] * self.factor, self.min_lr)
                if group["lr"] - lower > self.eps:
                    group["lr"] = lower
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _better(self, value: float) -> bool:
        sign = 1.0 if self.mode == "min" else -1.0
        if math.isinf(self.best):
            return sign * value < sign * self.best
        margin = self.threshold * (self.best if self.threshold_mode == "rel" else 1.0)
        return sign * value < sign * self.best - margin

    def get_last_lr(self) -> list[float]:
        """The learning rates that the last step set."""
        return self._last_lr

    state_dict = LRScheduler.state_dict
    load_state_dict = LRScheduler.load_state_dict
