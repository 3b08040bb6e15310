"""Functions that a user hangs into a module: before and after forward, and around backward."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Any

from ..autograd import Function, is_grad_enabled
from ..errors import ArgumentTypeError, text
from ..tensor import Tensor

Hook = Callable[..., Any]
_ids = count()


class RemovableHandle:
    """Takes one hook out again: by ``remove()``, or at the end of a ``with`` block."""

    def __init__(self, hooks: dict[int, Hook], *others: dict[int, Any]) -> None:
        self.id = next(_ids)
        self._dicts = [weakref.ref(d) for d in (hooks, *others) if isinstance(d, OrderedDict)]

    def remove(self) -> None:
        """Take the hook out; once is enough, twice does no harm."""
        for reference in self._dicts:
            hooks = reference()
            if hooks is not None:
                hooks.pop(self.id, None)

    def __reduce__(self) -> Any:
        return _loose_handle, (self.id,)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


def _loose_handle(number: int) -> RemovableHandle:
    """A handle read from a pickle: its hooks are elsewhere, so it removes nothing."""
    handle = RemovableHandle({})
    handle.id = number
    return handle


def hang(hooks: dict[int, Hook], hook: Hook, prepend: bool = False, **marks: dict[int, bool]) -> RemovableHandle:
    """Put ``hook`` into ``hooks``; each of ``marks`` is a dict in which it gets True.

    Raises:
        ArgumentTypeError: if the hook cannot be called.
    """
    if not callable(hook):
        raise ArgumentTypeError(text("hook", f"got {type(hook).__name__}", "it must be callable"))
    handle = RemovableHandle(hooks, *marks.values())
    hooks[handle.id] = hook
    for mark in marks.values():
        mark[handle.id] = True
    if prepend:
        hooks.move_to_end(handle.id, last=False)  # type: ignore[attr-defined]
    return handle


class HookPoints:
    """The part of ``Module`` that registers hooks and calls forward among them."""

    forward: Callable[..., Any]
    _forward_hooks: dict[int, Hook]
    _forward_pre_hooks: dict[int, Hook]
    _backward_hooks: dict[int, Hook]
    _backward_pre_hooks: dict[int, Hook]
    _with_kwargs: dict[int, bool]
    _always_called: dict[int, bool]

    def _make_hooks(self) -> None:
        for name in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_backward_hooks",
            "_backward_pre_hooks",
            "_with_kwargs",
            "_always_called",
            "_state_dict_hooks",
            "_state_dict_pre_hooks",
            "_load_state_dict_pre_hooks",
            "_load_state_dict_post_hooks",
        ):
            self.__dict__[name] = OrderedDict()

    def register_forward_pre_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before forward; what it returns (if not None) becomes the arguments.

        Args:
            hook: the function; ``hook(module, args, kwargs)``, returning both, if ``with_kwargs``.
            prepend: whether it comes before the hooks that are there already.
            with_kwargs: whether it gets the keyword arguments.
        """
        marks = {"kwargs": self._with_kwargs} if with_kwargs else {}
        return hang(self._forward_pre_hooks, hook, prepend, **marks)

    def register_forward_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after forward; what it returns (if not None) becomes the output.

        Args:
            hook: the function; ``hook(module, args, kwargs, output)`` if ``with_kwargs``.
            prepend: whether it comes before the hooks that are there already.
            with_kwargs: whether it gets the keyword arguments.
            always_call: whether it is called (with None) even when forward raises.
        """
        marks = {"kwargs": self._with_kwargs} if with_kwargs else {}
        if always_call:
            marks["always"] = self._always_called
        return hang(self._forward_hooks, hook, prepend, **marks)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` once the gradients of the inputs are known.

        What it returns (if not None) takes the place of ``grad_input``.
        """
        return hang(self._backward_hooks, hook, prepend)

    def register_full_backward_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before backward; what it returns (if not None) replaces the gradients."""
        return hang(self._backward_pre_hooks, hook, prepend)

    def _forward_among_hooks(self, *args: Any, **kwargs: Any) -> Any:
        called = False
        try:
            for key, hook in list(self._forward_pre_hooks.items()):
                args, kwargs = self._changed(hook, key in self._with_kwargs, args, kwargs)
            taps = Taps(self) if self._backward_hooks or self._backward_pre_hooks else None
            if taps is not None:
                args = taps.on_inputs(args)
            output = self.forward(*args, **kwargs)
            called = True
            output = self._after_forward(args, kwargs, output)
            return output if taps is None else taps.on_outputs(output)
        except BaseException:
            if not called and self._always_called:
                self._after_forward(args, kwargs, None, only=self._always_called)
            raise

    def _after_forward(self, args: Any, kwargs: Any, output: Any, only: Any = None) -> Any:
        for key, hook in list(self._forward_hooks.items()):
            if only is not None and key not in only:
                continue
            result = hook(self, args, kwargs, output) if key in self._with_kwargs else hook(self, args, output)
            output = output if result is None else result
        return output

    def _changed(self, hook: Hook, with_kwargs: bool, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if not with_kwargs:
            result = hook(self, args)
            if result is None:
                return args, kwargs
            return (result if isinstance(result, tuple) else (result,)), kwargs
        result = hook(self, args, kwargs)
        if result is None:
            return args, kwargs
        if not (isinstance(result, tuple) and len(result) == 2):
            rule = "a hook with_kwargs returns None or a pair (args, kwargs)"
            raise ArgumentTypeError(text("forward pre hook", f"returned {type(result).__name__}", rule))
        return result


class Taps:
    """The two ends of one forward call, where backward hooks see the gradients go by."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.grad_outputs: tuple[Any, ...] = ()
        self.tapped_inputs = False

    def on_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, with every tensor led through a tap that fires when its gradient is known."""
        where = [i for i, arg in enumerate(args) if isinstance(arg, Tensor)]
        if not is_grad_enabled() or not any(args[i].requires_grad for i in where):
            return args
        self.tapped_inputs = True
        tapped = list(args)
        for i, tensor in zip(where, _Tap.apply(self._inputs_done, *(args[i] for i in where)), strict=True):
            tapped[i] = tensor
        self.where, self.count = where, len(args)
        return tuple(tapped)

    def on_outputs(self, output: Any) -> Any:
        """The output, a tensor or a tuple or list of such, led through the other tap."""
        outputs = list(output) if isinstance(output, (tuple, list)) else [output]
        where = [i for i, value in enumerate(outputs) if isinstance(value, Tensor)]
        if not is_grad_enabled() or not any(outputs[i].requires_grad for i in where):
            return output
        self.outputs = (where, len(outputs))
        for i, tensor in zip(where, _Tap.apply(self._outputs_known, *(outputs[i] for i in where)), strict=True):
            outputs[i] = tensor
        return type(output)(outputs) if isinstance(output, (tuple, list)) else outputs[0]

    def _outputs_known(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        where, length = self.outputs
        full = _spread(grads, where, length)
        for hook in list(self.module._backward_pre_hooks.values()):
            result = hook(self.module, full)
            if result is not None:
                full = result if isinstance(result, tuple) else (result,)
        self.grad_outputs = full
        if not self.tapped_inputs:
            self._call_hooks((None,))
        return tuple(full[i] for i in where)

    def _inputs_done(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        full = self._call_hooks(_spread(grads, self.where, self.count))
        return tuple(full[i] for i in self.where)

    def _call_hooks(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in list(self.module._backward_hooks.values()):
            result = hook(self.module, grads, self.grad_outputs)
            if result is not None:
                grads = result if isinstance(result, tuple) else (result,)
        return grads


def _spread(values: tuple[Any, ...], where: list[int], length: int) -> tuple[Any, ...]:
    full: list[Any] = [None] * length
    for i, value in zip(where, values, strict=True):
        full[i] = value
    return tuple(full)


class _Tap(Function):
    """Nothing forward; backward the gradients pass through a function."""

    node_name = "BackwardHookFunction"

    @staticmethod
    def forward(ctx: Any, watch: Hook, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.watch = watch
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        return (None, *ctx.watch(grads))
