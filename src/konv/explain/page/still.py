"""Still pictures (SVG) and the animation (GIF) of a layer's sliding window, for slides and papers.

One picture is a short list of shapes; SVG and Pillow draw the same list.
"""

from __future__ import annotations

import html
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import ArgumentError, UnsupportedError, text
from ...geometry import Pair
from ..trace import LayerReport, ModelReport, Report

ROOM = 320  # pixels that the larger side of a plane may take
CELL = 24  # pixels of a cell that has room
LINED = 5  # pixels from which cells are drawn one by one
GAP = 40
HEAD = 48
MOST_FRAMES = 256
FRAME_MILLISECONDS = 350
INK, LINE, PAD, WINDOW, PAPER = "#1b1f24", "#8c959f", "#d0d7de", "#0a4fa3", "#ffffff"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels."""

    x: float
    y: float
    w: float
    h: float
    fill: str = ""
    line: str = ""
    width: float = 1


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text; (x, y) is the left end of its baseline."""

    x: float
    y: float
    words: str
    size: int = 13


@dataclass(frozen=True, slots=True)
class Picture:
    """Shapes on a canvas of ``w`` by ``h`` pixels, and what they show in words."""

    w: int
    h: int
    shapes: tuple[Box | Words, ...]
    words: str


def svg(report: Report) -> str:
    """A still picture: the middle window of a layer, or the layers of a model as a column of bars.

    Example:
        >>> import konv
        >>> from konv.explain.page.still import svg
        >>> svg(konv.explain("Conv2d(1, 2, 3)", (1, 1, 8, 8))).splitlines()[0][:4]
        '<svg'
    """
    picture = _column(report) if isinstance(report, ModelReport) else _window(_layer(report), _middle(_layer(report)))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{picture.w}" height="{picture.h}" '
        f'viewBox="0 0 {picture.w} {picture.h}" role="img">',
        f"<title>{html.escape(picture.words)}</title>",
        f'<rect width="{picture.w}" height="{picture.h}" fill="{PAPER}"/>',
        *(_svg_shape(shape) for shape in picture.shapes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def gif(report: Report) -> bytes:
    """The window sliding over the whole output, one frame a position (at most ``MOST_FRAMES``, evenly chosen).

    Raises:
        ArgumentError: the report is not of one convolution.
        UnsupportedError: Pillow is not installed.
    """
    layer = _layer(report)
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        rule = "the animation is drawn with Pillow, which is not installed"
        raise UnsupportedError(text("gif", "no Pillow", rule, "pip install 'konv[cli]'")) from None
    frames = []
    for position in _positions(layer):
        picture = _window(layer, position)
        image = Image.new("RGB", (picture.w, picture.h), PAPER)
        draw = ImageDraw.Draw(image)
        for shape in picture.shapes:
            _draw_shape(draw, shape)
        frames.append(image)
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=FRAME_MILLISECONDS, loop=0)
    return out.getvalue()


def _layer(report: Report) -> LayerReport:
    if not isinstance(report, LayerReport) or report.layer != "Conv2d":
        got = f"got a report of {getattr(report, 'layer', 'a model')}"
        raise ArgumentError(text("picture", got, "the sliding window is drawn for one Conv2d"))
    return report


def _middle(layer: LayerReport) -> Pair:
    return layer.axes[0].output // 2, layer.axes[1].output // 2


