"""What the script prints, as lines: what a terminal would show of it, without one."""

from __future__ import annotations

import codecs
import re
from collections import deque

MOST_LINES = 5_000
MOST_CHARACTERS = 1_000
"""Of a line; what lies behind is left out."""
TAB = 8
DIGITS = 9
"""Of a number in a code; Python refuses to read one of thousands."""
_PIECES = re.compile(
    r"(?P<csi>\x1b\[[0-9;?]*[ -/]*[@-~])"
    r"|(?P<osc>\x1b\][^\x07\x1b]*(?:\x07|\x1b\\))"
    r"|(?P<escape>\x1b[^\[\]])"
    r"|(?P<control>[\x00-\x1f\x7f])"
    r"|(?P<text>[^\x00-\x1f\x7f]+)"
)
_TORN = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*|\][^\x07\x1b]{0,4096}\x1b?)?\Z")


class Output:
    """The latest lines, with the cursor in the last or, after a progress bar, above it.

    Carriage returns, backspaces, moves up and erasures do what a terminal does with them, so that a
    progress bar is one line that changes. Colours and everything else are left out.

    Attributes:
        first: Number of the oldest line that is kept.
    """

    def __init__(self) -> None:
        self.first = 0
        self._lines: deque[str] = deque([""])
        self._row = 0
        self._column = 0
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> None:
        """Takes what was printed; a character or a code that is torn waits for its other half."""
        text = self._rest + self._decoder.decode(data)
        torn = _TORN.search(text)
        self._rest = text[torn.start() :] if torn else ""
        for piece in _PIECES.finditer(text[: torn.start()] if torn else text):
            kind = piece.lastgroup
            if kind == "text":
                self._write(piece.group())
            elif kind == "control":
                self._control(piece.group())
            elif kind == "csi":
                self._move(piece.group())

    def lines(self) -> list[str]:
        """All lines that are kept; an empty one at the end is left out."""
        lines = list(self._lines)
        return lines if lines[-1] else lines[:-1]

    def find(self, words: str, before: int) -> int | None:
        """Index of the last line above `before` that has the words, in upper or lower case.

        Where there is none it is looked for from the end on; None where no line has them.
        """
        lines = self.lines()
        wanted = words.lower()
        order = [
            *range(min(before, len(lines)) - 1, -1, -1),
            *range(len(lines) - 1, before - 1, -1),
        ]
        return next((index for index in order if wanted in lines[index].lower()), None)

    def _write(self, text: str) -> None:
        line = self._lines[self._row]
        begin = self._column
        line = line.ljust(begin)[:begin] + text + line[begin + len(text) :]
        self._lines[self._row] = line[:MOST_CHARACTERS]
        self._column = min(begin + len(text), MOST_CHARACTERS)

    def _control(self, character: str) -> None:
        if character == "\n":
            self._column = 0
            self._down()
        elif character == "\r":
            self._column = 0
        elif character == "\b":
            self._column = max(0, self._column - 1)
        elif character == "\t":
            self._write(" " * (TAB - self._column % TAB))

    def _down(self) -> None:
        self._row += 1
        if self._row < len(self._lines):
            return
        self._lines.append("")
        if len(self._lines) > MOST_LINES:
            self._lines.popleft()
            self.first += 1
            self._row -= 1

    def _move(self, code: str) -> None:
        final, digits = code[-1], code[2:-1]
        count = int(digits[:DIGITS]) if digits.isdecimal() else 1
        line = self._lines[self._row]
        if final == "A":
            self._row = max(0, self._row - count)
        elif final == "B":
            for _ in range(min(count, MOST_LINES)):
                self._down()
        elif final == "K":
            self._lines[self._row] = "" if digits == "2" else line[: self._column]
        elif final == "G":
            self._column = min(max(0, count - 1), MOST_CHARACTERS)
        elif final == "C":
            self._column = min(self._column + count, MOST_CHARACTERS)
        elif final == "D":
            self._column = max(0, self._column - count)
