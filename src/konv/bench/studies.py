"""Studies of konv alone: time by work, threads, dtype and plan, the cost of a small call, how near a large one comes.

``benchmarks/studies.py`` runs them and keeps what comes out; the comparison with other engines is ``harness.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from .. import dtypes, kernels, reference
from ..autograd import no_grad
from ..geometry import ConvGeometry
from ..interop import from_numpy
from ..machine import COPIED_BYTES, alternate, bound, burst, copying
from ..nn.functional import conv2d
from ..tensor import Tensor
from .check import TOLERANCES, WrongResultError
from .layers import Layer

DTYPES = ("float32", "float64", "float16", "bfloat16", "complex64", "int8")
CORNER = 48  # pixels of an image that are summed again
REPEATS = 20

Call = Callable[[], Any]


@dataclass(frozen=True)
class Point:
    """One layer and the median seconds of a call under each name: a dtype, a number of threads, a step."""

    layer: Layer
    plan: str
    size: int  # what grows
    seconds: dict[str, float]
    share: float | None = None  # of what the machine itself did meanwhile


# ---- numbers and calls ---------------------------------------------------------------------------------------------
def prepare(layer: Layer, dtype: str = "float32") -> Call:
    """The public call on numbers of this dtype, after its result was compared with float64 sums.

    Raises:
        WrongResultError: konv's result is wrong.
    """
    g, kind = layer.geometry, getattr(dtypes, dtype)
    generator = np.random.default_rng(0)

    def numbers(shape: tuple[int, ...], scale: float) -> Tensor:
        parts = 2 if kind.is_complex else 1
        values = generator.standard_normal((*shape[:-1], shape[-1] * parts), np.float32)
        values *= scale if kind.is_floating_point or kind.is_complex else 3
        # A copy, because memory that NumPy shares is packed anew at each call.
        return from_numpy(values.view(np.complex64) if parts == 2 else values).to(kind).clone()

    x, weight = numbers(layer.input_shape, 1.0), numbers(g.weight_shape, g.fan_in**-0.5)
    bias = numbers(g.bias_shape, 1.0)
    padding = g.padding if isinstance(g.padding, str) else tuple(g.padding)
    options = (g.stride, padding, g.dilation, g.groups)

    def run() -> Tensor:
        with no_grad():
            return conv2d(x, weight, bias, *options)

    _check(layer, dtype, *(part.detach()._array for part in (x, weight, bias, run())))
    return run


def _check(layer: Layer, dtype: str, x: Any, weight: Any, bias: Any, y: Any) -> None:
    """The last corner of the last image, in the last output channels: where blocks of every kind have their ends."""
    g = layer.geometry
    pads = g.pads(layer.height, layer.width)
    outs, per_group = min(2, g.out_channels // g.groups), g.in_channels // g.groups
    kept = [min(CORNER, size) for size in y.shape[2:]]
    # The padded rows and columns that these outputs read; what lies outside of the image is zero.
    axes = list(zip(y.shape[2:], kept, g.stride, g.extent, strict=True))
    firsts = [(size - few) * step for size, few, step, _ in axes]
    ends = [(size - 1) * step + extent for size, _, step, extent in axes]
    cut, place = [], []
    for first, end, (before, _), size in zip(firsts, ends, pads, x.shape[2:], strict=True):
        inside = slice(max(0, first - before), min(size, end - before))
        cut.append(inside)
        place.append(slice(inside.start + before - first, inside.stop + before - first))
    wide = np.complex128 if dtype == "complex64" else np.float64
    window = np.zeros((per_group, *(end - first for first, end in zip(firsts, ends, strict=True))), wide)
    window[(slice(None), *place)] = x[-1, -per_group:, cut[0], cut[1]].astype(wide)
    narrow = ConvGeometry.of(per_group, outs, g.kernel_size, g.stride, 0, g.dilation)
    expected = reference.conv2d(window[None], weight[-outs:].astype(wide), bias[-outs:].astype(wide), narrow)
    if dtype == "int8":
        expected = expected.astype(np.int64).astype(np.int8).astype(np.float64)  # sums wrap
    result = y[-1:, -outs:, -kept[0] :, -kept[1] :].astype(wide)
    error = float(np.abs(result - expected).max() / (np.abs(expected).max() or 1.0))
    if not error <= TOLERANCES.get({"complex64": "float32"}.get(dtype, dtype), 0.0):
        raise WrongResultError(f"{layer.name} in {dtype}: the largest error is {error:.1e} of the largest value")


def _plan(layer: Layer, dtype: str = "float32") -> str:
    return kernels.plan(layer.geometry, layer.height, layer.width, getattr(dtypes, dtype).numpy).name


# ---- growth --------------------------------------------------------------------------------------------------------
def powers(first: int, last: int) -> Iterator[int]:
    """``first``, twice that, ... up to ``last``."""
    while first <= last:
        yield first
        first *= 2


Sweep = list[tuple[int, Layer]]  # what grows, and the layer


def sweeps(largest_image: int = 4096, most_channels: int = 2048, largest_batch: int = 256) -> dict[str, Sweep]:
    """Layers that grow along one axis by powers of two."""

    def layer(n: int, c: int, size: int, kernel: int, groups: int = 1) -> Layer:
        return Layer(f"{n}x{c}x{size}x{size}", n, size, size, ConvGeometry.of(c, c, kernel, 1, kernel // 2, 1, groups))

    images = list(powers(64, largest_image))
    channels = list(powers(16, most_channels))
    batches = list(powers(1, largest_batch))
    return {
        "side of the image: 16 channels, 3x3": [(s, layer(1, 16, s, 3)) for s in images],
        "side of the image: 16 channels, 5x5": [(s, layer(1, 16, s, 5)) for s in images],
        "side of the image: 32 channels, 1x1": [(s, layer(1, 32, s, 1)) for s in images],
        "side of the image: 16 channels, depthwise 3x3": [(s, layer(1, 16, s, 3, 16)) for s in images],
        "channels: 28x28, 3x3": [(c, layer(1, c, 28, 3)) for c in channels],
        "channels: 7x7, 3x3": [(c, layer(1, c, 7, 3)) for c in channels],
        "channels: 28x28, 1x1": [(c, layer(1, c, 28, 1)) for c in channels],
        "batch: 64 channels of 14x14, 3x3": [(n, layer(n, 64, 14, 3)) for n in batches],
        "batch: 8 channels of 28x28, 3x3": [(n, layer(n, 8, 28, 3)) for n in batches],
    }


def sweep(grown: Sweep, rounds: int, seconds: float) -> list[Point]:
    """Times of one sweep; its layers take turns, so that a slow minute of the machine hits all of them."""
    times = alternate({layer.name: prepare(layer) for _, layer in grown}, rounds, seconds)
    return [Point(layer, _plan(layer), size, {"konv": median(times[layer.name])}) for size, layer in grown]


def per_flop(points: list[Point]) -> list[float]:
    """Picoseconds an operation of the direct sum."""
    return [1e12 * point.seconds["konv"] / point.layer.flops for point in points]


def steepest(points: list[Point]) -> float:
    """The slowest operation of a sweep over the quickest; the cost of a call counts in the smallest ones."""
    figures = per_flop(points)
    return max(figures) / min(figures)


def cliff(points: list[Point]) -> float:
    """The slowest operation over the quickest of the smaller points: how much growth costs, whatever a call costs."""
    figures = per_flop(points)
    return max((later / min(figures[:i]) for i, later in enumerate(figures) if i), default=1.0)


# ---- threads, floor, dtypes, overhead --------------------------------------------------------------------------------
def scaling(layer: Layer, threads: tuple[int, ...], rounds: int, seconds: float) -> Point:
    """Seconds for each number of threads; the numbers take turns.

    ``share`` is what the last number gains over the first, over what multiplications alone gain in the same rounds:
    cores that are two threads of one, or that other programs use, give no program more than that.
    """
    run, before = prepare(layer), kernels.get_num_threads()
    times: dict[int, list[float]] = {n: [] for n in threads}
    rates: dict[int, list[float]] = {n: [] for n in threads}
    try:
        for turn in range(rounds):
            for n in threads if turn % 2 else threads[::-1]:
                kernels.set_num_threads(n)
                times[n].append(burst(run, seconds))
                rates[n].append(median(kernels.fma_rates("float32", seconds)))
    finally:
        kernels.set_num_threads(before)
    one, all_ = threads[0], threads[-1]
    shares = [times[one][i] / times[all_][i] / (rates[all_][i] / rates[one][i]) for i in range(rounds)]
    return Point(layer, _plan(layer), 0, {str(n): median(found) for n, found in times.items()}, median(shares))


def floor(layer: Layer, rounds: int, seconds: float) -> Point:
    """Seconds of a call, and its share of what the machine's multipliers, or its copies, do in the same rounds.

    Which of the two is the layer's bound (``konv.machine.bound``): operations of the direct sum, or bytes of input,
    output and weight.
    """
    run, n = prepare(layer), kernels.get_num_threads()
    moved = 4 * sum(math.prod(shape) for shape in (layer.input_shape, layer.output_shape, layer.geometry.weight_shape))
    by_bytes = bound(layer.flops, moved).limit == "bytes"
    times, shares = [], []
    with copying(n) as copy:

        def machine() -> float:
            if by_bytes:
                return 2 * COPIED_BYTES / burst(copy, seconds)
            return median(kernels.fma_rates("float32", seconds))

        for _ in range(rounds):
            before = machine()
            times.append(burst(run, seconds))
            shares.append((moved if by_bytes else layer.flops) / times[-1] / ((before + machine()) / 2))
    return Point(layer, _plan(layer), 0, {"konv": median(times)}, median(shares))


def by_dtype(layer: Layer, rounds: int, seconds: float, names: tuple[str, ...] = DTYPES) -> Point:
    """Seconds for each dtype."""
    times = alternate({name: prepare(layer, name) for name in names}, rounds, seconds)
    return Point(layer, _plan(layer), 0, {name: median(found) for name, found in times.items()})


def rates(point: Point) -> dict[str, float]:
    """Operations a second of each dtype over float32's; a complex multiply-add is four real ones."""
    base = point.seconds["float32"]
    return {name: (4 if "complex" in name else 1) * base / taken for name, taken in point.seconds.items()}


