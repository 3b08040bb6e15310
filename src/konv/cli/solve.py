"""``konv solve``: which layers take one image size to another."""

from __future__ import annotations

import json as plain_json
from typing import Annotated, Any

import typer

from ..errors import ArgumentError, text
from ..explain.solve import solve as find
from ..explain.spec import parse_shape


def solve(
    input: Annotated[str, typer.Argument(help="Size of the image: 28, or 50,100 for height,width.")],
    output: Annotated[str, typer.Argument(help="Size wanted.")],
    kernel: Annotated[str, typer.Option(help="Keep this kernel size: 3, or 3,5 for height,width.")] = "",
    stride: Annotated[str, typer.Option(help="Keep this stride.")] = "",
    padding: Annotated[str, typer.Option(help="Keep this padding.")] = "",
    dilation: Annotated[str, typer.Option(help="Keep this dilation.")] = "",
    output_padding: Annotated[str, typer.Option(help="Keep this output padding (with --transposed).")] = "",
    transposed: Annotated[bool, typer.Option("--transposed", help="Answer with ConvTranspose2d.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Print at most so many answers.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
) -> None:
    """List the layers that take one image size to another, the usual one first.

    Example: konv solve 28 14 --kernel 5
    """
    kept = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    kept["output_padding"] = output_padding
    options: dict[str, Any] = {name: _size(word) for name, word in kept.items() if word}
    answers = find(_size(input), _size(output), transposed=transposed, limit=limit, **options)
    if json:
        print(plain_json.dumps([answer.to_dict() for answer in answers], indent=2))
    elif answers:
        print("\n".join(map(str, answers)))
    else:
        fix = "relax an option" if transposed else "relax an option, or try --transposed, which can enlarge"
        raise ArgumentError(text("solve", f"no layer takes {input} to {output} within the bounds", fix))


def _size(word: str) -> Any:
    sizes = parse_shape(word)
    if len(sizes) > 2:
        raise ArgumentError(text("solve", repr(word), "a size is one number, or height,width"))
    return sizes[0] if len(sizes) == 1 else sizes
