"""Weights in a file: the safetensors format, written whole or not at all, read without trust.

The package ``safetensors`` checks a file's lengths, offsets, overlaps and overflow; what it lets through (a name that
stands twice, a truth value that is neither 0 nor 1, shapes that NumPy cannot have) is checked here. Nothing in a file
is ever executed.

Source: the format, https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentTypeError, FileError, UnsupportedError, text
from ..regular import open_regular
from ..tensor import Tensor

#: The format's names of the dtypes that konv has.
DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}
LENGTH_BYTES = 8  # a file begins with the length of its JSON header


def save(obj: Any, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write a model's weights, or named tensors, to a safetensors file.

    The file appears under its name only when it is complete: after a failure the old one is still there.

    Args:
        obj: a ``Module`` (its ``state_dict()`` is written) or a mapping of names to tensors or arrays.
        path: the file.
        metadata: texts to keep in the file's header.

    Raises:
        ArgumentTypeError: if obj is something else, or a value is not a tensor.
        UnsupportedError: for a dtype that the format lacks (complex128), or a tensor without data ('meta').

    Example:
        >>> import konv, os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "two.safetensors")
        >>> konv.save({"weight": konv.ones(2)}, path)
        >>> konv.load(path)
        {'weight': tensor([1., 1.])}
    """
    arrays = {name: _array(name, value) for name, value in _named(obj).items()}
    from safetensors import SafetensorError
    from safetensors.numpy import save as to_bytes

    if metadata is not None and not all(isinstance(part, str) for pair in metadata.items() for part in pair):
        raise ArgumentTypeError(text("save", "metadata has values that are no strings", "names and values are strings"))
    try:
        content = to_bytes(arrays, None if metadata is None else dict(metadata))
    except SafetensorError as error:
        raise FileError(text("save", str(error), "the safetensors package refuses it")) from error
    _write(Path(path), content)


def load(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, in the order in which they lie there.

    Args:
        path: the file.

    Returns:
        Names with tensors; give them to ``Module.load_state_dict``.

    Raises:
        FileError: if the file is damaged, cut short, or not a safetensors file; if it is a pipe or a device.
        OSError: if it cannot be read at all.
    """
    path = Path(path)
    with open_regular(path, "load") as file:
        content = file.read()
    from safetensors import SafetensorError, deserialize

    try:
        found = deserialize(content)
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing: ")
        fix = "make it anew with konv.save"
        raise FileError(text("load", f"{path} is not a sound safetensors file ({reason})", fix)) from error
    order = _header_names(content, path)
    tensors = {name: _tensor(name, entry, path) for name, entry in found}
    return {name: tensors[name] for name in sorted(tensors, key=order.__getitem__)}


def _named(obj: Any) -> dict[str, Any]:
    state = obj.state_dict() if hasattr(obj, "state_dict") else obj
    if not isinstance(state, Mapping):
        rule = "it takes a Module or a mapping of names to tensors"
        raise ArgumentTypeError(text("save", f"got {type(obj).__name__}", rule))
    return dict(state)


def _array(name: Any, value: Any) -> np.ndarray[Any, Any]:
    if not isinstance(name, str):
        raise ArgumentTypeError(text("save", f"the name {name!r} is a {type(name).__name__}", "names are strings"))
    if isinstance(value, Tensor) and value.is_meta:
        fix = "give the module memory with to_empty(device='cpu') first"
        raise UnsupportedError(text("save", f"'{name}' is on the device 'meta' and has no data", fix))
    array = value._array if isinstance(value, Tensor) else value
    if not isinstance(array, np.ndarray):
        got = f"'{name}' is a {type(value).__name__}"
        raise ArgumentTypeError(text("save", got, "every value must be a tensor", "state_dict() gives such a mapping"))
    if array.dtype.name not in DTYPES.values():
        fix = "save .real and .imag" if array.dtype.kind == "c" else f"it has {', '.join(DTYPES.values())}"
        raise UnsupportedError(text("save", f"'{name}' is {array.dtype.name}", "the format lacks that dtype", fix))
    # ascontiguousarray would make a 0-dim array one-dimensional.
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _write(path: Path, content: bytes) -> None:
    """Write beside the file first, then put it in its place in one step."""
    beside = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _header_names(content: bytes, path: Path) -> dict[str, int]:
    """Where the tensors of a sound header begin, by name.

    Raises:
        FileError: if a name stands twice (readers would disagree about which one counts).
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise FileError(text("load", f"{path} has the name '{twice}' twice", "names must be unique"))
        return dict(pairs)

    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    header = json.loads(content[LENGTH_BYTES : LENGTH_BYTES + length], object_pairs_hook=unique)
    entries = [(name, entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__"]
    return {name: position for position, (name, _) in enumerate(sorted(entries, key=lambda pair: pair[1]))}


def _tensor(name: str, entry: dict[str, Any], path: Path) -> Tensor:
    known = DTYPES.get(entry["dtype"])
    if known is None:
        rule = f"konv has {', '.join(DTYPES)}"
        raise FileError(text("load", f"'{name}' in {path} is {entry['dtype']}", rule))
    dtype: dtypes.dtype = getattr(dtypes, known)
    data = np.frombuffer(entry["data"], np.uint8)
    if known == "bool" and data.size and data.max() > 1:
        raise FileError(text("load", f"'{name}' in {path} has truth values other than 0 and 1", "the file is damaged"))
    try:
        array = data.view(dtype.numpy).reshape(entry["shape"])
    except (ValueError, OverflowError) as error:
        rule = "NumPy has no such array"
        raise FileError(text("load", f"'{name}' in {path} has the shape {entry['shape']}", rule)) from error
    return Tensor._wrap(array, dtype)
