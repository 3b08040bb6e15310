"""Numbers for the page's pictures: a module's own weights, and feature maps that konv computes from an image."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any, Final

import numpy as np

from ...autograd import no_grad
from ...errors import ShapeError, text
from ...nn.module import Module
from ...ops.creation import as_tensor
from ...tensor import Tensor
from ..trace import LayerReport, ModelReport, Report

MOST_NUMBERS: Final = 60_000  # of one tensor that a page carries; larger ones are shown by a pattern
MOST_CHANNELS: Final = 16  # of a feature map
MOST_SIDE: Final = 128  # rows and columns of a feature map


def collect(report: Report, image: Any = None) -> dict[str, Any]:
    """What ``model.js`` and ``layer.js`` read as ``values``.

    Args:
        report: of a layer or a model; its ``subject`` is the module, if there is one with data.
        image: (C, H, W) numbers in the shape of the report's input, or None.

    Raises:
        ShapeError: the image has another shape.
    """
    module = getattr(report, "subject", None)
    x = None if image is None else _as_input(report, image)
    if isinstance(report, LayerReport):
        values = {} if module is None else _weights(module)
        if x is not None:
            values["input"] = _numbers(x[0])
        return values
    if not isinstance(report, ModelReport) or module is None:
        return {}
    outputs = {} if x is None else _run(module, x)
    rows: dict[int, dict[str, Any]] = {}
    modules = dict(module.named_modules())
    for row in report.rows:
        part = modules.get(row.name)
        if part is not None:
            rows[row.index] = _row(part, *outputs.get(row.name, (None, None)))
    return {"rows": rows, "image": None if x is None else _png(x.detach().numpy()[0])}


def _as_input(report: Any, image: Any) -> Tensor:
    x = as_tensor(image).float()
    shape = tuple(report.input_shape[-3:])
    if tuple(x.shape) != shape:
        got = f"got an image of shape {list(x.shape)}"
        raise ShapeError(text("explain", got, f"the report is about an input of shape {list(shape)}"))
    return x.unsqueeze(0)


def _weights(module: Module) -> dict[str, Any]:
    weight, bias = (module._parameters.get(name) for name in ("weight", "bias"))
    if weight is None or weight.is_meta or weight.is_complex() or weight.numel() > MOST_NUMBERS:
        return {}
    return {
        "weight": _numbers(weight),
        "weight_shape": list(weight.shape),
        "bias": None if bias is None else _numbers(bias),
    }


def _numbers(tensor: Tensor) -> list[float] | None:
    """Flat, without exponents that JSON does not have: what is not finite is shown as zero."""
    if tensor.numel() > MOST_NUMBERS:
        return None
    array = np.asarray(tensor.detach().double().numpy()).ravel()
    return [float(v) for v in np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)]


def _run(module: Module, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """The first input and output of every layer, by name, from one run in eval mode."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def listener(name: str) -> Any:
        def note(_: Module, args: tuple[Any, ...], output: Any) -> None:
            if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
                seen.setdefault(name, (args[0], output))

        return note

    training = {part: part.training for part in module.modules()}
    handles = [part.register_forward_hook(listener(name)) for name, part in module.named_modules() if name]
    try:
        module.eval()
        with no_grad():
            module(x)
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in training.items():
            part.training = mode
    return seen


def _row(part: Module, given: Tensor | None, output: Tensor | None) -> dict[str, Any]:
    values = _weights(part)
    if given is not None and given.ndim == 4:
        values["input"] = _numbers(given[0])
    if output is not None and output.ndim == 4:
        step = max(1, -(-max(output.shape[2:]) // MOST_SIDE))
        kept = output[0, :MOST_CHANNELS, ::step, ::step]
        values["map"] = {"shape": list(kept.shape), "data": _numbers(kept.contiguous()) or []}
        if not values["map"]["data"]:
            del values["map"]
    return values


def _png(image: np.ndarray[Any, Any]) -> str:
    """The image as a data URL, 8 bits a channel, scaled to its own range; grey unless it has three channels."""
    planes = image if image.shape[0] == 3 else image.mean(axis=0, keepdims=True)
    low, high = float(planes.min()), float(planes.max())
    pixels = ((planes - low) * (255 / max(high - low, 1e-12))).round().astype(np.uint8).transpose(1, 2, 0)
    h, w, channels = pixels.shape
    rows = b"".join(b"\0" + pixels[r].tobytes() for r in range(h))
    header = struct.pack(">IIBBBBB", w, h, 8, 2 if channels == 3 else 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