def choices(layer: Layer, rounds: int, seconds: float) -> Point:
    """Seconds of each plan that is worth timing, by its name; the one that geometry chooses comes first."""
    prepare(layer)
    generator, g = np.random.default_rng(0), layer.geometry
    x, weight = (generator.standard_normal(shape, np.float32) for shape in (layer.input_shape, g.weight_shape))
    names = kernels.candidates(g, layer.height, layer.width)
    calls = {name: kernels.contender(x, weight, g, name) for name in names}
    return Point(layer, names[0], 0, {name: median(t) for name, t in alternate(calls, rounds, seconds).items()})


def lost(point: Point) -> float:
    """How many times as long as the best of its plans the chosen one takes."""
    return point.seconds[point.plan] / min(point.seconds.values())


def overhead(rounds: int, seconds: float) -> Point:
    """A layer of 8 channels and 8x8 pixels: konv's and PyTorch's calls, and konv's kernel without its Python.

    PyTorch is left out where it is not installed.
    """
    layer = Layer("8 channels, 8x8", 1, 8, 8, ConvGeometry.of(8, 8, 3, padding=1))
    runs: dict[str, Call] = {}
    for name in ("konv", "torch"):
        try:
            runs[name] = _module_call(name)
        except ImportError:
            continue
    image, weight = (np.ones(shape, np.float32) for shape in (layer.input_shape, layer.geometry.weight_shape))
    name = kernels.candidates(layer.geometry, 8, 8)[0]
    runs["kernel"] = _repeated(kernels.contender(image, weight, layer.geometry, name))
    times = {name: [taken / REPEATS for taken in found] for name, found in alternate(runs, rounds, seconds).items()}
    return Point(layer, _plan(layer), 0, {name: median(found) for name, found in times.items()})


def _module_call(name: str) -> Call:
    import importlib

    framework = importlib.import_module(name)
    framework.set_num_threads(kernels.get_num_threads())
    conv, x = framework.nn.Conv2d(8, 8, 3, padding=1), framework.ones(1, 8, 8, 8)

    quick = _repeated(lambda: conv(x))

    def run() -> Any:
        with framework.no_grad():  # entered once, as a program does it
            return quick()

    return run


def _repeated(call: Call) -> Call:
    """A call ``REPEATS`` times: a clock is too coarse for one."""

    def run() -> Any:
        for _ in range(REPEATS - 1):
            call()
        return call()

    return run
