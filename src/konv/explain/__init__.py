"""What a layer or a model does, in words and numbers: shapes, cost, receptive fields, hints."""

from __future__ import annotations

from .solve import Solution, solve

__all__ = ["Solution", "solve"]
