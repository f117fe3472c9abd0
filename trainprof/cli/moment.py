"""A line on the terminal while something takes a moment, gone again afterwards."""

from __future__ import annotations

import sys


def tell(line: str) -> None:
    """Shows `line` on stderr, or takes the one shown away when empty; nothing off a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():  # None: closed by `2>&-`
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()
