"""Files: weights in the safetensors format."""

from .files import load, save

__all__ = ["load", "save"]
