"""Imports inside konv go only down the floors, and inside a floor they form no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import konv

SOURCE = Path(konv.__file__).parent

# The floor of each room (a file or a folder of src/konv), from the ground up. A new room is entered here.
FLOORS = {
    "_version": 0,
    "errors": 0,
    "dtypes": 0,
    "geometry": 1,
    "adjoint": 1,
    "regular": 1,
    "borders": 2,
    "reference": 2,
    "kernels": 2,
    "machine": 2,
    "_core": 2,
    "backends": 2,
    "modes": 3,
    "tensor": 3,
    "engine": 3,
    "autograd": 3,
    "gradcheck": 3,
    "printing": 3,
    "sizes": 3,
    "copying": 3,
    "dlpack": 3,
    "interop": 3,
    "random": 3,
    "ops": 3,
    "nn": 4,
    "optim": 4,
    "explain": 5,
    "io": 5,
    "onnx": 5,
    "data": 5,
    "models": 5,
    "bench": 5,
    "tuning": 5,
    "cli": 6,
    "": 6,  # konv/__init__.py
}


def room(module: str) -> str:
    """'konv.ops.conv' -> 'ops'."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path, module: str) -> Iterator[tuple[str, bool]]:
    """Modules of konv that a file imports, and whether only for its types or only when a function runs."""
    is_package = path.name == "__init__.py"
    base = module.split(".") if is_package else module.split(".")[:-1]

    def names(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = base[: len(base) - node.level + 1] if node.level else []
            stem = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                below = f"{stem}.{alias.name}"
                yield below if exists(below) else stem

    def walk(node: ast.AST, later: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from ((name, later) for name in names(child) if name.split(".")[0] == "konv")
            yield from walk(child, later or typing_only or function)

    yield from walk(ast.parse(path.read_text()), False)


def exists(module: str) -> bool:
    stem = SOURCE.joinpath(*module.split(".")[1:])
    if module == "konv._core":  # compiled
        return True
    return stem.is_dir() or stem.with_suffix(".py").exists() or stem.with_suffix(".pyi").exists()


def modules(source: Path = SOURCE) -> dict[str, Path]:
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = ["konv", *path.relative_to(source).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def upward(edges: dict[str, set[tuple[str, bool]]]) -> list[str]:
    """Imports that climb. Types and imports inside functions count too: a room must not know who stands above."""
    wrong = []
    for module, targets in edges.items():
        for target, _ in targets:
            if FLOORS[room(target)] > FLOORS[room(module)]:
                wrong.append(f"{module} (floor {FLOORS[room(module)]}) imports {target} ({FLOORS[room(target)]})")
    return wrong


def circle(edges: dict[str, set[tuple[str, bool]]]) -> list[str]:
    """A circle of imports that run when the modules are loaded, or nothing."""
    state: dict[str, int] = {}

    def visit(module: str, way: list[str]) -> list[str]:
        if state.get(module) == 2:
            return []
        if state.get(module) == 1:
            return [*way[way.index(module) :], module]
        state[module] = 1
        for target, later in sorted(edges.get(module, ())):
            # A package and its own parts belong together; what its __init__ gathers is no circle.
            inside = target == module or module.startswith(f"{target}.") or target.startswith(f"{module}.")
            if not later and not inside and (found := visit(target, [*way, module])):
                return found
        state[module] = 2
        return []

    return next((found for module in edges if (found := visit(module, []))), [])


@pytest.fixture(scope="module")
def edges() -> dict[str, set[tuple[str, bool]]]:
    return {module: set(imports(path, module)) for module, path in modules().items()}


def test_every_room_has_a_floor(edges: dict[str, set[tuple[str, bool]]]) -> None:
    assert {room(module) for module in edges} <= set(FLOORS)
    assert len(edges) > 30


def test_imports_only_go_down(edges: dict[str, set[tuple[str, bool]]]) -> None:
    assert upward(edges) == []


def test_imports_form_no_circle(edges: dict[str, set[tuple[str, bool]]]) -> None:
    assert circle(edges) == []


def test_only_kernels_imports_the_core(edges: dict[str, set[tuple[str, bool]]]) -> None:
    importers = {room(module) for module, targets in edges.items() for target, _ in targets if target == "konv._core"}
    assert importers == {"kernels"}


def test_geometry_needs_no_numpy() -> None:
    tree = ast.parse((SOURCE / "geometry.py").read_text())
    loaded = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert "numpy" not in loaded


def test_this_test_can_fail(tmp_path: Path) -> None:
    path = tmp_path / "geometry.py"
    path.write_text(
        "from . import nn\nfrom .nn.module import Module\nimport konv.cli\ndef f():\n    from .ops import conv\n"
    )
    seen = set(imports(path, "konv.geometry"))
    assert seen == {("konv.nn", False), ("konv.nn.module", False), ("konv.cli", False), ("konv.ops.conv", True)}
    assert len(upward({"konv.geometry": seen})) == 4
    assert circle({"konv.a": {("konv.b", False)}, "konv.b": {("konv.a", False)}}) == ["konv.a", "konv.b", "konv.a"]
    assert circle({"konv.a": {("konv.b", False)}, "konv.b": {("konv.a", True)}}) == []
