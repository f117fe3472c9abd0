"""The screen as plain text, from the picture that textual exports."""

import html
import os
import re
from pathlib import Path

SCREENS = Path(__file__).parent / "screens"
CELL_WIDTH = 12.2
_TEXT = re.compile(
    r'<text class="[^"]*" x="([\d.]+)" y="[\d.]+" textLength="[\d.]+" '
    r'clip-path="url\(#[^"]*-line-(\d+)\)">(.*?)</text>'
)


def screen_text(app):
    """What a reader sees, one line a row, blanks at the right left out."""
    rows = {}
    for x, row, text in _TEXT.findall(app.export_screenshot()):
        line = rows.setdefault(int(row), {})
        line[round(float(x) / CELL_WIDTH)] = html.unescape(text).replace("\xa0", " ")
    lines = []
    for number in range(max(rows, default=-1) + 1):
        line = ""
        for column, text in sorted(rows.get(number, {}).items()):
            line = line.ljust(column) + text
        lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def check_screen(app, name):
    """Compares with the committed screen; WRITE_SCREENS=1 writes it anew."""
    path = SCREENS / f"{name}.txt"
    text = screen_text(app)
    if os.environ.get("WRITE_SCREENS") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
