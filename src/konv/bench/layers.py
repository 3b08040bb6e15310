"""Layers as data: one a line, as ``benchmarks/shapes/*.txt`` holds them.

A line is ``name N C H W O KH KW stride pad dilation groups``, then free text; ``#`` starts a comment. Stride, pad and
dilation are one number or two (height first) joined by an ``x``: ``0x3`` pads three columns left and right, no row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ArgumentError, FileError, text
from ..geometry import ConvGeometry

FIELDS = ("N", "C", "H", "W", "O", "KH", "KW", "stride", "pad", "dilation", "groups")
FORM = "name " + " ".join(FIELDS)
NUMBER = re.compile(r"\d{1,18}")
PAIR = re.compile(r"(\d{1,18})x(\d{1,18})")
MAX_FILE_BYTES = 2**20


@dataclass(frozen=True)
class Layer:
    """One convolution on one size of input.

    Example:
        >>> from konv.bench import parse_layer
        >>> layer = parse_layer("resnet_stem 1 3 224 224 64 7 7 2 3 1 1  ResNet conv1")
        >>> layer.input_shape, layer.output_shape, layer.flops
        ((1, 3, 224, 224), (1, 64, 112, 112), 236027904)
    """

    name: str
    batch: int
    height: int
    width: int
    geometry: ConvGeometry
    origin: str = ""

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(N, C_in, H, W)."""
        return self.batch, self.geometry.in_channels, self.height, self.width

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(N, C_out, H_out, W_out)."""
        return self.batch, self.geometry.out_channels, *self.geometry.output_size(self.height, self.width)

    @property
    def flops(self) -> int:
        """Operations of the direct sum: a multiply and an add for each tap, whatever algorithm runs."""
        return 2 * self.geometry.macs(self.batch, self.height, self.width)


def parse_layer(line: str, who: str = "layer") -> Layer:
    """Reads one line of the format above.

    Raises:
        ArgumentError: a field is missing or not a number, or the numbers make no layer.
    """
    words = line.split()
    if words and NUMBER.fullmatch(words[0]):
        words.insert(0, "layer")  # the name may be left out
    if len(words) < 1 + len(FIELDS):
        got = f"{line.strip()!r} has {max(0, len(words) - 1)} numbers"
        raise ArgumentError(text(who, got, f"a layer has {len(FIELDS)}", f"write: {FORM}"))
    whole = {name: _number(word, name, who) for name, word in zip(FIELDS, words[1:], strict=False)}
    batch, channels, height, width, out, kh, kw = (_single(whole[name], name, who) for name in FIELDS[:7])
    groups = _single(whole["groups"], "groups", who)
    geometry = ConvGeometry.of(
        channels, out, (kh, kw), whole["stride"], whole["pad"], whole["dilation"], groups, who=who
    )
    layer = Layer(words[0], batch, height, width, geometry, " ".join(words[1 + len(FIELDS) :]))
    geometry.output_size(height, width, who)
    if layer.flops == 0:
        raise ArgumentError(text(who, f"{line.strip()!r} has nothing to compute", "every size must be at least 1"))
    return layer


def _number(word: str, name: str, who: str) -> int | tuple[int, int]:
    if NUMBER.fullmatch(word):
        return int(word)
    if pair := PAIR.fullmatch(word):
        return int(pair[1]), int(pair[2])
    raise ArgumentError(text(who, f"{name}={word!r} is not a number", f"write: {FORM}"))


def _single(value: int | tuple[int, int], name: str, who: str) -> int:
    if isinstance(value, int):
        return value
    raise ArgumentError(text(who, f"{name} is a pair", "only stride, pad and dilation can be"))


def read_layers(path: str | Path) -> list[Layer]:
    """All layers of a file, in its order.

    Raises:
        FileError: the file cannot be read, or has no layer.
        ArgumentError: a line is wrong; the message names the file and the line.
    """
    layers = list(_read(Path(path)))
    if not layers:
        raise FileError(text(str(path), "the file has no layer", f"a line is: {FORM}"))
    return layers


def _read(path: Path) -> Iterator[Layer]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise FileError(
            text("layers", f"{str(path)!r} cannot be read", getattr(error, "strerror", str(error)))
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise FileError(text("layers", f"{path} is too long", f"at most {MAX_FILE_BYTES:,} bytes are read"))
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise FileError(text("layers", f"{path} is not text", f"a line is: {FORM}")) from error
    for number, line in enumerate(lines, 1):
        line = line.split("#", 1)[0]
        if line.strip():
            yield parse_layer(line, who=f"{path}:{number}")
