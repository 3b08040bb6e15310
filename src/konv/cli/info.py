"""``konv info``: what runs here."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from .. import backends, kernels, machine
from .._version import __version__


def info() -> None:
    """Print version, CPU, instruction sets found and used, threads and NumPy."""
    used = backends.current()
    sets = [f"{name} (used)" if name == used else name for name in backends.available()]
    lines = {
        "konv": f"{__version__} in {Path(__file__).parents[1]}",
        "Python": f"{platform.python_version()}, NumPy {np.__version__}",
        "CPU": f"{machine.cpu()}, {machine.cores()} cores for this process",
        "instruction sets": ", ".join(sets),
        "threads": str(kernels.get_num_threads()),
    }
    for name, value in lines.items():
        print(f"{name:<17} {value}")
