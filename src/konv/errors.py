"""The exception tree: every failure of konv is a ``KonvError`` and also the built-in that PyTorch raises.

A message says who refuses, what was got, the rule, and how to mend it, in one sentence built by ``text``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class KonvError(Exception):
    """Root of every error that konv raises on purpose.

    Inside a model the modules that the error passes through fill in where it happened; ``str`` shows it.

    Attributes:
        layer: path of the layer that refused, such as ``'features.3'``; empty outside a model.
        module: that layer.
        given: shapes of the tensors that it was given.
        root: the outermost module that was called.
        inputs: shapes of the tensors that the root was given.
        trace: (path, repr, output shape) of the layers that had finished before.
        hint: what would mend it, if known.
    """

    layer: str = ""
    module: Any = None
    given: tuple[tuple[int, ...], ...] = ()
    root: Any = None
    inputs: tuple[tuple[int, ...], ...] = ()
    trace: tuple[tuple[str, str, tuple[int, ...] | None], ...] = ()
    hint: str = ""

    def __str__(self) -> str:
        # Exception's own form: KeyError, a base of one subclass, would quote the text.
        lines = [Exception.__str__(self)]
        if self.layer or self.trace:
            where = f"layer {self.layer} of " if self.layer else ""
            lines.append(f"  in {where}{type(self.root).__name__}")
            lines += [f"  input: {tuple(shape)}" for shape in self.inputs]
            lines += [f"  {path}: {what} gave {shape}" for path, what, shape in self.trace if shape is not None]
        if not self.hint and teacher is not None and self.root is not None:
            self.hint = teacher(self)
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)


teacher: Callable[[KonvError], str] | None = None
"""Finds the hint of an error when it is shown. A room above fills it in, so that this floor imports nothing."""


class ShapeError(KonvError, RuntimeError):
    """A shape does not fit the operation or the layer."""


class ArgumentError(KonvError, ValueError):
    """An argument has the right type but not an allowed value."""


class ArgumentTypeError(KonvError, TypeError):
    """An argument has the wrong type."""


class ArgumentRangeError(ArgumentError, RuntimeError):
    """A number is out of range where PyTorch raises RuntimeError and Python users expect ValueError."""


class DtypeError(KonvError, RuntimeError):
    """Dtypes that do not go together, or that an operation does not have."""


class DeviceError(KonvError, RuntimeError):
    """A device that does not exist here, or tensors on different devices."""


class MemoryShortError(KonvError, MemoryError, RuntimeError):
    """A result does not fit in memory; PyTorch raises RuntimeError, Python users expect MemoryError."""


class AutogradError(KonvError, RuntimeError):
    """The graph cannot be walked: freed, modified in place, or nothing to differentiate."""


class IndexRangeError(KonvError, IndexError):
    """An index or a dimension is out of range."""


class StateError(KonvError, RuntimeError):
    """A state dict does not fit the module: missing, unexpected or mis-shaped keys."""


class NameRefusedError(KonvError, KeyError):
    """A name under which nothing can be registered."""


class MissingAttributeError(KonvError, AttributeError):
    """An attribute that an object does not have."""


class UnsupportedError(KonvError, NotImplementedError):
    """A thing that konv does not do."""


class FileError(KonvError, ValueError):
    """A file from outside that is damaged, hostile, or not what it claims to be."""


def text(who: str, got: str, rule: str, fix: str = "") -> str:
    """One sentence: ``who: got; rule; fix``.

    Example:
        >>> from konv import errors
        >>> errors.text("Conv2d", "in_channels=6 is not divisible by groups=4", "groups can be 1, 2, 3 or 6")
        'Conv2d: in_channels=6 is not divisible by groups=4; groups can be 1, 2, 3 or 6'
    """
    return f"{who}: " + "; ".join(part for part in (got, rule, fix) if part)
