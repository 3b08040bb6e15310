"""``Module``: parameters, buffers and children under names, and the call.

Four parts stand in files of their own: ``hooks`` (functions around forward and backward), ``state`` (state dicts),
``casts`` (dtype and device) and ``blame`` (which layer an error came from).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..errors import (
    ArgumentError,
    ArgumentTypeError,
    KonvError,
    MissingAttributeError,
    NameRefusedError,
    UnsupportedError,
    text,
)
from ..tensor import Tensor
from .blame import calls, note
from .casts import Casts
from .hooks import HookPoints
from .parameter import Buffer, Parameter
from .state import StateDict

Self = TypeVar("Self", bound="Module")
_PARTS = ("_parameters", "_buffers", "_modules")


class Module(HookPoints, StateDict, Casts):
    """Base of every layer and model: assign parameters and modules as attributes, and write ``forward``.

    Example:
        >>> import konv
        >>> class Twice(konv.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.scale = konv.nn.Parameter(konv.tensor(2.0))
        ...     def forward(self, x):
        ...         return x * self.scale
        >>> model = Twice()
        >>> [name for name, _ in model.named_parameters()]
        ['scale']
        >>> model(konv.ones(2)).tolist()
        [2.0, 2.0]
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers_set: set[str]

    def __init__(self) -> None:
        # Straight into __dict__: __setattr__ would look each name up in dicts that are not there yet.
        self.__dict__["training"] = True
        for name in _PARTS:
            self.__dict__[name] = {}
        self.__dict__["_non_persistent_buffers_set"] = set()
        self._make_hooks()

    # --- the call ---

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The work of the module; every subclass writes its own."""
        got = f"{type(self).__name__} has no forward"
        raise UnsupportedError(text("Module", got, "a module computes in its forward method", "define forward"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # The hot path of every layer: a microsecond here is a microsecond of each small convolution.
        running = calls.entries
        start = len(running)
        running.append(self)
        try:
            if self._forward_pre_hooks or self._forward_hooks or self._backward_hooks or self._backward_pre_hooks:
                output = self._forward_among_hooks(*args, **kwargs)
            elif kwargs or len(args) != 1:
                output = self.forward(*args, **kwargs)
            else:
                output = self.forward(args[0])  # nearly every call, and 0.2 us quicker
        except BaseException as error:
            if isinstance(error, KonvError):
                note(error, self, args, running[start + 1 :])
            del running[start:]
            raise
        if start:
            array = getattr(output, "_array", None)
            running.append((self, None if array is None else array.shape))
        else:
            running.clear()
        return output

    # --- names ---

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Put a parameter under a name.

        Raises:
            NameRefusedError: (a KeyError) if the name is empty, has a dot, or is taken by something else.
            ArgumentTypeError: if it is not a Parameter, or the name not a string.
            ArgumentError: if the parameter was computed from other tensors.
        """
        self._check_name("parameter", name, "_parameters")
        if param is not None and not isinstance(param, Parameter):
            raise ArgumentTypeError(_cannot(param, f"parameter '{name}'", "konv.nn.Parameter or None is required"))
        if param is not None and param.grad_fn is not None:
            rule = "a parameter must be a leaf, not the result of other tensors"
            fix = "compute the value in forward instead"
            raise ArgumentError(text(type(self).__name__, f"parameter '{name}' is not a leaf", rule, fix))
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Put a tensor under a name that is no parameter; it goes into the state dict if ``persistent``.

        Raises:
            NameRefusedError: (a KeyError) if the name is empty, has a dot, or is taken by something else.
            ArgumentTypeError: if it is not a Tensor, or the name not a string.
        """
        self._check_name("buffer", name, "_buffers")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise ArgumentTypeError(_cannot(tensor, f"buffer '{name}'", "konv.Tensor or None is required"))
        self._buffers[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Put a child module under a name.

        Raises:
            NameRefusedError: (a KeyError) if the name is empty, has a dot, or is taken by something else.
            ArgumentTypeError: if it is not a Module, or the name not a string.
        """
        if module is not None and not isinstance(module, Module):
            raise ArgumentTypeError(text("add_module", f"got {type(module).__name__}", "a Module or None is required"))
        self._check_name("module", name, "_modules")
        self._modules[name] = module

    register_module = add_module

    def _check_name(self, kind: str, name: str, part: str) -> None:
        who = type(self).__name__
        if part not in self.__dict__:
            raise MissingAttributeError(f"cannot assign {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise ArgumentTypeError(text(who, f"{kind} name is a {type(name).__name__}", "it must be a string"))
        if "." in name:
            raise NameRefusedError(text(who, f'{kind} name can\'t contain "."', f"got '{name}'"))
        if name == "":
            raise NameRefusedError(text(who, f'{kind} name can\'t be empty string ""', ""))
        if hasattr(self, name) and name not in self.__dict__[part]:
            raise NameRefusedError(text(who, f"attribute '{name}' already exists", ""))

    def __getattr__(self, name: str) -> Any:
        # Parameters first and without a loop: every layer reads its weight here at every call.
        own = self.__dict__
        if "_parameters" in own:
            if name in own["_parameters"]:
                return own["_parameters"][name]
            if name in own["_buffers"]:
                return own["_buffers"][name]
            if name in own["_modules"]:
                return own["_modules"][name]
        raise MissingAttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if isinstance(value, Parameter):
            self._need_init("parameters")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._need_init("module")
            self._forget(name, "_modules")
            self._modules[name] = value
        elif isinstance(value, Buffer):
            self._need_init("buffer")
            self._forget(name, "_buffers")
            self.register_buffer(name, value, value.persistent)
        elif name in own.get("_parameters", ()):
            if value is not None:
                raise ArgumentTypeError(_cannot(value, f"parameter '{name}'", "konv.nn.Parameter or None expected"))
            self._parameters[name] = None
        elif name in own.get("_modules", ()):
            if value is not None:
                raise ArgumentTypeError(_cannot(value, f"child module '{name}'", "konv.nn.Module or None expected"))
            self._modules[name] = None
        elif name in own.get("_buffers", ()):
            if value is not None and not isinstance(value, Tensor):
                raise ArgumentTypeError(_cannot(value, f"buffer '{name}'", "konv.Tensor or None expected"))
            self._buffers[name] = value
        else:
            object.__setattr__(self, name, value)

    def _need_init(self, kind: str) -> None:
        if "_modules" not in self.__dict__:
            raise MissingAttributeError(f"cannot assign {kind} before Module.__init__() call")

    def _forget(self, name: str, keep: str) -> None:
        """Take the name out of every place but ``keep``."""
        self.__dict__.pop(name, None)
        for part in _PARTS:
            if part != keep:
                self.__dict__[part].pop(name, None)
        if keep != "_buffers":
            self._non_persistent_buffers_set.discard(name)

    def __delattr__(self, name: str) -> None:
        for part in _PARTS:
            if name in self.__dict__.get(part, ()):
                del self.__dict__[part][name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = {*object.__dir__(self), *self._parameters, *self._buffers, *self._modules}
        return sorted(name for name in names if not name[0].isdigit())

    # --- walks ---

    def named_modules(
        self, memo: set[Any] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, parents first, each with its path; a shared one once."""
        seen = set() if memo is None else memo
        todo: list[tuple[str, Module]] = [(prefix, self)]
        while todo:
            path, module = todo.pop()
            if remove_duplicate:
                if module in seen:
                    continue
                seen.add(module)
            yield path, module
            dot = path + "." if path else ""
            below = [(dot + name, child) for name, child in module._modules.items() if child is not None]
            todo.extend(reversed(below))

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """``named_modules`` without the names."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules right below this one; a shared one once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """``named_children`` without the names."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, part: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[Any]:
        seen = set()
        below = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in below:
            for name, value in module.__dict__[part].items():
                if value is None or (remove_duplicate and id(value) in seen):
                    continue
                seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with their paths; those of children too if ``recurse``, shared ones once."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """``named_parameters`` without the names."""
        for _, value in self.named_parameters(recurse=recurse):
            yield value

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with their paths; those of children too if ``recurse``, shared ones once."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """``named_buffers`` without the names."""
        for _, value in self.named_buffers(recurse=recurse):
            yield value

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as ``'features.3'``.

        Raises:
            MissingAttributeError: (an AttributeError) if there is none.
        """
        module: Module = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise MissingAttributeError(f"{module._get_name()} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise MissingAttributeError(f"`{name}` is not an nn.Module")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path; MissingAttributeError if there is none."""
        return self._get_member(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a path; MissingAttributeError if there is none."""
        return self._get_member(target, "_buffers", "a buffer")

    def _get_member(self, target: str, part: str, what: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise MissingAttributeError(f"{module._get_name()} has no attribute `{name}`")
        if name not in module.__dict__[part]:
            raise MissingAttributeError(f"`{name}` is not {what}")
        return module.__dict__[part][name]

    # --- changes to the whole tree ---

    def apply(self: Self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every module, children first."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self: Self, mode: bool = True) -> Self:
        """Set training mode here and below (Dropout and BatchNorm behave differently)."""
        if not isinstance(mode, bool):
            raise ArgumentError(text("train", f"mode={mode!r}", "training mode is expected to be boolean"))
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: Self) -> Self:
        """``train(False)``."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Set whether gradients are recorded for every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of every parameter, or fill them with zeros."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else parameter.grad.detach().clone().zero_()

    # --- shown ---

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands between the brackets before the children."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        if len(lines) <= 1 and not self._modules:
            return f"{self._get_name()}({extra})"
        lines += [f"({name}): " + indent(repr(module)) for name, module in self._modules.items()]
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


def indent(shown: str) -> str:
    """Two spaces before every line but the first."""
    return shown.replace("\n", "\n  ")


def _cannot(value: Any, place: str, rule: str) -> str:
    return text("Module", f"cannot assign '{type(value).__name__}' object to {place}", rule)
