"""The page of one convolution: its numbers are konv's, and everything works by mouse, by keyboard and in words."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

import konv

STATE = """() => {
  const v = window.konvPage.view, m = v.model;
  return JSON.stringify({options: v.options, x: [...m.x], weight: [...m.weight], bias: m.bias && [...m.bias],
    outputs: Array.from({length: v.options.outChannels}, (_, o) => [...m.plane(o)]),
    size: v.layer.axes.map((a) => a.output), unused: v.layer.axes.map((a) => a.unused),
    pads: v.layer.axes.map((a) => [a.before, a.after]),
    parameters: v.layer.parameters, multiplyAdds: v.layer.multiplyAdds});
}"""


def state(page):
    return json.loads(page.evaluate(STATE))


def konv_layer(options):
    padding = options["padding"]
    padding = padding if isinstance(padding, str) else tuple(tuple(side) for side in padding)
    return konv.nn.Conv2d(
        options["inChannels"], options["outChannels"], tuple(options["kernel"]), tuple(options["stride"]), padding,
        tuple(options["dilation"]), options["groups"], options["bias"], options["mode"],
    )  # fmt: skip


def assert_same_numbers(page):
    """Everything that the page computed equals what konv computes from the page's own input and weights."""
    got = state(page)
    layer = konv_layer(got["options"])
    with konv.no_grad():
        layer.weight.copy_(konv.tensor(got["weight"]).reshape(*layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(konv.tensor(got["bias"]))
        x = konv.tensor(got["x"]).reshape(1, got["options"]["inChannels"], *got["options"]["size"])
        out = layer(x)
    assert list(out.shape[2:]) == got["size"]
    np.testing.assert_allclose(np.array(got["outputs"]).reshape(out.shape[1:]), out.numpy()[0], rtol=1e-5, atol=1e-5)
    h, w = got["options"]["size"]
    assert [list(p) for p in layer.geometry.pads(h, w)] == got["pads"]
    assert list(layer.geometry.unused(h, w)) == got["unused"]
    assert layer.geometry.parameters(got["options"]["bias"]) == got["parameters"]
    assert layer.geometry.macs(1, h, w) == got["multiplyAdds"]
    return got


SPECS = [
    ("Conv2d(1, 2, 3)", (1, 1, 8, 9)),
    ("Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 3), groups=2)", (1, 2, 9, 12)),
    ("Conv2d(3, 3, 4, padding='same', dilation=2, groups=3, bias=False)", (1, 3, 11, 8)),
    ("Conv2d(1, 1, 3, stride=2, padding='same_lower')", (1, 1, 8, 7)),
    ("Conv2d(2, 1, 3, padding=((1, 2), (0, 3)), padding_mode='reflect')", (1, 2, 6, 7)),
    ("Conv2d(1, 2, 5, padding=2, padding_mode='circular')", (1, 1, 6, 5)),
    ("Conv2d(1, 2, 3, padding=3, padding_mode='replicate')", (1, 1, 4, 5)),
]


@pytest.mark.parametrize(("spec", "shape"), SPECS)
def test_the_page_computes_what_konv_computes(open_page, spec, shape):
    report = konv.explain(spec, shape)
    got = assert_same_numbers(open_page(report.to_html()))
    assert got["size"] == list(report.output_shape[2:])


def test_a_real_layer_shows_its_own_weights(open_page):
    konv.manual_seed(3)
    layer = konv.nn.Conv2d(2, 3, 3, padding=1)
    got = assert_same_numbers(open_page(konv.explain(layer, (1, 2, 6, 6)).to_html()))
    np.testing.assert_allclose(got["weight"], layer.weight.detach().numpy().ravel(), rtol=1e-6)


def test_sliders_change_every_parameter_and_the_numbers_follow(open_page):
    page = open_page(konv.explain("Conv2d(2, 4, 3, padding=1)", (1, 2, 10, 10)).to_html())

    def fill(group, name, value):
        box = page.locator("fieldset", has=page.locator("legend", has_text=group)).first
        box.get_by_label(name, exact=True).fill(str(value))

    fill("stride", "height", 2)
    fill("stride", "width", 3)
    fill("dilation", "width", 2)
    fill("kernel_size", "height", 4)
    fill("channels", "groups", 2)
    fill("input size", "width", 13)
    fill("padding", "bottom", 3)
    got = assert_same_numbers(page)
    assert got["options"]["stride"] == [2, 3]
    assert got["options"]["padding"] == [[1, 3], [1, 1]]
    line = page.locator("code").first.inner_text()
    assert line == ("konv.nn.Conv2d(2, 4, (4, 3), stride=(2, 3), padding=((1, 3), (1, 1)), dilation=(1, 2), groups=2)")
    page.get_by_label("padding_mode").select_option("reflect")
    assert_same_numbers(page)
    page.get_by_label("padding", exact=True).select_option("same_upper")
    assert assert_same_numbers(page)["options"]["padding"] == "same_upper"
    page.get_by_role("checkbox", name="bias").uncheck()
    assert assert_same_numbers(page)["bias"] is None
    page.get_by_label("padding", exact=True).select_option("same")
    assert "needs stride 1" in page.get_by_role("alert").inner_text()
    fill("channels", "groups", 3)
    assert "not divisible" in page.get_by_role("alert").inner_text()


def test_keyboard_alone_moves_the_window(open_page):
    page = open_page(konv.explain("Conv2d(1, 1, 3)", (1, 1, 6, 6)).to_html())
    page.get_by_role("group", name="output; the arrow keys move the window").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    assert page.evaluate("() => [konvPage.view.at.row, konvPage.view.at.column]") == [0, 2]
    page.keyboard.press(" ")
    button = page.get_by_role("button", name="Pause")
    assert button.get_attribute("aria-pressed") == "true"
    page.keyboard.press(" ")
    assert page.get_by_role("button", name="Play").get_attribute("aria-pressed") == "false"


def test_step_and_play_and_pause(open_page):
    page = open_page(konv.explain("Conv2d(1, 1, 3)", (1, 1, 4, 5)).to_html())
    at = "() => [konvPage.view.at.row, konvPage.view.at.column]"
    for expected in ([0, 1], [0, 2], [1, 0]):
        page.get_by_role("button", name="Step", exact=True).click()
        assert page.evaluate(at) == expected
    page.get_by_role("button", name="Step back").click()
    assert page.evaluate(at) == [0, 2]
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => konvPage.view.at.row === 1", timeout=5000)
    page.get_by_role("button", name="Pause").click()
    stopped = page.evaluate(at)
    page.wait_for_timeout(1500)
    assert page.evaluate(at) == stopped


def test_nothing_moves_by_itself(open_page):
    for motion in ("reduce", "no-preference"):
        page = open_page(konv.explain("Conv2d(1, 1, 3)", (1, 1, 4, 5)).to_html(), reduced_motion=motion)
        page.wait_for_timeout(1000)
        assert page.evaluate("() => [konvPage.view.at.row, konvPage.view.at.column]") == [0, 0]


def test_hovering_an_input_cell_names_the_outputs_it_reaches(open_page):
    page = open_page(konv.explain("Conv2d(1, 1, 3, stride=2, padding=1)", (1, 1, 7, 7)).to_html())
    reached = page.evaluate("() => { const v = konvPage.view; v.point([3, 3]); return v.reachOf([3, 3]); }")
    x = konv.zeros(1, 1, 7, 7)
    x[0, 0, 3, 3] = 1
    out = konv.nn.functional.conv2d(x, konv.ones(1, 1, 3, 3), stride=2, padding=1)
    assert reached == [list(map(int, at)) for at in zip(*np.nonzero(out.numpy()[0, 0]), strict=True)]
    box = page.locator("canvas").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert "reaches 4 outputs" in page.locator("p[aria-live]").inner_text()


def test_every_picture_has_a_table(open_page):
    page = open_page(konv.explain("Conv2d(1, 1, 2)", (1, 1, 3, 3)).to_html())
    page.get_by_text("These pictures as tables").click()
    rows = page.locator("table", has_text="What makes output").locator("tbody tr")
    assert rows.count() == 4
    products = [float(rows.nth(i).locator("td").nth(5).inner_text()) for i in range(4)]
    cells = [[float(rows.nth(i).locator("td").nth(c).inner_text()) for c in (3, 4)] for i in range(4)]
    np.testing.assert_allclose(products, [a * b for a, b in cells], rtol=2e-3, atol=1e-4)


def test_names_cannot_break_out(open_page):
    class Evil(konv.nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("</script><script>alert(1)</script><img src=x onerror=alert(2)>", konv.nn.Conv2d(1, 1, 1))

        def forward(self, x):
            return next(self.children())(x)

    text = konv.explain(Evil(), (1, 1, 4, 4)).to_html()
    assert "<script>alert" not in text
    page = open_page(text)
    assert page.locator("img").count() == 0
    assert page.get_by_text("onerror=alert").count() >= 1


def test_the_policy_forbids_everything_else(open_page):
    page = open_page(konv.explain("Conv2d(1, 1, 3)", (1, 1, 5, 5)).to_html())
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.parametrize("width", [1200, 360])
def test_axe_finds_no_violation(open_page, width):
    page = open_page(
        konv.explain("Conv2d(2, 4, 3, padding=1, groups=2)", (1, 2, 8, 8)).to_html(),
        viewport={"width": width, "height": 900},
    )
    for summary in page.locator("summary").all():
        summary.click()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_a_screenshot_shows_the_grids(open_page, tmp_path):
    page = open_page(konv.explain("Conv2d(1, 1, 3, padding=1)", (1, 1, 5, 5)).to_html())
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    colours = page.evaluate("""() => [...document.querySelectorAll("canvas")].map((canvas) => {
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return new Set(Array.from({length: data.length / 4}, (_, i) => data.slice(4 * i, 4 * i + 3).join())).size;
    })""")
    assert len(colours) == 3
    assert min(colours) > 5  # a blank canvas has one
    assert base64.b64encode((tmp_path / "page.png").read_bytes())[:10] == b"iVBORw0KGg"
