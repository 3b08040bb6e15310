"""Plans that were found by timing: a table that ``plan`` asks before it chooses by geometry, and the file of it.

The table is empty at the start; ``konv.autotune`` and ``konv.backends.use_choices`` fill it, for the process. An entry
holds for one konv version, processor, instruction set, precision, dtype, geometry and image size, never for a batch or
a number of threads; so what runs, and every bit of its result, is as fixed as without the table.

The file is JSON: ``{"format": 1, "choices": {"0.1.0 | Xeon ... | avx512 | high | float32 | ...": "pixel_lane"}}``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import FileError, text
from ..geometry import ConvGeometry
from ..regular import open_regular
from . import settings

FORMAT = 1
MAX_BYTES = 2**22
MAX_NAME = 64  # letters of a plan's name

_active: dict[str, str] = {}
_cpu = ""


def key(geometry: ConvGeometry, h: int, w: int, dtype: str, isa: str, precision: str) -> str:
    """What a choice holds for, as one line of text."""
    global _cpu
    if not _cpu:
        from .. import machine  # here and below: `import konv` does without these

        _cpu = machine.cpu()
    g = geometry
    (top, bottom), (left, right) = g.pads(h, w)
    options = [
        f"{g.in_channels}x{h}x{w} to {g.out_channels}",
        "kernel {}x{}".format(*g.kernel_size),
        "stride {}x{}".format(*g.stride),
        f"pad {top},{bottom},{left},{right} {g.padding_mode}",
        "dilation {}x{}".format(*g.dilation),
        f"groups {g.groups}",
    ]
    return " | ".join([__version__, _cpu, isa, precision, dtype, ", ".join(options)])


def find(geometry: ConvGeometry, h: int, w: int, dtype: str, isa: str, precision: str) -> str:
    """The name of the chosen plan, or an empty string."""
    return _active.get(key(geometry, h, w, dtype, isa, precision), "") if _active else ""


def active() -> dict[str, str]:
    """Choices that hold in this process."""
    return dict(_active)


def use(found: Mapping[str, str]) -> None:
    """Let these choices hold, besides those that already do."""
    _active.update(found)
    settings._changed()


def forget() -> None:
    """Let no choice hold: plans follow from geometry again."""
    _active.clear()
    settings._changed()


def default_path() -> Path:
    """``konv/plans.json`` in the user's cache directory (``XDG_CACHE_HOME``, or ``~/.cache``)."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()
    return base / "konv" / "plans.json"


def read(path: Path) -> dict[str, str]:
    """The choices of a file; none, with a warning, when it is damaged or not what it claims to be."""
    import json
    import warnings

    try:
        with open_regular(path, "choices") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        return _parse(json.loads(content.decode()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        warnings.warn(f"konv: the file of choices {path} is ignored: {reason[:200]}", stacklevel=3)
        return {}


def _parse(content: Any) -> dict[str, str]:
    if not isinstance(content, dict) or content.get("format") != FORMAT or content["format"] is True:
        raise ValueError(f"it does not say that it has format {FORMAT}")
    found = content.get("choices")
    if not isinstance(found, dict):
        raise ValueError("it has no table of choices")
    for name in found.values():
        if not isinstance(name, str) or len(name) > MAX_NAME or name.split(" ")[0] not in settings.PLANS:
            raise ValueError(f"there is no plan {str(name)[:MAX_NAME]!r}")
    return found


def write(path: Path, found: Mapping[str, str]) -> None:
    """Keep choices: the whole file is replaced at once, so that readers see the old one or the new one.

    Raises:
        FileError: the file cannot be written.
    """
    import json
    import tempfile

    content = json.dumps({"format": FORMAT, "choices": dict(sorted(found.items()))}, indent=1)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=path.name, suffix=".new", dir=path.parent)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(content + "\n")
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise FileError(text("autotune", f"{path} cannot be written", error.strerror or str(error))) from error
