"""Still pictures and animations: well-formed, of the right sizes, and the window where it belongs."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import pytest
from PIL import Image

import konv
from konv.errors import ArgumentError, ShapeError
from konv.explain.page import still

SVG = "{http://www.w3.org/2000/svg}"


def test_the_window_of_a_layer_lies_on_its_taps():
    report = konv.explain("Conv2d(1, 1, (3, 2), stride=2, padding=1, dilation=(2, 1))", (1, 1, 9, 8))
    root = ElementTree.fromstring(still.svg(report))
    assert report.call in "".join(root.itertext())
    marked = [r for r in root.iter(SVG + "rect") if r.get("stroke") == still.WINDOW]
    assert len(marked) == 3 * 2 + 1  # the taps, and the output they make
    rows = sorted({float(r.get("y")) for r in marked[:6]})
    columns = sorted({float(r.get("x")) for r in marked[:6]})
    cell = float(marked[0].get("width"))
    assert [(row - still.HEAD) / cell for row in rows] == [4, 6, 8]  # output row 2 of 4: starts at 2*2
    assert columns[1] - columns[0] == cell


def test_names_are_escaped():
    class Named(konv.nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("<b>&", konv.nn.Conv2d(1, 2, 3))

        def forward(self, x):
            return next(self.children())(x)

    root = ElementTree.fromstring(still.svg(konv.explain(Named(), (1, 1, 5, 5))))
    assert any("<b>&" in (element.text or "") for element in root.iter(SVG + "text"))


def test_the_animation_has_a_frame_for_every_position():
    data = still.gif(konv.explain("Conv2d(1, 1, 3)", (1, 1, 5, 6)))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.n_frames == 3 * 4
        first = picture.convert("RGB").copy()
        picture.seek(7)
        assert first.tobytes() != picture.convert("RGB").tobytes()


def test_a_large_output_is_shown_in_few_frames():
    with Image.open(io.BytesIO(still.gif(konv.explain("Conv2d(1, 1, 3)", (1, 1, 60, 60))))) as picture:
        assert 100 < picture.n_frames <= still.MOST_FRAMES


def test_only_a_conv2d_has_a_window():
    with pytest.raises(ArgumentError, match="the sliding window is drawn for one Conv2d"):
        still.gif(konv.explain("MaxPool2d(2)", (1, 1, 4, 4)))


def test_an_image_of_another_shape_is_refused():
    report = konv.explain(konv.nn.Conv2d(1, 1, 3), (1, 1, 5, 5))
    with pytest.raises(ShapeError, match="the report is about an input of shape"):
        report.to_html(image=konv.zeros(1, 4, 5))


def test_a_notebook_gets_tables_and_a_page_in_a_closed_frame():
    shown = konv.explain("Conv2d(1, 1, 3)", (1, 1, 5, 5))._repr_html_()
    assert shown.startswith('<section class="konv-report">')
    assert '<iframe sandbox="allow-scripts"' in shown
    assert "<!doctype" not in shown  # the page itself stands escaped in srcdoc
