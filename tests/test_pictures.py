"""Pictures of digits: any size, colour and mode gives what MNIST would hold; hostile files give one error."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from konv.data import digits, pictures, read_digit
from konv.errors import FileError

DIGITS = np.load(digits.FILE)["images"][:60]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of a pixel, of 255."""
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def read(picture: Image.Image, folder: Path, name: str = "digit.png", **options: object) -> np.ndarray:
    path = folder / name
    picture.save(path, **options)
    return read_digit(path)


def test_mnist_stays_what_it_is(tmp_path: Path) -> None:
    assert max(difference(read(Image.fromarray(digit), tmp_path), digit) for digit in DIGITS) < 1.0


def test_result(tmp_path: Path) -> None:
    result = read(Image.fromarray(DIGITS[0]), tmp_path)
    assert (result.shape, result.dtype, result.max()) == ((28, 28), np.uint8, 255)


@pytest.mark.parametrize("digit", DIGITS[:5])
def test_black_on_white_is_the_same(digit: np.ndarray, tmp_path: Path) -> None:
    assert difference(read(Image.fromarray(255 - digit), tmp_path), digit) < 1.0


@pytest.mark.parametrize("side", [14, 28, 100, 517])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16", "CMYK", "LA"])
def test_sizes_and_modes(side: int, mode: str, tmp_path: Path) -> None:
    """Blown up, moved off the centre, with a wide margin."""
    page = Image.new("L", (3 * side, 2 * side), 255)
    page.paste(Image.fromarray(255 - DIGITS[1]).resize((side, side)), (side // 2, side // 3))
    if mode == "I;16":
        page = Image.fromarray(np.asarray(page).astype(np.uint16) * 257)
    else:
        page = page.convert("RGB").convert(mode)
    result = read(page, tmp_path, "digit.tif" if mode == "CMYK" else "digit.png")
    # 1-bit pictures lose the grey, tiny ones the detail.
    assert difference(result, DIGITS[1]) < (30 if mode == "1" or side < 28 else 12)


@pytest.mark.parametrize(
    ("name", "options"), [("d.jpg", {"quality": 90}), ("d.bmp", {}), ("d.gif", {}), ("d.webp", {})]
)
def test_formats(name: str, options: dict[str, int], tmp_path: Path) -> None:
    assert difference(read(Image.fromarray(DIGITS[2]).resize((140, 140)), tmp_path, name, **options), DIGITS[2]) < 10


def test_ink_on_a_transparent_sheet(tmp_path: Path) -> None:
    for ink in (0, 255):
        layers = np.full((28, 28, 4), ink, np.uint8)
        layers[..., 3] = DIGITS[3]
        assert difference(read(Image.fromarray(layers), tmp_path), DIGITS[3]) < 2.0


def test_grain_of_paper(tmp_path: Path) -> None:
    grain = np.random.default_rng(0).normal(0, 8, (200, 200))
    page = 235 - np.asarray(Image.fromarray(DIGITS[4]).resize((200, 200)), float) * 0.7 + grain
    assert difference(read(Image.fromarray(page.clip(0, 255).astype(np.uint8)), tmp_path), DIGITS[4]) < 12


def test_rotated_by_its_camera(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn a quarter clockwise to see it upright"
    lying = Image.fromarray(DIGITS[5]).resize((280, 280)).rotate(90)
    assert difference(read(lying, tmp_path, "d.jpg", exif=exif, quality=95), DIGITS[5]) < 12


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank(level: int, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="blank"):
        read(Image.new("L", (40, 40), level), tmp_path)


def test_tiny_and_thin(tmp_path: Path) -> None:
    line = np.zeros((3, 400), np.uint8)
    line[1] = 255
    assert read(Image.fromarray(line), tmp_path).shape == (28, 28)
    with pytest.raises(FileError, match="blank"):
        read(Image.new("L", (1, 1), 9), tmp_path)


def png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_decompression_bombs(tmp_path: Path) -> None:
    for name, size in {"large": (20_000, 20_000), "huge": (2**31 - 1, 2**31 - 1)}.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(png(*size))
        with pytest.raises(FileError, match="pixels"):
            read_digit(path)


def test_large_but_allowed(tmp_path: Path) -> None:
    page = np.zeros((4000, 4000), np.uint8)
    page[1000:3000, 1900:2100] = 255
    assert read(Image.fromarray(page), tmp_path).max() == 255


def test_damaged_files(tmp_path: Path) -> None:
    """Every prefix and many flips of every format: an error of ours or a picture, never anything else."""
    random = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(DIGITS[6]).save(buffer, kind)
        whole = buffer.getvalue()
        path = tmp_path / f"bad.{kind.lower()}"
        contents = [whole[:cut] for cut in random.integers(0, len(whole), 15)]
        for _ in range(25):
            flipped = bytearray(whole)
            for place in random.integers(0, min(len(whole), 200), 3):
                flipped[place] = random.integers(0, 256)
            contents.append(bytes(flipped))
        for content in contents:
            path.write_bytes(content)
            with contextlib.suppress(FileError):
                assert read_digit(path).shape == (28, 28)


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "run.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("text.png", "empty.png", "run.eps", "pipe.png", "missing.png", ".", "nul\0.png"):
        with pytest.raises(FileError):
            read_digit(tmp_path / name)
    with pytest.raises(FileError):
        read_digit("/dev/zero")


def test_too_many_bytes(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    with path.open("wb") as file:
        file.truncate(pictures.MAX_BYTES + 1)
    with pytest.raises(FileError, match="bytes"):
        read_digit(path)
