"""The interactive page: one file with everything in it, put together from the small sources beside this one.

The page makes no request: its content policy allows nothing but its own script and style, named by their hashes.
Data enters as JSON in a block that cannot end early, and the script writes text only as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from typing import Any

from ..trace import Report
from .values import collect

SCRIPTS = ("geometry.js", "values.js", "dom.js", "grid.js", "controls.js", "layer.js", "model.js", "main.js")


def build(report: Report, image: Any = None) -> str:
    """The whole page for a report.

    Args:
        report: what ``konv.explain`` returned. If it was asked about a module, the page shows that module's weights.
        image: (C, H, W) numbers for the input; without them the page shows a small pattern.

    Raises:
        ShapeError: the image does not fit the input that the report is about.

    Example:
        >>> import konv
        >>> konv.explain("Conv2d(1, 2, 3)", (1, 1, 8, 8)).to_html().startswith("<!doctype html>")
        True
    """
    from ..report import html as tables

    style = _source("page.css")
    parts = "\n".join(_source(name) for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{parts}\n}})();\n'
    data = {"report": report.to_dict(), "values": collect(report, image)}
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return _source("page.html") % {
        "title": escape(f"konv: {title(report)}"),
        "policy": policy,
        "style": style,
        "script": script,
        "tables": tables(report),
        "data": _inert(data),
    }


def embedded(report: Report) -> str:
    """The report for a notebook: its tables, and the page in a frame that may do nothing but run its own script."""
    from ..report import html as tables

    frame = f'<iframe sandbox="allow-scripts" width="100%" height="900" srcdoc="{escape(build(report))}"></iframe>'
    return f"{tables(report)}\n<details><summary>Play with it</summary>{frame}</details>"


def title(report: Report) -> str:
    """What the page is about, in a few words."""
    return str(getattr(report, "call", None) or getattr(report, "name", "model"))


def _source(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _inert(data: Any) -> str:
    """JSON that cannot close its own block or be read as markup, whatever names it holds."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
