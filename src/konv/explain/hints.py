"""The smallest change that mends a shape error inside a model, found when the error is shown.

``KonvError`` asks for it through ``errors.teacher`` (set in this package's ``__init__``): the error says which layer
refused, what it was given and what the layers before it had produced; where the answer is a size, copies of the model
on the meta device are run with other inputs until one fits. When nothing is found, nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from ..dtypes import get_default_dtype
from ..errors import ArgumentError, KonvError, ShapeError
from ..geometry import ConvGeometry, Pair
from ..nn.module import Module
from .graph import meta_input, on_meta
from .layer import call
from .trace import Shape

USUAL: Final = (28, 32, 48, 64, 96, 112, 128, 160, 192, 224, 227, 256, 299, 320, 384, 416, 448, 512, 640, 1024)
LARGEST: Final = 4096


def hint(error: KonvError) -> str:
    """One sentence that mends ``error``, or nothing.

    Only errors of shape are understood; whatever goes wrong while looking is dropped, so that the error itself is
    never hidden.
    """
    if not isinstance(error, (ShapeError, ArgumentError)) or error.module is None or not error.given:
        return ""
    try:
        return _hint(error)
    except Exception:
        return ""


def _hint(error: KonvError) -> str:
    module, given = error.module, error.given[0]
    if isinstance(getattr(module, "geometry", None), ConvGeometry):
        return _convolution(error, module, given)
    if hasattr(module, "in_features"):
        return _linear(error, module, given)
    if hasattr(module, "num_features") or hasattr(module, "num_channels"):
        return _norm(error, module, given)
    if hasattr(module, "kernel_size"):
        return _too_small(error, given)
    return _join(error, given) if module._modules else ""


def _name(path: str, module: Module) -> str:
    return f"`{path or type(module).__name__}`"


def _x(sizes: Any) -> str:
    return " x ".join(map(str, sizes))


def _fed_by_input(error: KonvError, given: Shape) -> bool:
    """Whether the layer got the model's own input."""
    return error.root is error.module or (not error.trace and given in error.inputs)


# ---- convolution: axes and channels ----------------------------------------------------------------------------


def _convolution(error: KonvError, module: Any, given: Shape) -> str:
    wanted = module.geometry.in_channels
    name = _name(error.layer, module)
    if _fed_by_input(error, given) or len(given) < 3:
        found = _axes(given, wanted)
        if found:
            return f"{name} {found}"
    if len(given) in (3, 4) and given[-3] != wanted:
        return _channels(error, module, given)
    return _too_small(error, given) if len(given) in (3, 4) else ""


def _axes(given: Shape, channels: int) -> str:
    """An input whose axes are in another order, or too few."""
    got = f"got {_x(given)}"
    if len(given) == 4 and given[1] != channels and given[3] == channels:
        n, h, w, c = given
        return f"{got}: the channels come last; x.permute(0, 3, 1, 2) gives {_x((n, c, h, w))}"
    if len(given) == 3 and given[0] != channels:
        if given[2] == channels:
            h, w, c = given
            return f"{got}: the channels come last; x.permute(2, 0, 1) gives {_x((c, h, w))}"
        if channels == 1:
            return f"{got}: the channel axis is missing; x.unsqueeze(1) gives {_x((given[0], 1, *given[1:]))}"
    if len(given) == 2:
        return _flat(given, channels, got)
    return ""


