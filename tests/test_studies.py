"""Studies of konv alone: right before they are timed, whole at any size, and drawn."""

from __future__ import annotations

import importlib.util
import json
from itertools import islice, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import konv
from konv import bench
from konv.bench import check, drawn, lines, studies

ROOT = Path(__file__).parents[1]
LINES = [
    "plain 2 4 9 7 6 3 3 1 1 1 1",
    "large 1 2 120 70 3 5 5 1 2 1 1",
    "strided 1 8 100 120 12 5 5 2 1x2 2 4",
    "depthwise 1 5 8 8 10 3 3 1 1 1 5",
    "row 1 3 6 90 2 1 7 1 0x3 1 1",
]


@pytest.mark.parametrize("dtype", studies.DTYPES)
@pytest.mark.parametrize("line", LINES)
def test_results_are_checked(line: str, dtype: str) -> None:
    studies.prepare(bench.parse_layer(line), dtype)()


@pytest.mark.parametrize("dtype", studies.DTYPES)
def test_a_wrong_result_is_not_timed(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*args: Any) -> konv.Tensor:
        y = konv.nn.functional.conv2d(*args)
        y[-1, -1, -1, -1] += 50
        return y

    monkeypatch.setattr(studies, "conv2d", wrong)
    with pytest.raises(check.WrongResultError, match=dtype):
        studies.prepare(bench.parse_layer(LINES[0]), dtype)


def test_sweeps_double_one_axis() -> None:
    for name, grown in studies.sweeps().items():
        sizes = [size for size, _ in grown]
        assert all(b == 2 * a for a, b in pairwise(sizes))
        assert len({layer.name for _, layer in grown}) == len(grown)
        axis = name.split(":")[0]
        assert sizes[-1] == {"side of the image": 4096, "channels": 2048, "batch": 256}[axis]


def point(size: int, picoseconds: float) -> studies.Point:
    layer = bench.parse_layer(LINES[0])
    return studies.Point(layer, "p", size, {"konv": picoseconds * 1e-12 * layer.flops})


def test_cliffs() -> None:
    falling, rising = [point(1, 8), point(2, 4), point(4, 5)], [point(1, 8), point(2, 4), point(4, 12)]
    assert studies.per_flop(falling) == pytest.approx([8, 4, 5])
    assert (studies.steepest(falling), studies.cliff(falling)) == pytest.approx((2, 1.25))
    assert (studies.steepest(rising), studies.cliff(rising)) == pytest.approx((3, 3))
    assert studies.cliff([point(1, 1)]) == 1


def test_scaling_leaves_the_threads() -> None:
    before = konv.get_num_threads()
    found = studies.scaling(bench.parse_layer(LINES[0]), (1, 2, 3), 1, 1e-4)
    assert list(found.seconds) == ["1", "2", "3"]
    assert konv.get_num_threads() == before


def test_shares_are_of_what_the_machine_does_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, rate = bench.parse_layer(LINES[1]), 8e9
    monkeypatch.setattr(studies, "burst", lambda run, seconds: 1e-3 * konv.get_num_threads())
    monkeypatch.setattr(studies.kernels, "fma_rates", lambda dtype, seconds: [rate / konv.get_num_threads()])
    before = konv.get_num_threads()
    assert studies.scaling(layer, (1, 4), 2, 1e-4).share == pytest.approx(1)  # both a quarter as fast
    try:
        konv.set_num_threads(1)
        cells = 2 * 120 * 70 + 3 * 120 * 70 + 3 * 2 * 5 * 5
        for limit, work, machine in (("multiply-adds", layer.flops, rate), ("bytes", 4 * cells, 2 * 2**26 / 1e-3)):
            monkeypatch.setattr(studies, "bound", lambda flops, moved, limit=limit: type("", (), {"limit": limit}))
            assert studies.floor(layer, 1, 1e-4).share == pytest.approx(work / 1e-3 / machine)
    finally:
        konv.set_num_threads(before)


def test_rates_count_complex_products() -> None:
    base = studies.Point(bench.parse_layer(LINES[0]), "p", 0, {"float32": 1.0, "complex64": 4.0, "float64": 2.0})
    assert studies.rates(base) == {"float32": 1, "complex64": 1, "float64": 0.5}


def test_overhead_names() -> None:
    found = studies.overhead(1, 1e-4)
    assert {"konv", "kernel"} <= set(found.seconds)
    assert 0 < found.seconds["kernel"] < 1


def test_chart() -> None:
    drawn = lines.chart("a < b", "x", "y", {"one": [(1, 2), (4096, 0.01)], "two": [(8, 8)]})
    root = ElementTree.fromstring(drawn)
    assert root[0].text == "a < b"
    places = [
        float(part) for node in root.iter() if node.tag.endswith("circle") for part in (node.get("cx"), node.get("cy"))
    ]  # type: ignore[arg-type]
    assert len(places) == 6
    assert np.isfinite(places).all()
    assert min(places) > 0
    assert max(places) < lines.WIDTH
    ElementTree.fromstring(lines.chart("nothing", "x", "y", {}))


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("konv_benchmarks_studies", ROOT / "benchmarks" / "studies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_keeps_everything(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = tmp_path / "shapes.txt"
    shapes.write_text("\n".join(LINES))
    before = konv.get_num_threads()
    words = [*script.STUDIES, "--image", "128", "--channels", "32", "--batch", "4", "--layers", "2"]
    words += ["--rounds", "1", "--ms", "0.1", "--results", str(tmp_path / "out"), "--shapes", str(shapes)]
    try:
        assert script.run(words) == 0
    finally:
        konv.set_num_threads(before)
    for name in script.STUDIES:
        content = json.loads((tmp_path / "out" / f"study-{name}-2t-{konv.backends.current()}.json").read_text())
        assert content["format"] == 1
        assert content["points"]
    assert len(list((tmp_path / "out").glob("sweep-*.svg"))) == 3
    assert "Python over the kernel" in capsys.readouterr().out


def test_layers_are_drawn_alike_and_within_bounds() -> None:
    first, again = (list(islice(drawn.drawn(7), 30)) for _ in range(2))
    assert first == again
    assert first != list(islice(drawn.drawn(8), 30))
    for layer in first:
        assert 2e6 < layer.flops / 2 < 600e6
        assert min(layer.output_shape) >= 1
    assert len({layer.geometry.kernel_size for layer in first}) > 4


def test_choices_time_every_plan_and_tell_what_the_chosen_one_loses() -> None:
    layer = bench.parse_layer(LINES[0])
    found = studies.choices(layer, 1, 1e-4)
    assert list(found.seconds) == konv.kernels.candidates(layer.geometry, layer.height, layer.width)
    assert found.plan == next(iter(found.seconds))
    assert studies.lost(studies.Point(layer, "a", 0, {"a": 3.0, "b": 2.0})) == 1.5
