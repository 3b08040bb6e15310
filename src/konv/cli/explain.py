"""``konv explain``: what a layer or a model makes of an input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ArgumentError, FileError, text
from ..explain import explain as report_on
from ..explain.spec import parse_shape


def explain(
    spec: Annotated[str, typer.Argument(help="A layer as in Python, 'Conv2d(3, 64, 5)', or a file of weights.")],
    input: Annotated[str, typer.Option(help="Sizes of the input, for example 8,3,28,28.")] = "",
    measure: Annotated[bool, typer.Option("--measure", help="Time the layer against this machine's peaks.")] = False,
    dtype: Annotated[str, typer.Option(help="Of input and weights: float32, float64, float16, ...")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page here.")] = None,
) -> None:
    """Explain sizes, cost and receptive fields of a layer or a Sequential, or list a file of weights.

    Example: konv explain "Conv2d(3, 64, 5, stride=2, padding=2)" --input 8,3,28,28
    """
    if Path(spec).suffix in (".safetensors", ".onnx"):
        from ..explain.weights import file_report

        report: Any = file_report(Path(spec), parse_shape(input) if input else None)
    else:
        if not input:
            raise ArgumentError(text("explain", "no --input", "give the sizes of the input, such as --input 8,3,28,28"))
        report = report_on(spec, parse_shape(input), dtype=dtype or None, measure=measure)
    if html is not None:
        try:
            html.write_text(report.to_html(), encoding="utf-8")
        except OSError as error:
            raise FileError(text("explain", f"{html} cannot be written", error.strerror or str(error))) from error
    if json:
        print(report.to_json())
    elif html is None:
        show(str(report))


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
