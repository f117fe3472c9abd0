"""Which way of the sandbox works here: tried once, for the folders at hand."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from trainprof.profiler.sandbox.spec import Spec, sandboxed
from trainprof.profiler.sandbox.watched import run_watched

PROBE_S = 120.0
WRITE = """
import sys
for path in sys.argv[1:]:
    with open(path, "w") as file:
        file.write("trainprof was here")
"""


def why_unavailable(way: str, scratch: Sequence[Path], folders: Sequence[str]) -> str | None:
    """Tries a way once; None if it works, else the sentence that failed.

    Args:
        way: See `Spec`.
        scratch: Folders for what is written meanwhile.
        folders: In which nothing may stay.
    """
    name = f".trainprof-{uuid.uuid4().hex}"
    places = [scratch_one / name for scratch_one in scratch]
    kept = scratch[0] / f"{name}-kept"
    for one in (*places, kept):
        one.mkdir(parents=True)
    marks = [Path(folder) / name for folder in folders]
    written = [*map(str, marks), str(kept / "mark")]
    command = (sys.executable, "-c", WRITE, *written)
    output = scratch[0] / f"{name}-output"
    try:
        spec = Spec(way, (str(kept),), tuple(map(str, places)), command)
        status = run_watched(sandboxed(spec), output, PROBE_S)
    except OSError as error:
        return str(error)
    stayed = [mark for mark in marks if mark.exists()]
    for mark in stayed:
        mark.unlink(missing_ok=True)
    if status != 0:
        said = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return (said or ["it failed"])[-1][-200:]
    if stayed:
        return f"what was written into {stayed[0].parent} did stay"
    return None if (kept / "mark").exists() else "the records did not stay"
