"""How many threads kernels use: set by the program, said by the environment, or one for each CPU of this process."""

from __future__ import annotations

import os
from pathlib import Path

from .. import _core
from ..errors import ArgumentRangeError, text
from ..geometry import integer

MOST = 1024


def set_num_threads(n: int) -> None:
    """Threads that kernels of this process may use; the results do not depend on it.

    Raises:
        ArgumentTypeError: ``n`` is not a whole number.
        ArgumentRangeError: ``n`` is less than 1 or more than 1024.

    Example:
        >>> import konv
        >>> before = konv.get_num_threads()
        >>> konv.set_num_threads(1)
        >>> konv.get_num_threads()
        1
        >>> konv.set_num_threads(before)
    """
    number = integer(n, "n", "set_num_threads", 1)
    if number > MOST:
        raise ArgumentRangeError(text("set_num_threads", f"n={number}", f"at most {MOST} threads can be used"))
    _core.set_num_threads(number)


def get_num_threads() -> int:
    """Threads that kernels use: set, or ``KONV_NUM_THREADS``, ``OMP_NUM_THREADS``, or the CPUs of this process."""
    return _core.num_threads()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that the quota of this process's control groups amounts to, rounded up; ``MOST`` when there is none.

    Args:
        groups: The file that names the process's groups.
        root: Where the control groups are mounted.
    """
    group = next((line[4:] for line in _read(groups).splitlines() if line.startswith("0::/")), "")
    paths = [root / group, *(root / parent for parent in Path(group).parents)]  # groups nest: the smallest quota counts
    limits = [_read(path / "cpu.max") for path in paths]
    first = root / "cpu"  # control groups of the first version
    limits.append(f"{_read(first / 'cpu.cfs_quota_us')} {_read(first / 'cpu.cfs_period_us')}")
    least = MOST
    for limit in limits:
        numbers = [int(word) for word in limit.split() if word.isdecimal()]  # "max 100000" and "-1" are no quotas
        if len(numbers) == 2 and all(numbers):
            least = min(least, -(-numbers[0] // numbers[1]))
    return least


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _start() -> None:
    """Tell the core; the environment counts as it is when konv is imported."""
    cpus = min(cores(), quota(), MOST)
    _core.set_cpus(cpus)
    for name in ("KONV_NUM_THREADS", "OMP_NUM_THREADS"):
        first = os.environ.get(name, "").split(",")[0].strip()  # OpenMP allows "4,2": the first level counts
        if first.isdecimal() and int(first) > 0:
            return _core.set_num_threads(min(int(first), MOST))
    return _core.set_num_threads(cpus)


_start()
