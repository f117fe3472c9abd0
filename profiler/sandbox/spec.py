"""What runs in the sandbox, and the command that runs it there."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

OVERLAY, JOURNAL, OPEN = "overlay", "journal", "open"
"""Ways: what is written goes elsewhere; it is put back afterwards; it stays."""
REFUSED, NOT_PUT_BACK = 125, 124
"""Exit statuses: the system does not allow it; something could not be made as it was."""
JOURNAL_FOLDER = "journal"
"""In the first scratch folder."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run, and where nothing may stay.

    Attributes:
        way: OVERLAY, JOURNAL or OPEN.
        kept: Folders in which all stays; the first is that of the records.
        scratch: Empty folders for what is written meanwhile; the first that serves is taken.
        command: Arguments of the program.
        shared: Folder that other runs find as this one leaves it; empty: none.
        caches: Folders whose changes the next run with the same `shared` sees, and nobody else.
    """

    way: str
    kept: tuple[str, ...]
    scratch: tuple[str, ...]
    command: tuple[str, ...]
    shared: str = ""
    caches: tuple[str, ...] = ()


def sandboxed(spec: Spec) -> list[str]:
    """The command that runs `spec.command` inside; writes the spec into the first scratch."""
    path = Path(spec.scratch[0]) / "spec.json"
    path.write_text(json.dumps(asdict(spec)), encoding="utf-8")
    return [sys.executable, "-m", "trainprof.profiler.sandbox", str(path)]


def read_spec(path: str) -> Spec:
    """What `sandboxed` wrote."""
    fields = json.loads(Path(path).read_text(encoding="utf-8"))
    names = ("kept", "scratch", "command", "caches")
    kept, scratch, command, caches = (tuple(fields[name]) for name in names)
    return Spec(fields["way"], kept, scratch, command, fields["shared"], caches)
