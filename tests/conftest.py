"""What all tests share: which tests need PyTorch, and the fixture that gives it to them.

`make test` leaves out everything that needs PyTorch, `make test-torch` runs just that. A test needs PyTorch when it
stands in `tests/live/` (such a file imports torch at its top) or asks for the fixture `torch`. Nothing is skipped in
silence: where the live comparison was asked for and PyTorch is missing, the run fails.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

LIVE = Path(__file__).parent / "live"

# Not tests: a script that makes records with PyTorch, and one that tries an installed wheel.
collect_ignore = ["recorded/record.py", "recorded/record_random.py", "smoke/smoke.py"]

# Deadlines measure the machine, not the code: two cores shared by several workers make any of them flaky.
settings.register_profile("konv", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("konv")


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """PyTorch itself, for tests that compare with it; missing PyTorch is a failure, not a skip."""
    return importlib.import_module("torch")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without PyTorch in the selection, do not even import the files that import it."""
    if "not torch" in (config.getoption("markexpr") or "") and LIVE in (collection_path, *collection_path.parents):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs PyTorch."""
    for item in items:
        if LIVE in item.path.parents or "torch" in getattr(item, "fixturenames", ()):
            item.add_marker("torch")


def pytest_report_header() -> list[str]:
    """Name what ran, so that a log can be read later."""
    konv = importlib.import_module("konv")
    isa = os.environ.get("KONV_ISA", "best found")
    return [f"konv {konv.__version__} from {Path(konv.__file__).parent}, instruction set: {isa}"]
