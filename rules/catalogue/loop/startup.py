"""loop-startup."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import duration, needed, number, observed, percent
from trainprof.rules.rule import Candidate, Case, Rule


class Startup(Rule):
    """It takes long until the first step begins.

    ## What it finds
    A training process that spends a minute, or a visible part of the run, before its first step:
    imports, an index of the data set, a download, a cache that is built anew each time.

    ## Why it costs time
    Nothing is learnt meanwhile, and accelerators that are paid for wait. Every trial of a search,
    every restart and every debugging round pays for it again.

    ## Evidence needed
    - From the start of the training process to the first step: at least 60 s, or at least 20 s and
      10 % of the run.
    - Whether its CPUs were busy or idle in that time, where the machine was sampled.

    It is a note and no gain is predicted: how long the run was meant to be is not known.

    ## Fix
    Busy: keep what is computed (a data set's index or tokens) in a file, import heavy libraries
    where they are used, look at `python -X importtime`. Idle: it waits for a disk or the network;
    keep downloads and data on a local disk.

    ## Fix safety
    Safe: the training itself is not changed.

    ## When it is wrong
    A run of days may take minutes to begin. Runs cut short for a measurement make the part look
    larger than it is. A process that trains twice is measured up to its first training only. Silent
    where other programs kept the CPUs busy, or where that is not known: then everything begins
    late.

    ## References
    - Python, -X importtime: https://docs.python.org/3/using/cmdline.html#cmdoption-X
    - Hugging Face Datasets, caching: https://huggingface.co/docs/datasets/about_cache
    """

    id = "loop-startup"
    title = "It takes long until the first step"
    needs = ("run.startup_s", "host.contended")
    can_warn = False
    fires_on = (
        Case(
            "two minutes of indexing",
            {
                "run.startup_s": 130.0,
                "run.wall_s": 4_000.0,
                "run.startup_cores": 1.0,
                "host.contended": False,
            },
            severity="info",
        ),
        Case(
            "half a minute of a run of two, waiting for a network",
            {
                "run.startup_s": 30.0,
                "run.wall_s": 120.0,
                "run.startup_cores": 0.1,
                "host.contended": False,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "the import of torch",
            {"run.startup_s": 6.0, "run.wall_s": 12.0, "host.contended": False},
        ),
        Case(
            "half a minute of an hour",
            {"run.startup_s": 30.0, "run.wall_s": 3_600.0, "host.contended": False},
        ),
        Case(
            "a busy machine, on which everything begins late",
            {"run.startup_s": 75.0, "run.wall_s": 200.0, "host.contended": True},
        ),
        Case("a run that still goes on", {"run.startup_s": 30.0, "host.contended": False}),
    )

    min_startup_s = 60.0
    """Seconds that are worth a word however long the run is (a starting value)."""
    min_part_s, min_part = 20.0, 0.10
    """Seconds and part of the run; less is what importing libraries takes (starting values)."""
    busy_cores = 0.5
    """Cores in use from which the time is computing, not waiting."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the time before the first step with the run."""
        startup_s = needed(signals, "run.startup_s")
        wall_s = number(signals, "run.wall_s")
        part = None if not wall_s else startup_s / wall_s
        if signals.get("host.contended").value is not False:
            return
        visible = part is not None and startup_s >= self.min_part_s and part >= self.min_part
        if startup_s < self.min_startup_s and not visible:
            return
        cores = number(signals, "run.startup_cores")
        share = "" if part is None else f", {percent(min(part, 1.0))} of the run"
        how = ""
        if cores is not None:
            how = " (computing)" if cores >= self.busy_cores else " (mostly waiting)"
        yield Candidate(
            summary=f"The first step began after {duration(startup_s)}{how}{share}.",
            evidence=(
                *observed(signals, "run.startup_s", self.min_startup_s),
                *observed(signals, "run.wall_s"),
                *observed(signals, "run.startup_cores", self.busy_cores),
            ),
            fixes=(self._advice(cores),),
            severity="info",
            timeless=True,
        )

    def _advice(self, cores: float | None) -> FixAdvice:
        waiting = cores is not None and cores < self.busy_cores
        text = (
            "Keep downloads and data on a local disk: the CPUs were idle meanwhile."
            if waiting
            else "Keep what is computed before the training in a file, and import heavy libraries "
            "where they are used."
        )
        return FixAdvice(fix="startup-cache", params={}, safety="safe", text=text)
