"""The ``konv`` command: one thin file for each word, over a function that Python code can call too.

Whatever goes wrong is told in one line. Exit code 2: the command was used wrongly or a file given to it is no good.
"""

from __future__ import annotations

import sys

from ..errors import KonvError

NEEDS = "konv: the command line needs typer, rich and Pillow; pip install 'konv[cli]'"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        arguments: The words after ``konv``; those of the process when None.

    Example:
        >>> from konv.cli import main
        >>> main(["--version"])
        konv 0.1.0
        0
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        from .app import app
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("typer", "rich", "PIL"):
            raise
        print(NEEDS, file=sys.stderr)
        return 2
    try:
        return int(app(words or ["--help"], prog_name="konv", standalone_mode=False) or 0)
    except KonvError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        sys.stderr.close()
        return 1
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's own: a word that the command does not know
            raise
        return _refuse(f"{error.format_message()} Try 'konv --help'.")


def _refuse(message: str) -> int:
    print("konv: " + " ".join(message.split()), file=sys.stderr)
    return 2
