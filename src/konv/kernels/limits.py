"""What the machine's vectors are and do: asked by reports, never by kernels."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .threads import get_num_threads

SHORTEST_RUN = 4e-3  # seconds; in shorter ones the threads' start would count


def computed_bytes(dtype: Any) -> int:
    """Bytes of the numbers that kernels add for a dtype: halves as float32, integers as 64 bits unless sums are short.

    Example:
        >>> from konv.kernels.limits import computed_bytes
        >>> computed_bytes("float16"), computed_bytes("complex64"), computed_bytes("int8")
        (4, 8, 8)
    """
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    return {"float16": 4, "bfloat16": 4, "float32": 4, "complex128": 16}.get(name, 8)


def lanes(dtype: Any = "float32") -> int:
    """Numbers that one vector of the instruction set in use holds.

    Example:
        >>> from konv import kernels
        >>> kernels.lanes("float32") == 2 * kernels.lanes("float64")
        True
    """
    return max(1, _core.vector_bytes() // computed_bytes(dtype))


def fma_peak(dtype: Any = "float32", seconds: float = 0.1) -> float:
    """Operations a second (a multiply and an add are two) that the vectors of as many threads as konv's can do.

    Those of bfloat16 are counted in pairs where the best instruction set multiplies so.

    Measured in many short runs of which the best counts, by each thread's own clock, which stands still while another
    program has the core: other programs do not lower it.
    """
    return max(fma_rates(dtype, seconds, time.thread_time))


def fma_rates(
    dtype: Any = "float32", seconds: float = 0.1, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Operations a second by ``clock``, in each of many short runs: what the machine leaves to its multipliers now."""
    from concurrent.futures import ThreadPoolExecutor  # `import konv` does without it

    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    added = name if name == "bfloat16" else "float32" if name in ("float16", "float32", "complex64") else "float64"
    threads = get_num_threads()
    together = threading.Barrier(threads)

    def rate(repeats: int) -> float:
        together.wait()
        start = clock()
        operations = _core.multiply_add(added, repeats)
        return operations / (clock() - start)

    rates: list[float] = []
    repeats, end = 64, time.perf_counter() + seconds
    with ThreadPoolExecutor(threads) as pool:
        while not rates or time.perf_counter() < end:
            start = time.perf_counter()
            found = sum(pool.map(rate, [repeats] * threads))
            if time.perf_counter() - start < SHORTEST_RUN:
                repeats *= 2
            else:
                rates.append(found)
    return rates
