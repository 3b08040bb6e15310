"""A run as a table for the eye, as JSON for keeping, and as a picture."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from .harness import OWN, LayerResult, Run

FORMAT = 1  # of the JSON; grows when a field changes its meaning


def header(run: Run) -> str:
    """The lines above the table: machine, versions, and who is missing."""
    s = run.settings
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    lines = [
        f"{s.mode}, {s.dtype}, {s.threads} threads, {s.rounds} rounds of {s.seconds * 1e3:g} ms",
        f"{run.cpu}; konv uses {run.isa}; {run.date}" + (f"; commit {run.commit}" if run.commit else ""),
        versions,
    ]
    lines += [f"absent: {name} ({reason})" for name, reason in run.absent.items()]
    return "\n".join(lines)


def columns(run: Run) -> list[str]:
    """Peers that have a column: konv first."""
    from .peers import PEERS

    return [peer.name for peer in PEERS if peer.name not in run.absent]


def table_head(run: Run) -> str:
    """Names of the columns; one layer a line follows."""
    peers = "".join(f"{name:>12}" for name in columns(run))
    return (
        f"{'layer':<16}{'plan':<22}{peers}{'GFLOP/s':>9}{'best peer':>13}{'ratio':>7}\n"
        + f"{'':38}"
        + "".join(f"{'ms':>12}" for _ in columns(run))
    )


def table_row(run: Run, result: LayerResult) -> str:
    """Milliseconds of each peer, konv's GFLOP/s, and how many times faster konv is than the best of the others."""
    cells = ""
    for name in columns(run):
        cells += f"{result.median(name) * 1e3:>12.4f}" if name in result.seconds else f"{'failed':>12}"
    best = result.best
    against = f"{best:>13}{result.ratio(best):>7.2f}" if best else f"{'-':>13}{'-':>7}"
    row = f"{result.layer.name:<16}{result.plan:<22}{cells}{result.gflops(OWN):>9.0f}{against}"
    return "\n".join([row, *(f"  {name} failed: {reason}" for name, reason in result.failures.items())])


def summary(run: Run) -> str:
    """Geometric means over all layers: against each peer, and against the best of each layer."""
    lines = []
    for name in columns(run)[1:]:
        ratio = run.mean_ratio(name)
        if ratio is not None:
            lines.append(f"konv is {ratio:.2f} times as fast as {name} (geometric mean)")
    if (ratio := run.mean_ratio()) is not None:
        pairs = [(result.ratio(result.best), result.layer.name) for result in run.layers if result.best]
        least, name = min(pairs)
        lines.append(f"konv is {ratio:.2f} times as fast as the best peer of each layer; least: {least:.2f} ({name})")
    return "\n".join(lines)


def to_text(run: Run) -> str:
    """The whole report."""
    rows = [table_row(run, result) for result in run.layers]
    return "\n".join([header(run), "", table_head(run), *rows, "", summary(run)]).rstrip()


def to_json(run: Run) -> str:
    """Everything, each round's seconds included, so that a later reader can compute other figures."""
    s = run.settings
    content: dict[str, Any] = {
        "format": FORMAT,
        "date": run.date,
        "commit": run.commit,
        "cpu": run.cpu,
        "isa": run.isa,
        "versions": run.versions,
        "absent": run.absent,
        "settings": {"dtype": s.dtype, "mode": s.mode, "threads": s.threads, "rounds": s.rounds, "seconds": s.seconds},
        "mean_ratio": {name: run.mean_ratio(name) for name in columns(run)[1:]} | {"best": run.mean_ratio()},
        "layers": [_layer_dict(result) for result in run.layers],
    }
    return json.dumps(content, indent=1) + "\n"


def _layer_dict(result: LayerResult) -> dict[str, Any]:
    layer = result.layer
    return {
        "name": layer.name,
        "input": layer.input_shape,
        "weight": layer.geometry.weight_shape,
        "stride": layer.geometry.stride,
        "padding": layer.geometry.padding,
        "dilation": layer.geometry.dilation,
        "groups": layer.geometry.groups,
        "origin": layer.origin,
        "plan": result.plan,
        "flops": result.flops,
        "best": result.best,
        "ratio": {name: result.ratio(name) for name in result.others},
        "errors": result.errors,
        "failures": result.failures,
        "seconds": result.seconds,
    }


ROW, LEFT, WIDTH = 22, 150, 760  # of the picture, in pixels


def to_svg(run: Run) -> str:
    """Bars: how many times faster konv is than the best peer of each layer, with a line at 1."""
    results = [result for result in run.layers if result.best]
    ratios = [result.ratio(result.best or "") for result in results]
    most = max([2.0, *ratios])
    scale = (WIDTH - LEFT - 120) / most
    height = ROW * (len(results) + 2)
    title = f"konv against the best peer of each layer: {run.settings.mode}, {run.settings.dtype}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="15" font-weight="bold">{escape(title)}, {run.settings.threads} threads</text>',
    ]
    for index, (result, ratio) in enumerate(zip(results, ratios, strict=True), 1):
        y = ROW * index + 4
        label = f"{ratio:.2f} ({result.best})"
        colour = "#1f6f8b" if ratio >= 1 else "#b5523b"
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(result.layer.name)}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{ratio * scale:.1f}" height="{ROW - 6}" fill="{colour}"/>'
            f'<text x="{LEFT + ratio * scale + 5:.1f}" y="{y + 12}">{escape(label)}</text>'
        )
    one = LEFT + scale
    parts.append(f'<path d="M{one:.1f} {ROW}V{height - 8}" stroke="#222" stroke-dasharray="4 3"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"
