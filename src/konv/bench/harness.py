"""Measures layers: makes the numbers, lets every peer prepare, checks what they compute, then times them in turn."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import geometric_mean, median
from typing import Any

from .. import dtypes, kernels, machine
from .._version import __version__
from ..errors import ArgumentError, text
from ..machine import alternate
from . import check
from .layers import Layer
from .peers import ALL_FLOATS, BOTH, FORWARD, PEERS, TRAINING, Peer, Prepared, Problem

OWN = PEERS[0].name


@dataclass(frozen=True)
class Settings:
    """What is measured and how long.

    Args:
        dtype: Of input, weight and result.
        mode: ``'forward'``, or ``'training'``: forward and all three gradients.
        threads: For every peer.
        rounds: How often each peer has its turn.
        seconds: Timed in one turn.
        peers: Names; every peer that is known when empty.
    """

    dtype: str = "float32"
    mode: str = FORWARD
    threads: int = 2
    rounds: int = 9
    seconds: float = 0.03
    peers: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises: ArgumentError: a setting has no meaning."""
        for name, value, allowed in (("dtype", self.dtype, ALL_FLOATS), ("mode", self.mode, BOTH)):
            if value not in allowed:
                raise ArgumentError(text("bench", f"{name}={value!r}", f"{name} must be one of {', '.join(allowed)}"))
        known = [peer.name for peer in PEERS]
        for name in self.peers:
            if name not in known:
                raise ArgumentError(text("bench", f"peer {name!r} is unknown", f"peers are {', '.join(known)}"))
        for label, number in (("threads", self.threads), ("rounds", self.rounds), ("seconds", self.seconds)):
            if not number > 0:
                raise ArgumentError(text("bench", f"{label}={number}", "it must be above 0"))


@dataclass(frozen=True)
class LayerResult:
    """What one layer took, each peer's seconds a round and its largest error."""

    layer: Layer
    plan: str
    flops: int  # of the direct sums, gradients counted like the forward pass
    seconds: dict[str, list[float]]
    errors: dict[str, float]
    failures: dict[str, str] = field(default_factory=dict)

    def median(self, peer: str) -> float:
        """Seconds of one call."""
        return median(self.seconds[peer])

    def gflops(self, peer: str) -> float:
        """Billions of direct-sum operations a second: above the machine's peak where an algorithm saves sums."""
        return self.flops / self.median(peer) / 1e9

    def ratio(self, peer: str) -> float:
        """How many times faster konv is: the median over rounds of the peer's time over konv's in that round."""
        return median(theirs / ours for theirs, ours in zip(self.seconds[peer], self.seconds[OWN], strict=True))

    @property
    def others(self) -> list[str]:
        """Every peer but konv that computed this layer."""
        return [name for name in self.seconds if name != OWN]

    @property
    def best(self) -> str | None:
        """The fastest of the others."""
        return min(self.others, key=self.ratio, default=None)


@dataclass(frozen=True)
class Run:
    """All layers, and everything that one must know to repeat the run."""

    settings: Settings
    layers: list[LayerResult]
    absent: dict[str, str]  # peers that were not measured, and why
    versions: dict[str, str]
    cpu: str
    isa: str
    date: str
    commit: str

    def mean_ratio(self, peer: str | None = None) -> float | None:
        """Geometric mean over the layers of konv against one peer, or against the best of each layer."""
        names = [(result, peer or result.best) for result in self.layers]
        ratios = [result.ratio(name) for result, name in names if name is not None and name in result.seconds]
        return geometric_mean(ratios) if ratios else None


