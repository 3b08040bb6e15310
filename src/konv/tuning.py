"""``konv.autotune``: times the few plans that could run each convolution of a model, once, and keeps what won."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import autograd, kernels
from .errors import ArgumentTypeError, text
from .geometry import ConvGeometry, Pair
from .nn.module import Module
from .ops.conv import Convolution
from .ops.creation import as_tensor
from .tensor import Tensor

ROUNDS = 5
SECONDS = 0.01  # timed in one turn of one plan
CLEARLY = 0.97  # of the time of the plan that geometry chooses: less is noise


@dataclass(frozen=True)
class Choice:
    """One shape of convolution: what runs from now on, what would run without the choice, and milliseconds of each."""

    geometry: ConvGeometry
    image: Pair
    dtype: str
    plan: str
    default: str
    milliseconds: dict[str, float]  # empty when the choice came from the file

    def __str__(self) -> str:
        g = self.geometry
        kernel, (h, w) = "x".join(map(str, g.kernel_size)), self.image
        times = ", ".join(f"{name} {ms:.3g} ms" for name, ms in self.milliseconds.items()) or "known from the file"
        return f"{g.in_channels}x{h}x{w} to {g.out_channels}, {kernel}, {self.dtype}: {self.plan} ({times})"


@dataclass(frozen=True)
class Tuning:
    """What ``autotune`` found: a line a shape by ``str()``."""

    choices: tuple[Choice, ...]
    cache: Path

    @property
    def changed(self) -> tuple[Choice, ...]:
        """Shapes that run another plan than their geometry would choose."""
        return tuple(choice for choice in self.choices if choice.plan != choice.default)

    def __str__(self) -> str:
        head = f"{len(self.choices)} shapes, {len(self.changed)} not as by geometry; kept in {self.cache}"
        return "\n".join([head, *(f"  {choice}" for choice in self.choices)])


def autotune(model: Any, input: Any, cache: str | os.PathLike[str] | None = None) -> Tuning:
    """Times the candidate plans of every convolution that ``model(input)`` runs, and uses the quickest from then on.

    Optional: without it, plans follow from geometry alone. Shapes that the file knows are not timed again. Choices hold
    for the process, for any batch and any number of threads, within the float32 precision that was set;
    ``konv.backends.forget_choices()`` ends them, ``konv.backends.use_choices()`` takes them from the file without
    timing. Another plan adds in another order, so last bits may differ from those without the choice; with it they are
    the same in every run. Transposed convolutions and gradients keep their plans.

    Args:
        model: A module, or a function of tensors. A module runs in evaluation mode and is left as it was.
        input: A tensor or array, or a tuple of them. Use the size of image and batch that will be run.
        cache: The file of choices; by default ``konv/plans.json`` in the user's cache directory.

    Returns:
        The choices; ``print`` it.

    Raises:
        ArgumentTypeError: ``model`` cannot be called, or the input is on the meta device.
        FileError: the file cannot be written.

    Example:
        >>> import konv, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tuning = konv.autotune(konv.nn.Conv2d(8, 8, 1), konv.ones(1, 8, 6, 6), folder + "/plans.json")
        >>> [choice.default for choice in tuning.choices]
        ['pixel_lane']
        >>> konv.backends.forget_choices()
    """
    if not callable(model):
        got = f"the model is a {type(model).__name__}"
        raise ArgumentTypeError(text("autotune", got, "it must be a module or a function of tensors"))
    path = kernels.choices.default_path() if cache is None else Path(cache)
    known = kernels.choices.read(path)
    found: dict[str, Choice] = {}
    with _as_for_use(model):
        seen = _convolutions(model, input)
        for x, weight, geometry in seen:
            h, w = x.shape[2:]
            isa, precision = kernels.current_isa(), kernels.get_float32_precision()
            at = kernels.choices.key(geometry, h, w, x.dtype.name, isa, precision)
            if at not in found:
                found[at] = _choose(x, weight, geometry, known.get(at, ""))
    names = {at: choice.plan for at, choice in found.items()}
    if any(known.get(at) != name for at, name in names.items()):
        # Read again: another process may have added its own meanwhile.
        kernels.choices.write(path, kernels.choices.read(path) | names)
    kernels.choices.use(names)
    return Tuning(tuple(found.values()), path)


def _choose(x: Any, weight: Any, geometry: ConvGeometry, known: str) -> Choice:
    h, w = x.shape[2:]
    names = kernels.candidates(geometry, h, w, x.dtype)
    if known in names or len(names) == 1:
        return Choice(geometry, (h, w), x.dtype.name, known or names[0], names[0], {})
    runs = {name: kernels.contender(x, weight, geometry, name) for name in names}
    times = milliseconds(runs)
    best = min(times, key=lambda name: times[name])
    if times[best] > CLEARLY * times[names[0]]:
        best = names[0]
    return Choice(geometry, (h, w), x.dtype.name, best, names[0], times)


def milliseconds(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median time of each call, taken in turns."""
    from statistics import median  # these two only when something is timed: `import konv` stays quick

    from .machine import alternate

    return {name: 1e3 * median(seconds) for name, seconds in alternate(runs, ROUNDS, SECONDS).items()}


def _convolutions(model: Callable[..., Any], input: Any) -> list[tuple[Any, Any, ConvGeometry]]:
    """(image, weight, geometry) of every convolution with data that this thread runs in ``model(input)``."""
    inputs = tuple(as_tensor(part) for part in (input if isinstance(input, (tuple, list)) else (input,)))
    if any(part._meta for part in inputs):
        raise ArgumentTypeError(text("autotune", "the input is on the meta device", "timing needs data"))
    seen: list[tuple[Any, Any, ConvGeometry]] = []
    here = threading.get_ident()

    def heard(function: Any, args: tuple[Any, ...], outputs: Any) -> None:
        if function is Convolution and threading.get_ident() == here:
            x, weight, _, geometry = args
            if isinstance(outputs, Tensor) and not outputs._meta and outputs._array.size and x._array.size:
                seen.append((x._array, weight._array, geometry))

    autograd.listeners.append(heard)
    try:
        model(*inputs)
    finally:
        autograd.listeners.remove(heard)
    return seen


@contextmanager
def _as_for_use(model: Callable[..., Any]) -> Iterator[None]:
    """Evaluation mode and no gradients; afterwards every module is in the mode it was in."""
    before = {id(part): (part, part.training) for part in model.modules()} if isinstance(model, Module) else {}
    try:
        if isinstance(model, Module):
            model.eval()
        with autograd.no_grad():
            yield
    finally:
        for part, training in before.values():
            part.training = training
