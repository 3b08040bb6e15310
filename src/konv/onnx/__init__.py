"""ONNX files, read into a ``Module`` that runs the graph with konv's own layers and operations.

Needs the package ``onnx`` (``pip install 'konv[onnx]'``), which is imported when a file is read and not before.
"""

from __future__ import annotations

from .model import OnnxModel as OnnxModel, load as load

__all__ = ["OnnxModel", "load"]
