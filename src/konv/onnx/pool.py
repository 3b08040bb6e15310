"""ONNX's pooling, with padding of any kind: the image is padded first, so that windows fit without rest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..geometry import ConvGeometry, Pair, pool_output_size
from ..nn import functional as F
from ..tensor import Tensor
from .node import Node

Array = np.ndarray[Any, Any]


def _windows(node: Node, x: Tensor) -> tuple[Any, list[Any], list[int]]:
    """Geometry, pads and output sizes: after padding, windows fit without rest, so pooling itself needs no option."""
    if x.ndim != 4:
        raise node.refusal(f"the input has {x.ndim} dimensions", "konv pools images (N, C, H, W)")
    sizes, ceil = x._array.shape[2:], bool(node.get("ceil_mode", 0))
    options = node.pair("kernel_shape", 0), node.pair("strides", 1), node.padding(), node.pair("dilations", 1)
    geometry = ConvGeometry.of(1, 1, *options, who=node.op)
    given = geometry.pads(*sizes)
    pads, made = [], []
    for axis, size in enumerate(sizes):
        stride, extent = geometry.stride[axis], geometry.extent[axis]
        kernel, dilation = geometry.kernel_size[axis], geometry.dilation[axis]
        out = pool_output_size(size, kernel, stride, given[axis], dilation, ceil, node.op)
        before = given[axis][0]
        pads.append((before, (out - 1) * stride + extent - size - before))
        made.append(out)
    return geometry, pads, made


def _padded(x: Tensor, pads: list[Any], value: float) -> Tensor:
    return F.pad(x, [*pads[1], *pads[0]], "constant", value)


def max_pool(node: Node, x: Tensor) -> Tensor:
    """MaxPool with padding of any kind."""
    if node.used_outputs > 1:
        raise node.refusal("the indices of the maxima are used", "konv gives the maxima alone")
    geometry, pads, _ = _windows(node, x)
    return F.max_pool2d(_padded(x, pads, -math.inf), geometry.kernel_size, geometry.stride, 0, geometry.dilation)


def average_pool(node: Node, x: Tensor) -> Tensor:
    """AveragePool with padding of any kind: averages of whole windows, scaled by how much of a window counts."""
    geometry, pads, made = _windows(node, x)
    if geometry.dilation != (1, 1):
        raise node.refusal(f"dilations={geometry.dilation}", "konv averages windows without gaps")
    y = F.avg_pool2d(_padded(x, pads, 0.0), geometry.kernel_size, geometry.stride)
    sizes = x._array.shape[2:]
    given = geometry.pads(*sizes) if node.get("count_include_pad", 0) else ((0, 0), (0, 0))
    for axis, shape in enumerate([(made[0], 1), (made[1],)]):
        options = geometry.kernel_size[axis], geometry.stride[axis], pads[axis][0], sizes[axis], given[axis]
        if (_share(np.array([0, made[axis] - 1]), *options) == 1).all():  # the first or the last counts fewest cells
            continue
        if x._meta:
            y = y * Tensor._wrap_meta(shape, x._dtype)
        else:
            share = _share(np.arange(made[axis]), *options).astype(x._array.dtype)
            y = y * Tensor._wrap(share.reshape(shape), x._dtype)
    return y


def _share(windows: Array, kernel: int, stride: int, lead: int, size: int, given: Pair) -> Array:
    """By how much the average of a whole window is too small: its cells by those that count."""
    first = windows * stride - lead
    counts = np.minimum(first + kernel, size + given[1]) - np.maximum(first, -given[0])
    return np.asarray(kernel / np.maximum(counts, 1))
