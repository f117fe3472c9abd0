"""hpo-concurrency."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import Evidence, FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, size, trains_on_cpu
from trainprof.rules.rule import Candidate, Case, Rule

_SWEEP = {
    "search.runs_in_a_row": 12,
    "host.own_cores": 1.1,
    "host.usable_cores": 16.0,
    "host.idle_cores": 14.5,
    "host.own_rss_bytes": 6e8,
    "host.memory_available_bytes": 5e10,
    "step.data_wait_share": 0.01,
    "host.psi_io_share": 0.0,
    "model.devices": {"cpu": 1000},
}


class Concurrency(Rule):
    """Runs of a search go one after the other on a machine that would hold several at once.

    ## What it finds
    Five runs or more of this script with different arguments, each begun as soon as the one before
    had ended, each on a small part of the cores and of the memory.

    ## Why it costs time
    A small training on a CPU rarely gains from more than a few cores, and the rest of the machine
    idles. Runs of a search do not depend on one another, so k of them at once end the search up to
    k times sooner, though no single run becomes faster.

    ## Evidence needed
    - Five or more runs of the same script in the same folder, up to this one, no two with the same
      arguments, none overlapping another, at most 10 s between the end of one and the start of the
      next.
    - This run uses at most 30 % of the usable cores and of the memory that it could have, on a
      machine of at least four cores, and the cores that it leaves idle are really idle.
    - It trains on the CPU, in one rank, and waits neither for batches nor for a disk, which several
      runs would share.

    So many fit: the least of (idle + used) / used cores, a run counted as one core at least, and of
    what 80 % of the memory hold. At best the search ends as many times sooner, at worst no sooner:
    runs share caches and the way to memory, which is not measured. It is a note, for the search and
    not for the step.

    ## Fix
    Start several at once, each with a few threads: `xargs -P`, joblib, Optuna workers on one
    storage, or the sweep agent more than once. What all of them prepare (tokens, decoded images) is
    made once and shared.

    ## Fix safety
    Safe for each run as long as its number of threads stays the same. Semantics for a search that
    learns from its results: a sampler that waits for fewer of them proposes other points.

    ## When it is wrong
    Runs that measure their own speed must have the machine to themselves (silent where a name says
    so, and for repetitions of the same arguments). Runs that write to the same files, or listen on
    the same port, are in each other's way. Silent on accelerators, whose use by several runs was
    not measured.

    ## References
    - Optuna, easy parallelization:
      https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/004_distributed.html
    - Mohan et al., Analyzing and Mitigating Data Stalls in DNN Training (coordinated preparation
      for parallel searches): https://arxiv.org/abs/2007.06775
    """

    id = "hpo-concurrency"
    title = "Small runs of a search go one after the other"
    needs = (
        "search.runs_in_a_row",
        "host.own_cores",
        "host.usable_cores",
        "host.idle_cores",
        "host.own_rss_bytes",
        "host.memory_available_bytes",
    )
    can_warn = False
    fires_on = (Case("twelve runs of one core each on sixteen", _SWEEP, severity="info"),)
    silent_on = (
        Case(
            "two cores, of which the run uses one",
            {**_SWEEP, "host.usable_cores": 2.0, "host.idle_cores": 0.9},
        ),
        Case("a run that uses the cores", {**_SWEEP, "host.own_cores": 11.0}),
        Case("other programs use them", {**_SWEEP, "host.idle_cores": 0.4}),
        Case("a run that needs the memory", {**_SWEEP, "host.own_rss_bytes": 4e10}),
        Case("three runs", {**_SWEEP, "search.runs_in_a_row": 3}),
        Case("it waits for batches", {**_SWEEP, "step.data_wait_share": 0.4}),
        Case("the disk is busy", {**_SWEEP, "host.psi_io_share": 0.3}),
        Case("on a GPU", {**_SWEEP, "model.devices": {"cuda:0": 1000}}),
        Case("four ranks", {**_SWEEP, "distributed.world_size": 4}),
        Case("on a machine that others keep busy", {**_SWEEP, "host.contended": True}),
    )

    min_runs = 5
    """In a row; fewer are not worth a change (a starting value)."""
    min_cores = 4.0
    """Usable cores; on fewer the system and the loader need what is left."""
    max_core_share, max_memory_share = 0.30, 0.30
    """Part of the usable cores, and of used and free memory, that one run takes."""
    memory_to_fill = 0.80
    """Part of the memory that runs may take together."""
    max_wait_share, max_io_share = 0.10, 0.10
    """Part of the step waiting for batches, and of the time with some task waiting for a disk."""

    def applies(self, signals: Signals) -> bool:
        """False for a run by itself."""
        return (number(signals, "search.runs_in_a_row") or 1) > 1

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Asks how many such runs would fit, if this one is small and goes in a row."""
        runs = needed(signals, "search.runs_in_a_row")
        if runs < self.min_runs or not self._is_small(signals) or not self._is_by_itself(signals):
            return
        fitting = self._fitting(signals)
        if fitting < 2:
            return
        own, usable = needed(signals, "host.own_cores"), needed(signals, "host.usable_cores")
        yield Candidate(
            summary=f"{runs:.0f} runs of this script with other arguments went one after the "
            f"other, this one on {own:.1f} of {usable:.0f} cores and in "
            f"{size(needed(signals, 'host.own_rss_bytes'))}; {fitting} at once would fit and "
            f"end the search up to {fitting} times sooner.",
            evidence=(
                *observed(signals, "search.runs_in_a_row", self.min_runs),
                *observed(signals, "host.own_cores"),
                *observed(signals, "host.usable_cores", self.min_cores),
                *observed(signals, "host.idle_cores"),
                *observed(signals, "host.own_rss_bytes"),
                *observed(signals, "host.memory_available_bytes"),
                Evidence("runs that fit at once", fitting, "count", 2),
            ),
            fixes=(self._advice(signals, fitting),),
            severity="info",
            timeless=True,
        )

    def _is_small(self, signals: Signals) -> bool:
        usable = needed(signals, "host.usable_cores")
        held = needed(signals, "host.own_rss_bytes")
        room = held + needed(signals, "host.memory_available_bytes")
        return (
            usable >= self.min_cores
            and needed(signals, "host.own_cores") <= self.max_core_share * usable
            and held <= self.max_memory_share * room
        )

    def _is_by_itself(self, signals: Signals) -> bool:
        """Whether it shares nothing with other runs that would then be short."""
        waits = number(signals, "step.data_wait_share") or 0.0
        disk = number(signals, "host.psi_io_share") or 0.0
        return (
            trains_on_cpu(signals)
            and (number(signals, "distributed.world_size") or 1) < 2
            and waits < self.max_wait_share
            and disk < self.max_io_share
            and signals.get("host.contended").value is not True
        )

    def _fitting(self, signals: Signals) -> int:
        own = max(needed(signals, "host.own_cores"), 1.0)
        by_cores = (needed(signals, "host.idle_cores") + own) / own
        held = max(needed(signals, "host.own_rss_bytes"), 1.0)
        room = held + needed(signals, "host.memory_available_bytes")
        return math.floor(min(by_cores, self.memory_to_fill * room / held))

    @staticmethod
    def _advice(signals: Signals, fitting: int) -> FixAdvice:
        threads = max(math.floor(needed(signals, "host.usable_cores") / fitting), 1)
        return FixAdvice(
            fix="search-parallel",
            params={"runs_at_once": fitting, "threads_each": threads},
            safety="semantics",
            text=f"Start up to {fitting} runs at once, each with OMP_NUM_THREADS={threads}, and "
            "let them share what they prepare.",
            code=f"xargs -P {fitting} -L 1 env OMP_NUM_THREADS={threads} python train.py",
        )
