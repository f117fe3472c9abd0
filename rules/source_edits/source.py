"""A source file as text, such that every byte outside of an edit stays as it was."""

from __future__ import annotations

import ast
import bisect
import codecs
import io
import itertools
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

_NEWLINE = re.compile(r"\r\n|\r|\n")
_WIDTHS = (88, 100, 120)
"""Limits that formatters are usually set to: by Black and Ruff themselves, and by projects."""
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


class CannotEdit(Exception):
    """An edit that would not be safe.

    Attributes:
        line: Where a person has to look, if it is not the line that the fix is for.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


@dataclass(frozen=True, slots=True)
class Span:
    """Replaces the characters `start` to `end` of a text."""

    start: int
    end: int
    text: str


class Source:
    """One file, decoded as Python decodes it.

    Args:
        data: Its bytes.

    Raises:
        CannotEdit: it is no Python source of this version, or its bytes would not survive.
    """

    def __init__(self, data: bytes) -> None:
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            self._mark = codecs.BOM_UTF8 if encoding == "utf-8-sig" else b""
            self._encoding = "utf-8" if self._mark else encoding
            self.text = data[len(self._mark) :].decode(self._encoding)
            self.tree = _parsed(self.text)
        except (LookupError, *_UNREADABLE):
            raise CannotEdit("this Python cannot read the file") from None
        if self.data != data:
            raise CannotEdit(f"its encoding {encoding} does not give the same bytes back")

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return self._mark + self.text.encode(self._encoding)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(match.end() for match in _NEWLINE.finditer(self.text))]

    @cached_property
    def newline(self) -> str:
        """The end of its first line; of a file of one line, a line feed."""
        first = _NEWLINE.search(self.text)
        return first.group() if first else "\n"

    @cached_property
    def width(self) -> int | None:
        """The usual limit that its lines keep to; None where they keep to none."""
        longest = max(map(len, self.text.splitlines()), default=0)
        return next((width for width in _WIDTHS if longest <= width), None)

    @cached_property
    def step(self) -> str:
        """How much further in a block stands than what it belongs to."""
        for node in ast.walk(self.tree):
            body = getattr(node, "body", None)
            if not isinstance(node, ast.stmt) or not isinstance(body, list):
                continue
            outer, inner = self.indent_before(node), self.indent_before(body[0])
            if outer is not None and inner is not None and len(inner) > len(outer):
                return inner[len(outer) :]
        return "    "

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """What each node of the tree lies in."""
        return {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """Of each `from MODULE import NAME as LOCAL`: LOCAL -> (MODULE, NAME)."""
        return {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """What a node lies in, the innermost first."""
        while (above := self.parents.get(node)) is not None:
            yield above
            node = above

    def line_start(self, line: int) -> int:
        """Where a line begins; the end of the text for the line after the last."""
        return self._starts[line - 1] if line <= len(self._starts) else len(self.text)

    def line(self, line: int) -> str:
        """The text of a line, its end included."""
        return self.text[self.line_start(line) : self.line_start(line + 1)]

    def line_of(self, offset: int) -> int:
        """The line that holds a character."""
        return bisect.bisect_right(self._starts, offset)

    def start_of(self, node: ast.expr | ast.stmt | ast.alias) -> int:
        """Where a node begins."""
        return self._offset(node.lineno, node.col_offset)

    def end_of(self, node: ast.expr | ast.stmt | ast.alias) -> int:
        """Where a node ends."""
        return self._offset(node.end_lineno or node.lineno, node.end_col_offset or 0)

    def code(self, node: ast.expr | ast.stmt) -> str:
        """The text of a node."""
        return self.text[self.start_of(node) : self.end_of(node)]

    def _offset(self, line: int, column_bytes: int) -> int:
        """`ast` counts the bytes of UTF-8."""
        text = self.line(line)
        if not text.isascii():
            column_bytes = len(text.encode()[:column_bytes].decode())
        return self.line_start(line) + column_bytes

    def indent_before(self, node: ast.expr | ast.stmt) -> str | None:
        """What stands before a node on its line; None where that is not only white space."""
        text = self.text[self.line_start(node.lineno) : self.start_of(node)]
        return text if not text.strip() else None

    def replaced(self, spans: Iterable[Span]) -> Source:
        """The file with some parts of its text replaced.

        Raises:
            CannotEdit: parts overlap, a letter does not exist in the file's encoding, or the result
                is no Python.
        """
        ordered = sorted(spans, key=lambda span: (span.start, span.end))
        if any(one.end > other.start for one, other in itertools.pairwise(ordered)):
            raise CannotEdit("two changes would meet in one place")
        text = self.text
        for span in reversed(ordered):
            text = text[: span.start] + span.text + text[span.end :]
        try:
            return Source(self._mark + text.encode(self._encoding))
        except UnicodeEncodeError:
            raise CannotEdit(f"the change cannot be written in {self._encoding}") from None
        except CannotEdit:
            raise CannotEdit("the change would not be Python") from None


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the user's source, not ours
        return ast.parse(text)
