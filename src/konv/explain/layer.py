"""One convolution or pooling layer, explained from its geometry alone: no tensor is made, no size costs anything."""

from __future__ import annotations

from typing import Any, Final

from ..errors import ShapeError
from ..geometry import AXES, ConvGeometry, Pair, pool_output_size
from .line import of_geometry
from .marks import layer_marks
from .trace import AxisReport, Cost, Groups, Init, LayerReport, Plan, Shape, TensorReport

MAX_BLOCKS: Final = 64
LINES: Final = ("row", "column")


def convolution(
    geometry: ConvGeometry,
    input_shape: Shape,
    *,
    bias: bool = True,
    itemsize: int = 4,
    dtype: str = "float32",
    plan: Plan | None = None,
) -> LayerReport:
    """Everything that follows from one convolution's options and the shape of its input.

    Args:
        geometry: the layer's options.
        input_shape: (N, C, H, W) or (C, H, W).
        bias: whether the layer has one.
        itemsize: bytes of one number.
        dtype: its name.
        plan: the algorithm that will run, if known.

    Raises:
        ShapeError: the image is too small for the kernel.
    """
    layer = "ConvTranspose2d" if geometry.transposed else "Conv2d"
    h, w = input_shape[-2:]
    out = geometry.output_size(h, w, layer)
    output_shape = (*input_shape[:-3], geometry.out_channels, *out)
    axes = tuple(_axis(geometry, axis, (h, w), out[axis]) for axis in range(2))
    report = LayerReport(
        layer=layer,
        call=call(geometry, bias),
        dtype=dtype,
        input_shape=input_shape,
        output_shape=output_shape,
        options=options(geometry, (h, w), bias),
        axes=(axes[0], axes[1]),
        weight=_weight(geometry, itemsize),
        bias=_bias(geometry, itemsize) if bias else None,
        cost=_cost(geometry, input_shape, output_shape, bias, itemsize),
        field=fields_of(geometry, (h, w)),
        init=_init(geometry),
        groups=_groups(geometry),
        plan=plan,
        measured=None,
        hints=(),
    )
    return _with_marks(report, geometry)


def pooling(
    layer: str,
    geometry: ConvGeometry,
    input_shape: Shape,
    *,
    ceil_mode: bool = False,
    itemsize: int = 4,
    dtype: str = "float32",
    shown: str = "",
) -> LayerReport:
    """The same for MaxPool2d and AvgPool2d, whose window is given as the geometry of a depthwise layer.

    Raises:
        ShapeError: not even one window fits.
    """
    h, w = input_shape[-2:]
    pads = geometry.pads(h, w)
    window = tuple(zip((h, w), geometry.kernel_size, geometry.stride, pads, geometry.dilation, strict=True))
    out = tuple(pool_output_size(*each, ceil_mode, layer) for each in window)
    output_shape = (*input_shape[:-2], *out)
    axes = tuple(_axis(geometry, axis, (h, w), out[axis], ceil_mode) for axis in range(2))
    report = LayerReport(
        layer=layer,
        call=shown or layer,
        dtype=dtype,
        input_shape=input_shape,
        output_shape=output_shape,
        options={**options(geometry, (h, w), False), "ceil_mode": ceil_mode},
        axes=(axes[0], axes[1]),
        weight=None,
        bias=None,
        cost=_bytes_only(input_shape, output_shape, itemsize),
        field=fields_of(geometry, (h, w)),
        init=None,
        groups=None,
        plan=None,
        measured=None,
        hints=(),
    )
    return _with_marks(report, geometry)


def _with_marks(report: LayerReport, geometry: ConvGeometry) -> LayerReport:
    from dataclasses import replace

    return replace(report, hints=layer_marks(report, geometry))


def plain(value: Any) -> str:
    """An option as people write it: one number where both axes agree."""
    alike = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], int) and value[0] == value[1]
    return repr(value[0] if alike else value)


def call(geometry: ConvGeometry, bias: bool = True) -> str:
    """The line of Python that makes the layer, defaults left out.

    Example:
        >>> from konv.geometry import ConvGeometry
        >>> from konv.explain.layer import call
        >>> call(ConvGeometry.of(3, 64, 5, stride=2, padding=2), bias=False)
        'Conv2d(3, 64, kernel_size=5, stride=2, padding=2, bias=False)'
    """
    parts = [str(geometry.in_channels), str(geometry.out_channels), f"kernel_size={plain(geometry.kernel_size)}"]
    parts += [f"{name}={plain(value)}" for name, value in _unusual(geometry)]
    parts += [] if bias else ["bias=False"]
    return f"{'ConvTranspose2d' if geometry.transposed else 'Conv2d'}({', '.join(parts)})"


