"""The page of a model: its layers, and the receptive field drawn on the input."""

from __future__ import annotations

import io

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

import konv
from konv.explain import receptive_field

PNG = io.BytesIO()
Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(PNG, "PNG")


@pytest.fixture
def model():
    konv.manual_seed(0)
    nn = konv.nn
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 3, padding=((0, 1), (2, 0)))
    )


def test_the_rectangle_on_the_picture_is_the_receptive_field(open_page, model):
    page = open_page(konv.explain(model, (1, 1, 16, 16)).to_html())
    for unit in ((0, 0), (3, 4), (6, 7)):
        rectangle = page.evaluate(
            "(unit) => { const v = konvPage.view; v.chosen.unit = unit; v.drawField(); return v.rectangle(); }", unit
        )
        field = receptive_field(model, (1, 1, 16, 16), unit)
        assert rectangle == [list(field.rows), list(field.columns)]
        words = page.get_by_label("Receptive field").locator("p[aria-live]").inner_text()
        assert f"rows {rectangle[0][0]} to {rectangle[0][1]}" in words


def test_layers_open_into_their_own_view(open_page, model):
    page = open_page(konv.explain(model, (1, 1, 16, 16)).to_html())
    rows = page.locator("details.row")
    assert rows.count() == 4
    rows.nth(3).locator("summary").first.click()
    expect(rows.nth(3).get_by_role("button", name="Play")).to_have_count(1)  # a row is filled after it has opened
    assert rows.nth(3).locator("code").first.inner_text().startswith("Conv2d(4, 2")


def test_an_image_may_be_dropped_in(open_page, model):
    page = open_page(konv.explain(model, (1, 1, 16, 16)).to_html())
    page.get_by_label("Your own image").set_input_files(
        files=[{"name": "picture.png", "mimeType": "image/png", "buffer": PNG.getvalue()}]
    )
    page.wait_for_function("() => konvPage.view.picture !== null")
    page.get_by_label("Your own image").set_input_files(
        files=[{"name": "not.png", "mimeType": "image/png", "buffer": b"nothing"}]
    )
    page.get_by_text("not.png is not an image").wait_for()


def test_axe_finds_no_violation(open_page, model):
    page = open_page(konv.explain(model, (1, 1, 16, 16)).to_html())
    for row in page.locator("details.row > summary").all():
        row.click()
    expect(page.locator("details.row:has(> summary:only-child)")).to_have_count(0)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
