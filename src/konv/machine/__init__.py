"""This machine: what it is called, what it can do at most, and how a call is timed on it."""

from __future__ import annotations

from .host import commit, cores, cpu
from .peak import Peak, peak
from .timing import alternate, burst

__all__ = ["Peak", "alternate", "burst", "commit", "cores", "cpu", "peak"]
