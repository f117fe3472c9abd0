"""Where a command writes what it says: a file that was named, or stdout."""

from __future__ import annotations

import sys
from pathlib import Path

from trainprof.errors import TrainprofError
from trainprof.reports.terminal import write_text


def write_output(text: str, out: Path | None) -> None:
    """Writes the text to this file, or to stdout where there is none.

    Raises:
        TrainprofError: the file cannot be written.
    """
    if out is None:
        write_text(text, sys.stdout)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TrainprofError(
            f"{out} cannot be written ({error.strerror}); name another file with --out."
        ) from None
