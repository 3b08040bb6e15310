"""What this machine can do at most: multiply-adds and copied bytes a second, measured once a process.

The arithmetic peak is taken from the register tile of konv's own convolutions over numbers that stay in the first-level
cache, on all of konv's threads; the memory peak from copying arrays far larger than the caches, one thread for each
core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .. import kernels
from .timing import burst

COPIED_BYTES = 64 * 2**20
SECONDS = 0.1
ROUNDS = 3


@dataclass(frozen=True)
class Peak:
    """Operations a second (a multiply and an add are two) and bytes a second, read and written together."""

    flops: float
    bytes: float


@dataclass(frozen=True)
class Bound:
    """What no call can beat on this machine: the longer of the times that arithmetic and memory need at their peaks."""

    seconds: float
    limit: str  # 'multiply-adds' or 'bytes': which of the two it is
    peak: Peak


def bound(flops: int, moved: int, dtype: str = "float32") -> Bound:
    """The bound of ``flops`` operations of ``dtype`` and ``moved`` bytes, each read or written once.

    Kernels add in double precision for numbers of eight bytes a part, in single precision for all others, of bfloat16
    in pairs where the CPU has them. An algorithm that needs fewer operations than the direct sum can pass it.

    Source: S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model", CACM 52(4),
    2009, https://doi.org/10.1145/1498765.1498785.

    Example:
        >>> from konv.machine import bound
        >>> bound(flops=10**12, moved=8).limit
        'multiply-adds'
    """
    top = peak("float64" if dtype in ("complex128", "int64") else dtype)
    by_flops, by_bytes = flops / top.flops, moved / top.bytes
    return Bound(max(by_flops, by_bytes), "multiply-adds" if by_flops >= by_bytes else "bytes", top)


def peak(dtype: str = "float32") -> Peak:
    """The best of a few bursts of each kind; takes about half a second the first time.

    Example:
        >>> from konv.machine import peak
        >>> peak().flops > 1e8, peak().bytes > 1e7
        (True, True)
    """
    return _peak(dtype if dtype in ("float64", "bfloat16") else "float32", kernels.get_num_threads())


@lru_cache(maxsize=16)
def _peak(dtype: str, threads: int) -> Peak:
    return Peak(kernels.fma_peak(dtype, ROUNDS * SECONDS), _bytes())


@lru_cache(maxsize=1)
def _bytes() -> float:
    with copying(kernels.cores()) as copy:
        return 2 * COPIED_BYTES / min(burst(copy, SECONDS) for _ in range(ROUNDS))


@contextmanager
def copying(threads: int) -> Iterator[Callable[[], object]]:
    """A call that copies ``COPIED_BYTES`` on so many threads."""
    from concurrent.futures import ThreadPoolExecutor  # `import konv` does without it

    source = np.ones(COPIED_BYTES // 8)
    target = np.zeros_like(source)
    pairs = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        yield lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs))