def _unusual(geometry: ConvGeometry) -> list[tuple[str, Any]]:
    plainest = ConvGeometry(geometry.in_channels, geometry.out_channels, geometry.kernel_size)
    found = []
    for name in ("stride", "padding", "output_padding", "dilation", "groups", "padding_mode"):
        value = getattr(geometry, name)
        if value != getattr(plainest, name):
            if name == "padding" and not isinstance(value, str) and all(a == b for a, b in value):
                value = value[0][0], value[1][0]
            found.append((name, value))
    return found


def options(geometry: ConvGeometry, image: Pair, bias: bool) -> dict[str, Any]:
    """Every option by name; padding as cells for this image, and the word that they came from."""
    return {
        "in_channels": geometry.in_channels,
        "out_channels": geometry.out_channels,
        "kernel_size": geometry.kernel_size,
        "stride": geometry.stride,
        "padding": geometry.pads(*image),
        "padding_word": geometry.padding if isinstance(geometry.padding, str) else None,
        "dilation": geometry.dilation,
        "groups": geometry.groups,
        "padding_mode": geometry.padding_mode,
        "transposed": geometry.transposed,
        "output_padding": geometry.output_padding,
        "bias": bias,
    }


def fields_of(geometry: ConvGeometry, image: Pair) -> Any:
    """The receptive field of one layer alone."""
    return tuple(of_geometry(geometry, axis, image[axis]).field() for axis in range(2))


def _axis(geometry: ConvGeometry, axis: int, image: Pair, output: int, ceil_mode: bool = False) -> AxisReport:
    size, extent = image[axis], geometry.extent[axis]
    before, after = geometry.pads(*image)[axis]
    unused = geometry.unused(*image)[axis]
    if ceil_mode and output != _floored(geometry, axis, size, (before, after)):
        unused = 0  # the last window hangs over the end instead
    facts: dict[str, Any] = {
        "name": AXES[axis],
        "input": size,
        "before": before,
        "after": after,
        "padded": size + before + after,
        "kernel": geometry.kernel_size[axis],
        "dilation": geometry.dilation[axis],
        "extent": extent,
        "stride": geometry.stride[axis],
        "output_padding": geometry.output_padding[axis],
        "output": output,
        "unused": unused,
        "dropped": min(size, max(0, unused - after)),
        "blind": geometry.blind(axis, size, output),
    }
    steps = _steps_transposed(facts) if geometry.transposed else _steps(facts, geometry, axis, ceil_mode)
    return AxisReport(**facts, steps=tuple(steps))


def _floored(geometry: ConvGeometry, axis: int, size: int, around: Pair) -> int:
    """Outputs of a pooling axis without ``ceil_mode``."""
    try:
        return pool_output_size(
            size, geometry.kernel_size[axis], geometry.stride[axis], around, geometry.dilation[axis]
        )
    except ShapeError:
        return 0


