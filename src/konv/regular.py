"""Opening files from outside: only what has an end is read."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from .errors import FileError, text


def open_regular(path: str | os.PathLike[str], who: str) -> BinaryIO:
    """The file at ``path``, open for reading; a pipe or a device is refused without waiting for it.

    What was opened is what is checked: the name may mean another file a moment later.

    Raises:
        FileError: it is neither a regular file nor a folder.
        OSError: it cannot be opened.
    """
    flags = getattr(os, "O_NONBLOCK", 0)
    file = open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags))  # noqa: SIM115  (given away open)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileError(text(who, f"{os.fspath(path)!r} is not a file", "a pipe or a device may have no end"))
    return file
