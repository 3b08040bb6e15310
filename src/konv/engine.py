"""The backward walk: nodes in order of falling number, gradients summed where paths meet. No recursion anywhere.

A node's inputs were always made before it, so the number that each node got when it was made sorts the graph: when
a node's turn comes, everything that uses its outputs has been visited.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import dtypes
from .errors import ArgumentTypeError, AutogradError, ShapeError
from .modes import _mode
from .tensor import Tensor, register


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of ``tensors`` to the ``grad`` of every leaf they were computed from.

    Args:
        tensors: One tensor or several; without ``grad_tensors`` each has one element.
        grad_tensors: The gradient of each, of its shape.
        retain_graph: Keep what the graph saved, for another walk; default ``create_graph``.
        create_graph: Record the walk itself, for second derivatives.
        inputs: Only these tensors get a ``grad``.

    Raises:
        AutogradError: Nothing requires a gradient, the graph was freed, or saved memory was written to.
    """
    roots = _as_list(tensors)
    wanted = None if inputs is None else _as_list(inputs)
    if wanted is not None and not wanted:
        raise AutogradError("'inputs' argument to backward() cannot be empty")
    seeds = _seeds(roots, grad_tensors, "backward")
    keep = create_graph if retain_graph is None else retain_graph
    found = _walk(seeds, wanted, keep, create_graph, accumulate=True)
    for tensor, value in zip(wanted or (), found, strict=True):
        if value is not None:
            _accumulate(tensor, value, create_graph)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, without touching any ``grad``.

    Example:
        >>> import konv
        >>> x = konv.tensor(2.0, requires_grad=True)
        >>> (first,) = konv.autograd.grad(x**3, x, create_graph=True)
        >>> konv.autograd.grad(first, x)
        (tensor(12.),)
    """
    wanted = _as_list(inputs)
    for i, tensor in enumerate(wanted):
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            raise AutogradError(f"grad: input {i} does not require grad, so nothing can be differentiated by it")
    seeds = _seeds(_as_list(outputs), grad_outputs, "grad")
    keep = create_graph if retain_graph is None else retain_graph
    found = _walk(seeds, wanted, keep, create_graph, accumulate=False)
    if materialize_grads:
        return tuple(
            [_zeros(t._array.shape, t._dtype, t._meta) if g is None else g for t, g in zip(wanted, found, strict=True)]
        )
    if None in [None if g is None else 0 for g in found] and not allow_unused:
        raise AutogradError(
            "One of the differentiated Tensors appears to not have been used in the graph. "
            "Set allow_unused=True if this is the desired behavior."
        )
    return tuple(found)


def _as_list(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, Tensor) or not isinstance(tensors, Sequence) else list(tensors)


def _target(tensor: Tensor) -> tuple[Any, int]:
    return (tensor, 0) if tensor.grad_fn is None else (tensor._grad_fn, tensor._output_nr)


def _seeds(roots: list[Any], grads: Any, who: str) -> list[tuple[Any, int, Tensor]]:
    """(node or leaf, output number, gradient) of each root, checked."""
    given = [None] * len(roots) if grads is None else _as_list(grads)
    if len(given) != len(roots):
        raise AutogradError(f"{who}: got {len(roots)} tensors and {len(given)} gradients")
    seeds = []
    for i, (root, seed) in enumerate(zip(roots, given, strict=True)):
        if not isinstance(root, Tensor):
            raise AutogradError(f"{who}: element {i} is a {type(root).__name__}, not a Tensor")
        if not root.requires_grad:
            raise AutogradError(f"element {i} of tensors does not require grad and does not have a grad_fn")
        if seed is None:
            if root.numel() != 1:
                raise AutogradError("grad can be implicitly created only for scalar outputs")
            if root._dtype.is_complex:
                raise AutogradError(
                    f"grad can be implicitly created only for real scalar outputs but got {root._dtype}"
                )
            shape = root._array.shape
            seed = Tensor._wrap_meta(shape, root._dtype) if root._meta else _ones(shape, root._dtype)
        elif not isinstance(seed, Tensor):
            raise AutogradError(f"{who}: gradients can be either Tensors or None, got {type(seed).__name__}")
        elif seed._array.shape != root._array.shape:
            raise ShapeError(
                f"Mismatch in shape: grad_output[{i}] has a shape of {seed.shape} and output[{i}] has a shape of "
                f"{root.shape}."
            )
        seeds.append((*_target(root), seed))
    return seeds


def _ones(shape: tuple[int, ...], dtype: dtypes.dtype) -> Tensor:
    return Tensor._wrap(np.ones(shape, dtype.numpy), dtype)


def _zeros(shape: tuple[int, ...], dtype: Any, meta: bool) -> Tensor:
    return Tensor._wrap_meta(shape, dtype) if meta else Tensor._wrap(np.zeros(shape, dtype.numpy), dtype)


def _reachable(seeds: list[tuple[Any, int, Tensor]]) -> list[Any]:
    """Every node that gradients may reach, in order of falling number."""
    seen: dict[int, Any] = {}
    stack = [node for node, _, _ in seeds if not isinstance(node, Tensor)]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node
        stack.extend([e[0] for e in node._edges if e is not None and not isinstance(e[0], Tensor)])
    return sorted(seen.values(), key=lambda node: -node._number)


def _leading_to(nodes: list[Any], targets: set[tuple[int, int]]) -> set[int]:
    """The ids of nodes from which a target is reached: the others need not run."""
    needed: set[int] = set()
    for node in reversed(nodes):
        for edge in node._edges:
            if edge is not None and (id(edge[0]) in needed or (id(edge[0]), edge[1]) in targets):
                needed.add(id(node))
                break
    return needed


def _walk(
    seeds: list[tuple[Any, int, Tensor]],
    wanted: list[Tensor] | None,
    keep: bool,
    create_graph: bool,
    accumulate: bool,
) -> list[Tensor | None]:
    """Send the seeds' gradients down the graph; returns the gradients of ``wanted``, or fills leaves' ``grad``."""
    nodes = _reachable(seeds)
    targets = [_target(tensor) for tensor in wanted or ()]
    keys = {(id(node), nr) for node, nr in targets}
    needed = None if wanted is None else _leading_to(nodes, keys)
    caught: dict[tuple[int, int], Tensor] = {}
    sums: dict[int, list[Tensor | None]] = {}  # node -> gradients of its outputs so far
    leaves: dict[int, tuple[Tensor, Tensor]] = {}  # leaf -> (leaf, its gradient so far)

    def send(target: Any, nr: int, value: Tensor) -> None:
        if isinstance(target, Tensor):
            held = leaves.get(id(target))
            leaves[id(target)] = (target, value if held is None else held[1] + value)
            return
        slots = sums.get(id(target))
        if slots is None:
            slots = sums[id(target)] = [None] * len(target._outputs)
        before = slots[nr]
        slots[nr] = value if before is None else before + value

    recording = _mode.grad
    _mode.grad = create_graph
    try:
        for node, nr, seed in seeds:
            send(node, nr, seed)
        del seeds[:]
        for node in nodes:
            grads = sums.pop(id(node), None)
            if grads is None:
                continue
            _run_hooks(node, grads)
            for nr, value in enumerate(grads):
                if value is not None and (id(node), nr) in keys:
                    caught[id(node), nr] = value
            if needed is None or id(node) in needed:
                _visit(node, grads, send, keep)
        for key, (leaf, value) in leaves.items():
            value = _leaf_hooks(leaf, value)
            leaves[key] = (leaf, value)
        if wanted is None:
            grads = value = None
            while leaves:
                leaf, value, references = _take(leaves)
                _accumulate(leaf, value, create_graph, _is_private(value, references))
    finally:
        _mode.grad = recording
    caught.update({(key, 0): value for key, (_, value) in leaves.items()})
    return [caught.get((id(node), nr)) for node, nr in targets]


def _visit(node: Any, grads: list[Tensor | None], send: Any, keep: bool) -> None:
    """Run one node's backward and send on what it returns."""
    if node._materialize and None in [None if g is None else 0 for g in grads]:
        grads = [
            _zeros(*facts) if g is None and facts is not None else g
            for g, facts in zip(grads, node._outputs, strict=True)
        ]
    results = type(node).backward(node, *grads)
    if not isinstance(results, (tuple, list)):
        results = (results,)
    edges = node._edges
    if len(results) < len(edges) or any(extra is not None for extra in results[len(edges) :]):
        raise AutogradError(
            f"function {node.node_name} returned an incorrect number of gradients "
            f"(expected {len(edges)}, got {len(results)})"
        )
    if not keep:
        node._release()
    for i, (edge, value) in enumerate(zip(edges, results, strict=False)):
        if edge is not None and value is not None:
            target, nr = edge
            send(target, nr, _fitted(node, i, value, target, nr))


