"""The part of ``Module`` that writes its values into a dict and takes them from one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..autograd import no_grad
from ..errors import ArgumentTypeError, StateError, UnsupportedError, text
from ..tensor import Tensor
from .hooks import Hook, RemovableHandle, hang
from .parameter import Parameter

EXTRA = "_extra_state"
"""The key, after a module's prefix, of what ``get_extra_state`` returns."""


class IncompatibleKeys(NamedTuple):
    """What a state dict lacked and what it had too much."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Metadata(OrderedDict[str, Any]):
    """A state dict: an ordered dict with room for the version of each module's layout."""

    _metadata: Any


class StateDict:
    """``state_dict`` and ``load_state_dict``."""

    _version = 1
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]
    _state_dict_hooks: dict[int, Hook]
    _state_dict_pre_hooks: dict[int, Hook]
    _load_state_dict_pre_hooks: dict[int, Hook]
    _load_state_dict_post_hooks: dict[int, Hook]

    # --- out ---

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """Every parameter and persistent buffer under its path; they share memory with the module.

        Args:
            destination: a dict to write into, or None for a new one.
            prefix: what to put before every path.
            keep_vars: whether to give the parameters themselves, not detached tensors.
        """
        if destination is None:
            destination = Metadata()
            destination._metadata = OrderedDict()
        local = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            hook(self, destination, prefix, local)
        return destination

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in self._own_state().items():
            destination[prefix + name] = value if keep_vars else value.detach()
        if type(self).get_extra_state is not StateDict.get_extra_state:
            destination[prefix + EXTRA] = self.get_extra_state()

    def _own_state(self) -> dict[str, Any]:
        kept = {name: b for name, b in self._buffers.items() if name not in self._non_persistent_buffers_set}
        return {name: value for name, value in (*self._parameters.items(), *kept.items()) if value is not None}

    def get_extra_state(self) -> Any:
        """What else a subclass wants kept in the state dict; it then defines ``set_extra_state`` too."""
        raise UnsupportedError(text(type(self).__name__, "has no get_extra_state", "a subclass may define it"))

    def set_extra_state(self, state: Any) -> None:
        """Take back what ``get_extra_state`` gave."""
        raise UnsupportedError(text(type(self).__name__, "has no set_extra_state", "define it with get_extra_state"))

    # --- in ---

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> IncompatibleKeys:
        """Copy values from a dict into this module and those below.

        Args:
            state_dict: path to tensor (or NumPy array).
            strict: whether missing and unexpected keys are an error.
            assign: put the tensors themselves in the place of the old ones, and keep their dtype and device.

        Returns:
            The missing and the unexpected keys.

        Raises:
            StateError: naming every missing, unexpected and mis-shaped key.
            ArgumentTypeError: if it is not a mapping.
        """
        if not isinstance(state_dict, Mapping):
            got = f"got {type(state_dict).__name__}"
            raise ArgumentTypeError(text("load_state_dict", got, "expected state_dict to be dict-like"))
        missing: list[str] = []
        unexpected: list[str] = []
        problems: list[str] = []
        versions = getattr(state_dict, "_metadata", None)
        copied = Metadata(state_dict)  # hooks may rename keys without touching the caller's dict
        if versions is not None:
            copied._metadata = versions
        self._load_below(copied, "", versions or {}, assign, missing, unexpected, problems)
        if strict and unexpected:
            problems.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
        if strict and missing:
            problems.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
        if problems:
            report = "\n\t".join(problems)
            raise StateError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{report}")
        return IncompatibleKeys(missing, unexpected)

    def _load_below(
        self,
        state: dict[str, Any],
        prefix: str,
        versions: Mapping[str, Any],
        assign: bool,
        missing: list[str],
        unexpected: list[str],
        problems: list[str],
    ) -> None:
        local = dict(versions.get(prefix[:-1], {}))
        if assign:
            local["assign_to_params_buffers"] = True
        self._load_from_state_dict(state, prefix, local, True, missing, unexpected, problems)
        for name, child in self._modules.items():
            if child is not None:
                inner = f"{prefix}{name}."
                part = {key: value for key, value in state.items() if key.startswith(inner)}
                child._load_below(part, inner, versions, assign, missing, unexpected, problems)
        for hook in self._load_state_dict_post_hooks.values():
            if hook(self, IncompatibleKeys(missing, unexpected)) is not None:
                rule = "a load_state_dict post hook changes the lists it is given and returns None"
                raise ArgumentTypeError(text("load_state_dict", "a post hook returned a value", rule))

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load this module alone; subclasses extend it to read the layouts of older versions."""
        for hook in self._load_state_dict_pre_hooks.values():
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        assign = bool(local_metadata.get("assign_to_params_buffers", False))
        own = self._own_state()
        for name, target in own.items():
            key = prefix + name
            if key in state_dict:
                problem = self._load_one(name, key, target, state_dict[key], assign)
                if problem:
                    error_msgs.append(problem)
            elif strict:
                missing_keys.append(key)
        has_extra = type(self).set_extra_state is not StateDict.set_extra_state
        if has_extra and prefix + EXTRA in state_dict:
            self.set_extra_state(state_dict[prefix + EXTRA])
        elif has_extra and strict:
            missing_keys.append(prefix + EXTRA)
        if strict:
            for key in state_dict:
                first, dot, _ = key[len(prefix) :].partition(".")
                known = first in self._modules if dot else (first in own or (has_extra and first == EXTRA))
                if key.startswith(prefix) and not known:
                    unexpected_keys.append(key)

    def _load_one(self, name: str, key: str, target: Tensor, value: Any, assign: bool) -> str:
        """Load one tensor; what went wrong, or an empty string."""
        if not isinstance(value, Tensor):
            if not hasattr(value, "__array__") and not hasattr(value, "__dlpack__"):
                kind = type(value).__name__
                return f'While copying the parameter named "{key}", expected a Tensor or an array but received {kind}.'
            from ..ops.creation import as_tensor

            value = as_tensor(value)
        if target.ndim == 0 and tuple(value.shape) == (1,):
            value = value[0]  # PyTorch wrote 0-dim tensors like this once
        if tuple(value.shape) != tuple(target.shape):
            return (
                f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, "
                f"the shape in current model is {target.shape}."
            )
        try:
            with no_grad():
                if not assign:
                    target.copy_(value)
                elif isinstance(target, Parameter):
                    loaded = value if isinstance(value, Parameter) else Parameter(value, target.requires_grad)
                    setattr(self, name, loaded.requires_grad_(target.requires_grad))
                else:
                    setattr(self, name, value)
        except (RuntimeError, TypeError, ValueError) as error:
            return f'While copying the parameter named "{key}" of shape {target.shape}, this went wrong: {error}.'
        return ""

    # --- hooks ---

    def register_state_dict_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before the state is written."""
        return hang(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after the state is written."""
        return hang(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, ...)`` before loading; it may change what it is given.

        After those come local_metadata, strict, missing_keys, unexpected_keys and error_msgs.
        """
        return hang(self._load_state_dict_pre_hooks, _WithModule(hook, self))

    def register_load_state_dict_post_hook(self, hook: Hook) -> RemovableHandle:
        """After loading, call ``hook(module, incompatible_keys)``; it may change the lists."""
        return hang(self._load_state_dict_post_hooks, hook)


class _WithModule:
    """A hook with its module put before the arguments (a class, so that it can be pickled and copied)."""

    def __init__(self, hook: Callable[..., Any], module: Any) -> None:
        self.hook, self.module = hook, module

    def __call__(self, *args: Any) -> Any:
        return self.hook(self.module, *args)


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)
