"""The screen as plain text, from the picture that textual exports."""

import html
import os
import re
import time
from pathlib import Path

SCREENS = Path(__file__).parent / "screens"
CELL_WIDTH = 12.2
PATIENCE_S = 60.0
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


async def check_screen(app, pilot, name):
    """Waits for the committed screen; WRITE_SCREENS=1 writes it anew."""
    path = SCREENS / f"{name}.txt"
    if os.environ.get("WRITE_SCREENS") == "1":
        path.write_text(screen_text(app), encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    await _until(pilot, lambda: screen_text(app) == expected)
    assert screen_text(app) == expected


async def until_seen(app, pilot, words):
    """Waits for words on the screen: textual mounts a note or a page a moment later."""
    await _until(pilot, lambda: words in screen_text(app))
    assert words in screen_text(app)


async def _until(pilot, is_seen):
    """Waits for what is drawn, not for a time: on a busy machine that takes as long as it takes."""
    until_s = time.monotonic() + PATIENCE_S
    while not is_seen() and time.monotonic() < until_s:
        await pilot.pause(0.02)
