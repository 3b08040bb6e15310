"""A file, explained: the model that it holds, or its weights, listed with the layers that their shapes make likely.

An ONNX file and one that ``konv train`` wrote say which model they hold, so that model is explained; any other holds
tensors and no order of layers, so what is listed is what stands there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, FileError, KonvError, text
from .trace import LayerReport, ModelReport, Shape, WeightRow, WeightsReport


def file_report(path: Path, input_shape: Shape | None) -> LayerReport | ModelReport | WeightsReport:
    """The report of a file.

    Args:
        path: the file.
        input_shape: sizes of an input, for a file that holds a model; an ONNX file may bring its own.

    Raises:
        FileError: the file cannot be read, or is of a kind that konv does not read.
    """
    if path.suffix == ".onnx":
        return _onnx_report(path, input_shape)
    if not path.is_file():
        raise FileError(text("explain", f"{str(path)!r} is not a file", "give a .safetensors file, or a layer"))
    if input_shape is not None:
        from . import explain

        return explain(_model(path), input_shape)
    from ..io import load

    try:
        return weights_report(path.name, load(path))
    except OSError as error:
        raise FileError(text("explain", f"{str(path)!r} cannot be read", error.strerror or str(error))) from error


def _onnx_report(path: Path, input_shape: Shape | None) -> LayerReport | ModelReport:
    from ..onnx import load as load_onnx
    from . import explain

    model = load_onnx(path)
    if len(model.inputs) != 1:
        names = ", ".join(entry.name for entry in model.inputs) or "none"
        raise ArgumentError(text("explain", f"{path} has the inputs {names}", "a model with one input is explained"))
    given = model.inputs[0]
    if input_shape is None:
        if given.shape is None or None in given.shape:
            sizes = "?" if given.shape is None else "x".join("?" if n is None else str(n) for n in given.shape)
            got = f"{path} leaves sizes of its input open ({sizes})"
            raise ArgumentError(text("explain", got, "give all of them, such as --input 1,3,224,224"))
        input_shape = tuple(n for n in given.shape if n is not None)
    return explain(model, input_shape, dtype=given.dtype)


def _model(path: Path) -> Any:
    from ..models.classifier import load_classifier

    try:
        return load_classifier(path)
    except KonvError as error:
        got = f"{path} holds weights alone, not the order of layers"
        fix = f"leave --input away to list them ({error})"
        raise ArgumentError(text("explain", got, "an input needs a model to go through", fix)) from error


def weights_report(name: str, tensors: Mapping[str, Any]) -> WeightsReport:
    """The report of named tensors.

    Example:
        >>> import konv
        >>> from konv.explain.weights import weights_report
        >>> report = weights_report("net", konv.nn.Conv2d(3, 8, 5, bias=False).state_dict())
        >>> report.rows[0].layer, report.parameters
        ('Conv2d(3, 8, kernel_size=5, bias=False), or ConvTranspose2d', 600)
    """
    rows = tuple(
        WeightRow(key, tuple(tensor.shape), tensor.dtype.name, math.prod(tensor.shape) * tensor.dtype.itemsize,
                  _layer(key, tensors))
        for key, tensor in tensors.items()
    )  # fmt: skip
    numbers = sum(math.prod(row.shape) for row in rows)
    return WeightsReport(name, rows, numbers, sum(row.bytes for row in rows))


def _layer(key: str, tensors: Mapping[str, Any]) -> str:
    """What the shapes of a weight and its neighbours say; groups and stride leave no trace in them."""
    stem, _, last = key.rpartition(".")
    if last != "weight":
        return ""
    shape = tuple(tensors[key].shape)
    prefix = f"{stem}." if stem else ""
    bias = "" if f"{prefix}bias" in tensors else ", bias=False"
    if len(shape) == 4:
        kernel = shape[2] if shape[2] == shape[3] else (shape[2], shape[3])
        other = tensors.get(f"{prefix}bias")
        if other is not None and tuple(other.shape) != shape[:1]:
            return f"ConvTranspose2d({shape[0]}, {other.shape[0]}, kernel_size={kernel})"
        unsure = ", or ConvTranspose2d" if other is None or shape[0] == shape[1] else ""
        return f"Conv2d({shape[1]}, {shape[0]}, kernel_size={kernel}{bias}){unsure}"
    if len(shape) == 2:
        return f"Linear({shape[1]}, {shape[0]}{bias})"
    if len(shape) == 1 and f"{prefix}running_mean" in tensors:
        return f"BatchNorm2d({shape[0]})"
    return ""
