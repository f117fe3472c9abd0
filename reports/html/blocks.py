"""What a page is made of, as plain data: `assets/document.js` draws each kind of block.

Texts are shown as they are (`textContent`), never as markup. Text from outside must have gone
through `printable`, which cuts it and takes what could reverse a line out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from trainprof.reports.text import printable_code

Block = dict[str, Any]
"""One piece of a page; "kind" says which."""
Cell = str | dict[str, Any]
"""A text, or {"text", "shade", "value"}: how much of the most there is, 0 to 1, as a background,
and what it is sorted by."""


def text(content: str, style: str = "") -> Block:
    """A paragraph; style "lead", "note" or none."""
    return {"kind": "text", "text": content, "style": style}


def listing(items: Iterable[str]) -> Block:
    """A bulleted list."""
    return {"kind": "list", "items": list(items)}


def facts(rows: Iterable[tuple[str, str]], style: str = "") -> Block:
    """Labels with their values; style "cards" draws them large, side by side."""
    return {"kind": "facts", "rows": [list(row) for row in rows], "style": style}


def table(
    caption: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    numeric: str = "",
    *,
    sortable: bool = False,
) -> Block:
    """A table whose first column names its rows.

    Args:
        caption: What it shows.
        headings: Of the columns.
        rows: One cell a column.
        numeric: One character a column, "#" where it is set flush right.
        sortable: Its headings sort it; by "value" of a cell that has one, which may be None.
    """
    return {
        "kind": "table",
        "caption": caption,
        "headings": list(headings),
        "rows": [list(row) for row in rows],
        "numeric": numeric.ljust(len(headings)),
        "sortable": sortable,
    }


def measured(text: str, value: float | None, *, shade: float | None = None) -> Cell:
    """A cell that shows a number as text, and is sorted by the number."""
    return {"text": text, "value": value, "shade": shade}


def code(lines: Sequence[str], label: str, *, first: int | None = None, marked: int = -1) -> Block:
    """Lines of code; `first` numbers them, `marked` is the number of the one that is meant."""
    return {"kind": "code", "lines": list(lines), "label": label, "first": first, "marked": marked}


def diff(text: str, label: str) -> Block:
    """A unified diff."""
    lines = [line[:1] + printable_code(line[1:]) for line in text.splitlines()]
    return {**code(lines, label), "diff": True}


def details(summary: str, blocks: Sequence[Block]) -> Block:
    """What is folded away until it is asked for."""
    return {"kind": "details", "summary": summary, "blocks": list(blocks)}


def group(heading: str, blocks: Sequence[Block], *, badge: str = "", grade: str = "") -> Block:
    """Blocks under a heading of the third level; the badge is a word before it."""
    return {
        "kind": "group",
        "heading": heading,
        "badge": badge,
        "grade": grade,
        "blocks": list(blocks),
    }


def section(key: str, title: str, blocks: Iterable[Block]) -> Block:
    """A part of the page with its place in the contents."""
    return {"id": key, "title": title, "blocks": list(blocks)}
