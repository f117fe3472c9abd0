"""The composition of the mean step as a picture: a bar and its legend."""

from __future__ import annotations

import io

from trainprof.errors import MissingExtraError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.reports import numbers
from trainprof.reports.phases import PhaseRow, bar_cells, phase_rows

try:
    from PIL import Image, ImageDraw, ImageFont
except ModuleNotFoundError as missing:
    if missing.name is None or missing.name.partition(".")[0] != "PIL":
        raise
    raise MissingExtraError(
        "Pillow is not installed: pip install 'trainprof[tensorboard]'"
    ) from None

WIDTH = 640
_MARGIN = 16
_LINE = 26
_BAR_TOP, _BAR_HEIGHT = 46, 44
_INK, _PAPER = "#1f2328", "#ffffff"
_COLOURS = {
    "data_wait": "#d1495b",
    "h2d": "#edae49",
    "forward": "#2e86ab",
    "loss": "#7fb7be",
    "backward": "#1b4965",
    "optimizer": "#66a182",
    "comm_exposed": "#8d5a97",
    "sync": "#c77dff",
    "validation": "#5f7a61",
    "checkpoint": "#9c6644",
    "logging": "#bc6c25",
    "gc": "#6c757d",
    "compile": "#3d405b",
    "residual": "#adb5bd",
}
_OTHER = "#dee2e6"


def phase_picture(diagnosis: Diagnosis) -> tuple[bytes, tuple[int, int]] | None:
    """A PNG and its size in pixels; None where no step was measured."""
    rows = phase_rows(diagnosis.steps)
    if not rows or diagnosis.steps.mean_s is None:
        return None
    size = (WIDTH, _BAR_TOP + _BAR_HEIGHT + _LINE * len(rows) + 2 * _MARGIN)
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(16)
    title = f"one step of {numbers.seconds(diagnosis.steps.mean_s)}"
    draw.text((_MARGIN, _MARGIN), _drawable(title), _INK, font)
    _draw_bar(draw, rows)
    for number, row in enumerate(rows):
        _draw_row(draw, font, _BAR_TOP + _BAR_HEIGHT + _MARGIN + number * _LINE, row)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue(), size


def _draw_bar(draw: ImageDraw.ImageDraw, rows: list[PhaseRow]) -> None:
    left = _MARGIN
    for row, width in zip(rows, bar_cells(rows, WIDTH - 2 * _MARGIN), strict=True):
        if width:
            box = (left, _BAR_TOP, left + width - 1, _BAR_TOP + _BAR_HEIGHT - 1)
            draw.rectangle(box, fill=_colour(row))
        left += width


def _draw_row(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    top: int,
    row: PhaseRow,
) -> None:
    draw.rectangle((_MARGIN, top + 3, _MARGIN + 13, top + 16), fill=_colour(row))
    mark = " (inferred)" if row.time.inferred else ""
    cells = (
        (_MARGIN + 24, f"{row.label}{mark}"),
        (340, numbers.share(row.time.share)),
        (460, numbers.seconds(row.time.s_per_step)),
    )
    for left, text in cells:
        draw.text((left, top), _drawable(text), _INK, font)


def _colour(row: PhaseRow) -> str:
    return _COLOURS.get(row.phase, _OTHER)


def _drawable(text: str) -> str:
    """In letters that the font has."""
    return text.encode("latin-1", "replace").decode("latin-1")
