"""The list of commands."""

from __future__ import annotations

import typer

from .._version import __version__
from . import bench, explain, info, predict, solve, train

app = typer.Typer(
    name="konv",
    help="Conv2d on the CPU: train, predict, measure, explain.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"konv {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


app.command()(train.train)
app.command()(predict.predict)
app.command()(info.info)
app.command()(explain.explain)
app.command()(solve.solve)
app.command()(bench.bench)
