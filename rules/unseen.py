"""Why a run has no steps, in words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainprof.profiler.model.records import ProcessInfo
from trainprof.profiler.model.run import Run

_ISOLATED = re.compile(r"-[a-zA-Z]*[ISE][a-zA-Z]*")
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")


def why_no_steps(run: Run) -> str:
    """The reason, as the rest of a sentence that begins with "because"."""
    flag = isolating_flag(run.info.argv)
    processes = [process.info for process in run.others]
    reason = _of_trainers(run) or _of_processes(processes)
    if reason is None and flag is not None:
        return (
            f"Python was started with {flag}, which keeps trainprof's agent out; leave it away to "
            "see steps"
        )
    if reason is None:
        reason = (
            "no Python of this command loaded trainprof's agent (it needs Python 3.10 or newer, "
            "started without -I, -S and -E)"
        )
    if run.status == "running":
        return "no step has been completed yet"
    if run.status == "crashed" and run.info.exit_status is not None:
        reason = f"the script ended with status {run.info.exit_status} before its first step ended"
    return reason


def isolating_flag(argv: Sequence[str]) -> str | None:
    """The option of the command's Python that keeps its environment from being read, if any."""
    words = iter(argv)
    program = next(words, "")
    if "python" not in program.rpartition("/")[2]:
        return None
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-") or word in ("-m", "-c", "-"):
            return None
        elif _ISOLATED.fullmatch(word) and not word.startswith(("-W", "-X")):
            return word
    return None


def _of_trainers(run: Run) -> str | None:
    seen = [trainer.info.seen for session in run.sessions for trainer in session.trainers]
    if not seen:
        return None
    return f"training began but no step was completed ({_counts(seen)})"


def _of_processes(processes: Sequence[ProcessInfo]) -> str | None:
    if not processes:
        return None
    with_torch = [process for process in processes if process.role != "python"]
    if not with_torch:
        return "the script never imported torch"
    counts = _counts([process.seen for process in with_torch])
    return f"torch was imported, but no backward and no optimizer step ran ({counts})"


def _counts(seen: Sequence[dict[str, int]]) -> str:
    """What was seen at least: "12 batches asked for, 3 forwards"."""
    names = {
        "asks": "batches asked for",
        "forwards": "forwards",
        "backwards": "backwards",
        "updates": "updates",
    }
    totals = {name: sum(one.get(name, 0) for one in seen) for name in names}
    parts = [f"{totals[name]} {words}" for name, words in names.items() if totals[name]]
    return ", ".join(parts) or "nothing of a training loop was seen"
