"""What may be set for all kernels: instruction set, float32 precision, a plan by force.

A setting belongs to the process. Whoever caches something that depends on one compares ``settings_version()``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .. import _core
from ..errors import ArgumentError, ArgumentTypeError, text

PRECISIONS = ("highest", "high", "medium")
PLANS = ("winograd", "pixel_lane", "output_lane", "depthwise", "channel_lane")

_versions = itertools.count(1)
_version = 0
_precision = "high"
_forced = ""
_listeners: list[Callable[[], None]] = []


def settings_version() -> int:
    """A number that changes with every change of instruction set, precision or forced plan."""
    return _version


def on_change(forget: Callable[[], None]) -> None:
    """Call ``forget`` at every change: for caches of plans."""
    _listeners.append(forget)


def _changed() -> None:
    global _version
    _version = next(_versions)
    for forget in _listeners:
        forget()


def set_float32_precision(precision: Any) -> None:
    """How exact float32 convolutions must be.

    Args:
        precision: ``'highest'``: sums of products alone. ``'high'`` (at the start): also transforms whose error stays
            under 1e-5 of the largest output. ``'medium'``: anything under 1e-4. The measured errors of every plan, and
            what infinite, NaN and denormal numbers do, stand in ``docs/precision.md``.

    Raises:
        ArgumentTypeError: ``precision`` is not a string.
        ArgumentError: it is none of the three words.

    Example:
        >>> import konv
        >>> layer = konv.nn.Conv2d(64, 64, 3)
        >>> layer.plan((1, 64, 56, 56)).algorithm
        'winograd'
        >>> konv.set_float32_precision("highest")
        >>> layer.plan((1, 64, 56, 56)).algorithm != "winograd"
        True
        >>> konv.set_float32_precision("high")
    """
    global _precision
    who = "set_float32_precision"
    if not isinstance(precision, str):
        got = f"precision={precision!r} is a {type(precision).__name__}"
        raise ArgumentTypeError(text(who, got, f"it must be one of {', '.join(map(repr, PRECISIONS))}"))
    if precision not in PRECISIONS:
        rule = f"it must be one of {', '.join(map(repr, PRECISIONS))}"
        raise ArgumentError(text(who, f"precision={precision!r}", rule))
    if precision != _precision:
        _precision = precision
        _changed()


def get_float32_precision() -> str:
    """What ``set_float32_precision`` set last; ``'high'`` at the start."""
    return _precision


def forced_plan() -> str:
    """The name given to ``force_plan``, or an empty string."""
    return _forced


def available_isas() -> list[str]:
    """Instruction sets that were compiled in and that this machine runs, best first."""
    return _core.available_isas()


def current_isa() -> str:
    """The instruction set whose kernels run.

    Raises:
        ArgumentError: the environment variable ``KONV_ISA`` names one that is not available.
    """
    try:
        return _core.current_isa()
    except ValueError as error:
        raise ArgumentError(text("KONV_ISA", str(error), "unset it, or name one of those")) from None


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Run the kernels of instruction set ``name`` inside the ``with`` block."""
    before = current_isa()
    _set_isa(name)
    try:
        yield
    finally:
        _set_isa(before)


def _set_isa(name: str) -> None:
    known = available_isas()
    if name not in known:
        rule = f"this machine has {', '.join(map(repr, known))}"
        raise ArgumentError(text("backends.use", f"instruction set {name!r} is not available", rule))
    _core.use_isa(name)
    _changed()


@contextmanager
def force_plan(name: Any) -> Iterator[None]:
    """Run convolutions by the plan ``name`` inside the ``with`` block, where it fits the geometry at all."""
    global _forced
    rule = f"plans are {', '.join(map(repr, PLANS))}"
    if not isinstance(name, str):
        raise ArgumentTypeError(text("backends.force_plan", f"name={name!r} is a {type(name).__name__}", rule))
    if name.split(" ")[0] not in PLANS:
        raise ArgumentError(text("backends.force_plan", f"there is no plan {name!r}", rule))
    before, _forced = _forced, name
    _changed()
    try:
        yield
    finally:
        _forced = before
        _changed()
