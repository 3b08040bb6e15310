"""What all tests share: which tests need more than the test extra, and the fixture that gives PyTorch to them.

`make test` leaves out what needs PyTorch or a browser; `make test-torch` and `make test-page` run just that. A test
needs PyTorch when it stands in `tests/live/` (such a file imports torch at its top) or asks for the fixture `torch`;
it needs a browser when it stands in `tests/page/`. Nothing is skipped in silence: where PyTorch or the browser is
asked for and missing, the run fails.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

FOLDERS = {"torch": Path(__file__).parent / "live", "page": Path(__file__).parent / "page"}

# Not tests: a script that makes records with PyTorch, and one that tries an installed wheel.
collect_ignore = ["recorded/record.py", "recorded/record_random.py", "smoke/smoke.py"]

# Deadlines measure the machine, not the code: two cores shared by several workers make any of them flaky. Where a
# change is judged the examples are always the same; at a desk each run looks for new ones.
settings.register_profile(
    "konv",
    deadline=None,
    print_blob=True,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("konv")


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """PyTorch itself, for tests that compare with it; missing PyTorch is a failure, not a skip."""
    return importlib.import_module("torch")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What is left out is not even imported: it imports what may not be there."""
    left_out = [folder for marker, folder in FOLDERS.items() if f"not {marker}" in (config.getoption("markexpr") or "")]
    return True if any(collection_path.is_relative_to(folder) for folder in left_out) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs PyTorch or a browser."""
    for item in items:
        for marker, folder in FOLDERS.items():
            if item.path.is_relative_to(folder) or marker in getattr(item, "fixturenames", ()):
                item.add_marker(marker)


def pytest_report_header() -> list[str]:
    """Name what ran, so that a log can be read later."""
    konv = importlib.import_module("konv")
    isa = os.environ.get("KONV_ISA", "best found")
    return [f"konv {konv.__version__} from {Path(konv.__file__).parent}, instruction set: {isa}"]
