"""The thread pool: same bits for any number of threads, many callers, fork at any moment, clean ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import konv
from konv import kernels
from konv.geometry import ConvGeometry
from konv.kernels.threads import MOST, quota

fork_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def images(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def many_results() -> list[Any]:
    """A forward and both gradients of several geometries, and the layers around them."""
    x = images(3, 16, 37, 41)
    results = []
    for options in ({}, {"groups": 16}, {"stride": 2, "padding": 1}, {"groups": 4, "dilation": 2}):
        geometry = ConvGeometry.of(16, 32, 3, **options)
        weight = images(*geometry.weight_shape)
        y = kernels.conv2d(x, weight, None, geometry)
        results += [
            y,
            kernels.conv2d_grad_input(y, weight, geometry, (37, 41)),
            kernels.conv2d_grad_weight(x, y, geometry),
            kernels.conv2d_grad_bias(y),
        ]
    tensor = konv.from_numpy(x).requires_grad_()
    y = konv.nn.functional.batch_norm(tensor, None, None, training=True)
    y = konv.nn.functional.max_pool2d(konv.relu(y), 3, 2, 1)
    y.sum().backward()
    return [*results, y.detach().numpy(), tensor.grad.numpy()]


def same(found: list[Any], expected: list[Any]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_bits_do_not_depend_on_the_number_of_threads():
    kernels.set_num_threads(1)
    expected = many_results()
    for threads in (2, 3, 5, 16):
        kernels.set_num_threads(threads)
        assert kernels.get_num_threads() == threads
        for _ in range(3):
            assert same(many_results(), expected)


def together(*jobs: Any) -> list[BaseException]:
    """Run the jobs in threads of their own; what went wrong."""
    errors: list[BaseException] = []

    def guarded(job: Any) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"
    return errors


def test_many_python_threads_at_once():
    expected = many_results()

    def work() -> None:
        for _ in range(4):
            assert same(many_results(), expected)

    assert together(*[work] * 6) == []


def test_thread_count_changes_while_others_compute():
    expected = many_results()
    done = threading.Event()

    def change() -> None:
        count = 0
        while not done.is_set():
            count += 1
            kernels.set_num_threads(1 + count * 7 % 6)
            time.sleep(0)

    def work() -> None:
        try:
            for _ in range(5):
                assert same(many_results(), expected)
        finally:
            done.set()

    assert together(work, work, change) == []


def in_child(work: Any) -> bool:
    """Whether ``work`` in a forked child returns True within a minute."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    for _ in range(600):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return bool(os.waitstatus_to_exitcode(status) == 0)
        time.sleep(0.1)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")


@fork_only
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_works_after_fork_and_in_the_childs_child():
    kernels.set_num_threads(3)
    expected = many_results()
    assert in_child(lambda: same(many_results(), expected))
    assert in_child(lambda: in_child(lambda: same(many_results(), expected)) and same(many_results(), expected))
    assert same(many_results(), expected)


@fork_only
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_fork_while_another_thread_computes():
    kernels.set_num_threads(2)
    geometry = ConvGeometry.of(8, 8, 3)
    x, weight = images(2, 8, 30, 30), images(8, 8, 3, 3)
    expected = kernels.conv2d(x, weight, None, geometry)
    done = threading.Event()

    def busy() -> None:
        while not done.is_set():
            kernels.conv2d(x, weight, None, geometry)

    def fork() -> None:
        try:
            for _ in range(20):
                assert in_child(lambda: np.array_equal(kernels.conv2d(x, weight, None, geometry), expected))
        finally:
            done.set()

    assert together(busy, busy, fork) == []


def run(code: str, **environment: str) -> str:
    """What a fresh interpreter prints; it must end well, and soon."""
    clean = {k: v for k, v in os.environ.items() if k not in ("KONV_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_environment_says_how_many():
    show = "import konv; print(konv.get_num_threads())"
    assert run(show, KONV_NUM_THREADS="3", OMP_NUM_THREADS="5") == "3"
    assert run(show, OMP_NUM_THREADS="5") == "5"
    assert run(show, OMP_NUM_THREADS="4,2") == "4"
    assert run(show, KONV_NUM_THREADS="nonsense", OMP_NUM_THREADS="2") == "2"
    assert int(run(show)) >= 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_affinity_says_how_many():
    code = """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import konv
        print(konv.get_num_threads())
    """
    assert run(code) == "1"


def test_the_smallest_quota_of_nested_groups_counts(tmp_path: Path):
    def found(group: str, **limits: str) -> int:
        for name, limit in limits.items():
            path = tmp_path / name.replace("_", "/") / "cpu.max"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(limit)
        (tmp_path / "groups").write_text(f"2:cpu:/other\n0::{group}\n")
        return quota(tmp_path / "groups", tmp_path)

    assert found("/") == MOST
    assert found("/a/b c") == MOST
    assert found("/a/b", a="max 100000\n", a_b="300000 100000\n") == 3
    assert found("/a/b", a="150000 100000\n") == 2  # rounded up
    assert found("/a/b", a="1000 100000\n") == 1
    assert found("/elsewhere") == MOST
    assert quota(tmp_path / "nothing", tmp_path / "nowhere") == MOST


def test_a_quota_of_the_first_version(tmp_path: Path):
    (tmp_path / "cpu").mkdir()
    for limit, cpus in ((250_000, 3), (-1, MOST)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{limit}\n")
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
        assert quota(tmp_path / "nothing", tmp_path) == cpus


def test_ends_cleanly_while_a_daemon_thread_computes():
    code = """
        import threading, time
        import numpy as np
        from konv import kernels
        from konv.kernels import layers
        kernels.set_num_threads(3)
        x = np.ones((4, 16, 200, 200), np.float32)
        def forever():
            while True:
                layers.relu(x)
        for _ in range(2):
            threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.3)
        print("end")
    """
    assert run(code) == "end"


def test_no_threads_before_they_are_needed():
    code = """
        import os
        import konv
        before = len(os.listdir("/proc/self/task"))
        konv.set_num_threads(4)
        konv.relu(konv.ones(3))
        assert len(os.listdir("/proc/self/task")) == before
        konv.relu(konv.ones(1_000_000))
        print(len(os.listdir("/proc/self/task")) - before)
    """
    if os.path.isdir("/proc/self/task"):
        assert run(code) == "3"


def test_wrong_numbers_are_refused():
    for wrong, kind in ((0, ValueError), (-1, RuntimeError), (1025, ValueError), ("2", TypeError), (1.5, TypeError)):
        with pytest.raises(kind, match="set_num_threads"):
            konv.set_num_threads(wrong)
