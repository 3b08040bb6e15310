"""``konv explain`` and ``konv solve``: what they print, and one line with exit code 2 for what they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import konv
from konv import nn
from konv.cli import main
from konv.explain.weights import weights_report

Capture = pytest.CaptureFixture[str]


def said(words: list[str], capsys: Capture) -> str:
    capsys.readouterr()
    assert main(words) == 0
    return capsys.readouterr().out


def refused(words: list[str], capsys: Capture) -> str:
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("konv: ")
    return line


def test_explain_prints_the_report(capsys: Capture) -> None:
    spec = "Conv2d(3, 64, 5, stride=2, padding=2)"
    assert said(["explain", spec, "--input", "8,3,28,28"], capsys) == f"{konv.explain(spec, (8, 3, 28, 28))}\n"
    model = "Sequential(Conv2d(1, 8, 3), ReLU(), MaxPool2d(2))"
    assert said(["explain", model, "--input", "1x1x28x28"], capsys) == f"{konv.explain(model, (1, 1, 28, 28))}\n"


def test_explain_as_json(capsys: Capture) -> None:
    told = json.loads(said(["explain", "MaxPool2d(2)", "--input", "1,3,9,9", "--json"], capsys))
    assert told["output_shape"] == [1, 3, 4, 4]
    assert [hint["code"] for hint in told["hints"]] == ["drops-pixels"] * 2


def test_explain_with_a_dtype(capsys: Capture) -> None:
    told = json.loads(
        said(["explain", "Conv2d(3, 8, 3, dtype=None)", "--input", "1,3,9,9", "--dtype", "float32", "--json"], capsys)
    )
    assert told["dtype"] == "float32"
    assert "write a name such as float32" in refused(
        ["explain", "Conv2d(3, 8, 3)", "--input", "1,3,9,9", "--dtype", "float31"], capsys
    )


def test_explain_a_file_of_weights(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "net.safetensors"
    konv.save(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(8, 2)), path)
    words = said(["explain", str(path)], capsys)
    for line in ("net.safetensors", "Conv2d(1, 4, kernel_size=3)", "BatchNorm2d(4)", "Linear(8, 2)"):
        assert line in words
    assert json.loads(said(["explain", str(path), "--json"], capsys))["kind"] == "weights"
    line = refused(["explain", str(path), "--input", "1,1,28,28"], capsys)
    assert "holds weights alone, not the order of layers" in line


def test_explain_a_trained_model(tmp_path: Path, capsys: Capture) -> None:
    from konv.models.classifier import save_classifier

    path = tmp_path / "digits.safetensors"
    model = konv.models.SimpleCNN()
    save_classifier(model, path, accuracy=0.5)
    assert said(["explain", str(path), "--input", "4,1,28,28"], capsys) == f"{konv.explain(model, (4, 1, 28, 28))}\n"


def test_what_the_shapes_of_weights_say() -> None:
    tensors = {
        "up.weight": konv.empty(8, 4, 2, 2, device="meta"),
        "up.bias": konv.empty(4, device="meta"),
        "weight": konv.empty(6, 3, 1, 5, device="meta"),
        "scale": konv.empty(7, device="meta"),
    }
    report = weights_report("<b>", tensors)
    assert [row.layer for row in report.rows] == [
        "ConvTranspose2d(8, 4, kernel_size=2)",
        "",
        "Conv2d(3, 6, kernel_size=(1, 5), bias=False), or ConvTranspose2d",
        "",
    ]
    assert "<b>" not in report.to_html()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["explain", "Conv2d(3, 8"], "no --input"),
        (["explain", "Conv2d(3, 8", "--input", "1,3,9,9"], "can't be read"),
        (["explain", "Conv2d(3, 8, 3)", "--input", "1,3,9"], "expect"),
        (["explain", "Conv2d(3, 8, 3)", "--input", "x"], "a shape is written as whole numbers"),
        (["explain", "no.safetensors"], "is not a file"),
        (["explain", "no.onnx", "--measure"], "they are for a layer given as text"),
        (["explain", "no.onnx"], "cannot be read; No such file or directory"),
        (["explain", "ReLU()", "--input", "1,3,9,9", "--measure"], "single convolution or pooling layer"),
        (
            ["explain", "Conv2d(3, 8, 3)", "--input", "1,3,9,9", "--html", "/no/such/folder/page.html"],
            "cannot be written",
        ),
        (["solve", "14", "28"], "no layer takes 14 to 28 within the bounds; relax an option, or try --transposed"),
        (["solve", "0", "28"], "input must be at least 1"),
        (["solve", "1,2,3", "28"], "a size is one number, or height,width"),
        (["solve", "28", "14", "--output-padding", "1"], "only ConvTranspose2d has output padding"),
    ],
)
def test_refusals(words: list[str], told: str, capsys: Capture) -> None:
    assert told in refused(words, capsys)


def test_solve(capsys: Capture) -> None:
    lines = said(["solve", "28", "14", "--kernel", "5", "--limit", "2"], capsys).splitlines()
    assert lines == [str(answer) for answer in konv.solve(28, 14, kernel=5, limit=2)]
    told = json.loads(said(["solve", "50,100", "23,48", "--json"], capsys))
    assert told[0]["call"] == "Conv2d(in_channels, out_channels, kernel_size=5, stride=2)"
    assert said(["solve", "14", "28", "--transposed"], capsys).startswith("ConvTranspose2d(")


def test_help_shows_an_example(capsys: Capture) -> None:
    for command in ("explain", "solve"):
        assert f"Example: konv {command}" in said([command, "--help"], capsys)
