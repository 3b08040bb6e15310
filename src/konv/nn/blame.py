"""Where in a model an error happened: the layer's path and what the layers before it had produced.

While a module runs it stands in a list of this thread; when it is done, its entry becomes (module, output shape) and
the entries of its own children go. That costs two list writes a call. Names are looked up only after an error: each
module that the error passes through knows the names of its children, and puts its part before the path.
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


def note(error: KonvError, module: Module, args: tuple[Any, ...], done: list[Any]) -> None:
    """Write into ``error`` what ``module``, which it is passing through, knows.

    Args:
        error: on its way up; its ``layer``, ``module``, ``given``, ``root``, ``inputs``, ``trace`` are filled in.
        module: the module whose forward did not end.
        args: what it was called with.
        done: entries (module, output shape) of the modules that had finished inside it.
    """
    shapes = tuple(shape for shape in map(shape_of, args) if shape is not None)
    own = ""
    if error.module is None:
        error.module, error.given = module, shapes
    else:
        own = _name_of(error.root, module)
        error.layer = f"{own}.{error.layer}" if error.layer else own
    before = [(_name_of(part, module), _line(part), shape) for part, shape in done]
    inside = [(f"{own}.{path}", what, shape) for path, what, shape in error.trace]
    error.trace = tuple(before + inside)[-MAX_TRACE:]
    error.root, error.inputs = module, shapes


def _name_of(part: Any, whole: Module) -> str:
    """The path of ``part`` inside ``whole``, or its class name if it is not registered there."""
    for name, child in whole.named_modules():
        if child is part:
            return name
    return type(part).__name__


def _line(module: Module) -> str:
    """The module's repr if it is a line, else its class and number of children."""
    shown = repr(module)
    return shown if "\n" not in shown else f"{type(module).__name__}({len(module._modules)} modules)"