def _steps(facts: dict[str, Any], geometry: ConvGeometry, axis: int, ceil_mode: bool) -> list[str]:
    f = facts
    steps = [f"extent = dilation*(kernel - 1) + 1 = {f['dilation']}*({f['kernel']} - 1) + 1 = {f['extent']}"]
    if isinstance(geometry.padding, str):
        steps += _steps_same(facts, geometry.padding)
    around = f"{f['input']} + {f['before']} + {f['after']}"
    steps.append(f"padded = input + before + after = {around} = {f['padded']}")
    span = f["padded"] - f["extent"]
    word = "ceil" if ceil_mode else "floor"
    whole = span // f["stride"]
    exact = f"{span / f['stride']:g}" if span < 2**53 else f"{span}/{f['stride']}"
    inner = f"({f['padded']} - {f['extent']}) / {f['stride']}"
    rounded = -(-span // f["stride"]) if ceil_mode else whole
    steps.append(
        f"output = {word}((padded - extent) / stride) + 1 = {word}({inner}) + 1 = {word}({exact}) + 1 = {rounded + 1}"
    )
    if f["output"] != rounded + 1:
        steps.append(f"output = {f['output']}: the last window would start in the padding, so it is left out")
    if f["unused"]:
        steps.append(_left_over(f, LINES[axis], ("bottom", "right")[axis]))
    return steps


def _left_over(f: dict[str, Any], line: str, end: str) -> str:
    what = f"{f['unused']} {line}{'s' if f['unused'] > 1 else ''}"
    if not f["dropped"]:
        return f"the floor leaves {what} of padding at the {end} unused; no pixel is lost"
    pixels = f"1 {line} of pixels reaches" if f["dropped"] == 1 else f"{f['dropped']} {line}s of pixels reach"
    return f"the floor leaves {what} at the {end} unused: {pixels} no output"


def _steps_same(f: dict[str, Any], word: str) -> list[str]:
    total = f["before"] + f["after"]
    outputs = f["output"]
    odd = {"same": "after", "same_upper": "after", "same_lower": "before"}[word]
    need = f"({outputs} - 1)*{f['stride']} + {f['extent']} - {f['input']}"
    split = f"{f['before']} before, {f['after']} after" + (f" (the odd cell goes {odd})" if total % 2 else "")
    return [
        f"{word!r} asks for ceil(input / stride) = ceil({f['input']} / {f['stride']}) = {outputs} outputs",
        f"padding = max((outputs - 1)*stride + extent - input, 0) = max({need}, 0) = {total}: {split}",
    ]


def _steps_transposed(f: dict[str, Any]) -> list[str]:
    numbers = f"({f['input']} - 1)*{f['stride']} - {f['before']} - {f['after']} + {f['extent']} + {f['output_padding']}"
    return [
        f"extent = dilation*(kernel - 1) + 1 = {f['dilation']}*({f['kernel']} - 1) + 1 = {f['extent']}",
        "output = (input - 1)*stride - before - after + extent + output_padding",
        f"       = {numbers} = {f['output']}",
    ]


def _weight(geometry: ConvGeometry, itemsize: int) -> TensorReport:
    g = geometry
    given, made, kh, kw = g.in_channels, g.out_channels, *g.kernel_size
    groups = f" / {g.groups} groups" if g.groups > 1 else ""
    if g.transposed:
        first = f"{_many(given, 'input channel')}, each spread by its own kernels"
        second = _share(g.weight_shape[1], made, "output channel", groups)
    else:
        first = f"{_many(made, 'output channel')}, one filter each"
        second = _share(g.weight_shape[1], given, "input channel", groups)
    axes = (first, second, f"{_many(kh, 'row')} of the kernel", f"{_many(kw, 'column')} of the kernel")
    return TensorReport("weight", g.weight_shape, axes, g.parameters(bias=False) * itemsize)


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _share(each: int, channels: int, thing: str, groups: str) -> str:
    """The second axis of a weight: a group's share of the channels."""
    return f"{each} = {_many(channels, thing)}{groups}" if groups else _many(channels, thing)


def _bias(geometry: ConvGeometry, itemsize: int) -> TensorReport:
    count = geometry.bias_shape[0]
    return TensorReport("bias", (count,), (f"{_many(count, 'output channel')}, one number each",), count * itemsize)


def product(shape: Shape) -> int:
    """Numbers in a tensor of this shape."""
    total = 1
    for size in shape:
        total *= size
    return total


def _cost(geometry: ConvGeometry, given: Shape, made: Shape, bias: bool, itemsize: int) -> Cost:
    batch = given[0] if len(given) == 4 else 1
    multiply_adds = geometry.macs(batch, *given[-2:])
    parameters = geometry.parameters(bias)
    weights, read, written = parameters * itemsize, product(given) * itemsize, product(made) * itemsize
    moved = weights + read + written
    return Cost(
        parameters=parameters,
        multiply_adds=multiply_adds,
        flops=2 * multiply_adds,
        weight_bytes=weights,
        input_bytes=read,
        output_bytes=written,
        gradient_bytes=moved,  # the gradient of each has its size
        intensity=2 * multiply_adds / moved if moved else 0.0,
    )


def _bytes_only(given: Shape, made: Shape, itemsize: int) -> Cost:
    read, written = product(given) * itemsize, product(made) * itemsize
    return Cost(0, 0, 0, 0, read, written, read + written, 0.0)


def _init(geometry: ConvGeometry) -> Init:
    fan_in = geometry.fan_in
    each = geometry.weight_shape[1]
    kh, kw = geometry.kernel_size
    bound = geometry.init_bound
    formula = f"U(-sqrt(k), sqrt(k)), k = 1/({each}*{kh}*{kw}) = 1/{fan_in}, sqrt(k) = {bound:.6g}"
    return Init(bound, fan_in, formula)


def _groups(geometry: ConvGeometry) -> Groups:
    count = geometry.groups
    in_each, out_each = geometry.in_channels // count, geometry.out_channels // count
    blocks = tuple(
        ((i * in_each, (i + 1) * in_each - 1), (i * out_each, (i + 1) * out_each - 1))
        for i in range(min(count, MAX_BLOCKS))
    )
    depthwise = geometry.is_depthwise
    return Groups(count, in_each, out_each, depthwise, out_each if depthwise else 0, blocks)
