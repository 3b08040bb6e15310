"""The tree itself: what the Makefile promises, sizes of files, and that documents point to things that exist."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import konv

ROOT = Path(__file__).parents[1]
LIMITS = {".py": 400, ".cpp": 500, ".hpp": 500}


def sources() -> list[Path]:
    return sorted(path for top in ("src", "cpp") for path in (ROOT / top).rglob("*") if path.suffix in LIMITS)


def test_a_missing_compiler_is_one_clear_line() -> None:
    done = subprocess.run(["make", "-s", "-C", str(ROOT), "compiler", "CXX_FOUND="], capture_output=True, text=True)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert "C++20 compiler" in said[0]
    assert "apt-get install g++" in said[0]


def test_a_present_compiler_is_no_line() -> None:
    done = subprocess.run(["make", "-s", "-C", str(ROOT), "compiler", "CXX_FOUND=g++"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "target", ["demo", "test", "test-torch", "test-page", "test-aarch64", "check", "bench", "sanitize"]
)
def test_targets_exist(target: str) -> None:
    command = ["make", "-s", "-n", "-C", str(ROOT), target]
    assert subprocess.run(command, capture_output=True, text=True).returncode == 0


def test_a_file_fits_one_sitting() -> None:
    large = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert len(large) > 40
    assert {name: lines for name, lines in large.items() if lines > LIMITS[Path(name).suffix]} == {}


def test_lines_fit_the_page() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 120
    ]
    assert long == []


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"])
def test_links_lead_somewhere(page: Path) -> None:
    words = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)", words):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_one_version() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert "version" in tomllib.load(file)["project"]["dynamic"]
    assert f"## {konv.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_runtime_dependencies_are_three() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        names = [re.split(r"[<>=]", name)[0] for name in tomllib.load(file)["project"]["dependencies"]]
    assert names == ["numpy", "ml_dtypes", "safetensors"]
