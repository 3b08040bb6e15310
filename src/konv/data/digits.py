"""The MNIST subset that the package carries; its source and licence stand in NOTICE.md beside the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, text
from ..tensor import Tensor

FILE = Path(__file__).with_name("mnist5k.npz")
TRAIN = 4000  # the file is shuffled: the first 4,000 are for training, the other 1,000 for testing
SPLITS = {"train": slice(0, TRAIN), "test": slice(TRAIN, None), "all": slice(None)}

# Mean and standard deviation of a pixel of all of MNIST, of 1.
MEAN = 0.1307
STD = 0.3081


def normalise(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Pixels (..., 28, 28), uint8, as float32 with mean 0 and standard deviation 1 over MNIST."""
    return ((pixels.astype(np.float32) / 255.0 - MEAN) / STD).astype(np.float32)


def mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """Handwritten digits, normalised: 500 of each digit in all, shuffled.

    Args:
        split: ``'train'`` (4,000), ``'test'`` (the other 1,000) or ``'all'``.

    Returns:
        Images (M, 1, 28, 28) float32 and labels (M,) int64.

    Raises:
        ArgumentError: ``split`` is none of these.

    Example:
        >>> import konv
        >>> images, labels = konv.data.mnist("test")
        >>> images.shape, images.dtype, labels.shape, labels[:5].tolist()
        (torch.Size([1000, 1, 28, 28]), torch.float32, torch.Size([1000]), [3, 0, 6, 7, 8])
    """
    if split not in SPLITS:
        got = f"split={split!r} is unknown"
        raise ArgumentError(text("mnist", got, "split must be one of " + ", ".join(map(repr, SPLITS))))
    with np.load(FILE, allow_pickle=False) as file:
        pixels, labels = file["images"][SPLITS[split]], file["labels"][SPLITS[split]]
    return Tensor._wrap(normalise(pixels)[:, None]), Tensor._wrap(labels.astype(np.int64))
