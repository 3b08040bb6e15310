"""Automatic differentiation: ``Function`` is the one door of every operation, ``backward`` walks what it recorded.

A call of ``Function.apply`` makes one object, the ``ctx`` of PyTorch's API, and when a gradient is needed that same
object is the node of the graph. Nodes point to the nodes of their inputs (or to leaf tensors) and never back, so
dropping the result frees the graph. Each node has a number that grows with time; a node's inputs always have
smaller ones, so visiting nodes by falling number is all the scheduling that the backward walk needs (engine.py).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

from .engine import backward as backward, grad as grad
from .errors import ArgumentTypeError, AutogradError
from .gradcheck import gradcheck as gradcheck, gradgradcheck as gradgradcheck
from .modes import (
    _mode as _mode,
    enable_grad as enable_grad,
    inference_mode as inference_mode,
    is_grad_enabled as is_grad_enabled,
    is_inference_mode_enabled as is_inference_mode_enabled,
    no_grad as no_grad,
    set_grad_enabled as set_grad_enabled,
)
from .tensor import Tensor

#: Functions ``f(function_class, args, outputs)`` called after every operation; tracers and profilers listen here.
listeners: list[Callable[[type[Function], tuple[Any, ...], Any], None]] = []

_numbers = itertools.count()


class Function:
    """An operation with a gradient. Subclass it, write ``forward`` and ``backward``, call ``apply``.

    ``forward(ctx, *args)`` gets tensors and returns one or a tuple; ``backward(ctx, *grads)`` gets one gradient an
    output and returns one an argument (None where there is none). Nothing inside ``forward`` is recorded. Written
    with differentiable operations, ``backward`` can itself be differentiated.

    Example:
        >>> import konv
        >>> class Square(konv.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x * x
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         (x,) = ctx.saved_tensors
        ...         return 2 * x * grad
        >>> x = konv.tensor(3.0, requires_grad=True)
        >>> Square.apply(x).backward()
        >>> x.grad
        tensor(6.)
    """

    node_name: str = "Function"
    is_view: bool = False  # the output shares memory with the first argument
    fresh: bool = False  # forward promises new outputs (never an argument or a tensor from elsewhere)
    needs_input_grad: tuple[bool, ...] = ()
    _run: Any = None
    _to_save: tuple[Tensor | None, ...] = ()
    _saved: tuple[Any, ...] | None = ()
    _dirty: tuple[Tensor, ...] = ()
    _no_gradient: tuple[Tensor, ...] = ()
    _materialize: bool = True
    _edges: tuple[Any, ...] = ()
    _number: int = -1
    _outputs: tuple[Any, ...] = ()  # (shape, dtype, meta) of each output
    _hooks: dict[int, list[Any]] | None = None  # output number -> [hook]
    _retain: dict[int, Any] | None = None  # output number -> weak reference to the tensor that keeps its grad

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "node_name" not in cls.__dict__:
            cls.node_name = cls.__name__ + "Backward"
        # PyTorch has two spellings: forward(ctx, *args), or forward(*args) with setup_context(ctx, args, output).
        cls._run = cls.forward if cls.setup_context is Function.setup_context else _two_steps(cls)

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """Compute the result; overridden."""
        raise NotImplementedError("a Function needs a static method forward(ctx, *args)")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Store what backward needs, when ``forward`` takes no ctx; optional."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Compute the gradients of the arguments; overridden."""
        raise NotImplementedError("a Function whose result is differentiated needs a static method backward")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run the operation, and record it if a tensor among ``args`` requires gradients."""
        ctx = cls()
        if _mode.grad:
            return _recorded(cls, ctx, args)
        ctx.needs_input_grad = (False,) * len(args)
        outputs = cls._run(ctx, *args)
        if listeners:
            _tell(cls, args, outputs)
        return outputs

    # ---- what forward may call -------------------------------------------------------------------------------------

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors (arguments or outputs) for ``backward``; a later write to them is noticed there."""
        self._to_save = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Tell which arguments ``forward`` wrote to; they must be among its outputs."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Tell which outputs have no gradient."""
        self._no_gradient = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """False: ``backward`` gets None, not zeros, for outputs that nothing used."""
        self._materialize = value

    # ---- what backward and readers may ask -------------------------------------------------------------------------

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What ``save_for_backward`` kept.

        Raises:
            AutogradError: The graph was freed by an earlier backward, or a kept tensor was written to since.
        """
        if self._saved is None:
            raise AutogradError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they have "
                "already been freed): they are freed by backward(); call the first one with retain_graph=True"
            )
        if not self._saved and self._to_save:  # nothing needed a gradient: read inside forward
            return self._to_save
        return tuple([self._unpack(*entry) for entry in self._saved])

    def _unpack(self, tensor: Tensor | None, counter: Any, version: int, output_nr: int) -> Tensor | None:
        if tensor is None:
            return None
        if tensor._counter is not counter or counter.value != version:
            other = f"is at version {counter.value}; expected version {version} instead"
            raise AutogradError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"[{tensor._dtype!r} {list(tensor.shape)}], saved by {self.node_name}, "
                + (other if tensor._counter is counter else "was given other memory through its data since")
            )
        if output_nr >= 0:  # an output of this very node was kept without its link here: that would be a cycle
            tensor = tensor._alias()
            tensor._grad_fn, tensor._output_nr, tensor._requires_grad = self, output_nr, True
        return tensor

    def _release(self) -> None:
        if self._saved:
            self._saved = None

    def name(self) -> str:
        """What kind of node this is, as in ``MulBackward0``."""
        return self.node_name

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The nodes that gradients go to from here, one pair (node, output number) an argument."""
        return tuple([_link(edge) for edge in self._edges])

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary for the user's own notes on this node."""
        notes: dict[Any, Any] = self.__dict__.setdefault("_notes", {})
        return notes

    def register_prehook(self, hook: Any) -> Any:
        """Call ``hook(grads)`` before this node's backward; not offered for nodes: use ``Tensor.register_hook``."""
        raise ArgumentTypeError("register_prehook: use Tensor.register_hook on the output")

    def __repr__(self) -> str:
        return f"<{self.node_name} object at {id(self):#x}>"


class AccumulateGrad:
    """What stands in ``next_functions`` for a leaf: its ``variable``."""

    next_functions: tuple[Any, ...] = ()

    def __init__(self, variable: Tensor) -> None:
        self.variable = variable

    def name(self) -> str:
        """What kind of node this is."""
        return "torch::autograd::AccumulateGrad"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and self.variable is other.variable

    def __hash__(self) -> int:
        return id(self.variable)

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self):#x}>"


