"""The exception tree: every failure of konv is a ``KonvError`` and also the built-in that PyTorch raises.

A message says who refuses, what was got, the rule, and how to mend it, in one sentence built by ``text``.
"""

from __future__ import annotations


class KonvError(Exception):
    """Root of every error that konv raises on purpose."""


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


class AutogradError(KonvError, RuntimeError):
    """The graph cannot be walked: freed, modified in place, or nothing to differentiate."""


class IndexRangeError(KonvError, IndexError):
    """An index or a dimension is out of range."""


class StateError(KonvError, RuntimeError):
    """A state dict does not fit the module: missing, unexpected or mis-shaped keys."""


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
