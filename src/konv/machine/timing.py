"""How a call is timed so that the number means something on a machine whose speed drifts and whose cores are shared.

- Peers alternate: in each round every peer has one burst of calls, in an order that rotates and turns round, so that
  nobody always follows the same one. A slow minute then hits all of them, and the ratio of two peers is taken within a
  round.
- Before a burst there is a pause: the threads of other engines spin after their last call (OpenMP's for 12 ms, ONNX
  Runtime's for 65 ms) and take a core from whoever comes next. Then the start of the burst is dropped, until the
  peer's own threads are awake and its data in the caches.
- Medians, of the calls of a burst and of the rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

PAUSE_SECONDS = 0.08
WARM_SECONDS = 0.006
LEAST_CALLS = 3


def burst(run: Callable[[], object], seconds: float, warm: float = WARM_SECONDS) -> float:
    """Median seconds of one call, over calls that last ``seconds`` together, after ``warm`` seconds of others."""
    clock = time.perf_counter
    start = clock()
    run()
    while clock() - start < warm:
        run()
    times: list[float] = []
    begin = before = clock()
    while len(times) < LEAST_CALLS or before - begin < seconds:
        run()
        after = clock()
        times.append(after - before)
        before = after
    return median(times)


def alternate(runs: Mapping[str, Callable[[], object]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of one call for each name and round.

    Example:
        >>> from konv.machine import alternate
        >>> times = alternate({"a": lambda: None, "b": lambda: sum(range(10_000))}, rounds=3, seconds=0.001)
        >>> [len(times[name]) for name in "ab"], min(times["b"]) > min(times["a"])
        ([3, 3], True)
    """
    names = list(runs)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        order = names[first:] + names[:first]
        for name in order if turn % 2 == 0 else reversed(order):
            if len(names) > 1:
                time.sleep(PAUSE_SECONDS)
            times[name].append(burst(runs[name], seconds))
    return times