def _fitted(node: Any, i: int, value: Any, target: Any, nr: int) -> Tensor:
    """A gradient of the shape and dtype of what it belongs to: broadcasting summed, complex made real, cast."""
    if not isinstance(value, Tensor):
        raise AutogradError(f"{node.node_name}: gradient {i} is a {type(value).__name__}, expected a Tensor or None")
    if isinstance(target, Tensor):
        shape, dtype = target._array.shape, target._dtype
    else:
        shape, dtype, _ = target._outputs[nr]
    if value._array.shape != shape:
        value = _sum_to(node, i, value, shape)
    if value._dtype is not dtype:
        if value._dtype.is_complex and not dtype.is_complex:
            value = value.real
        value = value.to(dtype)
    return value


def _sum_to(node: Any, i: int, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    have = value._array.shape
    extra = len(have) - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, have[extra:], strict=True)):
        raise ShapeError(
            f"Function {node.node_name} returned an invalid gradient at index {i} - got {list(have)} "
            f"but expected shape compatible with {list(shape)}"
        )
    axes = [axis for axis in range(len(have)) if axis < extra or (shape[axis - extra] == 1 and have[axis] != 1)]
    value = value.sum(axes, keepdim=True) if axes else value
    return value.reshape(shape)


def _run_hooks(node: Any, grads: list[Tensor | None]) -> None:
    if node._hooks is not None:
        for nr, hooks in node._hooks.items():
            for hook in list(hooks.values()):
                value = grads[nr]
                if value is not None:
                    grads[nr] = _hooked(hook, value)
    if node._retain is not None:
        for nr, reference in node._retain.items():
            tensor, value = reference(), grads[nr]
            if tensor is not None and value is not None:
                tensor._grad = value if tensor._grad is None else tensor._grad + value


