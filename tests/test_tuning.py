"""Choices by timing: what is kept, for whom it holds, and that a file never decides what results mean."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import konv
from konv import kernels, tuning
from konv.errors import ArgumentTypeError, FileError
from konv.kernels import choices


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    monkeypatch.setattr(tuning, "SECONDS", 0.0005)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    yield
    konv.backends.forget_choices()


def network() -> konv.nn.Module:
    return konv.nn.Sequential(
        konv.nn.Conv2d(3, 16, 3, padding=1), konv.nn.BatchNorm2d(16), konv.nn.ReLU(),
        konv.nn.Conv2d(16, 16, 3, padding=1), konv.nn.Dropout(0.5), konv.nn.Conv2d(16, 32, 1),
        konv.nn.Conv2d(32, 32, 3, padding=1, groups=32),
    )  # fmt: skip


def prefer(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    """A clock by which one plan wins wherever it can run."""

    def fake(runs: Any) -> dict[str, float]:
        for run in runs.values():
            run()
        return {name: 0.5 if name == wanted else 1.0 for name in runs}

    monkeypatch.setattr(tuning, "milliseconds", fake)


def test_every_shape_once_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "plans.json"
    found = konv.autotune(network(), konv.randn(2, 3, 12, 12), path)
    assert len(found.choices) == 4
    assert found.cache == path
    content = json.loads(path.read_text())
    assert content["format"] == 1
    assert content["choices"] == konv.backends.choices()
    for line in content["choices"]:
        assert line.startswith(f"{konv.__version__} | ")
        assert f" | {konv.backends.current()} | high | float32 | " in line
    assert os.listdir(path.parent) == ["plans.json"]
    assert str(found).count("\n") == 4


def test_known_shapes_are_not_timed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plans.json"
    model, x = network(), konv.randn(1, 3, 12, 12)
    first = konv.autotune(model, x, path)
    konv.backends.forget_choices()
    monkeypatch.setattr(tuning, "milliseconds", None)
    second = konv.autotune(model, konv.randn(5, 3, 12, 12), path)  # another batch: the same shapes
    assert [choice.plan for choice in second.choices] == [choice.plan for choice in first.choices]
    assert all(not choice.milliseconds for choice in second.choices)


def test_choice_runs_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, "pixel_lane")
    layer, x = konv.nn.Conv2d(32, 32, 3, padding=1), konv.randn(2, 32, 24, 24)
    before, y_before = layer.plan(x.shape), layer(x)
    assert before.algorithm == "winograd"
    found = konv.autotune(layer, x, tmp_path / "plans.json")
    assert [choice.plan for choice in found.changed] == ["pixel_lane"]
    assert layer.plan(x.shape).algorithm == "pixel_lane"
    tuned = layer(x)
    with konv.backends.force_plan("pixel_lane"):
        assert konv.equal(layer(x), tuned)
    with konv.backends.force_plan("output_lane"):  # asked for by name: stronger than a choice
        assert layer.plan(x.shape).algorithm == "output_lane"
    konv.backends.forget_choices()
    assert layer.plan(x.shape).name == before.name
    assert konv.equal(layer(x), y_before)
    assert konv.backends.use_choices(tmp_path / "plans.json") == 1
    assert konv.equal(layer(x), tuned)


def test_choice_holds_for_any_batch_and_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, "pixel_lane")
    layer, x = konv.nn.Conv2d(32, 32, 3, padding=1), konv.randn(4, 32, 24, 24)
    konv.autotune(layer, x[:1], tmp_path / "plans.json")
    whole = layer(x)
    threads = konv.get_num_threads()
    try:
        konv.set_num_threads(1)
        assert konv.equal(konv.cat([layer(x[i : i + 1]) for i in range(4)]), whole)
    finally:
        konv.set_num_threads(threads)


def test_choice_is_of_its_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = konv.nn.Conv2d(32, 32, 3, padding=1), konv.randn(1, 32, 24, 24)
    konv.autotune(layer, x, tmp_path / "plans.json")
    try:
        konv.set_float32_precision("highest")
        assert layer.plan(x.shape).algorithm != "winograd"
    finally:
        konv.set_float32_precision("high")


def test_a_file_cannot_loosen_the_precision(tmp_path: Path) -> None:
    layer, x = konv.nn.Conv2d(32, 32, 3, padding=1), konv.randn(1, 32, 24, 24)
    path = tmp_path / "plans.json"
    try:
        konv.set_float32_precision("highest")
        at = choices.key(layer.geometry, 24, 24, "float32", konv.backends.current(), "highest")
        choices.write(path, {at: "winograd F(4x4,3x3)"})
        konv.backends.use_choices(path)
        assert layer.plan(x.shape).algorithm != "winograd"
        layer(x)
        assert konv.autotune(layer, x, path).choices[0].plan in ("pixel_lane", "output_lane")
    finally:
        konv.set_float32_precision("high")


def test_a_choice_that_cannot_run_is_left_alone(tmp_path: Path) -> None:
    layer = konv.nn.Conv2d(4, 4, 3, stride=3, dilation=2)
    at = choices.key(layer.geometry, 24, 24, "float32", konv.backends.current(), "high")
    choices.use({at: "depthwise"})
    before = layer(konv.ones(1, 4, 24, 24))
    konv.backends.forget_choices()
    assert konv.equal(layer(konv.ones(1, 4, 24, 24)), before)


HOSTILE = {
    "nothing": b"",
    "no JSON": b"\x00\x01",
    "no text": b"\xff\xfe",
    "a list": b"[]",
    "another format": b'{"format": 2, "choices": {}}',
    "no format": b'{"choices": {}}',
    "true": b'{"format": true, "choices": {}}',
    "no table": b'{"format": 1, "choices": 3}',
    "a number": b'{"format": 1, "choices": {"a": 3}}',
    "no plan": b'{"format": 1, "choices": {"a": "rm -rf"}}',
    "a long name": b'{"format": 1, "choices": {"a": "pixel_lane ' + b"x" * 999 + b'"}}',
    "deep": b"[" * 200_000,
    "a long number": b'{"format": ' + b"1" * 10_000 + b"}",
    "large": b" " * (choices.MAX_BYTES + 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_ignored(name: str, tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_bytes(HOSTILE[name])
    with pytest.warns(UserWarning, match="is ignored"):
        assert konv.backends.use_choices(path) == 0
    with pytest.warns(UserWarning, match=r"plans\.json is ignored"):
        assert len(konv.autotune(konv.nn.Conv2d(8, 8, 1), konv.ones(1, 8, 6, 6), path).choices) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert konv.backends.use_choices(path) == 1  # the file is whole again


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.warns(UserWarning, match="is ignored"):
            konv.backends.use_choices(path)
    assert konv.backends.use_choices(tmp_path / "missing") == 0


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="is ignored"), pytest.raises(FileError, match="cannot be written"):
        konv.autotune(konv.nn.Conv2d(8, 8, 1), konv.ones(1, 8, 6, 6), tmp_path / "file" / "plans.json")


def test_other_entries_stay(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    choices.write(path, {"another machine": "pixel_lane"})
    konv.autotune(konv.nn.Conv2d(8, 8, 1), konv.ones(1, 8, 6, 6), path)
    assert len(choices.read(path)) == 2


def test_default_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choices.default_path() == tmp_path / "home" / "konv" / "plans.json"
    assert konv.autotune(konv.nn.Conv2d(8, 8, 1), konv.ones(1, 8, 6, 6)).cache.exists()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says: ignore it
    monkeypatch.setenv("HOME", "/somewhere")
    assert choices.default_path() == Path("/somewhere/.cache/konv/plans.json")


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = network()
    model[1].eval()
    konv.manual_seed(1)
    state = {name: np.array(value) for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    konv.autotune(model, konv.randn(1, 3, 12, 12), tmp_path / "plans.json")
    assert [module.training for module in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert np.array_equal(state[name], np.array(value))
    assert konv.autograd.listeners == []


def test_functions_and_several_inputs(tmp_path: Path) -> None:
    weight = konv.randn(4, 3, 3, 3, dtype=konv.float64)
    found = konv.autotune(
        lambda a, b: konv.nn.functional.conv2d(a, weight) + b, (konv.randn(1, 3, 8, 8, dtype=konv.float64), 1.0),
        tmp_path / "plans.json",
    )  # fmt: skip
    assert [choice.dtype for choice in found.choices] == ["float64"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64", "int8"])
def test_other_dtypes(dtype: str, tmp_path: Path) -> None:
    x = konv.ones(1, 8, 9, 9, dtype=getattr(konv, dtype))
    weight = konv.ones(16, 8, 3, 3, dtype=getattr(konv, dtype))
    found = konv.autotune(lambda a: konv.nn.functional.conv2d(a, weight), x, tmp_path / "plans.json")
    assert [choice.dtype for choice in found.choices] == [dtype]
    assert len(found.choices[0].milliseconds) >= 2


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentTypeError, match="must be a module"):
        konv.autotune(3, konv.ones(1))  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="meta"):
        konv.autotune(konv.nn.Conv2d(8, 8, 1), konv.ones(1, 8, 6, 6, device="meta"), tmp_path / "p")
    assert konv.autotune(konv.nn.ReLU(), konv.ones(3), tmp_path / "p").choices == ()
    assert not (tmp_path / "p").exists()


def test_choices_are_empty_at_the_start() -> None:
    assert kernels.choices.active() == {}
