"""``konv predict``: pictures in, digits out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import data, models
from ..errors import KonvError


def predict(
    model: Annotated[Path, typer.Argument(help="What 'konv train' saved.")],
    images: Annotated[list[Path], typer.Argument(help="Pictures of one digit each, any size and colour.")],
) -> None:
    """Name the digit in each picture, with its probability.

    Example: konv predict simple_cnn.safetensors seven.png photo.jpg
    """
    network = models.load_classifier(model)
    failed = False
    for path in images:
        try:
            digit, probability = models.classify(network, data.read_digit(path))
        except KonvError as error:  # one bad file does not keep the others from being read
            print(f"konv: {error}", file=sys.stderr)
            failed = True
        else:
            print(f"{path}: {digit} ({probability:.1%})")
    if failed:
        raise typer.Exit(2)
