"""Gradients checked against finite differences, in float64 or complex128."""

from __future__ import annotations
from typing import Any


def gradcheck(*a: Any, **k: Any) -> bool:
    raise NotImplementedError


gradgradcheck = gradcheck
