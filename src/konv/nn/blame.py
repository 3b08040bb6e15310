"""Where in a model an error happened: the layer's path and what the layers before it had produced.

A module that starts puts itself into a list of this thread; when it is done it adds (module, output shape), and the
outermost one clears the list: two list writes a call. Names are looked up only after an error: each module that the
error passes through knows the names below it, and puts its part before the path.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ..errors import KonvError

if TYPE_CHECKING:
    from .module import Module

Shape = tuple[int, ...]
MAX_TRACE = 64
"""Layers that a trace holds at most: the nearest before the fault."""


class Calls(threading.local):
    """The modules that are running in this thread, and the outputs of those that are done."""

    def __init__(self) -> None:
        self.entries: list[Any] = []


calls = Calls()


def shape_of(value: Any) -> Shape | None:
    """The shape of a tensor, or None for anything else."""
    array = getattr(value, "_array", None)
    return None if array is None else array.shape


def note(error: KonvError, module: Module, args: tuple[Any, ...], entries: list[Any]) -> None:
    """Write into ``error`` what ``module``, which it is passing through, knows.

    Args:
        error: on its way up; its ``layer``, ``module``, ``given``, ``root``, ``inputs``, ``trace`` are filled in.
        module: the module whose forward did not end.
        args: what it was called with.
        entries: the list from where the module started; pairs are the modules that had finished inside it.
    """
    names = {id(part): name for name, part in reversed(list(module.named_modules()))}
    shapes = tuple(shape for shape in map(shape_of, args) if shape is not None)
    own = ""
    if error.module is None:
        error.module, error.given = module, shapes
    else:
        own = names.get(id(error.root), type(error.root).__name__)
        error.layer = f"{own}.{error.layer}" if error.layer else own
    trace: list[tuple[str, str, Shape | None]] = []
    for part, shape in (entry for entry in entries if type(entry) is tuple):
        name = names.get(id(part), type(part).__name__)
        # A container that only passes on what its last layer gave says nothing new.
        if not (part._modules and trace and trace[-1][0].startswith(name + ".") and trace[-1][2] == shape):
            trace.append((name, _line(part), shape))
    trace += [(f"{own}.{path}", what, shape) for path, what, shape in error.trace]
    error.trace = tuple(trace)[-MAX_TRACE:]
    error.root, error.inputs = module, shapes


def _line(module: Module) -> str:
    """The module's repr if it is a line, else its class and number of children."""
    shown = repr(module)
    return shown if "\n" not in shown else f"{type(module).__name__}({len(module._modules)} modules)"
