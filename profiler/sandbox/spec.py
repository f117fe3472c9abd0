"""What runs in the sandbox, and the command that runs it there."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

OVERLAY, OPEN = "overlay", "open"
"""Ways: what is written goes elsewhere; it stays. Both end the processes that are left over."""
REFUSED = 125
"""Exit status where the system does not allow it."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run, and where nothing may stay.

    Attributes:
        way: OVERLAY or OPEN.
        kept: Folders in which all stays; the first is that of the records.
        scratch: Empty folders for what is written meanwhile; the first that serves is taken.
        command: Arguments of the program.
    """

    way: str
    kept: tuple[str, ...]
    scratch: tuple[str, ...]
    command: tuple[str, ...]


def sandboxed(spec: Spec) -> list[str]:
    """The command that runs `spec.command` inside; writes the spec into the first scratch."""
    path = Path(spec.scratch[0]) / "spec.json"
    path.write_text(json.dumps(asdict(spec)), encoding="utf-8")
    return [sys.executable, "-m", "trainprof.profiler.sandbox", str(path)]


def read_spec(path: str) -> Spec:
    """What `sandboxed` wrote."""
    fields = json.loads(Path(path).read_text(encoding="utf-8"))
    kept, scratch, command = (tuple(fields[name]) for name in ("kept", "scratch", "command"))
    return Spec(fields["way"], kept, scratch, command)
