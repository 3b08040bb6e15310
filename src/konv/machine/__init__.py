"""This machine: what it is called, what it can do at most, and how a call is timed on it."""

from __future__ import annotations

from ..kernels import cores
from .host import commit, cpu
from .peak import Bound, Peak, bound, peak
from .timing import alternate, burst

__all__ = ["Bound", "Peak", "alternate", "bound", "burst", "commit", "cores", "cpu", "peak"]
