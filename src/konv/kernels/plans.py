"""What one convolution will run, for people: ``nn.Conv2d.plan`` returns a ``ConvPlan``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ShapeError, text
from ..geometry import ConvGeometry
from .conv import plan

if TYPE_CHECKING:
    from ..machine import Bound

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ConvPlan:
    """The plan of one convolution on one input shape, under the settings of the moment; ``str()`` tells it.

    Attributes:
        name: ``'winograd F(4x4,3x3)'``, ``'direct pixel_lane'``, ...
        algorithm: ``'winograd'``, ``'pixel_lane'``, ``'output_lane'``, ``'depthwise'`` or ``'channel_lane'``.
        reason: why it was chosen.
        tile: rows of outputs in a Winograd tile; of direct plans the rows (or columns) of the register tile.
        isa: the instruction set; ``'avx2'`` also on a CPU with AVX-512, for layers that would leave its vectors half
            empty (their names end in ``' of short vectors'``).
        dtype: of input, weight and output.
        input_shape: (N, C_in, H, W).
        output_shape: (N, C_out, H_out, W_out).
        flops: operations of the direct sum, a multiply and an add for each tap; complex ones counted in real numbers.
        moved_bytes: of input, weight and output, each once.
        packed_bytes: of the weight as the kernels read it; made once a version of the weight.
        scratch_bytes: what a call takes besides, given back at its end: ``shared_bytes``, and ``thread_bytes`` for each
            of ``threads``, so one block of the loops of every thread.
    """

    name: str
    algorithm: str
    reason: str
    tile: int
    isa: str
    dtype: str
    input_shape: Shape
    output_shape: Shape
    flops: int
    moved_bytes: int
    packed_bytes: int
    scratch_bytes: int
    shared_bytes: int
    thread_bytes: int
    threads: int

    @property
    def intensity(self) -> float:
        """Operations a byte that must be moved."""
        return self.flops / self.moved_bytes if self.moved_bytes else 0.0

    @cached_property
    def bound(self) -> Bound:
        """The time that no direct sum can beat here; measures this machine for a second when it is first asked."""
        from ..machine import bound

        return bound(self.flops, self.moved_bytes, self.dtype)

    def __str__(self) -> str:
        least = self.bound
        top = f"{least.peak.flops / 1e9:.0f} Gflop/s and {least.peak.bytes / 1e9:.1f} GB/s"
        return "\n".join(
            [
                f"{self.name} ({self.isa}, {self.dtype}): {self.reason}",
                f"  {_times(self.input_shape)} -> {_times(self.output_shape)}, tile {self.tile}",
                f"  weight packed in {_bytes(self.packed_bytes)}; scratch of a call {_bytes(self.scratch_bytes)}: "
                f"{_bytes(self.shared_bytes)} shared, {_bytes(self.thread_bytes)} for each of {self.threads} threads",
                f"  {self.flops / 1e9:.3g} Gflop, {_bytes(self.moved_bytes)} moved: {self.intensity:.3g} flop a byte",
                f"  bound by {least.limit}: at least {least.seconds * 1e3:.3g} ms at this machine's {top}",
            ]
        )


def describe(geometry: ConvGeometry, shape: Shape, dtype: Any = "float32", who: str = "Conv2d.plan") -> ConvPlan:
    """The plan for inputs of ``shape``, (N, C_in, H, W) or (C_in, H, W).

    Raises:
        ShapeError: the shape does not fit the layer.
        DtypeError: there is no convolution of this dtype.

    Example:
        >>> from konv.geometry import ConvGeometry
        >>> from konv.kernels import describe
        >>> plan = describe(ConvGeometry.of(64, 64, 3, padding=1), (1, 64, 56, 56))
        >>> plan.output_shape, plan.flops, plan.moved_bytes
        ((1, 64, 56, 56), 231211008, 1753088)
    """
    if len(shape) not in (3, 4):
        raise ShapeError(text(who, f"got the shape {list(shape)}", "expected (C, H, W) or (N, C, H, W)"))
    n, channels, h, w = shape if len(shape) == 4 else (1, *shape)
    if channels != geometry.in_channels or min(n, channels, h, w) < 1:
        rule = f"the layer takes {geometry.in_channels} channels, and no axis may be empty"
        raise ShapeError(text(who, f"got the shape {list(shape)}", rule))
    kind = np.dtype(dtype)
    found = plan(geometry, h, w, kind)
    output = (n, geometry.out_channels, *geometry.output_size(h, w))
    scalars = n * channels * h * w + int(np.prod(geometry.weight_shape)) + int(np.prod(output))
    shared, own, threads, total = found.scratch(n)
    return ConvPlan(
        name=found.name,
        algorithm=found.algorithm,
        reason=found.reason,
        tile=found.tile,
        isa=found.isa,
        dtype=kind.name,
        input_shape=(n, channels, h, w),
        output_shape=output,
        flops=2 * geometry.macs(n, h, w) * (4 if kind.kind == "c" else 1),
        moved_bytes=scalars * kind.itemsize,
        packed_bytes=found.packed_bytes,
        scratch_bytes=total,
        shared_bytes=shared,
        thread_bytes=own,
        threads=threads,
    )


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _bytes(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"
