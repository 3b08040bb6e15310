"""Gradients of convolution on plain arrays; that of the image is also the forward of a transposed convolution.

The image's gradient is made of ordinary convolutions of ``gy``, by the plans and kernels of the forward pass, Winograd
included: one for each phase of the stride (``konv.adjoint`` says which). The weight of a phase and the cells that it
fills are strided views. Where padding copies the image (reflect, replicate, circular), that is the gradient of the
padded image, whose borders are then folded back on the cells that they were copied from (``konv.borders``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _core, adjoint, borders
from ..errors import ArgumentError, DtypeError, text
from ..geometry import ConvGeometry, Pads, Pair
from . import entries, layers, settings
from .arrays import Array, call, empty, no_memory, raw
from .conv import DTYPES, by_group, check_dtype, problem

FLOATING = DTYPES[:6]


class Phase(NamedTuple):
    """One of the convolutions of ``gy`` that make the gradient of an image."""

    plan: _core.Plan
    taps: tuple[Any, ...]  # of the weight, by group
    cells: tuple[Any, ...]  # of what the phases fill


class GradInputPlan(NamedTuple):
    """What fills the gradient of images of one size."""

    phases: list[Phase]
    shape: tuple[int, int, int]  # what the phases fill: channels, rows, columns
    gaps: bool  # there are cells in it that no tap reaches
    borders: Pads | None  # those in it that are folded back
    simple: bool  # one convolution does it all

    @property
    def names(self) -> list[str]:
        """Of the plans, one a phase."""
        return [phase.plan.name for phase in self.phases]


class PackedGradient(NamedTuple):
    """A weight as the phases of a plan read it, and that plan: another setting may have made another one since."""

    size: Pair  # of the images
    entry: entries.Entry
    weights: list[_core.Packed]


def conv2d_grad_input(
    gy: Array,
    weight: Array,
    geometry: ConvGeometry,
    size: Pair,
    packed: PackedGradient | None = None,
    bias: Array | None = None,
) -> Array:
    """Gradient of the image of ``conv2d``: its adjoint, applied to ``gy``; complex weights are conjugated.

    Args:
        gy: (N, C_out, H_out, W_out), any strides.
        weight: (C_out, C_in/groups, kh, kw) of the same dtype.
        geometry: The layer's options.
        size: (H, W) of the image.
        packed: ``pack_grad_input`` of this weight; None packs for this call alone.
        bias: (C_in,) added to every cell, or None.

    Returns:
        (N, C_in, H, W), contiguous, of the same dtype.

    Raises:
        ArgumentError: the arrays do not have the shapes or dtypes above.

    Source: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, section 4.

    Example:
        >>> import numpy as np
        >>> from konv import kernels
        >>> from konv.geometry import ConvGeometry
        >>> geometry = ConvGeometry.of(1, 1, 2)
        >>> gy, weight = np.ones((1, 1, 1, 2)), np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> kernels.conv2d_grad_input(gy, weight, geometry, (2, 3))[0, 0].tolist()
        [[1.0, 3.0, 2.0], [3.0, 7.0, 4.0]]
    """
    h, w = size
    if packed is None:
        packed = pack_grad_input(weight, geometry, h, w)
    entry = packed.entry
    plan: GradInputPlan = entry.plan
    if packed.size != size or (entry.geometry is not geometry and entry.geometry != geometry):
        raise ArgumentError("konv: the weight was packed for images of another size, or for another layer")
    shape = (gy.shape[0], geometry.in_channels, h, w)
    ins = (raw(gy), None if bias is None else raw(bias)) if entry.raw else (gy, bias)
    try:
        if plan.simple:
            memory = call(_core.conv2d_forward, plan.phases[0].plan, ins[0], packed.weights[0], ins[1])
            return np.ndarray(shape, entry.dtype, memory)
        if plan.borders is None:
            return call(_filled, plan, packed, *ins, entry.dtype)
        padded = call(_filled, plan, packed, ins[0], None, entry.dtype)
        return _folded(padded, plan.borders, geometry.padding_mode, bias)
    except MemoryError as error:
        raise no_memory("conv_transpose2d", shape, entry.dtype) from error


def _filled(
    plan: GradInputPlan, packed: PackedGradient, gy: Array, bias: Array | None, dtype: np.dtype[Any]
) -> Array | None:
    """What the phases make of ``gy``; None when it or the bias must be copied first."""
    out = empty((gy.shape[0], *plan.shape), dtype)
    cells = raw(out)
    if plan.gaps:
        cells[...] = 0 if bias is None else bias[:, None, None]
    for phase, weight in zip(plan.phases, packed.weights, strict=True):
        if not _core.conv2d_into(phase.plan, gy, weight, bias, cells[phase.cells]):
            return None
    return out


def _folded(padded: Array, around: Pads, mode: str, bias: Array | None) -> Array:
    """The gradient of the image from that of the padded image; float16 and bfloat16 are added in float32."""
    half = padded.dtype.name in ("float16", "bfloat16")
    work = padded.astype(np.float32) if half else padded
    image = borders.fold(work, ((0, 0), (0, 0), *around), mode)
    if bias is not None:
        image += bias[:, None, None]
    out = empty(image.shape, padded.dtype)
    out[...] = image
    return out


def pack_grad_input(weight: Array, geometry: ConvGeometry, h: int, w: int) -> PackedGradient:
    """The weight as ``conv2d_grad_input`` reads it for images of ``h`` x ``w``.

    It stays valid until the weight or the settings change.
    """
    entry = entries.find(make_grad_input_plan, geometry, h, w, weight.dtype)
    exchanged = by_group(weight, geometry).swapaxes(1, 2).conj()  # of real numbers still a view
    weights = [call(_core.pack_weight, phase.plan, exchanged[phase.taps]) for phase in entry.plan.phases]
    return PackedGradient((h, w), entry, weights)


def grad_input_plan(geometry: ConvGeometry, h: int, w: int, dtype: Any = "float32") -> GradInputPlan:
    """What fills the gradient of images of ``h`` x ``w``: ``names`` of the plans, one a phase of the stride.

    Example:
        >>> from konv import kernels
        >>> from konv.geometry import ConvGeometry
        >>> kernels.grad_input_plan(ConvGeometry.of(4, 4, 5, groups=4), 32, 32).names
        ['depthwise']
    """
    return entries.plan(make_grad_input_plan, geometry, h, w, dtype)


def make_grad_input_plan(geometry: ConvGeometry, h: int, w: int, name: str) -> GradInputPlan:
    """The plan under the settings of the moment, for ``entries`` to keep."""
    settings.current_isa()  # says what is wrong with KONV_ISA
    check_dtype(name)
    channels, gradient = geometry.in_channels, (geometry.out_channels, *geometry.output_size(h, w))
    nothing = 0 in (channels, h, w, *gradient)  # to add up
    phases: list[Phase] = []
    filled = 0
    for down, across in [] if nothing else adjoint.phases(geometry, h, w):
        sizes = [*gradient, channels, down.outputs, across.outputs, down.kernel, across.kernel]
        sizes += [1, 1, down.dilation, across.dilation, down.pad, across.pad, geometry.groups]
        phases.append(Phase(_phase_plan(sizes, name), (..., down.taps, across.taps), (..., down.cells, across.cells)))
        filled += down.outputs * across.outputs
    around = adjoint.borders(geometry, h, w)
    rows, columns = h + sum(around[0]), w + sum(around[1])
    gaps, folds = filled < rows * columns, (rows, columns) != (h, w)
    return GradInputPlan(
        phases=phases,
        shape=(channels, rows, columns),
        gaps=gaps,
        borders=around if folds else None,
        simple=len(phases) == 1 and not gaps and not folds,
    )


def _phase_plan(sizes: list[int], name: str) -> _core.Plan:
    """The plan of one phase; a plan that is forced is for the phases that it fits."""
    for forced in (settings.forced_plan(), ""):
        try:
            return _core.Problem(sizes, "zeros", name, settings.get_float32_precision()).plan(forced)
        except (ValueError, OverflowError) as error:
            refusal = str(error)
    raise ArgumentError(refusal)


def conv2d_grad_weight(x: Array, gy: Array, geometry: ConvGeometry, force: str = "") -> Array:
    """Gradient of the weight of ``conv2d``; complex: ``gy`` times the conjugate of ``x``.

    Args:
        x: (N, C_in, H, W), any strides.
        gy: (N, C_out, H_out, W_out) of the same dtype.
        geometry: The layer's options.
        force: A way to sum by name (``'matrix'``, ``'depthwise'``) instead of the chosen one.

    Returns:
        (C_out, C_in/groups, kh, kw), contiguous, of the same dtype.

    Raises:
        ArgumentError: the arrays do not have the shapes or dtypes above.
        DtypeError: the dtype has no gradient.

    Example:
        >>> import numpy as np
        >>> from konv import kernels
        >>> from konv.geometry import ConvGeometry
        >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
        >>> kernels.conv2d_grad_weight(x, np.ones((1, 1, 2, 2)), ConvGeometry.of(1, 1, 2))[0, 0].tolist()
        [[8.0, 12.0], [20.0, 24.0]]
    """
    h, w = x.shape[2:]
    entry = entries.find(make_grad_weight_plan, geometry, h, w, x.dtype)
    plan = make_grad_weight_plan(geometry, h, w, entry.dtype.name, force) if force else entry.plan
    ins = (raw(x), raw(gy)) if entry.raw else (x, gy)
    return np.ndarray(geometry.weight_shape, entry.dtype, call(_core.grad_weight, plan, *ins))


def make_grad_weight_plan(geometry: ConvGeometry, h: int, w: int, name: str, forced: str = "") -> _core.GradWeightPlan:
    """The plan under the settings of the moment, for ``entries`` to keep."""
    _check_floating(name, "conv2d_grad_weight")
    return call(lambda: problem(geometry, h, w, name).plan_grad_weight(forced))


def conv2d_grad_bias(gy: Array) -> Array:
    """Gradient of the bias: the sum of ``gy`` (N, C_out, H_out, W_out) over images and pixels, (C_out,).

    Sums are kept in double precision.

    Example:
        >>> import numpy as np
        >>> from konv import kernels
        >>> kernels.conv2d_grad_bias(np.ones((2, 1, 2, 3))).tolist()
        [12.0]
    """
    _check_floating(gy.dtype.name, "conv2d_grad_bias")
    if gy.dtype.kind == "c":
        parts = np.stack([conv2d_grad_bias(gy.real), conv2d_grad_bias(gy.imag)], axis=-1)
        return parts.view(gy.dtype.newbyteorder("="))[:, 0]
    sums = layers.channel_sums(gy).sum(0) if gy.size else np.zeros(gy.shape[1])
    return sums.astype(gy.dtype.newbyteorder("="))


def _check_floating(name: str, who: str) -> None:
    if name not in FLOATING:
        raise DtypeError(text(who, f"got {name}", f"a gradient is of {', '.join(FLOATING)}"))