def _positions(layer: LayerReport) -> Iterator[Pair]:
    rows, columns = layer.axes[0].output, layer.axes[1].output
    step = -(-rows * columns // MOST_FRAMES)
    for at in range(0, rows * columns, step):
        yield at // columns, at % columns


def _window(layer: LayerReport, position: Pair) -> Picture:
    """Padded input, filter and output side by side, with the window of one output."""
    height, width = layer.axes
    cell = max(1.0, min(CELL, ROOM // max(height.padded, width.padded)))
    out_cell = max(1.0, min(CELL, ROOM // max(height.output, width.output)))
    tap_cell = max(1.0, min(CELL, ROOM // 2 // max(height.kernel, width.kernel)))
    taps = [
        (position[0] * height.stride + i * height.dilation, position[1] * width.stride + j * width.dilation)
        for i in range(height.kernel)
        for j in range(width.kernel)
    ]
    shapes: list[Box | Words] = [Words(10, 20, layer.call)]
    x = 10.0
    planes: tuple[tuple[str, int, int, float, list[Pair]], ...] = (
        ("padded input", height.padded, width.padded, cell, taps),
        ("filter", height.kernel, width.kernel, tap_cell, []),
        ("output", height.output, width.output, out_cell, [position]),
    )
    for name, rows, columns, size, marked in planes:
        inside = (height.before, width.before, height.input, width.input) if name == "padded input" else None
        shapes.append(Words(x, HEAD - 8, f"{name} {rows} x {columns}", 12))
        shapes += _plane(x, rows, columns, size, inside)
        shapes += [Box(x + c * size, HEAD + r * size, size, size, line=WINDOW, width=2) for r, c in marked]
        x += max(columns * size, 130) + GAP
    bottom = max(height.padded * cell, height.kernel * tap_cell, height.output * out_cell)
    words = (
        f"{layer.call}: output row {position[0]}, column {position[1]} reads {len(taps)} cells of the padded input "
        f"of {height.padded} x {width.padded}; the output is {height.output} x {width.output}"
    )
    return Picture(int(x), int(HEAD + bottom + 12), tuple(shapes), words)


def _plane(
    x: float, rows: int, columns: int, size: float, inside: tuple[int, int, int, int] | None
) -> list[Box | Words]:
    """The cells of one plane; ``inside`` = (top, left, rows, columns) of the image, around it is padding."""
    shapes: list[Box | Words] = [
        Box(x, HEAD, columns * size, rows * size, fill=PAD if inside else "#f3f5f7", line=LINE)
    ]
    if inside:
        top, left, h, w = inside
        shapes.append(Box(x + left * size, HEAD + top * size, w * size, h * size, fill="#f3f5f7", line=INK))
    if size >= LINED:
        shapes += [Box(x, HEAD + r * size, columns * size, 0, line=LINE) for r in range(1, rows)]
        shapes += [Box(x + c * size, HEAD, 0, rows * size, line=LINE) for c in range(1, columns)]
    return shapes


def _column(report: ModelReport) -> Picture:
    """One bar a layer, as long as its share of the multiply-adds."""
    most = max([row.multiply_adds for row in report.rows], default=0) or 1
    shapes: list[Box | Words] = [Words(10, 20, f"{report.name}: multiply-adds of each layer")]
    for i, row in enumerate(report.rows):
        y = HEAD + i * 22.0
        shape = " x ".join(map(str, row.output_shape))
        shapes.append(Words(10, y + 12, f"{row.name or row.layer} ({row.layer}), {shape}"))
        shapes.append(Box(400, y, max(1.0, 300 * row.multiply_adds / most), 14, fill=WINDOW))
        shapes.append(Words(410 + 300 * row.multiply_adds / most, y + 12, f"{row.multiply_adds:,}"))
    words = f"{report.name}: {len(report.rows)} layers and their multiply-adds"
    return Picture(860, int(HEAD + len(report.rows) * 22 + 10), tuple(shapes), words)


def _svg_shape(shape: Box | Words) -> str:
    if isinstance(shape, Words):
        words = html.escape(shape.words)
        return f'<text x="{shape.x:g}" y="{shape.y:g}" font-family="monospace" font-size="{shape.size}">{words}</text>'
    fill = shape.fill or "none"
    line = f' stroke="{shape.line}" stroke-width="{shape.width:g}"' if shape.line else ""
    if not shape.w or not shape.h:
        ends = f'x1="{shape.x:g}" y1="{shape.y:g}" x2="{shape.x + shape.w:g}" y2="{shape.y + shape.h:g}"'
        return f"<line {ends}{line}/>"
    return f'<rect x="{shape.x:g}" y="{shape.y:g}" width="{shape.w:g}" height="{shape.h:g}" fill="{fill}"{line}/>'


def _draw_shape(draw: Any, shape: Box | Words) -> None:
    if isinstance(shape, Words):
        draw.text((shape.x, shape.y - shape.size), shape.words, fill=INK)
        return
    corners = (shape.x, shape.y, shape.x + shape.w, shape.y + shape.h)
    if not shape.w or not shape.h:
        draw.line(corners, fill=shape.line, width=1)
    else:
        draw.rectangle(corners, fill=shape.fill or None, outline=shape.line or None, width=int(shape.width))
