"""A picture of lines over two logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 460, 70, 40, 250, 50
COLOURS = ("#1f6f8b", "#b5523b", "#5b8c3a", "#7a4f9a", "#b8860b", "#2f4b7c", "#8c564b", "#3a9a8c", "#666666")

Line = Sequence[tuple[float, float]]


def chart(title: str, across: str, up: str, lines: Mapping[str, Line]) -> str:
    """An SVG of one line a name, each through its points (x, y), all above 0.

    Example:
        >>> from konv.bench.lines import chart
        >>> chart("two points", "size", "ps", {"a": [(1, 2), (2, 1)]}).count("<polyline")
        1
    """
    points = [point for line in lines.values() for point in line]
    xs, ys = _range(x for x, _ in points), _range(y for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        right = LEFT + (WIDTH - LEFT - RIGHT) * _share(x, *xs)
        return right, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _share(y, *ys)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" font-weight="bold">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(across)}</text>',
        f'<text transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle">{escape(up)}</text>',
    ]
    for tick in _ticks(*xs, 2):
        x, y = place(tick, ys[0])
        parts.append(f'<path d="M{x:.1f} {y:.1f}V{TOP}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{tick:g}</text>')
    for tick in _ticks(*ys, 2):
        x, y = place(xs[0], tick)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for index, (name, line) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        places = [place(*point) for point in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        y = TOP + 18 * index + 8
        parts.append(f'<path d="M{WIDTH - RIGHT + 12} {y}h16" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 34}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _range(values: object) -> tuple[float, float]:
    found = [value for value in values if value > 0 and math.isfinite(value)]  # type: ignore[attr-defined]
    low, high = (min(found), max(found)) if found else (1.0, 1.0)
    return (low / 1.1, high * 1.1)


def _share(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low)


def _ticks(low: float, high: float, base: int) -> list[float]:
    """Powers of ``base`` within the range, at most ten of them."""
    first, last = math.ceil(math.log(low, base)), math.floor(math.log(high, base))
    step = max(1, math.ceil((last - first + 1) / 10))
    return [float(base) ** power for power in range(first, last + 1, step)]
