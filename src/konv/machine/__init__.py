"""This machine: what it is called, what it can do at most, and how a call is timed on it."""

from __future__ import annotations

from ..kernels import cores
from .host import commit, cpu
from .peak import COPIED_BYTES, Bound, Peak, bound, copying, peak
from .timing import alternate, burst

__all__ = [
    "COPIED_BYTES",
    "Bound",
    "Peak",
    "alternate",
    "bound",
    "burst",
    "commit",
    "copying",
    "cores",
    "cpu",
    "peak",
]
