"""The harness: reads layers, refuses to time a wrong answer, alternates, and names who is absent."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import konv
from konv import bench
from konv.bench import check, harness, peers
from konv.errors import ArgumentError, FileError
from konv.machine import timing

SHAPES = Path(__file__).parents[1] / "benchmarks" / "shapes"
QUICK = bench.Settings(threads=1, rounds=2, seconds=0.0005, peers=("konv",))
TINY = [
    "tiny 2 4 9 7 6 3 3 1 1 1 1",
    "grouped 1 8 6 11 4 3 1 2x1 1x0 1 4",
    "dilated 1 3 12 12 5 3 3 1 2x4 2x4 1",
    "depthwise 1 5 8 8 10 3 3 1 1 1 5",
]


def tiny() -> list[bench.Layer]:
    return [bench.parse_layer(line) for line in TINY]


def test_shapes_are_layers() -> None:
    names = []
    for path in sorted(SHAPES.glob("*.txt")):
        layers = bench.read_layers(path)
        names += [layer.name for layer in layers]
        assert all(layer.flops > 0 and layer.origin for layer in layers)
    assert len(names) == len(set(names)) >= 60


def test_one_layer() -> None:
    layer = bench.parse_layer("x 2 8 10 20 6 1 7 1x2 0x3 1 2 somewhere else")
    assert layer.geometry.kernel_size == (1, 7)
    assert layer.geometry.stride == (1, 2)
    assert layer.geometry.padding == ((0, 0), (3, 3))
    assert layer.output_shape == (2, 6, 10, 10)
    assert layer.flops == 2 * 2 * 6 * 10 * 10 * 4 * 7
    assert layer.origin == "somewhere else"
    assert bench.parse_layer("2 8 10 20 6 1 7 1 0 1 2").name == "layer"


@pytest.mark.parametrize(
    "line", ["", "a", "a 1 2 3", "a 1 3 8 8 4 3 3 1 1 1 x", "a 1 3 8 8 4 3 3 1 1 1 2", "a 1 3 8 8 4 9 9 1 0 1 1",
             "a 0 3 8 8 4 3 3 1 1 1 1", "a 1x2 3 8 8 4 3 3 1 1 1 1", "a 1 3 8 8 4 3 3 -1 1 1 1",
             "a 1 3 8 8 4 3 3 1 1 1 ٣", "a 1 3 8 8 4 3 3 " + "9" * 50 + " 1 1 1"]
)  # fmt: skip
def test_what_is_no_layer(line: str) -> None:
    with pytest.raises((ArgumentError, RuntimeError)) as caught:
        bench.parse_layer(line)
    assert isinstance(caught.value, konv.KonvError)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "long").write_bytes(b"# " * 2**20)
    for name in ("empty", "binary", "long", "missing", "."):
        with pytest.raises(FileError):
            bench.read_layers(tmp_path / name)
    (tmp_path / "bad").write_text("# fine\na 1 3 8 8 4 3 3 1 1 1 1\nb 1 3\n")
    with pytest.raises(ArgumentError, match="bad:3"):
        bench.read_layers(tmp_path / "bad")


@pytest.mark.parametrize("mode", peers.BOTH)
@pytest.mark.parametrize("dtype", peers.ALL_FLOATS)
def test_konv_is_right(mode: str, dtype: str) -> None:
    run = bench.measure(tiny(), bench.Settings(dtype, mode, 1, 1, 0.0001, ("konv",)))
    assert [result.layer.name for result in run.layers] == [line.split()[0] for line in TINY]
    assert all(0 <= result.errors["konv"] < check.TOLERANCES[dtype] for result in run.layers)
    assert all(result.plan for result in run.layers)


def off_by_a_little(place: tuple[int, ...]) -> Any:
    """A peer that is wrong in one pixel."""

    def prepare(module: Any, problem: peers.Problem) -> peers.Prepared:
        right = peers._torch_like(konv, problem)

        def arrays(result: Any) -> tuple[np.ndarray, ...]:
            (y,) = right.arrays(result)
            y = y.copy()
            y[place] += 0.01
            return (y,)

        return peers.Prepared(right.run, arrays)

    return prepare


@pytest.mark.parametrize("place", [(-1, -1, 3, 2), (-1, 0, 0, 0), (0, 2, 1, 1), (0, 3, -1, -1)])
def test_a_wrong_result_is_not_timed(place: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is wrong: a peer is named as failed; konv ends the run."""
    layer = tiny()[0]
    settings = bench.Settings(threads=1, rounds=1, seconds=0.0001)
    wrong = peers.Peer("wrong", "konv", off_by_a_little(place))
    monkeypatch.setattr(harness, "PEERS", (peers.PEERS[0], wrong))
    result = bench.measure([layer], settings).layers[0]
    assert list(result.seconds) == ["konv"]
    assert "error" in result.failures["wrong"]
    right = peers.Peer("right", "konv", peers._torch_like)
    monkeypatch.setattr(harness, "PEERS", (peers.Peer("konv", "konv", off_by_a_little(place)), right))
    with pytest.raises(check.WrongResultError):
        bench.measure([layer], settings)


