"""Whole networks that are used in examples, the loop that trains them, and their files."""

from .classifier import classify, load_classifier, save_classifier
from .simple_cnn import SimpleCNN
from .training import Progress, accuracy, fit

__all__ = ["SimpleCNN", "Progress", "accuracy", "classify", "fit", "load_classifier", "save_classifier"]