def measure(
    layers: Iterable[Layer],
    settings: Settings | None = None,
    on_start: Callable[[Run], None] = lambda run: None,
    on_layer: Callable[[LayerResult], None] = lambda result: None,
) -> Run:
    """Measures konv and every peer that is installed on each layer.

    Args:
        layers: What to measure.
        settings: How.
        on_start: Called once, when the peers are known and before the first layer.
        on_layer: Called after each layer.

    Returns:
        The run. Peers that are missing or cannot compute a layer are named in it with the reason.

    Raises:
        WrongResultError: konv's own result is wrong.
        ArgumentError: a setting or a layer has no meaning here.

    Example:
        >>> from konv.bench import Settings, measure, parse_layer
        >>> quick = Settings(threads=1, rounds=3, seconds=0.001, peers=("konv",))
        >>> run = measure([parse_layer("tiny 1 4 8 8 4 3 3 1 1 1 1")], quick)
        >>> run.layers[0].gflops("konv") > 0, run.layers[0].errors["konv"] < 1e-5
        (True, True)
    """
    settings = settings or Settings()
    settings.check()
    chosen, absent, versions = _choose(settings)
    run = Run(
        settings,
        [],
        absent,
        versions,
        machine.cpu(),
        kernels.current_isa(),
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine.commit(),
    )
    on_start(run)
    for layer in layers:
        run.layers.append(_measure_layer(layer, settings, chosen))
        on_layer(run.layers[-1])
    return run


def _choose(settings: Settings) -> tuple[list[Peer], dict[str, str], dict[str, str]]:
    """The peers of this run, why the others are out, and versions."""
    chosen, absent = [], {}
    versions = {"python": platform.python_version(), "konv": __version__}
    for peer in PEERS:
        if settings.peers and peer.name not in settings.peers and peer.name != OWN:
            absent[peer.name] = "not asked for"
        elif reason := peer.refuses(settings.dtype, settings.mode):
            absent[peer.name] = reason
        else:
            try:
                module = peer.load()
            except ImportError:
                absent[peer.name] = f"not installed: pip install {peer.module}"
                continue
            chosen.append(peer)
            versions[peer.module] = getattr(module, "__version__", "unknown")
    return chosen, absent, versions


def _problem(layer: Layer, settings: Settings) -> Problem:
    g = layer.geometry
    (top, bottom), (left, right) = g.pads(layer.height, layer.width)
    if (top, left) != (bottom, right) or g.padding_mode != "zeros" or g.transposed:
        got = f"{layer.name} pads {g.padding!r} with {g.padding_mode}"
        raise ArgumentError(text("bench", got, "peers can be compared on equal zero padding only"))
    scale = g.fan_in**-0.5  # results of the size of the input, whatever the number of taps
    return Problem(
        layer,
        check.make_numbers(layer.input_shape, 1, settings.dtype),
        check.make_numbers(g.weight_shape, 2, settings.dtype, scale),
        check.make_numbers(g.bias_shape, 3, settings.dtype),
        check.make_numbers(layer.output_shape, 4, settings.dtype),
        settings.dtype,
        settings.mode,
        settings.threads,
    )


def _measure_layer(layer: Layer, settings: Settings, peers: list[Peer]) -> LayerResult:
    problem = _problem(layer, settings)
    prepared: dict[str, Prepared] = {}
    errors: dict[str, float] = {}
    failures: dict[str, str] = {}
    own: tuple[Any, ...] = ()
    for peer in peers:
        try:
            ready = peer.prepare(peer.load(), problem)
            results = ready.arrays(ready.run())
            errors[peer.name] = _checked(problem, results, own)
        except Exception as error:
            if peer.name == OWN or isinstance(error, check.OwnResultError):
                raise
            failures[peer.name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        else:
            prepared[peer.name] = ready
            own = own or results
    seconds = alternate({name: ready.run for name, ready in prepared.items()}, settings.rounds, settings.seconds)
    flops = layer.flops * (3 if settings.mode == TRAINING else 1)
    plan = kernels.plan(layer.geometry, layer.height, layer.width, getattr(dtypes, settings.dtype).numpy).name
    return LayerResult(layer, plan, flops, seconds, errors, failures)


def _checked(problem: Problem, results: tuple[Any, ...], own: tuple[Any, ...]) -> float:
    """The error of a peer's results, which must also be konv's own (empty: these are konv's)."""
    limit = check.TOLERANCES[problem.dtype]

    def refuse(error: float, kind: type[check.WrongResultError] = check.WrongResultError) -> None:
        if error > limit:
            raise kind(f"the largest error is {error:.1e} of the largest value")

    error = check.worst_error(problem, results)
    refuse(error)
    if own and (part := check.where_they_differ(problem, results, own)):
        refuse(check.worst_error(problem, own, part), check.OwnResultError)
        refuse(check.worst_error(problem, results, part))
    return error
