"""What a figure was measured on: without it a figure means nothing."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the source tree that konv runs from; empty for an installed package."""
    root = Path(__file__).parents[3]
    if not (root / "pyproject.toml").is_file():
        return ""
    import subprocess  # only here: who asks for the processor does not need it

    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
