"""ONNX's Resize: where the centre of an output cell lies in the input, by each of its conventions.

Source: ONNX operator schemas, Resize, "coordinate_transformation_mode" and "nearest_mode".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from ..ops.resize import Axis, Resize, Rows
from ..tensor import Tensor
from .node import Node, known

Array = np.ndarray[Any, Any]
MAX_SIZE: Final = 2**16  # of one axis: a table of this many cells is made, whatever the device

# x: output cells, s: scale, n: input size, m: output size, in float32 as ONNX Runtime computes them
COORDINATES: dict[str, Callable[[Array, Any, int, int], Array]] = {
    "half_pixel": lambda x, s, n, m: (x + 0.5) / s - 0.5,
    "pytorch_half_pixel": lambda x, s, n, m: (x + 0.5) / s - 0.5 if m > 1 else x * 0,
    "half_pixel_symmetric": lambda x, s, n, m: n / 2 * (1 - m / (n * s)) + (x + 0.5) / s - 0.5,
    "align_corners": lambda x, s, n, m: x * ((n - 1) / (m - 1)) if m > 1 else x * 0,
    "asymmetric": lambda x, s, n, m: x / s,
}
ROUNDING: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def resize(node: Node, x: Tensor, *given: Any) -> Tensor:
    """Nearest and linear interpolation of any axes."""
    _, scales, sizes = (*given, None, None, None)[:3] if node.opset >= 11 else (None, *given, None)[:3]
    return _resized(node, x, known(scales) or None, known(sizes) or None)


def upsample(node: Node, x: Tensor, scales: Any = None) -> Tensor:
    """The older operator: cells are repeated from the first on."""
    old = {"mode": node.get("mode", "nearest"), "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    return _resized(Node(node.op, node.name, (), (), old, 11), x, node.numbers("scales", scales, []), None)


def _resized(node: Node, x: Tensor, scales: list[float] | None, sizes: list[int] | None) -> Tensor:
    mode = node.get("mode", "nearest")
    where = node.get("coordinate_transformation_mode", "half_pixel" if node.opset >= 11 else "asymmetric")
    rounding = node.get("nearest_mode", "round_prefer_floor" if node.opset >= 11 else "floor")
    if mode not in ("nearest", "linear") or where not in COORDINATES or rounding not in ROUNDING:
        got = f"mode={mode!r}, coordinate_transformation_mode={where!r}, nearest_mode={rounding!r}"
        raise node.refusal(got, "konv resizes by 'nearest' and 'linear', without cropping")
    if node.get("antialias", 0) or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.refusal("antialias or keep_aspect_ratio_policy is set", "konv resizes without them")
    axes = [node.axis(axis, x.ndim) for axis in node.get("axes", tuple(range(x.ndim)))]
    if len(axes) != len(scales or sizes or ()):
        raise node.damage(f"{len(scales or sizes or ())} sizes for {len(axes)} axes", "each axis has one")
    plan = []
    for i, axis in enumerate(axes):
        have = x._array.shape[axis]
        scale = scales[i] if scales else (sizes or [])[i] / max(have, 1)
        if not 0 < scale < MAX_SIZE or have * scale >= MAX_SIZE + 1:
            raise node.refusal(f"axis {axis} of {have} cells by {scale}", f"it may become 1 to {MAX_SIZE} cells")
        want = math.floor(np.float32(have) * np.float32(scale)) if scales else (sizes or [])[i]
        if have < 1 or want < 1:
            raise node.damage(f"axis {axis} of {have} cells by {scale}", "no cell would be left")
        if want != have or scale != 1:
            how = partial(_rows, mode, COORDINATES[where], ROUNDING[rounding], have, want, np.float32(scale))
            plan.append(Axis(axis, have, want, how))
    return Resize.apply(x, tuple(plan)) if plan else x


def _rows(mode: str, where: Any, rounding: Any, have: int, want: int, scale: Any, cells: Array) -> Rows:
    place = where(cells.astype(np.float32), scale, have, want)
    if mode == "nearest":
        return ((np.clip(rounding(place), 0, have - 1).astype(np.int64), None),)
    place = np.clip(place, 0, have - 1)
    first = np.minimum(place.astype(np.int64), have - 1)
    share = (place - first).astype(np.float32)
    return (first, 1 - share), (np.minimum(first + 1, have - 1), share)
