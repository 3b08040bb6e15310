"""Damaged and malicious safetensors files, made here so that each can be read with its reason.

A file is: the length of a JSON header (8 bytes, little-endian), the header, and the data that its offsets point into.
"""

from __future__ import annotations

import json
import struct
from typing import Any

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DATA = bytes(8)


def packed(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of ``header`` (an object, or bytes as they are), claiming ``length``."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {**ENTRY, **changes}}


TWICE = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'

FILES = {
    "nothing": b"",
    "less than a length": b"abc",
    "a header of 2**63 bytes": packed({"a": ENTRY}, DATA, 2**63),
    "a header of 2**64 - 1 bytes": packed({"a": ENTRY}, DATA, 2**64 - 1),
    "a header longer than the file": packed({"a": ENTRY}, DATA, 10**6),
    "a header cut short": packed({"a": ENTRY}, DATA, 10),
    "half the data": packed({"a": ENTRY}, DATA[:4]),
    "data that no tensor owns": packed({"a": ENTRY}, DATA * 2),
    "a shape whose product overflows": packed(entry(shape=[2**40, 2**40]), DATA),
    "a shape whose bytes overflow": packed(entry(shape=[2**62]), DATA),
    "a negative size": packed(entry(shape=[-2]), DATA),
    "a fractional size": packed(entry(shape=[1.5]), DATA),
    "a size of another kind": packed(entry(shape=["2"]), DATA),
    "no shape": packed({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, DATA),
    "an unknown dtype": packed(entry(dtype="X9"), DATA),
    "a dtype that konv lacks": packed(entry(dtype="F8_E4M3", shape=[8]), DATA),
    "an unsigned dtype that konv lacks": packed(entry(dtype="U32"), DATA),
    "two tensors over the same bytes": packed({"a": ENTRY, "b": ENTRY}, DATA),
    "a hole before the data": packed(entry(data_offsets=[8, 16]), DATA * 2),
    "offsets that run backwards": packed(entry(data_offsets=[8, 0]), DATA),
    "offsets past the end": packed(entry(data_offsets=[0, 2**62]), DATA),
    "negative offsets": packed(entry(data_offsets=[-8, 0]), DATA),
    "a name that stands twice": packed(TWICE, DATA),
    "a list for a header": packed(b"[]"),
    "no JSON": packed(b'{"a":'),
    "a hundred thousand brackets": packed(b"[" * 100_000),
    "bytes that are no UTF-8": packed(b"\xff\xfe{}"),
    "metadata that is no text": packed({"__metadata__": {"a": 3}}),
    "truth values of 2": packed(entry(dtype="BOOL", shape=[8]), b"\x02" * 8),
    "more dimensions than NumPy has": packed(entry(shape=[1] * 100, data_offsets=[0, 4]), DATA[:4]),
    "an empty tensor of impossible shape": packed(entry(shape=[0, 2**62, 2**62], data_offsets=[0, 0])),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "a zip archive": b"PK\x03\x04" + bytes(60),
}
