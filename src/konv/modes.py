"""The switches that say whether operations are recorded, one setting for each thread."""

from __future__ import annotations

import functools
import threading
from typing import Any

from .errors import ArgumentTypeError


class _Mode(threading.local):
    """Whether operations are recorded, for each thread."""

    grad = True
    inference = False


_mode = _Mode()


class _GradMode:
    """Base of the switches: a context manager, and a decorator for functions."""

    def __init__(self, grad: bool, inference: bool | None = None) -> None:
        self._grad, self._inference = grad, inference
        self._before: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._before.append((_mode.grad, _mode.inference))
        _mode.grad = self._grad
        if self._inference is not None:
            _mode.inference = self._inference

    def __exit__(self, *exc: object) -> None:
        _mode.grad, _mode.inference = self._before.pop()

    def _again(self) -> _GradMode:
        return _GradMode(self._grad, self._inference)

    def __call__(self, function: Any) -> Any:
        if not callable(function):
            raise ArgumentTypeError(f"{type(self).__name__}: expected a function, got {type(function).__name__}")

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """Nothing inside is recorded.

    Example:
        >>> import konv
        >>> x = konv.ones(2, requires_grad=True)
        >>> with konv.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
    """

    def __new__(cls, function: Any = None) -> Any:
        """The switch, or ``function`` under it."""
        made = object.__new__(cls)
        if function is None:
            return made
        made.__init__()  # type: ignore[misc]
        return made(function)  # @no_grad without parentheses

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_GradMode):
    """Record again inside ``no_grad``."""

    def __new__(cls, function: Any = None) -> Any:
        """The switch, or ``function`` under it."""
        made = object.__new__(cls)
        if function is None:
            return made
        made.__init__()  # type: ignore[misc]
        return made(function)

    def __init__(self) -> None:
        super().__init__(True)


class inference_mode(_GradMode):
    """Like ``no_grad``; ``is_inference_mode_enabled`` tells that it is on."""

    def __new__(cls, mode: Any = True) -> Any:
        """The switch, or ``mode`` under it if that is a function."""
        made = object.__new__(cls)
        if isinstance(mode, bool):
            return made
        made.__init__()  # type: ignore[misc]
        return made(mode)

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode, mode)


class set_grad_enabled(_GradMode):
    """Switch recording on or off at once, and back when used as a context manager."""

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        before = (_mode.grad, _mode.inference)
        _mode.grad = self._grad
        self._outside = before

    def __enter__(self) -> None:
        self._before.append(self._outside)
        _mode.grad = self._grad

    def __call__(self, function: Any) -> Any:
        """``function`` under this setting; as a decorator it does not switch anything now."""
        _mode.grad, _mode.inference = self._outside
        return super().__call__(function)


def is_grad_enabled() -> bool:
    """True if operations are being recorded in this thread."""
    return _mode.grad


def is_inference_mode_enabled() -> bool:
    """True inside ``inference_mode``."""
    return _mode.inference
