"""``Optimizer``: parameters in groups with their options, and the state that belongs to each parameter.

The arithmetic of a step runs on NumPy arrays in place: there is nothing to differentiate, and no tensor operation's
overhead a parameter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from itertools import chain, count
from typing import Any

import numpy as np

from ..autograd import enable_grad
from ..errors import ArgumentError, ArgumentTypeError, text
from ..tensor import Tensor

Array = np.ndarray[Any, Any]
Group = dict[str, Any]
_hook_ids = count()


class Optimizer:
    """Base of the optimisers.

    Args:
        params: parameters, (name, parameter) pairs, or dicts with 'params' and options of their own.
        defaults: the options of groups that do not set them.

    Raises:
        ArgumentTypeError: if params is one tensor, or has things that are no tensors.
        ArgumentError: if there are none, one stands twice, or one is not a leaf.
    """

    def __init__(self, params: Iterable[Any], defaults: Group) -> None:
        who = type(self).__name__
        if isinstance(params, (Tensor, str, Mapping)):
            rule = "params is an iterable of tensors or of dicts"
            raise ArgumentTypeError(text(who, f"params is a {type(params).__name__}", rule, "pass model.parameters()"))
        self.defaults = defaults
        self.state: dict[Any, dict[str, Any]] = {}
        self.param_groups: list[Group] = []
        self._pre_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        self._post_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        given = list(params)
        if not given:
            raise ArgumentError(text(who, "optimizer got an empty parameter list", "there is nothing to optimise"))
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with their own options, such as freshly unfrozen layers.

        Raises:
            ArgumentError: if an option without a default is missing, or a parameter is in a group already.
        """
        who = type(self).__name__
        if not isinstance(param_group, dict):
            raise ArgumentTypeError(text(who, f"a group is a {type(param_group).__name__}", "it must be a dict"))
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, set):
            rule = "sets have no order, so states would be mixed up"
            raise ArgumentTypeError(text(who, "params is a set", rule, "pass a list"))
        params = [params] if isinstance(params, Tensor) else list(params)
        if params and isinstance(params[0], tuple):
            group["param_names"] = [name for name, _ in params]
            params = [param for _, param in params]
        for param in params:
            if not isinstance(param, Tensor):
                got = f"can't optimize a {type(param).__name__}"
                raise ArgumentTypeError(text(who, got, "parameters are tensors"))
            if not param.is_leaf:
                raise ArgumentError(text(who, "can't optimize a non-leaf Tensor", "parameters are not results"))
        held = {id(p) for known in self.param_groups for p in known["params"]}
        ids = [id(param) for param in params]
        if len(set(ids)) != len(ids) or held.intersection(ids):
            rule = "some parameters appear in more than one parameter group, or twice in one"
            raise ArgumentError(text(who, rule, "each parameter may be given once"))
        group["params"] = params
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self._check(group)
        self.param_groups.append(group)

    def _check(self, group: Group) -> None:
        """Refuse options out of range; subclasses say which."""

    def _refuse(self, name: str, value: Any, rule: str) -> None:
        raise ArgumentError(text(type(self).__name__, f"Invalid {name}: {value}", rule))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.grad = None if set_to_none else param.grad.detach().clone().zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients anew, if given.

        Returns:
            What closure returned.
        """
        for hook in list(self._pre_hooks.values()):
            hook(self, (closure,), {})
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param._grad is not None and not param._meta:
                    with np.errstate(all="ignore"):
                        self._step_one(param, group)
                    param._counter.value += 1  # saved tensors and packed weights of this memory are stale now
        for hook in list(self._post_hooks.values()):
            hook(self, (closure,), {})
        return loss

    def _step_one(self, param: Tensor, group: Group) -> None:
        raise NotImplementedError

    def _kept(self, param: Tensor, names: Iterable[str]) -> dict[str, Any]:
        """The state of a parameter, made of zeros at first."""
        state = self.state.get(param)
        if state is None:
            state = self.state[param] = {}
        for name in names:
            if name not in state:
                state[name] = Tensor._wrap(np.zeros(param._array.shape, param._array.dtype), param._dtype)
        return state

    # --- hooks ---

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> Any:
        """Call ``hook(optimizer, args, kwargs)`` before each step; returns a handle with ``remove()``."""
        return _Handle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> Any:
        """Call ``hook(optimizer, args, kwargs)`` after each step; returns a handle with ``remove()``."""
        return _Handle(self._post_hooks, hook)

    # --- state ---

    def state_dict(self) -> dict[str, Any]:
        """The states and options, with numbers in the place of parameters."""
        params = list(chain.from_iterable(group["params"] for group in self.param_groups))
        number = {id(param): i for i, param in enumerate(params)}
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        state = {number[id(param)]: values for param, values in self.state.items() if id(param) in number}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take states and options of an optimiser over the same parameters in the same order; tensors are copied.

        Raises:
            ArgumentError: if the groups differ in number or size.
        """
        who = type(self).__name__
        groups = deepcopy(list(state_dict["param_groups"]))
        if len(groups) != len(self.param_groups):
            got = f"loaded state dict has a different number of parameter groups: {len(groups)}"
            raise ArgumentError(text(who, got, f"here there are {len(self.param_groups)}"))
        for mine, loaded in zip(self.param_groups, groups, strict=True):
            if len(mine["params"]) != len(loaded["params"]):
                got = "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
                raise ArgumentError(text(who, got, f"{len(loaded['params'])} against {len(mine['params'])}"))
        numbers = chain.from_iterable(group["params"] for group in groups)
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        owner = dict(zip(numbers, params, strict=True))
        self.state = {
            owner[key]: {name: _copied(value, owner[key]) for name, value in values.items()}
            for key, values in state_dict["state"].items()
            if key in owner
        }
        for mine, loaded in zip(self.param_groups, groups, strict=True):
            loaded["params"] = mine["params"]
        self.param_groups = groups

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


class _Handle:
    def __init__(self, hooks: OrderedDict[int, Callable[..., Any]], hook: Callable[..., Any]) -> None:
        self._hooks, self._id = hooks, next(_hook_ids)
        hooks[self._id] = hook

    def remove(self) -> None:
        self._hooks.pop(self._id, None)


def _copied(value: Any, param: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return deepcopy(value)
    copied = value.detach().clone()
    return copied.to(param.dtype) if value.shape == param.shape else copied


def real_parts(array: Array) -> list[Array]:
    """A real array itself, or views of a complex one's real and imaginary parts, which are optimised apart."""
    if array.ndim == 0:
        array = array.reshape(1)  # arithmetic on 0-dim arrays gives numbers, which cannot be written to
    return [array.real, array.imag] if array.dtype.kind == "c" else [array]


class Work:
    """Arrays of one parameter as a step works on them: 16-bit dtypes in float32, written back by ``done``.

    Example:
        >>> import numpy as np
        >>> from konv.optim.optimizer import Work
        >>> half = np.ones(2, np.float16)
        >>> work = Work(half)
        >>> _ = np.add(work.arrays[0], 1, out=work.arrays[0])
        >>> work.done()
        >>> half
        array([2., 2.], dtype=float16)
    """

    def __init__(self, *arrays: Array) -> None:
        self.originals = arrays
        self.half = arrays[0].dtype.itemsize == 2
        self.arrays = tuple(array.astype(np.float32) for array in arrays) if self.half else arrays

    def done(self) -> None:
        """Round what was worked on back into the arrays."""
        if self.half:
            for original, array in zip(self.originals, self.arrays, strict=True):
                original[...] = array
