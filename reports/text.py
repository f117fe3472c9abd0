"""Makes text from outside (paths, arguments, source lines, messages) safe to show anywhere."""

from __future__ import annotations

import re

SHORT = 80
"""Characters kept of a name."""
SENTENCE = 600
"""Characters kept of a sentence, a path or a line of source."""

_LEADING_COLONS = re.compile(r"^(\s*):{2,}")


def printable(text: object, limit: int = SENTENCE) -> str:
    """One line of visible characters: controls escaped, line ends as blanks, long text cut.

    Args:
        text: Anything; its `str` is shown.
        limit: Most characters kept; a cut is marked with "...".
    """
    raw = str(text)
    cut = raw[: limit + 1]
    if not cut.isprintable():
        cut = "".join(_visible(character) for character in cut)
    return cut if len(cut) <= limit and len(raw) <= limit else cut[: limit - 3] + "..."


def inert(line: str) -> str:
    """A line that a CI runner will not take for a command of its own (`::error::...`)."""
    return _LEADING_COLONS.sub(r"\1:", line)


def _visible(character: str) -> str:
    """What could move the cursor, reverse the line or fail to encode, as an escape sequence."""
    if character.isprintable():
        return character
    code = ord(character)
    if character.isspace():
        return " "
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def printable_code(line: str) -> str:
    """A line of source as `printable` shows it, its indent kept."""
    line = line.expandtabs()
    return " " * min(len(line) - len(line.lstrip()), SHORT) + printable(line.strip())
