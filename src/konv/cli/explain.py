"""``konv explain``: what a layer or a model makes of an input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..data.pictures import read_picture
from ..errors import ArgumentError, FileError, text
from ..explain import explain as report_on
from ..explain.page import still
from ..explain.spec import parse_shape


def explain(
    spec: Annotated[
        str, typer.Argument(help="A layer as in Python, 'Conv2d(3, 64, 5)', or a file: .onnx, .safetensors.")
    ],
    input: Annotated[
        str, typer.Option(help="Sizes of the input, for example 8,3,28,28; an ONNX file may have its own.")
    ] = "",
    measure: Annotated[bool, typer.Option("--measure", help="Time the layer against this machine's peaks.")] = False,
    dtype: Annotated[str, typer.Option(help="Of input and weights: float32, float64, float16, ...")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page to play with here.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write a still picture here.")] = None,
    gif: Annotated[Path | None, typer.Option(help="Write the window sliding over a Conv2d here.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to show as the page's input.")] = None,
) -> None:
    """Explain sizes, cost and receptive fields of a layer, a Sequential or an ONNX file, or list a file of weights.

    Example: konv explain "Conv2d(3, 64, 5, stride=2, padding=2)" --input 8,3,28,28
    """
    if Path(spec).suffix in (".safetensors", ".onnx"):
        from ..explain.weights import file_report

        if measure or dtype:
            raise ArgumentError(
                text("explain", "--measure or --dtype with a file", "they are for a layer given as text")
            )
        report: Any = file_report(Path(spec), parse_shape(input) if input else None)
    else:
        if not input:
            raise ArgumentError(text("explain", "no --input", "give the sizes of the input, such as --input 8,3,28,28"))
        report = report_on(spec, parse_shape(input), dtype=dtype or None, measure=measure)
    if image is not None and html is None:
        raise ArgumentError(text("explain", "--image without --html", "the picture is shown in the page"))
    if html is not None:
        _write(html, report.to_html(_picture(image, report)).encode())
    if svg is not None:
        _write(svg, still.svg(report).encode())
    if gif is not None:
        _write(gif, still.gif(report))
    if json:
        print(report.to_json())
    elif html is svg is gif is None:
        show(str(report))


def _picture(path: Path | None, report: Any) -> Any:
    """The user's picture in the shape of the report's input."""
    if path is None:
        return None
    shape: Any = getattr(report, "input_shape", ())
    if len(shape) < 3:
        raise ArgumentError(text("explain", f"an input of shape {list(shape)}", "a picture is shown for (N, C, H, W)"))
    return read_picture(path, shape[-3], shape[-2:])


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise FileError(text("explain", f"{path} cannot be written", error.strerror or str(error))) from error


def show(words: str) -> None:
    """Print a report; in a terminal its numbers and remarks are coloured, the words stay the same."""
    from rich.console import Console
    from rich.highlighter import ReprHighlighter
    from rich.text import Text

    console = Console(soft_wrap=True)
    if not console.is_terminal:
        print(words)
        return
    for line in words.split("\n"):
        shown = Text(line)
        ReprHighlighter().highlight(shown)
        if line.lstrip().startswith("! "):
            shown.stylize("bold yellow")
        elif line and not line.startswith(" "):
            shown.stylize("bold")
        console.print(shown)