def _leaf_hooks(leaf: Tensor, value: Tensor) -> Tensor:
    for hook in list((leaf._hooks or {}).values()):
        value = _hooked(hook, value)
    return value


def _hooked(hook: Any, value: Tensor) -> Tensor:
    result = hook(value)
    if result is None:
        return value
    if not isinstance(result, Tensor) or result._array.shape != value._array.shape:
        raise AutogradError("a tensor hook must return None or a gradient of the same shape")
    return result


def _accumulate(leaf: Tensor, value: Tensor, create_graph: bool, private: bool = False) -> None:
    """Add ``value`` to ``leaf.grad``; the first is kept itself if ``private`` says that no one else holds it."""
    held = leaf._grad
    if held is None:
        leaf._grad = value if create_graph or private or value._meta else value.detach().clone()
    elif create_graph:
        leaf._grad = held + value
    elif not held._meta:
        held.detach().add_(value)


def _take(leaves: dict[int, tuple[Any, Tensor]]) -> tuple[Any, Tensor, tuple[int, int]]:
    """Take one leaf and its gradient out, with how many references there are to the gradient and its memory."""
    _, (leaf, value) = leaves.popitem()
    array = value._array
    return leaf, value, (sys.getrefcount(value), sys.getrefcount(array))


# What _take counts for a gradient that only the walk refers to; it differs between versions of Python.
_UNSHARED = _take({0: (None, Tensor._wrap(np.zeros(1, np.float32)))})[2]


def _is_private(value: Tensor, references: tuple[int, int]) -> bool:
    """True if the gradient owns its memory and no one else sees it, so that it need not be copied."""
    array = value._array
    alone = references[0] <= _UNSHARED[0] and references[1] <= _UNSHARED[1]
    return alone and array.base is None and bool(array.flags.c_contiguous) and not value._counter.exported


# ---- methods -------------------------------------------------------------------------------------------------------


def _tensor_backward(
    self: Tensor, gradient: Any = None, retain_graph: Any = None, create_graph: bool = False, inputs: Any = None
) -> None:
    """Add the gradients of this tensor to the ``grad`` of the leaves it was computed from."""
    backward((self,), (gradient,), retain_graph, create_graph, inputs)


def _retain_grad(self: Tensor) -> None:
    """Keep the ``grad`` of this computed tensor when backward passes through it."""
    if not self.requires_grad:
        raise AutogradError("can't retain_grad on Tensor that has requires_grad=False")
    node = self.grad_fn
    if node is not None:
        node._retain = {**(node._retain or {}), self._output_nr: weakref.ref(self)}


class RemovableHandle:
    """What registering a hook returns: ``remove()`` takes the hook away again; also a context manager."""

    def __init__(self, hooks: dict[int, Any]) -> None:
        self._hooks, self.id = hooks, next(_hook_ids)

    def remove(self) -> None:
        """Take the hook away; harmless when it is gone already."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


_hook_ids = itertools.count()


def _register_hook(self: Tensor, hook: Any) -> RemovableHandle:
    """Call ``hook(grad)`` with the gradient of this tensor; what it returns, if not None, takes its place."""
    if not callable(hook):
        raise ArgumentTypeError(f"register_hook: expected a function, got {type(hook).__name__}")
    if not self.requires_grad:
        raise AutogradError("cannot register a hook on a tensor that doesn't require gradient")
    node = self.grad_fn
    if node is None:
        hooks = self._hooks = {} if self._hooks is None else self._hooks
    else:
        if node._hooks is None:
            node._hooks = {}
        hooks = node._hooks.setdefault(self._output_nr, {})
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def _retains_grad(self: Tensor) -> bool:
    node = self.grad_fn
    return node is not None and node._retain is not None and self._output_nr in node._retain


register(
    {
        "backward": _tensor_backward,
        "retain_grad": _retain_grad,
        "retains_grad": property(_retains_grad),
        "register_hook": _register_hook,
    }
)
