"""``konv bench``: the benchmark harness on a user's own layers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import bench as harness
from ..bench import report
from ..errors import ArgumentError, ArgumentTypeError, FileError, text
from ..explain import spec
from ..geometry import ConvGeometry

ARGUMENTS = "in_channels out_channels kernel_size stride padding dilation groups bias padding_mode device dtype".split()


def bench(
    layers: Annotated[
        list[str],
        typer.Argument(
            metavar="LAYERS...",
            help="Files with a layer a line, or layers: 'N C H W O KH KW stride pad dilation groups' or 'Conv2d(...)'.",
        ),
    ],
    input: Annotated[str, typer.Option(help="Input shape for Conv2d(...), for example 1,64,56,56.")] = "",
    mode: Annotated[str, typer.Option(help="forward, or training: forward and all gradients.")] = "forward",
    dtype: Annotated[str, typer.Option(help="float32, float64, float16 or bfloat16.")] = "float32",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="For every peer.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="How often each peer has its turn.")] = 9,
    ms: Annotated[float, typer.Option(min=0.001, help="Milliseconds timed in one turn.")] = 30.0,
    peers: Annotated[str, typer.Option(help="Names joined by commas; all that are installed when not given.")] = "",
    json: Annotated[Path | None, typer.Option(help="Also write everything here as JSON.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Also draw the ratios here.")] = None,
) -> None:
    """Measure layers against PyTorch, ONNX Runtime, OpenVINO and ncnn, where they are installed.

    Example: konv bench '1 64 56 56 64 3 3 1 1 1 1' --mode training
    """
    chosen = [layer for word in layers for layer in _layers(word, input)]
    names = tuple(name for name in peers.split(",") if name)
    settings = harness.Settings(dtype, mode, threads, rounds, ms / 1e3, names)
    runs: list[harness.Run] = []

    def start(run: harness.Run) -> None:
        runs.append(run)
        print(report.header(run), report.table_head(run), sep="\n\n", flush=True)

    run = harness.measure(chosen, settings, start, lambda result: print(report.table_row(runs[0], result), flush=True))
    print("\n" + report.summary(run))
    for path, content in ((json, harness.to_json), (svg, harness.to_svg)):
        if path is not None:
            try:
                path.write_text(content(run))
            except OSError as error:
                raise FileError(text("bench", f"{path} cannot be written", error.strerror or str(error))) from error


def _layers(word: str, shape: str) -> list[harness.Layer]:
    """A file of layers, or one layer written out as numbers or as the call that makes it."""
    if word.rstrip().endswith(")") and "(" in word:
        return [_spec(word, shape)]
    if len(word.split()) > 1 and not Path(word).exists():
        return [harness.parse_layer(word)]
    return harness.read_layers(word)


def _spec(word: str, shape: str) -> harness.Layer:
    call = spec.parse(word)
    if call.name != "Conv2d":
        raise ArgumentError(text("bench", f"the layer is a {call.name}", "only Conv2d is measured"))
    sizes = spec.parse_shape(shape) if shape else ()
    if len(sizes) != 4:
        got = f"--input {shape!r}" if shape else "no --input"
        raise ArgumentError(text("bench", got, "Conv2d(...) needs its input shape", "write: --input N,C,H,W"))
    batch, channels, height, width = sizes
    options = dict(zip(ARGUMENTS, call.args, strict=False)) | call.kwargs
    for name in ("bias", "device", "dtype"):  # no part of the geometry
        options.pop(name, None)
    try:
        geometry = ConvGeometry.of(**options)
    except TypeError as error:
        if isinstance(error, ArgumentTypeError):
            raise
        got = f"{word!r} cannot be called"
        raise ArgumentError(text("bench", got, str(error).removeprefix("ConvGeometry.of() "))) from error
    if channels != geometry.in_channels:
        got = f"the input has {channels} channels"
        raise ArgumentError(text("bench", got, f"the layer takes {geometry.in_channels}"))
    return harness.Layer("layer", batch, height, width, geometry)
