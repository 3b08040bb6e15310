"""A trained digit classifier as a file that says what it is, and back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .. import io, nn
from .._version import __version__
from ..autograd import no_grad
from ..data import normalise
from ..errors import FileError, text
from ..tensor import Tensor
from .simple_cnn import SimpleCNN

# What the file says beside the weights, so that `konv predict` needs nothing else. One entry: the format keeps several
# in no order, and the same training shall give the same file.
HEADER = "konv"
NAME = "SimpleCNN on MNIST digits"
MAX_HEADER = 10_000


def save_classifier(model: SimpleCNN, path: str | os.PathLike[str], accuracy: float) -> None:
    """Writes the weights in the safetensors format, with what they are in the header.

    Raises:
        FileError: the file cannot be written.
    """
    try:
        about = {"model": NAME, "version": __version__, "accuracy": round(accuracy, 4)}
        io.save(model, path, {HEADER: json.dumps(about)})
    except OSError as error:
        raise FileError(text("save", f"{os.fspath(path)!r} cannot be written", error.strerror or str(error))) from error


def load_classifier(path: str | os.PathLike[str]) -> SimpleCNN:
    """Reads what ``save_classifier`` wrote; the model is in evaluation mode.

    Raises:
        FileError: the file is missing, damaged, or holds another model.
        StateError: its weights do not fit the model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(text("load", f"{str(path)!r} is not a file", "give what 'konv train' saved"))
    try:
        state = io.load(path)
    except OSError as error:
        raise FileError(text("load", f"{str(path)!r} cannot be read", error.strerror or str(error))) from error
    found = _model_name(path)
    if found != NAME:
        got = f"{path} holds {found!r}" if found else f"{path} does not say which model it holds"
        raise FileError(text("load", got, f"it must be {NAME!r}", "give what 'konv train' saved"))
    if not all(np.isfinite(tensor.numpy()).all() for tensor in state.values()):
        raise FileError(text("load", f"{path} has weights that are not finite", "train the model anew"))
    model = SimpleCNN()
    model.load_state_dict(state)
    model.eval()
    return model


def _model_name(path: Path) -> str | None:
    """The model that a file, which was found sound, says it holds."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        words = (file.metadata() or {}).get(HEADER, "")[:MAX_HEADER]
    try:
        about = json.loads(words)
    except (ValueError, RecursionError):
        return None
    name = about.get("model") if isinstance(about, dict) else None
    return name if isinstance(name, str) else None


def classify(model: nn.Module, pixels: np.ndarray[Any, Any]) -> tuple[int, float]:
    """The most likely class of one picture and its probability.

    Args:
        model: Maps (1, 1, 28, 28) float32 to (1, classes).
        pixels: (28, 28) uint8, light ink on black, as ``data.read_digit`` gives it.

    Returns:
        Class and probability.

    Example:
        >>> import numpy as np
        >>> from konv.models import SimpleCNN, classify
        >>> digit, probability = classify(SimpleCNN().eval(), np.zeros((28, 28), np.uint8))
        >>> 0 <= digit <= 9, 0.1 <= probability <= 1.0
        (True, True)
    """
    with no_grad():
        scores = model(Tensor._wrap(normalise(pixels)[None, None]))
        probabilities = nn.functional.softmax(scores, dim=1)[0]
    digit = int(probabilities.argmax().item())
    return digit, float(probabilities[digit].item())
