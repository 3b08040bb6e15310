"""The promises about memory: scratch stays under a quarter of input and output, or 8 MiB, on any number of threads; a
result's memory is its own while it lives, and what is kept of it afterwards is bounded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from konv import kernels
from konv.errors import ArgumentError
from konv.geometry import ConvGeometry
from konv.kernels import layers

sanitized = "libasan" in os.environ.get("LD_PRELOAD", "")  # then no memory is kept

# n, h, w, then the layer
LAYERS: list[tuple[int, int, int, dict[str, Any]]] = [
    (1, 224, 224, {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1}),
    (1, 28, 28, {"in_channels": 2048, "out_channels": 2048, "kernel_size": 3, "padding": 1}),
    (1, 7, 7, {"in_channels": 16384, "out_channels": 512, "kernel_size": 1}),
    (1, 4, 4096, {"in_channels": 2048, "out_channels": 64, "kernel_size": 3, "padding": 1}),
    (1, 4096, 4096, {"in_channels": 3, "out_channels": 16, "kernel_size": 1}),
    (1, 128, 128, {"in_channels": 64, "out_channels": 64, "kernel_size": 31, "padding": 15}),
    (1, 1024, 1024, {"in_channels": 1, "out_channels": 1, "kernel_size": 1024}),
    (1, 64, 64, {"in_channels": 512, "out_channels": 10, "kernel_size": 64}),
    (1, 256, 256, {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 36, "dilation": 36}),
    (8, 224, 224, {"in_channels": 3, "out_channels": 768, "kernel_size": 16, "stride": 16}),
    (1, 28, 28, {"in_channels": 1024, "out_channels": 64, "kernel_size": 11, "padding": 5}),
    (1, 14, 14, {"in_channels": 2048, "out_channels": 64, "kernel_size": 9, "padding": 4}),
    (20, 50, 100, {"in_channels": 16, "out_channels": 33, "kernel_size": 5}),
    (1, 112, 112, {"in_channels": 96, "out_channels": 96, "kernel_size": 3, "stride": 2, "padding": 1, "groups": 96}),
]


@pytest.mark.parametrize("threads", [1, 2, 8, 64])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("forced", ["", "pixel_lane", "output_lane", "winograd", "depthwise", "channel_lane"])
def test_scratch_keeps_its_promise(forced: str, dtype: str, threads: int) -> None:
    before = kernels.get_num_threads()
    kernels.set_num_threads(threads)
    try:
        for n, h, w, options in LAYERS:
            geometry = ConvGeometry.of(**options)
            oh, ow = geometry.output_size(h, w)
            cells = n * (geometry.in_channels * h * w + geometry.out_channels * oh * ow)
            limit = max(8 << 20, cells * (4 if dtype == "float32" else 2) // 4)
            try:
                plan = _plan(geometry, h, w, dtype, forced)
            except ArgumentError:
                continue  # not for this geometry
            assert plan.scratch(n)[3] <= limit, (plan.name, options)
    finally:
        kernels.set_num_threads(before)


def _plan(geometry: ConvGeometry, h: int, w: int, dtype: str, forced: str) -> Any:
    if not forced:
        return kernels.plan(geometry, h, w, dtype)
    with kernels.force_plan(forced):
        return kernels.plan(geometry, h, w, dtype)


def result(cells: int, value: float) -> Any:
    return layers.relu(np.full(cells, value, np.float32))


def numbered(rng: np.random.Generator, rounds: int) -> None:
    """Results of all sizes that come and go: each keeps its own number as long as it lives."""
    alive: list[tuple[float, Any]] = []
    for number in range(1, rounds + 1):
        alive.append((number, result(int(2 ** rng.uniform(0, 20)), number)))
        if len(alive) > 12:
            del alive[int(rng.integers(12))]
        assert all((array == value).all() for value, array in alive)
    starts = sorted((array.ctypes.data, array.nbytes) for _, array in alive)
    assert all(a + size <= b for (a, size), (b, _) in pairwise(starts))


def test_results_that_live_share_no_memory() -> None:
    numbered(np.random.default_rng(0), 150)


def test_results_of_many_threads_share_no_memory() -> None:
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            numbered(np.random.default_rng(seed), 60)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_results_after_fork_share_no_memory() -> None:
    done, mine = threading.Event(), result(300_000, 7)

    def busy() -> None:
        while not done.is_set():
            result(300_000, 1)

    other = threading.Thread(target=busy)
    other.start()
    try:
        for seed in range(5):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    numbered(np.random.default_rng(seed), 40)
                    code = 0 if (mine == 7).all() else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        done.set()
        other.join()
    assert (mine == 7).all()


@pytest.mark.skipif(sanitized, reason="AddressSanitizer sees every block")
@pytest.mark.parametrize("cells", [500_000, 1_204_224, 2_110_000, 6_500_000, 20_000_000])
def test_memory_of_a_result_serves_the_next_one_of_its_size(cells: int) -> None:
    # In a process of its own: what other tests left is kept, too, and makes room for this or not.
    code = f"""
import numpy as np
from konv.kernels import layers
def result(cells):
    return layers.relu(np.ones(cells, np.float32))
first = result({cells})
address = first.ctypes.data
del first
assert result({cells // 5}).ctypes.data != address, "far too small for it"
next = result({cells * 98 // 100})
assert next.ctypes.data == address
assert next.nbytes == {cells * 98 // 100 * 4}
assert result({cells * 98 // 100}).ctypes.data != address, "it is in use"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(sanitized, reason="AddressSanitizer sees every block")
def test_large_results_do_not_displace_small_ones() -> None:
    code = """
import numpy as np
from konv.kernels import layers
x = np.ones(84 << 18, np.float32)
small = layers.relu(x[:500_000])
address = small.ctypes.data
del small
large = [layers.relu(x[: size << 18]) for size in range(34, 84, 10)]
del large
assert layers.relu(x[:490_000]).ctypes.data == address
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(sanitized or not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_that_is_kept_is_bounded() -> None:
    at_first, kept, _ = after_results("range(1, 24)")
    assert at_first > 250
    assert 16 < kept <= 64 + 4


@pytest.mark.skipif(sanitized or not sys.platform.startswith("linux"), reason="reads /proc")
def test_large_memory_that_is_kept_is_the_systems_when_it_needs_it() -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    most = min(1040, max(32, (memory >> 20) // 16))
    at_first, kept, free = after_results(f"[34] + [84] * {most // 84 + 1}")
    assert at_first > most
    assert most / 2 < kept <= most + 4
    assert free >= 0.9 * kept


def after_results(sizes: str) -> list[int]:
    """MiB of this process: what results of so many MiB take, what is left of them, and how much of that is on call."""
    code = f"""
import numpy as np
from konv.kernels import layers
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def lazily_free():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/smaps_rollup") if line.startswith("LazyFree"))
x = np.ones(84 << 18, np.float32)
layers.relu(x[:9])
before = resident()
results = [layers.relu(x[: size << 18]) for size in {sizes}]
at_first = resident() - before
del results
print(at_first >> 20, (resident() - before) >> 20, lazily_free() >> 20)
"""
    # malloc gives every larger block back to the system at once, so that what stays is what konv keeps.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return [int(word) for word in done.stdout.split()]
