"""Pictures of one digit from disk, of any size and colour, brought to the form that MNIST has.

MNIST's digits are white on black, 20 pixels at their longest side, with their centre of mass in the middle of 28x28.
A photograph is none of that, and a network that never saw such pictures guesses. So does this file: it finds which
of ink and paper is darker, cuts the ink out, scales it and centres it.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", description of the files.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..errors import FileError, KonvError, text
from ..regular import open_regular

if TYPE_CHECKING:
    from PIL import Image

# Limits on what a file from outside may ask for.
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000
# Only raster formats that Pillow decodes by itself; EPS, for one, would start another program.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")

SIDE = 28  # of the result
BOX = 20  # that the digit fills
CENTRE = 14.0  # index where the centre of mass comes to lie
INK = 0.1  # share of full contrast from which a pixel counts as ink when the digit is cut out
WORK = 4 * SIDE  # larger pictures are shrunk to this first, which also averages their grain
GRAIN = 3.0  # times the 90th percentile of the border's noise: five standard deviations
LEAST_CONTRAST = 0.1  # of full range, between ink and paper; below, the picture is blank


def read_digit(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    """Reads a picture of one digit, dark on light or light on dark, as MNIST would hold it.

    Args:
        path: PNG, JPEG, BMP, GIF, TIFF, WebP or PPM, of any size up to 50 megapixels.

    Returns:
        (28, 28) uint8, ink light on black.

    Raises:
        FileError: the file is missing, no picture, damaged, too large when decoded, or blank.
        KonvError: Pillow is not installed.
    """
    grey = _read(Path(path), _grey)
    longest = max(grey.shape)
    if longest > WORK:
        grey = _resize(grey, tuple(max(min(side, 3), round(side * WORK / longest)) for side in grey.shape))
    return _centre(_ink(grey, str(path)))


def read_picture(path: str | os.PathLike[str], channels: int, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Reads any picture as the input of a network: scaled to ``size`` and brought to its number of channels.

    Args:
        path: PNG, JPEG, BMP, GIF, TIFF, WebP or PPM, of any size up to 50 megapixels.
        channels: 3 or more: red, green, blue, and then brightness again; fewer: brightness alone.
        size: (H, W) of the result.

    Returns:
        (channels, H, W) float32 from 0 to 1.

    Raises:
        FileError: the file is missing, no picture, damaged, or too large when decoded.
        KonvError: Pillow is not installed.
    """

    def bring(picture: Image.Image) -> np.ndarray[Any, Any]:
        scaled = picture.convert("RGB").resize((size[1], size[0]))
        return np.asarray(scaled, dtype=np.float32).transpose(2, 0, 1) / 255.0

    colours = _read(Path(path), bring)
    grey = np.broadcast_to(colours.mean(axis=0), (channels, *size))
    return np.concatenate([colours, grey[3:]]) if channels >= 3 else np.ascontiguousarray(grey)


def _read(path: Path, bring: Callable[[Image.Image], np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """``bring(picture)`` for the picture in a file that is hostile until checked."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise KonvError(text("read_digit", "Pillow is not installed", "pip install 'konv[cli]' brings it")) from error
    try:
        with _opened(path) as file, warnings.catch_warnings():
            # Pillow warns of large pictures (the size is checked here, before anything is decoded) and of odd tags.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    got = f"{path} decodes to {width}x{height} pixels"
                    raise FileError(text("read_digit", got, f"at most {MAX_PIXELS:,} pixels are read"))
                if bring is _grey:
                    picture.draft("L", (2 * WORK, 2 * WORK))  # lets JPEG decode at a lower size
                return bring(ImageOps.exif_transpose(picture))
    except FileError:
        raise
    except Image.DecompressionBombError as error:
        raise FileError(text("read_digit", f"{path} decodes to too many pixels", "the limit is Pillow's")) from error
    except UnidentifiedImageError as error:
        raise FileError(text("read_digit", f"{path} is not a picture", "it must be " + ", ".join(FORMATS))) from error
    except (OSError, ValueError, TypeError, SyntaxError, EOFError, IndexError, KeyError, MemoryError) as error:
        # Pillow's decoders raise all of these on damaged files.
        raise FileError(text("read_digit", f"{path} is damaged", _first_line(error))) from error
    except Exception as error:  # struct.error, zlib.error and whatever else a decoder lets through
        raise FileError(text("read_digit", f"{path} cannot be decoded", _first_line(error))) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _opened(path: Path) -> BinaryIO:
    """The file, if it is not too long."""
    try:
        file = open_regular(path, "read_digit")
    except FileError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or _first_line(error)
        raise FileError(text("read_digit", f"{str(path)!r} cannot be read", reason)) from error
    size = os.fstat(file.fileno()).st_size
    if size > MAX_BYTES:
        file.close()
        got = f"{path} has {size:,} bytes"
        raise FileError(text("read_digit", got, f"at most {MAX_BYTES:,} bytes are read"))
    return file


def _grey(picture: Image.Image) -> np.ndarray[Any, Any]:
    """The picture's brightness, (H, W) float32 from 0 to 1; transparent pixels show white paper."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        # More than 8 bits: Pillow's own conversion clips instead of scaling.
        wide = np.asarray(picture, dtype=np.float32)
        low, high = float(wide.min()), float(wide.max())
        return (wide - low) / max(high - low, 1e-6)
    if not (picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info):
        return np.asarray(picture.convert("L"), dtype=np.float32) / 255.0
    layers = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255.0
    grey = layers[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    alpha = layers[..., 3]
    on_white = grey * alpha + (1.0 - alpha)
    # White ink on a transparent sheet: on white paper it would vanish.
    return on_white if np.ptp(on_white) >= LEAST_CONTRAST else grey * alpha


def _ink(grey: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """How much ink each pixel has, 0 (paper) to 1, whichever of the two is darker: the border is paper.

    What the grain of the paper reaches at the border is taken for paper everywhere.
    """
    paper = float(np.median(_border(grey)))
    ink = np.abs(grey - paper)
    most = float(ink.max())
    if not most >= LEAST_CONTRAST:  # also when it is NaN
        raise FileError(text("read_digit", f"{name} is blank", "ink and paper must differ in brightness"))
    ink /= most
    grain = min(0.5, GRAIN * float(np.percentile(_border(ink), 90)))
    return np.where(ink > grain, ink, 0.0)


def _border(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _centre(ink: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Ink of any size as 28x28 uint8: cut out, scaled to a box of 20, its centre of mass in the middle."""
    rows, columns = np.flatnonzero((ink >= INK).any(1)), np.flatnonzero((ink >= INK).any(0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longest = max(cut.shape)
    if longest != BOX:
        cut = _resize(cut, tuple(max(1, round(side * BOX / longest)) for side in cut.shape))
        cut = cut / cut.max()
    total = cut.sum()
    page = np.zeros((SIDE, SIDE), dtype=np.float32)
    starts = []
    for axis in (0, 1):
        centre = float((cut.sum(1 - axis) * np.arange(cut.shape[axis])).sum() / total)
        starts.append(int(np.clip(round(CENTRE - centre), 0, SIDE - cut.shape[axis])))
    page[starts[0] : starts[0] + cut.shape[0], starts[1] : starts[1] + cut.shape[1]] = cut
    return np.clip(np.rint(page * 255.0), 0, 255).astype(np.uint8)


def _resize(pixels: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Scales; where it shrinks, Pillow's filter averages over all that a new pixel covers."""
    from PIL import Image

    picture = Image.fromarray(pixels.astype(np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
