"""Every line of code of five tutorials runs with only the import changed, and prints what they print."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

import konv

FOLDER = Path(__file__).parent / "documents"
CODES = sorted(FOLDER.glob("*.code.txt"))
# The only change: where the names come from.
IMPORTS = {
    "import torch": "import konv as torch",
    "import torch.nn as nn": "import konv.nn as nn",
    "from torch import nn": "from konv import nn",
}
STATED_SHAPE = re.compile(r"#\s*(?:\w+\s+)?\[([\d, ]+)\]\s*$")


def with_konv(code: str) -> str:
    return "\n".join(IMPORTS.get(line, line) for line in code.splitlines())


def run(code: str) -> tuple[str, list[str]]:
    """Runs the code statement by statement; what it printed, and the shapes that its comments state wrongly."""
    namespace: dict[str, Any] = {"__name__": "document"}
    wrong = []
    lines = code.splitlines()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for statement in ast.parse(code).body:
            exec(compile(ast.Module([statement], []), "document", "exec"), namespace)
            stated = STATED_SHAPE.search(lines[(statement.end_lineno or 0) - 1])
            if stated and isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                name = statement.targets[0].id
                if list(namespace[name].shape) != [int(n) for n in stated[1].split(",")]:
                    wrong.append(f"{lines[(statement.end_lineno or 0) - 1]}: {namespace[name].shape}")
    return printed.getvalue(), wrong


def expected(path: Path) -> str:
    return path.with_name(path.name.replace(".code.", ".out.")).read_text()


def test_there_are_five() -> None:
    assert len(CODES) == 5
    assert sum(len(STATED_SHAPE.findall(line)) for path in CODES for line in path.read_text().splitlines()) >= 3


@pytest.mark.parametrize("path", CODES, ids=lambda path: path.name.split(".")[0])
def test_konv_prints_what_the_document_prints(path: Path) -> None:
    code = path.read_text()
    assert "import torch" in code or "from torch" in code
    changed = with_konv(code)
    assert not re.search(r"^(import|from) torch", changed, re.MULTILINE)
    printed, wrong = run(changed)
    assert printed == expected(path)
    assert not wrong


@pytest.mark.parametrize("path", CODES, ids=lambda path: path.name.split(".")[0])
def test_pytorch_prints_the_same(path: Path, torch: Any) -> None:
    printed, wrong = run(path.read_text())
    assert printed == expected(path)
    assert not wrong


def test_a_wrong_shape_is_seen() -> None:
    assert run("import konv as torch\nx = torch.ones([1, 2])  # x [1, 3]")[1]


# What the documents say in words.


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": 3}, {"dilation": 2, "stride": (1, 2)}])
def test_output_size_formula(options: dict[str, Any]) -> None:
    def pair(name: str, default: int) -> tuple[int, int]:
        value = options.get(name, default)
        return value if isinstance(value, tuple) else (value, value)

    size, kernel = (50, 100), (3, 5)
    stride, padding, dilation = pair("stride", 1), pair("padding", 0), pair("dilation", 1)
    stated = [(size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    assert list(konv.nn.Conv2d(16, 33, kernel, **options)(konv.zeros(2, 16, *size)).shape) == [2, 33, *stated]


def test_question_of_the_second_document() -> None:
    layer = konv.nn.Conv2d(in_channels=3, out_channels=64, kernel_size=5, stride=1, padding=2)
    assert layer(konv.zeros(8, 3, 28, 28)).shape == (8, 64, 28, 28)
    assert sum(p.numel() for p in layer.parameters()) == (3 * 5 * 5 + 1) * 64


def test_errors_of_the_second_document() -> None:
    layer = konv.nn.Conv2d(3, 16, 3)
    with pytest.raises(RuntimeError, match=r"3D.*4D"):
        layer(konv.zeros(32, 32))
    with pytest.raises(RuntimeError, match=r"3.*1"):
        layer(konv.zeros(1, 1, 32, 32))


def test_groups_are_layers_side_by_side() -> None:
    konv.manual_seed(0)
    whole = konv.nn.Conv2d(4, 8, 3, groups=2)
    halves = [konv.nn.Conv2d(2, 4, 3) for _ in range(2)]
    for index, half in enumerate(halves):
        part = slice(4 * index, 4 * index + 4)
        half.load_state_dict({"weight": whole.weight[part], "bias": whole.bias[part]})
    x = konv.randn(2, 4, 9, 7)
    side_by_side = konv.cat([half(x[:, 2 * index : 2 * index + 2]) for index, half in enumerate(halves)], 1)
    assert konv.allclose(whole(x), side_by_side, atol=1e-6)


def test_depthwise_multiplier() -> None:
    layer = konv.nn.Conv2d(6, 18, 3, groups=6)
    assert layer.weight.shape == (18, 1, 3, 3)
    assert layer(konv.zeros(1, 6, 8, 8)).shape == (1, 18, 6, 6)
