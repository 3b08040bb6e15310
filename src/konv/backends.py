"""Which instruction set and which algorithm run: to look at, and to force in tests.

Nothing here is needed for speed: the best instruction set is found at import, and the plan of a convolution follows
from its geometry. The environment variable ``KONV_ISA`` chooses the instruction set of a whole process.

Example:
    >>> import konv
    >>> konv.backends.current() in konv.backends.available()
    True
    >>> conv = konv.nn.Conv2d(16, 16, 3, padding=1)
    >>> with konv.backends.force_plan("pixel_lane"):
    ...     y = conv(konv.ones(1, 16, 8, 8))
    >>> y.shape
    torch.Size([1, 16, 8, 8])
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from . import kernels


def available() -> list[str]:
    """Instruction sets that were compiled in and that this machine runs, best first."""
    return kernels.available_isas()


def current() -> str:
    """The instruction set in use: ``'avx512_bf16'``, ``'avx512'``, ``'avx2'``, ``'baseline'`` or ``'neon'``."""
    return kernels.current_isa()


def use(name: str) -> AbstractContextManager[None]:
    """Run the kernels of instruction set ``name`` inside a ``with`` block; it holds for the whole process.

    Raises:
        ArgumentError: this machine does not have it.
    """
    return kernels.use_isa(name)


def force_plan(name: str) -> AbstractContextManager[None]:
    """Run convolutions by one algorithm inside a ``with`` block; it holds for the whole process.

    Args:
        name: ``'winograd'`` (or one of its plans in full, ``'winograd F(4x4,3x3)'``), ``'pixel_lane'``,
            ``'output_lane'``, ``'depthwise'`` or ``'channel_lane'``. On a CPU with vectors of 64 bytes, a name that
            ends in ``' of short vectors'`` runs by those half as long.

    Raises:
        ArgumentTypeError: ``name`` is not a string.
        ArgumentError: there is no such plan; when a convolution runs that it does not fit, that call raises it too.
    """
    return kernels.force_plan(name)


def choices() -> dict[str, str]:
    """Choices of ``konv.autotune`` that hold in this process: for each shape of convolution the name of its plan."""
    return kernels.choices.active()


def use_choices(cache: str | os.PathLike[str] | None = None) -> int:
    """Let the choices hold that ``konv.autotune`` kept in a file; nothing is timed.

    Args:
        cache: The file; by default ``konv/plans.json`` in the user's cache directory. A damaged one is ignored with a
            warning, a missing one without.

    Returns:
        How many choices hold now. Those of other processors, versions or settings are among them and do nothing.
    """
    kernels.choices.use(kernels.choices.read(kernels.choices.default_path() if cache is None else Path(cache)))
    return len(kernels.choices.active())


def forget_choices() -> None:
    """End all choices in this process: plans follow from geometry again. The file stays."""
    kernels.choices.forget()