def _flat(given: Shape, channels: int, got: str) -> str:
    rows, cells = given
    side = math.isqrt(cells // channels) if channels else 0
    if side > 1 and side * side * channels == cells and rows != cells:
        image = (rows, channels, side, side)
        return f"{got}: the images are flat; x.reshape({', '.join(map(str, image))}) gives them rows and columns"
    if channels == 1:
        return f"{got}: the batch and channel axes are missing; x[None, None] gives {_x((1, 1, *given))}"
    return f"{got}: the channel axis is missing; an image is channels x height x width"


def _channels(error: KonvError, module: Any, given: Shape) -> str:
    got, geometry = given[-3], module.geometry
    wanted = geometry.in_channels
    lead = f"{_name(error.layer, module)} expects {_count(wanted)}, got {got}"
    groups = geometry.groups if got % geometry.groups == 0 else 1
    if geometry.groups == wanted:
        groups = got  # depthwise stays depthwise
    made = geometry.out_channels if geometry.out_channels % groups == 0 else got
    line = call(_with_channels(geometry, got, made, groups), module.bias is not None)
    source = _maker(error, got)
    if source:
        return f"{lead} from `{source}`: write {line}, or give `{source}` {wanted} output channels"
    if got == 1 and wanted > 1:
        repeat = "x.expand(-1, {}, -1, -1)" if len(given) == 4 else "x.expand({}, -1, -1)"
        return f"{lead}: write {line}, or repeat the channel with {repeat.format(wanted)}"
    return f"{lead}: write {line}"


def _count(channels: int) -> str:
    return f"{channels} channel{'' if channels == 1 else 's'}"


def _with_channels(geometry: ConvGeometry, given: int, made: int, groups: int) -> ConvGeometry:
    from dataclasses import replace

    return replace(geometry, in_channels=given, out_channels=made, groups=groups)


def _maker(error: KonvError, channels: int) -> str:
    """The last layer before the fault that chose this number of channels."""
    for path, _, shape in reversed(error.trace):
        if shape is None or len(shape) < 3 or shape[-3] != channels:
            return ""
        geometry = getattr(_part(error, path), "geometry", None)
        if isinstance(geometry, ConvGeometry):
            return path
    return ""


def _part(error: KonvError, path: str) -> Any:
    try:
        return error.root.get_submodule(path)
    except AttributeError:
        return None


def _norm(error: KonvError, module: Any, given: Shape) -> str:
    kind = type(module).__name__
    wanted = int(getattr(module, "num_features", 0) or getattr(module, "num_channels", 0))
    if len(given) == 3 and len(error.inputs) == 1 and len(error.inputs[0]) == 3:
        root = error.inputs[0]
        return f"{_name(error.layer, module)} needs a batch: x.unsqueeze(0) gives the model {_x((1, *root))}"
    if len(given) != 4 or given[1] == wanted:
        return ""
    source = _maker(error, given[1])
    lead = f"{_name(error.layer, module)} expects {_count(wanted)}, got {given[1]}"
    args = f"{module.num_groups}, {given[1]}" if hasattr(module, "num_groups") else str(given[1])
    if source:
        return f"{lead} from `{source}`: write {kind}({args}), or give `{source}` {wanted} output channels"
    return f"{lead}: write {kind}({args})"


# ---- linear: the size after flatten ----------------------------------------------------------------------------


def _linear(error: KonvError, module: Any, given: Shape) -> str:
    wanted = module.in_features
    got = given[-1] if given else 0
    name = _name(error.layer, module)
    if len(given) >= 3 and math.prod(given[-3:]) == wanted:
        return f"{name} expects {wanted} features, got {_x(given)}: flatten the image first, x.flatten(1)"
    if len(given) == 4:
        flat = f"x.flatten(1) gives {math.prod(given[1:])} features"
        return f"{name} expects {wanted} features, got {_x(given)}: flatten the image first; {flat}"
    root = error.inputs[0] if len(error.inputs) == 1 else ()
    if len(root) == 3 and _runs(error.root, (1, *root)):
        batch = f"the batch axis is missing; x.unsqueeze(0) gives {_x((1, *root))}"
        return f"{name} expects {wanted} features, got {got}: {batch}"
    lead = f"{name} expects {wanted} features, got {got}{_factors(error, got)}"
    line = f"{type(module).__name__}({got}, {module.out_features}{'' if module.bias is not None else ', bias=False'})"
    image = _needed_image(error, root, wanted) if len(root) in (3, 4) else None
    if image is None:
        return f"{lead}: write {line}"
    return f"{lead}: the input was {root[-2]}x{root[-1]}, the model needs {image[0]}x{image[1]}, or {line}"


def _factors(error: KonvError, features: int) -> str:
    """`` = 64*4*4`` when the features are the cells of the last image before them."""
    for _, _, shape in reversed(error.trace):
        if shape is not None and len(shape) >= 3 and math.prod(shape[-3:]) == features:
            return " = " + "*".join(map(str, shape[-3:]))
    return ""


def _runs(root: Module, shape: Shape) -> bool:
    try:
        _try(on_meta(root), shape)
    except KonvError:
        return False
    return True


def _try(twin: Module, shape: Shape) -> None:
    first = next(iter(twin.parameters()), None)
    twin(meta_input(shape, get_default_dtype() if first is None else first.dtype))


def _needed_image(error: KonvError, root: Shape, wanted: int) -> Pair | None:
    """The image that makes ``wanted`` features at the layer that refused, if one of these proportions does."""
    twin = on_meta(error.root)
    for height, width in dict.fromkeys((root[-2:], (1, 1))):  # its own proportions, then a square
        found = _fitting(error, twin, root, wanted, (height, width))
        if found is not None:
            return found
    return None


def _fitting(error: KonvError, twin: Module, root: Shape, wanted: int, proportions: Pair) -> Pair | None:
    def features(rows: int) -> int:
        try:
            _try(twin, (*root[:-2], rows, _columns(rows, *proportions)))
        except KonvError as other:
            return int(other.given[0][-1]) if other.layer == error.layer and other.given else 0
        return wanted

    least = _first(lambda rows: features(rows) >= wanted)
    if features(least) != wanted:
        return None
    most = _first(lambda rows: features(rows) > wanted) - 1
    rows = next((size for size in USUAL if least <= size <= most), least)
    return rows, _columns(rows, *proportions)


def _columns(rows: int, height: int, width: int) -> int:
    return max(1, round(rows * width / height))


def _first(holds: Callable[[int], bool]) -> int:
    """The first number of 1..LARGEST from which on ``holds`` is true."""
    low, high = 1, LARGEST
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


# ---- images that shrank: padding forgotten ---------------------------------------------------------------------


def _bare(error: KonvError, paths: list[str]) -> list[tuple[str, Pair]]:
    """Convolutions among ``paths`` that take rows and columns away for want of padding, with what would keep them."""
    found = []
    for path in dict.fromkeys(paths):
        geometry = getattr(_part(error, path), "geometry", None)
        if not isinstance(geometry, ConvGeometry) or geometry.transposed or geometry.stride != (1, 1):
            continue
        if geometry.padding == ((0, 0), (0, 0)) and max(geometry.extent) > 1 and all(e % 2 for e in geometry.extent):
            found.append((path, (geometry.extent[0] // 2, geometry.extent[1] // 2)))
    return found


def _padding_words(bare: list[tuple[str, Pair]]) -> str:
    """Who shrinks the image, and the padding that keeps its size."""
    names = [f"`{path}`" for path, _ in bare]
    amounts = {pad[0] if pad[0] == pad[1] else pad for _, pad in bare}
    if len(bare) == 1:
        return f"{names[0]} has no padding and shrinks the image; padding={amounts.pop()} keeps its size"
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) < 6 else f"{len(names)} layers from {names[0]} on"
    how = f"padding={amounts.pop()} in each" if len(amounts) == 1 else "padding='same' in each"
    return f"{listed} have no padding and shrink the image; {how} keeps its size"


def _too_small(error: KonvError, given: Shape) -> str:
    module = error.module
    kernel = module.geometry.extent if hasattr(module, "geometry") else module.kernel_size
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    if len(given) < 3 or (given[-2] >= kernel[0] and given[-1] >= kernel[1]):
        return ""
    lead = f"{_name(error.layer, module)} gets {given[-2]}x{given[-1]} for a kernel of {kernel[0]}x{kernel[1]}"
    parts = []
    bare = _bare(error, [path for path, _, _ in error.trace])
    if bare:
        parts.append(_padding_words(bare))
    image = _least_image(error)
    if image:
        parts.append(f"an input of {image[0]}x{image[1]} or more fits as it is")
    return f"{lead}: {', or '.join(parts)}" if parts else ""


def _least_image(error: KonvError) -> Pair | None:
    root = error.inputs[0] if len(error.inputs) == 1 else ()
    if len(root) not in (3, 4) or error.root is error.module:
        return None
    twin = on_meta(error.root)
    height, width = root[-2:]

    def passes(rows: int) -> bool:
        try:
            _try(twin, (*root[:-2], rows, _columns(rows, height, width)))
        except KonvError as other:
            return other.layer != error.layer and len(other.trace) > len(error.trace)
        return True

    rows = _first(passes)
    return (rows, _columns(rows, height, width)) if passes(rows) else None


def _join(error: KonvError, given: Shape) -> str:
    """A container's own operation met images of two sizes."""
    prefix = f"{error.layer}." if error.layer else ""
    inside = [(path, shape) for path, _, shape in error.trace if path.startswith(prefix) and shape is not None]
    if len(given) < 3 or not inside or len(inside[-1][1]) < 3 or inside[-1][1][-2:] == given[-2:]:
        return ""
    bare = _bare(error, [path for path, _ in inside])
    if not bare:
        return ""
    first, second = (f"{shape[-2]}x{shape[-1]}" for shape in (given, inside[-1][1]))
    return f"{_name(error.layer, error.module)} joins {first} with {second}: {_padding_words(bare)}"
