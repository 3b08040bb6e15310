"""The committed types of the compiled core are those that nanobind sees in it; `make stub` writes them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import konv

ROOT = Path(__file__).parents[1]


def signatures(source: str) -> dict[str, str]:
    """Every definition without its docstring, by its dotted name."""
    found = {}

    def walk(body: list[ast.stmt], above: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                found[above + node.name] = "class"
                walk(node.body, f"{above}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                decorators = [ast.unparse(d) for d in node.decorator_list]
                found[above + node.name] = f"{decorators} {ast.unparse(node.args)} {ast.unparse(node.returns)}"

    walk(ast.parse(source).body, "")
    return found


def test_stub_is_that_of_the_core(tmp_path: Path) -> None:
    made = tmp_path / "_core.pyi"
    command = [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "konv._core", "-o", str(made)]
    subprocess.run([*command, "-p", str(ROOT / "src" / "konv" / "_core.pat")], check=True)
    committed = signatures((Path(konv.__file__).parent / "_core.pyi").read_text())
    assert signatures(made.read_text()) == committed
    assert len(committed) > 20
