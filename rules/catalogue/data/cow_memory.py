"""data-cow-memory."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    has_workers,
    needed,
    number,
    observed,
    percent,
    place,
    plural,
    size,
)
from trainprof.rules.rule import Candidate, Case, Rule


class CowMemory(Rule):
    """Each loader worker makes its own copy of the Python objects that the data set holds.

    ## What it finds
    Workers whose memory grows while they run, and a data set that holds many Python objects (a list
    of file names, a dict of annotations).

    ## Why it costs time
    Forked workers share the parent's memory until one of them writes to a page. Reading a Python
    object writes its reference count, so each page of a large list is copied into every worker,
    once for each of them, as the epoch goes on. Memory that was paid once is paid W + 1 times; a
    run that begins well is killed hours later, or swaps.

    ## Evidence needed
    - Workers are in use, and the data set's attributes hold at least 100,000 Python objects.
    - The proportional memory (PSS) of the workers grew between two readings, by at least 1 MB in
      100 steps.
    - The copies of all workers would take at least 3 % of the free memory: a note; from 30 % on it
      is a warning.

    No gain is predicted: steps become no faster, more workers fit. Seen on a real run: two workers
    beside 2,000,000 tuples of two texts and a number grew by 171 KiB a step and held 919 MiB after
    25 s, where copies of all were reckoned as 809 MiB; with one tensor of numbers it was not told.

    ## Fix
    Keep such data in one array or tensor instead of many objects: `numpy.array(names,
    dtype="S")`, one tensor of bytes with offsets, a pyarrow column, a memory-mapped file. Annotated
    dicts can be pickled one by one into one array of bytes.

    ## Fix safety
    Safe: the same items.

    ## When it is wrong
    - Workers that build something themselves (an open file, a cache) grow as well: the growth that
      is reported is all of it, the objects are what could be its cause.
    - Started by spawn, every worker has its copy at once: it does not grow, and this is silent.
    - Growth ends when every page is copied; the summary says where that would be.

    ## References
    - DataLoader workers copy what they only read:
      https://github.com/pytorch/pytorch/issues/13246
    - Yuxin Wu, Demystify RAM usage in multi-process data loaders:
      https://ppwwyyxx.com/blog/2022/Demystify-RAM-Usage-in-Multiprocess-DataLoader/
    """

    id = "data-cow-memory"
    title = "Workers copy the data set's Python objects"
    needs = (
        "loader.num_workers",
        "loader.dataset_objects",
        "loader.dataset_objects_bytes",
        "loader.worker_pss_growth_bytes_per_step",
        "host.memory_available_bytes",
    )
    fires_on = (
        Case(
            "eight workers beside ten million file names",
            {
                "loader.num_workers": 8,
                "loader.dataset_objects": 10_000_000,
                "loader.dataset_objects_bytes": 8e8,
                "loader.worker_pss_growth_bytes_per_step": 400_000.0,
                "loader.worker_pss_bytes": 2e9,
                "host.memory_available_bytes": 1.2e10,
                "loader.dataset_where": {"file": "data.py", "line": 7},
            },
            severity="warn",
        ),
        Case(
            "two workers, a million names, much memory",
            {
                "loader.num_workers": 2,
                "loader.dataset_objects": 1_000_000,
                "loader.dataset_objects_bytes": 9e7,
                "loader.worker_pss_growth_bytes_per_step": 60_000.0,
                "host.memory_available_bytes": 4e9,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "workers that do not grow",
            {
                "loader.num_workers": 8,
                "loader.dataset_objects": 10_000_000,
                "loader.dataset_objects_bytes": 8e8,
                "loader.worker_pss_growth_bytes_per_step": 500.0,
                "host.memory_available_bytes": 1.2e10,
            },
        ),
        Case(
            "growth without objects that could cause it",
            {
                "loader.num_workers": 8,
                "loader.dataset_objects": 0,
                "loader.dataset_objects_bytes": 0,
                "loader.worker_pss_growth_bytes_per_step": 400_000.0,
                "host.memory_available_bytes": 1.2e10,
            },
        ),
        Case(
            "objects that are small beside the memory",
            {
                "loader.num_workers": 2,
                "loader.dataset_objects": 150_000,
                "loader.dataset_objects_bytes": 1e7,
                "loader.worker_pss_growth_bytes_per_step": 40_000.0,
                "host.memory_available_bytes": 6.4e10,
            },
        ),
    )

    min_objects = 100_000
    """Python objects; fewer are a few MB in each worker."""
    min_growth_bytes_per_step = 10_000.0
    """Of all workers together: 1 MB in 100 steps (a starting value)."""
    min_memory_use, warn_memory_use = 0.03, 0.30
    """Part of the free memory that the copies of all workers would take (starting values)."""

    def applies(self, signals: Signals) -> bool:
        """There are workers, and objects that they could copy."""
        return has_workers(signals) and number(signals, "loader.dataset_objects") != 0

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Holds what can be copied against the memory that is free."""
        workers = int(needed(signals, "loader.num_workers"))
        objects = needed(signals, "loader.dataset_objects")
        growth = needed(signals, "loader.worker_pss_growth_bytes_per_step")
        copies = workers * needed(signals, "loader.dataset_objects_bytes")
        use = copies / max(needed(signals, "host.memory_available_bytes"), 1.0)
        if workers == 0 or objects < self.min_objects or use < self.min_memory_use:
            return
        if growth < self.min_growth_bytes_per_step:
            return
        held = number(signals, "loader.worker_pss_bytes")
        now = "" if held is None else f" (they hold {size(held)})"
        yield Candidate(
            summary=(
                f"The data set holds {objects:,.0f} Python objects, and its "
                f"{plural(workers, 'worker')} grow by {size(growth)} a step{now}: copies of all "
                f"of them would take {size(copies)}, {percent(use)} of the free memory."
            ),
            evidence=(
                *observed(
                    signals,
                    "loader.worker_pss_growth_bytes_per_step",
                    self.min_growth_bytes_per_step,
                ),
                *observed(signals, "loader.dataset_objects", self.min_objects),
                *observed(signals, "loader.dataset_objects_bytes"),
                *observed(signals, "loader.num_workers"),
                *observed(signals, "loader.worker_pss_bytes"),
                *observed(signals, "host.memory_available_bytes"),
            ),
            where=place(signals, "loader.dataset_where") or place(signals, "loader.where"),
            fixes=(
                FixAdvice(
                    fix="dataset-arrays",
                    params={},
                    safety="safe",
                    text="Keep names and annotations in one array or tensor instead of many Python "
                    "objects.",
                    code='self.names = numpy.array(names, dtype="S")',
                ),
            ),
            confidence="medium",
            severity="warn" if use >= self.warn_memory_use else "info",
        )
