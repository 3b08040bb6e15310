"""Data to try things on: 5,000 handwritten digits inside the package, and pictures of digits from disk."""

from .digits import MEAN, STD, mnist, normalise
from .pictures import read_digit

__all__ = ["MEAN", "STD", "mnist", "normalise", "read_digit"]
