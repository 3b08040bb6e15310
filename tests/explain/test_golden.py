"""Reports read as they are pinned in ``tests/golden/explain`` (``python tests/explain/golden.py`` writes them anew)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import golden


@pytest.mark.parametrize("name", [*golden.LAYERS, *golden.MODELS])
def test_report(name: str) -> None:
    assert golden.text(name) == (golden.FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in golden.FOLDER.iterdir()} == {*golden.LAYERS, *golden.MODELS}
