"""Convolution and its gradients in plain NumPy: slow, obvious, and the oracle for every kernel, for ever.

Nothing here is fast and nothing here may become so: one loop a tap, one einsum, the padded image really built.
Arrays are (N, C, H, W); the dtype that goes in is the dtype that sums, so tests pass float64, complex128 or int64.

Source: the definition in V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning",
arXiv:1603.07285; gradients are its adjoints.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .geometry import ConvGeometry, Pads, Pair

Array = np.ndarray[Any, Any]

NUMPY_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(x: Array, pads: Pads, mode: str) -> Array:
    """``x`` (..., H, W) with cells added around the last two axes."""
    around = [(0, 0)] * (x.ndim - 2) + [*pads]
    return np.pad(x, around, mode=NUMPY_MODES[mode])  # type: ignore[call-overload]


def unpad_adjoint(padded: Array, pads: Pads, mode: str, size: Pair) -> Array:
    """The adjoint of ``pad``: every cell of ``padded`` (N, C, H', W') is added to the cell it was copied from."""
    cells = np.arange(size[0] * size[1]).reshape(1, 1, *size)
    source = pad(cells + 1, pads, mode)[0, 0].ravel() - 1  # -1 where the mode puts a zero
    n, c = padded.shape[:2]
    out = np.zeros((n, c, size[0] * size[1]), padded.dtype)
    flat = padded.reshape(n, c, padded.shape[2] * padded.shape[3])
    for cell in np.flatnonzero(source >= 0):
        out[:, :, source[cell]] += flat[:, :, cell]
    return out.reshape(n, c, *size)


def _tap(array: Array, geometry: ConvGeometry, kh: int, kw: int, out: Pair) -> Array:
    """View of the padded image that tap (kh, kw) multiplies: one cell for every output."""
    (sh, sw), (dh, dw) = geometry.stride, geometry.dilation
    top, left = kh * dh, kw * dw
    return array[:, :, top : top + (out[0] - 1) * sh + 1 : sh, left : left + (out[1] - 1) * sw + 1 : sw]


def _split(array: Array, groups: int) -> Array:
    """(N, G*C, ...) as (N, G, C, ...)."""
    return array.reshape(array.shape[0], groups, array.shape[1] // groups, *array.shape[2:])


def conv2d(x: Array, weight: Array, bias: Array | None, geometry: ConvGeometry) -> Array:
    """``out[n, o] = bias[o] + sum_i weight[o, i] * x[n, i]``, ``*`` the valid 2-D cross-correlation of the padded x.

    Args:
        x: (N, C_in, H, W).
        weight: (C_out, C_in/groups, kh, kw).
        bias: (C_out,) or None.
        geometry: the layer's options.

    Returns:
        (N, C_out, H_out, W_out) in the dtype of ``x``.

    Example:
        >>> import numpy as np
        >>> from konv.geometry import ConvGeometry
        >>> from konv.reference import conv2d
        >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
        >>> conv2d(x, np.ones((1, 1, 2, 2)), None, ConvGeometry.of(1, 1, 2))[0, 0].tolist()
        [[8.0, 12.0], [20.0, 24.0]]
    """
    h, w = x.shape[2:]
    out_size = geometry.output_size(h, w)
    padded = pad(x, geometry.pads(h, w), geometry.padding_mode)
    groups = geometry.groups
    filters = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    out = np.zeros((x.shape[0], groups, filters.shape[1], *out_size), x.dtype)
    for kh in range(geometry.kernel_size[0]):
        for kw in range(geometry.kernel_size[1]):
            seen = _split(_tap(padded, geometry, kh, kw, out_size), groups)
            out += np.einsum("goi,ngihw->ngohw", filters[:, :, :, kh, kw], seen).astype(x.dtype)
    out = out.reshape(x.shape[0], weight.shape[0], *out_size)
    return out if bias is None else out + bias.reshape(1, -1, 1, 1)


def conv2d_grad_input(grad: Array, weight: Array, geometry: ConvGeometry, size: Pair) -> Array:
    """Gradient of the input (N, C_in, H, W), ``size`` = (H, W), from ``grad`` (N, C_out, H_out, W_out)."""
    pads = geometry.pads(*size)
    groups = geometry.groups
    filters = np.conj(weight).reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    rows, columns = size[0] + sum(pads[0]), size[1] + sum(pads[1])
    padded = np.zeros((grad.shape[0], geometry.in_channels, rows, columns), grad.dtype)
    for kh in range(geometry.kernel_size[0]):
        for kw in range(geometry.kernel_size[1]):
            part = np.einsum("goi,ngohw->ngihw", filters[:, :, :, kh, kw], _split(grad, groups))
            place = _tap(padded, geometry, kh, kw, (grad.shape[2], grad.shape[3]))
            place += part.reshape(place.shape).astype(grad.dtype)
    return unpad_adjoint(padded, pads, geometry.padding_mode, size)


def conv2d_grad_weight(x: Array, grad: Array, geometry: ConvGeometry) -> Array:
    """Gradient of the weight (C_out, C_in/groups, kh, kw) from ``x`` and ``grad`` (N, C_out, H_out, W_out)."""
    padded = pad(x, geometry.pads(x.shape[2], x.shape[3]), geometry.padding_mode)
    groups = geometry.groups
    out = np.zeros(geometry.weight_shape, grad.dtype)
    for kh in range(geometry.kernel_size[0]):
        for kw in range(geometry.kernel_size[1]):
            seen = _split(_tap(padded, geometry, kh, kw, (grad.shape[2], grad.shape[3])), groups)
            part = np.einsum("ngohw,ngihw->goi", _split(grad, groups), np.conj(seen))
            out[:, :, kh, kw] = part.reshape(out.shape[:2])
    return out


def conv2d_grad_bias(grad: Array) -> Array:
    """Gradient of the bias (C_out,): the sum over images and pixels."""
    return grad.sum(axis=(0, 2, 3), dtype=grad.dtype)


def conv_transpose2d(x: Array, weight: Array, bias: Array | None, geometry: ConvGeometry) -> Array:
    """Transposed convolution: the adjoint of the convolution whose options ``geometry`` carries.

    Args:
        x: (N, C_in, H, W).
        weight: (C_in, C_out/groups, kh, kw).
        bias: (C_out,) or None.
        geometry: options with ``transposed=True``.
    """
    oh, ow = geometry.output_size(x.shape[2], x.shape[3])
    (sh, sw), (dh, dw) = geometry.stride, geometry.dilation
    (top, _), (left, _) = geometry.pads(oh, ow)
    groups = geometry.groups
    filters = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    spread_h = (x.shape[2] - 1) * sh + geometry.extent[0]
    spread_w = (x.shape[3] - 1) * sw + geometry.extent[1]
    canvas = np.zeros((x.shape[0], geometry.out_channels, max(spread_h, top + oh), max(spread_w, left + ow)), x.dtype)
    for kh in range(geometry.kernel_size[0]):
        for kw in range(geometry.kernel_size[1]):
            part = np.einsum("gio,ngihw->ngohw", filters[:, :, :, kh, kw], _split(x, groups))
            y, z = kh * dh, kw * dw
            place = canvas[:, :, y : y + (x.shape[2] - 1) * sh + 1 : sh, z : z + (x.shape[3] - 1) * sw + 1 : sw]
            place += part.reshape(place.shape).astype(x.dtype)
    out = canvas[:, :, top : top + oh, left : left + ow]
    return out if bias is None else out + bias.reshape(1, -1, 1, 1)
