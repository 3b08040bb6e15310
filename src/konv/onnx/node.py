"""One node of a graph: its attributes by name, asked for with the type that they must have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FileError, UnsupportedError, text
from ..tensor import Tensor
from .file import shown


@dataclass(frozen=True)
class Node:
    """An operator with its options; ``inputs`` and ``outputs`` are names of values, empty where left out."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int

    def get(self, name: str, default: Any) -> Any:
        """An attribute, of the type of its default; ``checker`` has compared types with the operator's."""
        found = self.attributes.get(name, default)
        if found is default:
            return default
        if isinstance(found, bytes):
            return found.decode(errors="replace")
        return tuple(found) if isinstance(found, (list, tuple)) else found

    def pair(self, name: str, default: int) -> tuple[int, int]:
        """An attribute of one number for each axis of an image.

        Raises:
            UnsupportedError: the operator is for sequences or volumes.
        """
        found = self.get(name, (default, default))
        if len(found) != 2:
            raise self.refusal(f"{name}={shown(list(found))}", "konv works on images, with two axes")
        return found[0], found[1]

    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """``((top, bottom), (left, right))``."""
        found = self.get("pads", (0, 0, 0, 0))
        if len(found) != 4:
            raise self.refusal(f"pads={shown(list(found))}", "konv works on images, with two axes")
        top, left, bottom, right = found
        return (top, bottom), (left, right)

    def padding(self) -> Any:
        """Cells around the image, or konv's word for ONNX's."""
        word = self.get("auto_pad", "NOTSET")
        words: dict[str, Callable[[], Any]] = {
            "NOTSET": self.pads,
            "VALID": lambda: ((0, 0), (0, 0)),
            "SAME_UPPER": lambda: "same_upper",
            "SAME_LOWER": lambda: "same_lower",
        }
        if word not in words:
            raise self.damage(f"auto_pad={shown(word)!r}", f"it must be one of {', '.join(words)}")
        return words[word]()

    def numbers(self, name: str, given: Any, default: Any = None) -> Any:
        """A list of numbers that is an attribute in older versions and an input in newer ones."""
        if given is not None:
            return known(given)
        found = self.get(name, default)
        return list(found) if isinstance(found, tuple) else found

    def axis(self, axis: int, rank: int) -> int:
        """An axis of a tensor of ``rank``, counted from the front.

        Raises:
            FileError: there is no such axis.
        """
        if not -rank <= axis < rank:
            raise self.damage(f"axis {axis}", f"there are {rank} axes")
        return axis % rank

    @property
    def used_outputs(self) -> int:
        """Outputs that have a name."""
        return sum(1 for name in self.outputs if name)

    @property
    def title(self) -> str:
        """The operator and the node's name, for messages."""
        return f"{self.op} (node {shown(self.name)!r})"

    def refusal(self, got: str, rule: str, fix: str = "") -> UnsupportedError:
        """The error for what konv does not do."""
        return UnsupportedError(text("onnx", f"{self.title}: {got}", rule, fix))

    def damage(self, got: str, rule: str) -> FileError:
        """The error for what no sound file has."""
        return FileError(text("onnx", f"{self.title}: {got}", rule))

    def __str__(self) -> str:
        parts = [f"{name}={_short(self.get(name, None))}" for name in self.attributes]
        return ", ".join(parts)


def _short(value: Any) -> str:
    return shown(value if isinstance(value, (int, float, str)) else list(value) if isinstance(value, tuple) else "...")


def known(value: Any) -> Any:
    """A tensor of a few numbers as a list of them, or as one number."""
    return value.tolist() if isinstance(value, (Tensor, np.ndarray)) else value
