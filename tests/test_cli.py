"""The command line: what it prints, and that every failure is one line with exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import konv
from konv import data, models
from konv.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on few images: enough to be sure of some."""
    path = tmp_path_factory.mktemp("model") / "cnn.safetensors"
    assert main(["train", "--output", str(path), "--epochs", "1", "--seed", "3"]) == 0
    return path


HEADER = {models.classifier.HEADER: json.dumps({"model": models.classifier.NAME})}


def picture(folder: Path, index: int = 0, name: str = "digit.png") -> Path:
    pixels = np.load(data.digits.FILE)["images"][data.digits.TRAIN + index]
    path = folder / name
    Image.fromarray(pixels).save(path)
    return path


def refused(words: list[str], capsys: Capture) -> str:
    """Runs a command that must fail with code 2 and one line on stderr."""
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("konv: ")
    assert "Traceback" not in said[0]
    return said[0]


def test_version_and_help(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"konv {konv.__version__}\n"
    assert main([]) == 0
    listing = capsys.readouterr().out
    for command in ("train", "predict", "info", "bench"):
        assert command in listing
        assert main([command, "--help"]) == 0
        assert "konv " + command in capsys.readouterr().out


def test_help_shows_an_example(capsys: Capture) -> None:
    for command in ("train", "predict", "bench"):
        main([command, "--help"])
        assert f"Example: konv {command}" in capsys.readouterr().out


def test_info_names_the_machine(capsys: Capture) -> None:
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    for word in (konv.__version__, "NumPy", np.__version__, "threads", "instruction sets"):
        assert word in said


@pytest.mark.slow
def test_train_reaches_what_is_promised(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "cnn.safetensors"
    assert main(["train", "--output", str(path)]) == 0
    said = capsys.readouterr().out
    assert "images/s" in said
    assert str(path) in said.replace("\n", "")
    assert models.accuracy(models.load_classifier(path), *data.mnist("test")) >= 0.97


def test_training_gives_the_same_bits(model_file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    assert main(["train", "--output", str(again), "--epochs", "1", "--seed", "3", "--threads", "1"]) == 0
    assert again.read_bytes() == model_file.read_bytes()


def test_predict(model_file: Path, tmp_path: Path, capsys: Capture) -> None:
    labels = np.load(data.digits.FILE)["labels"][data.digits.TRAIN :]
    paths = [picture(tmp_path, index, f"{index}.png") for index in range(20)]
    capsys.readouterr()
    assert main(["predict", str(model_file), *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    right = 0
    for path, label, line in zip(paths, labels, lines, strict=False):
        name, _, rest = line.rpartition(": ")
        assert name == str(path)
        digit, probability = rest.split(" ")
        assert 10.0 <= float(probability.strip("()%")) <= 100.0
        right += int(digit) == label
    assert right >= 18


def test_predict_goes_on_after_a_bad_picture(model_file: Path, tmp_path: Path, capsys: Capture) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    good = picture(tmp_path)
    capsys.readouterr()
    assert main(["predict", str(model_file), str(bad), str(good)]) == 2
    said = capsys.readouterr()
    assert said.out.startswith(f"{good}: ")
    assert said.err.count("\n") == 1
    assert "bad.png" in said.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["fly"], "fly"),
        (["train", "--wings"], "--wings"),
        (["train", "--epochs", "0"], "epochs"),
        (["train", "--epochs", "1", "--lr", "much"], "lr"),
        (["predict"], "model"),
        (["bench"], "LAYERS"),
        (["bench", "nowhere.txt"], "nowhere.txt"),
        (["bench", "1 2 3"], "N C H W"),
        (["bench", "1 3 8 8 4 3 3 1 1 1 2"], "groups"),
        (["bench", "1 3 8 8 4 3 3 1 1 1 1", "--dtype", "float8"], "float8"),
        (["bench", "1 3 8 8 4 3 3 1 1 1 1", "--mode", "both"], "both"),
        (["bench", "1 3 8 8 4 3 3 1 1 1 1", "--peers", "abacus"], "abacus"),
        (["bench", "Conv2d(3, 4, 3)"], "--input"),
        (["bench", "Conv2d(3, 4, 3)", "--input", "1,4,8,8"], "channels"),
        (["bench", "Conv2d(3, 4, 3, spin=2)", "--input", "1,3,8,8"], "spin"),
        (["bench", "Linear(3, 4)", "--input", "1,3,8,8"], "Linear"),
        (["bench", "__import__('os').system('true')", "--input", "1,3,8,8"], "konv: "),
    ],
)
def test_bad_usage_is_one_line(words: list[str], part: str, capsys: Capture) -> None:
    assert part in refused(words, capsys)


def test_train_says_so_before_it_works_for_nothing(tmp_path: Path, capsys: Capture) -> None:
    assert "nowhere" in refused(["train", "--output", str(tmp_path / "nowhere" / "cnn.safetensors")], capsys)


def test_bad_models_are_one_line(model_file: Path, tmp_path: Path, capsys: Capture) -> None:
    image = str(picture(tmp_path))
    for name, content in {
        "empty": b"",
        "text": b"hello",
        "cut": model_file.read_bytes()[:-100],
        "huge_header": (2**62).to_bytes(8, "little") + b"{}",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert name in refused(["predict", str(path), image], capsys)
    assert "missing" in refused(["predict", str(tmp_path / "missing"), image], capsys)
    assert str(tmp_path) in refused(["predict", str(tmp_path), image], capsys)
    konv.save({"weight": konv.zeros(2)}, tmp_path / "other.safetensors")
    assert "konv train" in refused(["predict", str(tmp_path / "other.safetensors"), image], capsys)
    konv.save({"weight": konv.zeros(2)}, tmp_path / "liar.safetensors", HEADER)
    assert "conv1.weight" in refused(["predict", str(tmp_path / "liar.safetensors"), image], capsys)
    state = konv.load(model_file)
    state["fc.bias"][3] = float("nan")
    konv.save(state, tmp_path / "nan.safetensors", HEADER)
    assert "finite" in refused(["predict", str(tmp_path / "nan.safetensors"), image], capsys)


def test_bench_measures_a_layer(tmp_path: Path, capsys: Capture) -> None:
    words = ["--peers", "konv", "--threads", "1", "--rounds", "2", "--ms", "1", "--json", str(tmp_path / "out.json")]
    words += ["--svg", str(tmp_path / "out.svg")]
    assert main(["bench", "tiny 1 4 9 7 6 3 3 1 1 1 2", *words]) == 0
    said = capsys.readouterr().out
    assert "tiny" in said
    assert "absent: torch" in said
    content: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    assert content["layers"][0]["errors"]["konv"] < 1e-5
    assert len(content["layers"][0]["seconds"]["konv"]) == 2
    assert (tmp_path / "out.svg").read_text().startswith("<svg")
    assert main(["bench", "nn.Conv2d(4, 6, (3, 5), padding='same', groups=2)", "--input", "2,4,9,7", *words]) == 0


def test_as_a_process(tmp_path: Path) -> None:
    """The real thing: entry point, exit code, streams."""
    command = [sys.executable, "-m", "konv.cli"]
    done = subprocess.run([*command, "predict", "nothing", "here"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"konv {konv.__version__}\n", "")


def test_without_the_extra(tmp_path: Path) -> None:
    """A plain install has no typer: one line says what to do."""
    (tmp_path / "typer.py").write_text("raise ImportError('none', name='typer')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "konv.cli", "info"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr == "konv: the command line needs typer, rich and Pillow; pip install 'konv[cli]'\n"
