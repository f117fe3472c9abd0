"""data-gil-threads."""

from __future__ import annotations

import os
from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    COMPUTE_PHASES,
    amdahl,
    low,
    needed,
    observed,
    percent,
    place,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule

_THREAD = {
    "lock.looks": 80,
    "lock.others_share": (0.55, 0.46, 0.64),
    "lock.main_share": 0.3,
    "lock.compute_blocked_share": 0.4,
    "lock.where": {"file": "train.py", "line": 31, "function": "augment"},
    "flags.num_threads": 1,
}


class GilThreads(Rule):
    """A thread that prepares data takes Python's interpreter lock from the training thread.

    ## What it finds
    A second thread of the training process (a prefetcher, an augmenter, a background generator)
    that runs Python code, while the training thread is blocked inside its own forward, loss,
    backward or optimizer.

    ## Why it costs time
    One thread of a process runs Python at a time. Each operator of torch lets go of the interpreter
    lock while it computes, and has to get it back afterwards; a thread in pure Python gives it up
    only every 5 ms (`sys.getswitchinterval`). A forward of many short operators then waits again
    and again for a lock that it needs for microseconds.

    ## Evidence needed
    - py-spy, asked who holds the lock (`--gil`), found another thread of the training process in at
      least 15 % of 40 looks or more; looks are only taken where a second thread was seen computing.
    - The training thread, which is the main one, was blocked (neither on a CPU nor waiting for one)
      inside the phases that compute, for at least 5 % of the step.

    The lock explains no more than the less of the two, which is the share of the finding. The
    expected gain: Amdahl's bound on it above, none below: worker processes have costs of their own,
    and need a core. Only a run with them tells.

    ## Fix
    Let processes prepare the data: a `DataLoader` with workers. Or keep the thread and let its work
    release the lock: NumPy, PIL or torch calls on whole arrays instead of loops in Python.

    ## Fix safety
    Numerics: the same samples, but random numbers are drawn in other processes.

    ## When it is wrong
    With several threads inside an operator the training thread is also blocked while it waits for
    those; silent there, unless torch was told to use one, and on accelerators, for which it may
    wait just as well. Threads that mostly wait (for a disk, a socket, a queue) hold no lock, and
    are no concern. Silent where the training itself runs in a thread that is not the main one, and
    where py-spy may not look.

    ## References
    - Python's threads and the interpreter lock:
      https://docs.python.org/3/glossary.html#term-global-interpreter-lock
    - sys.setswitchinterval: https://docs.python.org/3/library/sys.html#sys.setswitchinterval
    - py-spy, detecting who holds the lock:
      https://github.com/benfred/py-spy#how-does-gil-detection-work
    - Beazley, Understanding the Python GIL: https://www.dabeaz.com/GIL/
    """

    id = "data-gil-threads"
    title = "A second thread holds up the training"
    needs = ("lock.others_share", "lock.compute_blocked_share", "flags.num_threads")
    suppresses = ("kern-small-ops-cpu",)
    fires_on = (
        Case("augmentation in a thread, in pure Python", _THREAD, severity="critical"),
        Case(
            "a thread that holds the lock less often",
            {
                **_THREAD,
                "lock.others_share": (0.25, 0.18, 0.33),
                "lock.compute_blocked_share": 0.14,
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "a thread that reads files",
            {**_THREAD, "lock.others_share": (0.04, 0.01, 0.09)},
        ),
        Case(
            "it holds the lock while the training waits for its batches anyway",
            {**_THREAD, "lock.compute_blocked_share": 0.01},
        ),
        Case(
            "too few looks to be sure",
            {**_THREAD, "lock.others_share": (0.2, 0.12, 0.31)},
        ),
        Case(
            "eight threads inside each operator",
            {**_THREAD, "flags.num_threads": 8},
        ),
        Case("a training on a GPU", {**_THREAD, "model.devices": {"cuda:0": 1}}),
    )

    min_held_share = 0.15
    """Part of the looks, and the lower end of its 90 % interval (a starting value)."""
    min_blocked_share = 0.05
    """Part of the step (a starting value); without a second thread it is next to nothing."""
    most_threads = 1
    """Threads of torch's operators: with more, blocked may mean waiting for those."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Takes the less of what others hold and of what the training thread waits."""
        held = needed(signals, "lock.others_share")
        held_low = low(signals, "lock.others_share") or 0.0
        if held_low < self.min_held_share:
            return
        threads = needed(signals, "flags.num_threads")
        if threads > self.most_threads or not trains_on_cpu(signals):
            return
        blocked = needed(signals, "lock.compute_blocked_share")
        if blocked < self.min_blocked_share:
            return
        share = min(held, blocked)
        where = place(signals, "lock.where")
        line = "" if where is None else f", mostly in {where.function or 'a function'} "
        line += "" if where is None else f"({os.path.basename(where.file)}:{where.line})"
        yield Candidate(
            summary=f"Another thread of this process holds the interpreter lock {percent(held)} of "
            f"the time{line}; the training thread is blocked inside its own computation for "
            f"{percent(blocked)} of the step.",
            evidence=(
                *observed(signals, "lock.others_share", self.min_held_share),
                *observed(signals, "lock.compute_blocked_share", self.min_blocked_share),
                *observed(signals, "lock.main_share"),
                *observed(signals, "lock.looks"),
                *observed(signals, "lock.where_share"),
                *observed(signals, "flags.num_threads", self.most_threads),
            ),
            share=share,
            share_low=min(held_low, blocked),
            gain=Gain(1.0, amdahl(share)),
            where=where,
            fixes=(
                FixAdvice(
                    fix="worker-processes",
                    params={},
                    safety="numerics",
                    text="Prepare the data in processes (a DataLoader with workers), or in calls "
                    "that release the lock (NumPy, PIL, torch on whole arrays).",
                    code="DataLoader(…, num_workers=2, persistent_workers=True)",
                ),
            ),
            phases=COMPUTE_PHASES,
        )

    def applies(self, signals: Signals) -> bool:
        """False where no second thread was busy."""
        return signals.get("lock.looks").value is not None
