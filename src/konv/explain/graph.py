"""A model run once on the meta device, written down: which operation made which tensor from which others.

The tracer listens at ``Function.apply``, the one door of every operation, and hangs hooks into a copy of the model
whose weights are on the meta device, so the model itself is untouched and nothing is computed. Memory is known by its
version counter, which all views share; what backward keeps is read from the real graph that autograd recorded.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .. import autograd, dtypes
from ..errors import UnsupportedError, text
from ..nn.module import Module
from ..tensor import Tensor
from .trace import Shape


@dataclass(slots=True)
class Value:
    """One tensor of the graph. Views have values of their own and share ``memory``."""

    shape: Shape
    itemsize: int
    memory: int
    bytes: int
    event: int | None  # what made it; None for inputs and weights
    weight: bool = False
    learned: bool = False
    trainable: bool = False


@dataclass(slots=True)
class Call:
    """One run of a module. ``parent`` is the call that it ran in; ``leaf``: the module has no children."""

    module: Module
    name: str
    parent: int | None
    leaf: bool
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    first_event: int = 0
    last_event: int = 0


@dataclass(slots=True)
class Event:
    """One operation: its Function, the arguments that are no tensors as they were, and values by number."""

    function: type[autograd.Function]
    args: tuple[Any, ...]  # a tensor is replaced by its Value number wrapped in Ref
    inputs: list[int]
    outputs: list[int]
    call: int | None
    node: Any = None
    live: bool = True


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands for a tensor among an event's arguments."""

    value: int


@dataclass(slots=True)
class Graph:
    """Everything that one run did, in order."""

    root: Module
    values: list[Value]
    events: list[Event]
    calls: list[Call]
    inputs: list[int]
    outputs: list[int]
    parameters: dict[int, str]
    arrays: dict[int, int]  # identity of the array of each weight, by the number of its value

    def shape(self, value: int) -> Shape:
        """The shape of a value."""
        return self.values[value].shape


def on_meta(model: Module) -> Module:
    """A copy of the model in eval mode, all weights and buffers replaced by meta tensors of their shape and dtype.

    Raises:
        UnsupportedError: the model holds something that can't be copied.
    """
    known: dict[int, Any] = {}
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and id(tensor) not in known:
                bare = Tensor._wrap_meta(tensor._array.shape, tensor._dtype)
                made = Tensor._make_subclass(type(tensor), bare)
                own = {name: value for name, value in vars(tensor).items() if not name.startswith("_")}
                made.__dict__.update(own, _requires_grad=tensor._requires_grad)
                known[id(tensor)] = made
    keep = list(known.values())
    try:
        twin = copy.deepcopy(model, known)
    except (TypeError, AttributeError) as error:
        got = f"{type(model).__name__} can't be copied ({error})"
        raise UnsupportedError(text("explain", got, "the model is traced on a copy of itself")) from None
    del keep
    return twin.eval()


def trace(model: Module, inputs: tuple[Any, ...], known: Callable[[type[autograd.Function]], bool]) -> Graph:
    """Run ``model`` (already on the meta device) and write down what happened.

    Args:
        model: a copy that ``on_meta`` made.
        inputs: tensors of the meta device.
        known: whether an operation is understood; of one that is not, the operations inside are listed instead.

    Raises:
        KonvError: whatever the model raises, with the layer it happened in.
    """
    tracer = _Tracer(model, known)
    with tracer.listening(), autograd.enable_grad():
        numbers = [tracer.number(tensor) for tensor in inputs]
        result = model(*inputs)
        tracer.settle()
    outputs = [tracer.number(tensor) for tensor in tensors_in(result)]
    graph = Graph(model, tracer.values, tracer.events, tracer.calls, numbers, outputs, tracer.parameters, tracer.arrays)
    _forget_unused(graph)
    return graph


def meta_input(shape: Shape, dtype: dtypes.dtype) -> Tensor:
    """An input without data."""
    return Tensor._wrap_meta(tuple(shape), dtype)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of an output: itself, or those of a tuple, list or dict."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)