def _link(edge: Any) -> tuple[Any, int]:
    if edge is None:
        return (None, 0)
    target, output_nr = edge
    return (AccumulateGrad(target), 0) if isinstance(target, Tensor) else (target, output_nr)


def _two_steps(cls: type[Function]) -> Any:
    def run(ctx: Any, *args: Any) -> Any:
        outputs = cls.forward(*args)
        cls.setup_context(ctx, args, outputs)
        return outputs

    return run


def _tell(cls: type[Function], args: tuple[Any, ...], outputs: Any) -> None:
    for listener in tuple(listeners):
        listener(cls, args, outputs)


def edge_of(tensor: Tensor) -> tuple[Any, int] | None:
    """Where a gradient of ``tensor`` goes: (node, output number), (leaf, 0), or None."""
    tensor._refresh()
    if not tensor._requires_grad:
        return None
    node = tensor._grad_fn
    return (tensor, 0) if node is None else (node, tensor._output_nr)


def _recorded(cls: type[Function], ctx: Function, args: tuple[Any, ...]) -> Any:
    """``apply`` in grad mode: run with the mode off, then link the outputs if an argument needs a gradient."""
    # The property looks at the graph of what a view is a view of; other tensors need not.
    needs = tuple(
        [isinstance(arg, Tensor) and (arg._requires_grad if arg._base is None else arg.requires_grad) for arg in args]
    )
    ctx.needs_input_grad = needs
    _mode.grad = False
    try:
        outputs = cls._run(ctx, *args)
    finally:
        _mode.grad = True
    if cls.is_view and outputs._base is not None:
        outputs._recipe = ((cls, args[1:]),) if args[0]._base is None else _longer(args[0], cls, args)
        outputs._rebases_seen = outputs._counter.rebases
    if listeners:
        _tell(cls, args, outputs)
    if True in needs:
        return _connect(cls, ctx, args, outputs)
    return outputs


def _longer(view: Tensor, cls: type[Function], args: tuple[Any, ...]) -> Any:
    return None if view._recipe is None else (*view._recipe, (cls, args[1:]))


