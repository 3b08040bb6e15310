"""Whole networks that are used in examples, and the loop that trains them."""

from .simple_cnn import SimpleCNN
from .training import Progress, accuracy, fit

__all__ = ["SimpleCNN", "Progress", "accuracy", "fit"]