class _Tracer:
    """The listener and the hooks of one run."""

    def __init__(self, model: Module, known: Callable[[type[autograd.Function]], bool]) -> None:
        self.model = model
        self.known = known
        self.thread = threading.get_ident()  # what other threads compute meanwhile is none of this run's
        self.values: list[Value] = []
        self.events: list[Event] = []
        self.calls: list[Call] = []
        self.stack: list[int] = []
        self.numbers: dict[int, int] = {}  # id of a tensor's array, which aliases share, to the number of its value
        self.kept: list[Any] = []  # ids stay taken while what they name lives
        self.pending: tuple[Event, list[Tensor]] | None = None
        self.names = {id(module): name for name, module in model.named_modules()}
        self.parameters: dict[int, str] = {}
        self.arrays: dict[int, int] = {}
        learned = list(model.named_parameters())
        for name, tensor in (*learned, *model.named_buffers()):
            number = self._new(tensor, None, weight=True)
            self.values[number].trainable = tensor.requires_grad
            self.values[number].learned = len(self.parameters) < len(learned)
            self.parameters[number], self.arrays[number] = name, id(tensor._array)

    @contextmanager
    def listening(self) -> Iterator[None]:
        handles: list[Any] = []
        for module in self.model.modules():
            handles.append(module.register_forward_pre_hook(self.entered, prepend=True))
            handles.append(module.register_forward_hook(self.left))
        autograd.listeners.append(self.heard)
        try:
            yield
        finally:
            autograd.listeners.remove(self.heard)
            for handle in handles:
                handle.remove()

    def _new(self, tensor: Tensor, event: int | None, weight: bool = False) -> int:
        size = tensor.numel() * tensor._dtype.itemsize
        made = Value(tuple(tensor._array.shape), tensor._dtype.itemsize, id(tensor._counter), size, event, weight)
        self.values.append(made)
        self.kept += [tensor, tensor._array, tensor._counter]
        self.numbers[id(tensor._array)] = len(self.values) - 1
        return len(self.values) - 1

    def number(self, tensor: Tensor) -> int:
        """The number of a tensor's value; a tensor that nobody has seen is a constant of the model."""
        known = self.numbers.get(id(tensor._array))
        return self._new(tensor, None) if known is None else known

    def entered(self, module: Module, args: Any) -> None:
        self.settle()
        call = Call(module, self.names.get(id(module), ""), self.stack[-1] if self.stack else None, not module._modules)
        call.inputs = [self.number(tensor) for tensor in tensors_in(args)]
        call.first_event = len(self.events)
        self.calls.append(call)
        self.stack.append(len(self.calls) - 1)

    def left(self, module: Module, args: Any, output: Any) -> None:
        self.settle()
        call = self.calls[self.stack.pop()]
        call.outputs = [self.number(tensor) for tensor in tensors_in(output)]
        call.last_event = len(self.events)

    def heard(self, function: type[autograd.Function], args: tuple[Any, ...], outputs: Any) -> None:
        if threading.get_ident() != self.thread:
            return
        self.settle()
        inputs = [self.number(tensor) for tensor in tensors_in(args)]
        made = list(tensors_in(outputs))
        inside = self.events[-1] if self.events else None
        if inside is not None and not self.known(function) and self._made_by(made, inputs):
            self.pending = inside, made  # its gradient stands for all that it is made of
            return
        event = Event(function, _numbered(args, self), inputs, [], self.stack[-1] if self.stack else None)
        for tensor in made:
            self.numbers.pop(id(tensor._array), None)  # an operation in place makes a new value of the old array
            event.outputs.append(self._new(tensor, len(self.events)))
        self.events.append(event)
        self.pending = event, made

    def _made_by(self, made: list[Tensor], inputs: list[int]) -> bool:
        """Whether every output came from operations that were heard, and is not just handed through."""
        numbers = [self.numbers.get(id(tensor._array)) for tensor in made]
        return all(n is not None and n not in inputs and self.values[n].event is not None for n in numbers)

    def settle(self) -> None:
        """Autograd links an operation's outputs after listeners were told: look at the node one step later."""
        if self.pending is not None:
            event, made = self.pending
            event.node = next((tensor._grad_fn for tensor in made if tensor._grad_fn is not None), None)
            self.pending = None


def _numbered(value: Any, tracer: _Tracer) -> Any:
    if isinstance(value, Tensor):
        return Ref(tracer.number(value))
    if type(value) in (tuple, list):
        return tuple(_numbered(item, tracer) for item in value)
    return value


def _forget_unused(graph: Graph) -> None:
    """Mark the events that no output needs: among them the insides of operations that are made of operations."""
    needed: set[int] = set()
    todo = list(graph.outputs)
    while todo:
        value = todo.pop()
        event = graph.values[value].event
        if event is None or event in needed:
            continue
        needed.add(event)
        todo += graph.events[event].inputs
    for index, event_record in enumerate(graph.events):
        event_record.live = index in needed
