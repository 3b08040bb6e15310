"""What this machine can do at most: multiply-adds and copied bytes a second, measured once a process.

The arithmetic peak is taken from NumPy's matrix product (its BLAS comes close to one multiply-add a lane and cycle on
every core), the memory peak from copying arrays far larger than the caches, one thread for each core.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .host import cores
from .timing import burst

MATRIX = 1024
COPIED_BYTES = 64 * 2**20
SECONDS = 0.1
ROUNDS = 3


@dataclass(frozen=True)
class Peak:
    """Operations a second (a multiply and an add are two) and bytes a second, read and written together."""

    flops: float
    bytes: float


@lru_cache(maxsize=2)
def peak(dtype: str = "float32") -> Peak:
    """The best of a few bursts of each kind; takes about half a second the first time.

    Example:
        >>> from konv.machine import peak
        >>> peak().flops > 1e8, peak().bytes > 1e7
        (True, True)
    """
    return Peak(_flops(dtype), _bytes())


def _flops(dtype: str) -> float:
    a = np.ones((MATRIX, MATRIX), dtype)
    b, out = np.ones_like(a), np.empty_like(a)
    best = min(burst(lambda: np.matmul(a, b, out=out), SECONDS) for _ in range(ROUNDS))
    return 2 * MATRIX**3 / best


def _bytes() -> float:
    parts = cores()
    source = np.ones(COPIED_BYTES // 8)
    target = np.zeros_like(source)
    pairs = list(zip(np.array_split(target, parts), np.array_split(source, parts), strict=True))
    with ThreadPoolExecutor(parts) as pool:
        best = min(burst(lambda: list(pool.map(lambda p: np.copyto(*p), pairs)), SECONDS) for _ in range(ROUNDS))
    return 2 * COPIED_BYTES / best