def _connect(cls: type[Function], ctx: Function, args: tuple[Any, ...], outputs: Any) -> Any:
    """Make ``ctx`` a node of the graph and its outputs point to it."""
    ctx._edges = tuple(
        [
            ((arg, 0) if arg._grad_fn is None else (arg._grad_fn, arg._output_nr)) if need else None
            for arg, need in zip(args, ctx.needs_input_grad, strict=True)
        ]
    )
    ctx._number = next(_numbers)
    if cls.fresh and isinstance(outputs, Tensor) and not ctx._dirty and outputs._dtype.kind >= 2:
        # One new tensor: what nearly every operation returns.
        outputs._grad_fn, outputs._requires_grad = ctx, True
        ctx._outputs = ((outputs._array.shape, outputs._dtype, outputs._meta),)
        if ctx._to_save:
            ctx._saved = tuple([_pack(tensor, [outputs]) for tensor in ctx._to_save])
            ctx._to_save = ()
        return outputs
    many = isinstance(outputs, (tuple, list))
    outs = list(outputs) if many else [outputs]
    facts: list[Any] = []
    for nr, out in enumerate(outs):
        if not isinstance(out, Tensor):
            facts.append(None)
            continue
        facts.append((out._array.shape, out._dtype, out._meta))
        if out._dtype.kind < 2 or _among(out, ctx._no_gradient):
            continue
        dirty = bool(ctx._dirty) and _among(out, ctx._dirty)
        if not dirty and not cls.fresh and (out._requires_grad or _among(out, args)):
            outs[nr] = out = _same_memory(ctx, out)
        if dirty:
            _rebase(ctx, out, nr)
        else:
            out._grad_fn, out._output_nr, out._requires_grad = ctx, nr, True
    ctx._outputs = tuple(facts)
    if ctx._to_save:
        ctx._saved = tuple([_pack(tensor, outs) for tensor in ctx._to_save])
        ctx._to_save = ()
    return (tuple(outs) if type(outputs) is tuple else type(outputs)(outs)) if many else outs[0]


def _among(tensor: Tensor, others: tuple[Any, ...]) -> bool:
    return any(tensor is other for other in others)


def _same_memory(ctx: Function, out: Tensor) -> Tensor:
    """An output that is an argument or came from elsewhere must not have its own place in the graph overwritten."""
    again = out._alias()
    ctx._to_save = tuple([again if kept is out else kept for kept in ctx._to_save])
    return again


def _pack(tensor: Tensor | None, outs: list[Any]) -> tuple[Tensor | None, Any, int, int]:
    """What ``saved_tensors`` gives back, with the memory's counter, its value, and the number among the outputs."""
    if tensor is None:
        return None, None, 0, -1
    counter = tensor._counter
    for nr, out in enumerate(outs):
        if tensor is out and out._grad_fn is not None:
            return tensor._alias(), counter, counter.value, nr
    return tensor, counter, counter.value, -1


def _rebase(ctx: Function, out: Tensor, nr: int) -> None:
    """``out`` was written to in place: give it, or what it is a view of, its new place in the graph."""
    out._counter.rebases += 1  # other views of this memory take their place anew when they are next used
    base = out._base
    if base is None:
        out._grad_fn, out._output_nr, out._requires_grad = ctx, nr, True
        return
    if out._recipe is None:
        raise AutogradError(
            "a view that was made in no_grad mode, or as one of several outputs of split, chunk or unbind, is being "
            "modified inplace with grad mode enabled; modify a clone() of it, or index the original tensor instead"
        )
    copy = CopySlices()
    copy.recipe = out._recipe
    base._refresh()
    before = edge_of(base)
    copy._edges = (before, (ctx, nr))
    copy.needs_input_grad = (before is not None, True)
    copy._number = next(_numbers)
    copy._outputs = ((base._array.shape, base._dtype, base._meta),)
    base._grad_fn, base._output_nr, base._requires_grad = copy, 0, True


class CopySlices(Function):
    """The node of a tensor after one of its views was written to: the view's part of the gradient goes elsewhere."""

    node_name = "CopySlices"
    recipe: tuple[Any, ...] = ()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor]:
        """The gradient with the view's part taken out, and that part."""
        grad = grads[0]

        def view(tensor: Tensor) -> Tensor:
            for function, arguments in ctx.recipe:
                tensor = function.apply(tensor, *arguments)
            return tensor

        rest = None
        if ctx.needs_input_grad[0]:
            rest = grad.clone()
            view(rest).zero_()
        return rest, view(grad)


def once_differentiable(backward: Any) -> Any:
    """Decorator for a ``backward`` written without differentiable operations: a second derivative is refused."""

    @functools.wraps(backward)
    def wrapped(ctx: Any, *grads: Any) -> Any:
        recording = _mode.grad
        with no_grad():
            outputs = backward(ctx, *grads)
        if not recording or not any(isinstance(g, Tensor) and g.requires_grad for g in grads):
            return outputs
        many = isinstance(outputs, tuple)
        barred = [_Barrier.apply(g, *grads) if isinstance(g, Tensor) else g for g in (outputs if many else (outputs,))]
        return tuple(barred) if many else barred[0]

    return wrapped


class _Barrier(Function):
    node_name = "Error"

    @staticmethod
    def forward(ctx: Any, value: Tensor, *sources: Tensor) -> Tensor:
        return value._alias()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise AutogradError("trying to differentiate twice a function that was marked with @once_differentiable")
