"""Bytes that are alive at each operation of a traced model, in inference and in training.

Memory counts from the operation that makes it to the last one that needs it, once for all views of it. In training,
what autograd really keeps for backward stays until backward has passed; on the way back the gradients of what was
alive at an operation stand beside it, and the gradients of the weights pile up. Scratch of kernels, the optimiser's
state and what the model's own Python variables hold longer than needed are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..tensor import Tensor
from .graph import Graph


class Ledger:
    """Which memories a graph uses, when they come and go, and what backward keeps of them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps = [index for index, event in enumerate(graph.events) if event.live]
        self.bytes: dict[int, int] = {}
        self.birth: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.weights: dict[int, int] = {}
        for value in graph.values:
            if value.weight:
                self.weights[value.memory] = max(value.bytes, self.weights.get(value.memory, 0))
        for number in graph.inputs:
            self._meets(number, -1)
        for step in self.steps:
            for number in (*graph.events[step].inputs, *graph.events[step].outputs):
                self._meets(number, step)
        self._hold((*graph.inputs, *graph.outputs))
        self.saved = {step: self._kept_by(graph.events[step].node) for step in self.steps}

    def _meets(self, number: int, step: int) -> None:
        value = self.graph.values[number]
        if value.memory not in self.weights:
            self.bytes[value.memory] = max(value.bytes, self.bytes.get(value.memory, 0))
            self.birth.setdefault(value.memory, step)
            self.last[value.memory] = step

    def _hold(self, numbers: tuple[int, ...]) -> None:
        """The caller holds the model's inputs and gets its outputs: they live to the end."""
        for number in numbers:
            memory = self.graph.values[number].memory
            if memory in self.last:
                self.last[memory] = len(self.graph.events)

    def _kept_by(self, node: Any) -> dict[int, int]:
        """Memory that a node of autograd's graph keeps, by identity, with its bytes; weights left out."""
        kept: dict[int, int] = {}
        for tensor in saved_tensors(node):
            memory = id(tensor._counter)
            if memory not in self.weights:
                kept[memory] = self.bytes.get(memory, tensor.nbytes)
        for array in saved_arrays(node):
            kept[id(array)] = array.size * array.itemsize
        return kept

    @property
    def weight_bytes(self) -> int:
        """All parameters and buffers."""
        return sum(self.weights.values())

    def _changes(self) -> Iterator[tuple[int, list[int], list[int]]]:
        """For each step the memories that are alive from it on, and those that nobody needs from it on."""
        born: dict[int, list[int]] = {}
        ended: dict[int, list[int]] = {}
        for memory, birth in self.birth.items():
            born.setdefault(birth, []).append(memory)
            ended.setdefault(self.last[memory], []).append(memory)
        before = -1
        for step in self.steps:
            given = born.pop(-1, [])  # the inputs, at the first step
            yield step, given + born.get(step, []), ended.get(before, [])
            before = step

    def forward(self) -> dict[int, int]:
        """Bytes alive at each event of an inference pass: weights, and what is still needed."""
        found = {}
        alive = self.weight_bytes
        for step, fresh, gone in self._changes():
            alive += sum(self.bytes[m] for m in fresh) - sum(self.bytes[m] for m in gone)
            found[step] = alive
        return found

    def training(self) -> dict[int, int]:
        """Bytes alive at each event of a training step, whichever is more of the ways there and back."""
        kept: dict[int, int] = {}
        alive: set[int] = set()
        there, sums, gradients = {}, {}, {}
        both = all_kept = of_alive = 0  # bytes of what is kept or alive, of what is kept, of gradients of what is alive
        for step, fresh, gone in self._changes():
            for memory in gone:
                alive.remove(memory)
                both -= 0 if memory in kept else self.bytes[memory]
                of_alive -= self.bytes[memory] if self.birth[memory] >= 0 else 0
            for memory in fresh:
                alive.add(memory)
                both += 0 if memory in kept else self.bytes[memory]
                of_alive += self.bytes[memory] if self.birth[memory] >= 0 else 0
            for memory, size in self.saved[step].items():
                more = size - kept.get(memory, 0)
                all_kept += more
                both += 0 if memory in alive else more
                kept[memory] = size
            there[step], sums[step], gradients[step] = self.weight_bytes + both, all_kept, of_alive
        back = self._backward(sums, gradients)
        return {step: max(there[step], back.get(step, 0)) for step in self.steps}

    def _backward(self, kept: dict[int, int], gradients: dict[int, int]) -> dict[int, int]:
        """Going back: what earlier events still keep, gradients of what is alive here, and of weights so far."""
        seen: set[int] = set()
        of_weights = 0
        totals = {}
        for step in reversed(self.steps):
            event = self.graph.events[step]
            if event.node is None:
                continue
            for number in event.inputs:
                if self.graph.values[number].trainable and number not in seen:
                    seen.add(number)
                    of_weights += self.graph.values[number].bytes
            totals[step] = self.weight_bytes + of_weights + kept[step] + gradients[step]
        return totals


def saved_tensors(node: Any) -> Iterator[Tensor]:
    """The tensors that a node keeps, by ``save_for_backward`` or as attributes of its own."""
    if node is None:
        return
    for entry in node._saved or ():
        if entry[0] is not None:
            yield entry[0]
    for value in _attributes(node):
        if isinstance(value, Tensor):
            yield value


def saved_arrays(node: Any) -> Iterator[np.ndarray[Any, Any]]:
    """The arrays that a node keeps as attributes: masks, indices."""
    if node is not None:
        yield from (value for value in _attributes(node) if isinstance(value, np.ndarray))


def _attributes(node: Any) -> Iterator[Any]:
    for name, value in vars(node).items():
        if name.startswith("_"):
            continue
        yield from value if isinstance(value, (tuple, list)) else (value,)
