"""Names and contents of what stands around the traces of a run. Standard library only.

The command and a user's `touch` leave a request; the training's first process turns it into an
order that all ranks see; each process answers what became of it. One writer per file, and each file
is replaced as a whole.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from .layout import FORMAT, TRACE_REQUEST_FILE, TRACES_FOLDER
from .whole_file import replace_file

DEFAULT_STEPS = 3
"""Of a window whose request names no number."""
MOST_STEPS = 20
"""Of one window: a trace tells no more of a hundred alike."""
ORDER = re.compile(r"window-(\d+)\.json")
ANSWER = re.compile(r"(?P<process>.+)-window-(?P<number>\d+)\.json")
TRACE = re.compile(r"(?P<process>.+)-step-(?P<step>\d+)\.pt\.trace\.json(\.gz)?")


def request_path(run: str) -> str:
    """Where a request lies until it is taken."""
    return os.path.join(run, TRACE_REQUEST_FILE)


def order_path(run: str, number: int) -> str:
    """The order of one window, which all ranks follow."""
    return os.path.join(run, TRACES_FOLDER, f"window-{number}.json")


def answer_path(run: str, process: str, number: int) -> str:
    """What became of an order in one process, by the name of its folder."""
    return os.path.join(run, TRACES_FOLDER, f"{process}-window-{number}.json")


def trace_path(run: str, process: str, step: int) -> str:
    """The trace that one process took from this step on; `.gz` is added once it is packed."""
    return os.path.join(run, TRACES_FOLDER, f"{process}-step-{step}.pt.trace.json")


def order_numbers(run: str) -> list[int]:
    """Of the orders so far, rising."""
    try:
        names = os.listdir(os.path.join(run, TRACES_FOLDER))
    except OSError:
        return []
    return sorted(int(found[1]) for name in names if (found := ORDER.fullmatch(name)))


def requested_steps(text: str) -> int | None:
    """Steps that a request asks for; None where it cannot be understood.

    Args:
        text: What the file holds: nothing, a number, or `{"steps": 5}`.
    """
    if not text.strip():
        return DEFAULT_STEPS
    try:
        found = json.loads(text)
    except ValueError:
        return None
    steps = found.get("steps", DEFAULT_STEPS) if isinstance(found, dict) else found
    fits = isinstance(steps, int) and not isinstance(steps, bool) and 1 <= steps <= MOST_STEPS
    return steps if fits else None


def step_range(text: str) -> tuple[int, int] | None:
    """First step and number of steps of `120` or `120-124`; None where it is neither."""
    found = re.fullmatch(r"(\d{1,12})(?:-(\d{1,12}))?", text)
    if found is None:
        return None
    first = int(found[1])
    last = first if found[2] is None else int(found[2])
    return (first, last - first + 1) if first <= last < first + MOST_STEPS else None


def write_object(path: str, content: dict[str, Any]) -> None:
    """Replaces a file by one JSON object.

    Raises:
        OSError: it cannot be written.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    replace_file(path, json.dumps({"format": FORMAT, **content}).encode() + b"\n")


def read_object(path: str) -> dict[str, Any] | None:
    """What `write_object` wrote; None where there is nothing that can be read."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
