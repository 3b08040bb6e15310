"""An ONNX file, hostile until checked: size, form, limits, and nothing but what stands in the file itself.

A tensor may name another file that holds its numbers ("external data"). konv opens no file but the one it was given,
so such a tensor is refused before anybody looks at the name.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from .. import dtypes
from ..errors import FileError, UnsupportedError, text
from ..regular import open_regular

MAX_BYTES: Final = 2**31 - 1  # what the format itself allows
MAX_NODES: Final = 20_000
LEAST_OPSET: Final = 7  # older operators broadcast by other rules
MAX_WORDS: Final = 200  # of a name or a reason that is shown


def package() -> Any:
    """The package ``onnx``.

    Raises:
        UnsupportedError: it is not installed.
    """
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        fix = "pip install 'konv[onnx]' brings it"
        raise UnsupportedError(text("onnx.load", "the package onnx is not installed", fix)) from error


def shown(words: Any) -> str:
    """Words from a file, fit for a message: one line, printable, not long."""
    plain = " ".join(str(words)[: 4 * MAX_WORDS].split())
    plain = "".join(sign if sign.isprintable() else "?" for sign in plain)
    return plain if len(plain) <= MAX_WORDS else f"{plain[:MAX_WORDS]}..."


def refused(path: Path, got: str, rule: str, fix: str = "") -> FileError:
    """The error for a file that is not sound."""
    return FileError(text("onnx.load", f"{shown(path)} {got}", rule, fix))


def read_model(path: Path) -> Any:
    """The file's ``ModelProto``, checked.

    Raises:
        FileError: not a file, too large, damaged, against the rules of ONNX, or with data in other files.
        UnsupportedError: operators of a version that is too old, or no package ``onnx``.
    """
    onnx = package()
    model = _parsed(onnx, _content(path), path)
    if len(model.graph.node) > MAX_NODES:
        raise refused(path, f"has {len(model.graph.node)} nodes", f"konv reads at most {MAX_NODES}")
    if model.graph.sparse_initializer:
        raise refused(path, "has sparse weights", "konv reads dense ones")
    for tensor in _tensors(model.graph):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            fix = "save the model as one file"
            raise refused(path, f"keeps {shown(tensor.name)!r} in another file", "konv opens no other file", fix)
    _check_opset(model, path)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # whatever the checker trips over, the file is at fault
        raise refused(path, "is not a sound ONNX model", shown(error)) from None
    return model


def _content(path: Path) -> bytes:
    try:
        with open_regular(path, "onnx.load") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise refused(path, f"has {size} bytes", f"konv reads at most {MAX_BYTES}")
            return file.read(MAX_BYTES + 1)[:MAX_BYTES]
    except FileError:
        raise
    except (OSError, ValueError) as error:  # ValueError: the path has a null character
        raise refused(path, "cannot be read", getattr(error, "strerror", None) or str(error)) from error


def _parsed(onnx: Any, content: bytes, path: Path) -> Any:
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # the parser's own errors are no public names
        raise refused(path, "is not an ONNX file", shown(error) or type(error).__name__) from None
    if not model.graph.node:
        raise refused(path, "is not an ONNX file", "it has no nodes")
    return model


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph and the graphs inside its nodes; the parser has bounded how deep they lie."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)


def _check_opset(model: Any, path: Path) -> None:
    found = opset_of(model)
    if found < LEAST_OPSET:
        fix = "convert it with onnx.version_converter"
        rule = f"konv reads version {LEAST_OPSET} and later"
        raise UnsupportedError(text("onnx.load", f"{shown(path)} has operators of version {found}", rule, fix))


def opset_of(model: Any) -> int:
    """The version of ONNX's own operators."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def array_of(tensor: Any, path: Path) -> np.ndarray[Any, Any]:
    """The numbers of a tensor, in memory of their own.

    Raises:
        FileError: its shape and its bytes disagree, or NumPy and konv have no such numbers.
    """
    name = shown(tensor.name)
    dims = tuple(tensor.dims)
    try:
        array = np.array(package().numpy_helper.to_array(tensor))
    except Exception as error:
        raise refused(path, f"has a damaged tensor {name!r}", shown(error)) from None
    if array.shape != dims or array.size != math.prod(dims):
        raise refused(path, f"has a damaged tensor {name!r}", f"its shape is {shown(list(dims))}")
    if array.dtype not in dtypes._BY_NUMPY:
        raise refused(path, f"has a tensor {name!r} of {shown(array.dtype)}", "konv has no such numbers")
    return array