def test_absent_peers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = peers.Peer("nobody", "no_such_module_of_konv", peers._torch_like)
    narrow = peers.Peer("narrow", "konv", peers._torch_like, ("float64",))
    monkeypatch.setattr(harness, "PEERS", (peers.PEERS[0], nobody, narrow))
    run = bench.measure(tiny()[:1], bench.Settings(threads=1, rounds=1, seconds=0.0001))
    assert run.absent == {
        "nobody": "not installed: pip install no_such_module_of_konv",
        "narrow": "is not measured in float32",
    }
    said = bench.to_text(run)
    assert "absent: nobody (not installed" in said
    assert "absent: narrow (is not measured in float32)" in said


def test_ratios_and_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(module: Any, problem: peers.Problem) -> peers.Prepared:
        ready = peers._torch_like(module, problem)
        return peers.Prepared(lambda: (time.sleep(0.005), ready.run())[1], ready.arrays)

    monkeypatch.setattr(peers, "PEERS", (*peers.PEERS[:1], peers.Peer("slow", "konv", slow)))
    monkeypatch.setattr(harness, "PEERS", peers.PEERS)
    seen: list[str] = []
    run = bench.measure(
        tiny()[:2], bench.Settings(threads=1, rounds=3, seconds=0.001), on_layer=lambda r: seen.append(r.layer.name)
    )
    assert seen == ["tiny", "grouped"]
    assert all(result.best == "slow" and result.ratio("slow") > 2 for result in run.layers)
    mean = run.mean_ratio()
    assert mean == run.mean_ratio("slow")
    assert mean == pytest.approx(np.sqrt(run.layers[0].ratio("slow") * run.layers[1].ratio("slow")))
    said = bench.to_text(run)
    assert "times as fast as the best peer of each layer" in said
    content = json.loads(bench.to_json(run))
    assert content["mean_ratio"]["best"] == pytest.approx(mean)
    assert content["layers"][1]["padding"] == [[1, 1], [0, 0]]
    picture = ElementTree.fromstring(bench.to_svg(run))
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) == 3


def test_bursts_alternate_and_drop_their_start() -> None:
    calls: list[tuple[str, float]] = []

    def make(name: str) -> Any:
        return lambda: (calls.append((name, time.perf_counter())), time.sleep(0.0005))

    times = timing.alternate({name: make(name) for name in "abc"}, rounds=3, seconds=0.002)
    order = [name for index, (name, _) in enumerate(calls) if index == 0 or calls[index - 1][0] != name]
    assert "".join(order) == "abc" + "acb" + "cab"  # rotated, every second time from behind
    assert all(len(rounds) == 3 and min(rounds) >= 0.0005 for rounds in times.values())
    first = [moment for name, moment in calls[: next(i for i, (n, _) in enumerate(calls) if n == "b")]]
    assert first[-1] - first[0] >= timing.WARM_SECONDS
    turns = [moment for (name, moment), (before, _) in zip(calls[1:], calls, strict=False) if name != before]
    ends = [moment for (name, _), (before, moment) in zip(calls[1:], calls, strict=False) if name != before]
    assert all(turn - end >= timing.PAUSE_SECONDS for turn, end in zip(turns, ends, strict=True))


@pytest.mark.parametrize(
    "options",
    [{"dtype": "int8"}, {"mode": "backward"}, {"threads": 0}, {"rounds": 0}, {"seconds": 0.0}, {"peers": ("x",)}],
)
def test_settings_without_meaning(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        bench.measure(tiny(), bench.Settings(**options))


def test_peers_cannot_pad_unevenly() -> None:
    uneven = konv.geometry.ConvGeometry.of(1, 1, 3, padding=((1, 0), (0, 0)))
    with pytest.raises(ArgumentError, match="equal zero padding"):
        bench.measure([bench.Layer("uneven", 1, 8, 8, uneven)], QUICK)


@pytest.mark.parametrize("mode", peers.BOTH)
def test_pytorch_as_peer(mode: str, torch: Any) -> None:
    settings = bench.Settings("float32", mode, 1, 2, 0.0005, ("torch", "torch_cl"))
    run = bench.measure(tiny(), settings)
    assert not any(result.failures for result in run.layers)
    assert all(set(result.seconds) == {"konv", "torch", "torch_cl"} for result in run.layers)
    assert run.mean_ratio() is not None
