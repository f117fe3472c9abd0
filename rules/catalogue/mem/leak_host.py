"""mem-leak-host."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import duration, is_on, low, needed, number, observed, size
from trainprof.rules.rule import Candidate, Case, Rule


class LeakHost(Rule):
    """The script keeps more Python objects with every step, and memory grows by them.

    ## What it finds
    A list, dict or cache that gets longer with each step and is never emptied: metrics as arrays,
    outputs for a later report, samples remembered by the data set in the training process.

    ## Why it costs time
    The step itself hardly slows down at first. Then garbage collections take longer, the machine
    swaps, and the process is killed, hours into the run.

    ## Evidence needed
    - At least 200 steps, and no graph of a loss that outlived its step.
    - Resident memory grows by 1 KiB a step or more (lower end of the Theil-Sen interval), in each
      fifth of the run, and by 32 MiB in all: less may be the allocator's.
    - The number of memory blocks that Python holds (`sys.getallocatedblocks()`, read once a second)
      grows by one in two steps or more, surely.

    No gain is predicted: it is memory, not time. It is critical if the machine's free memory would
    be used up within a day.

    ## Fix
    Keep numbers instead of arrays and tensors (`.item()`, or a running mean), write results out
    every so often, bound caches (`functools.lru_cache(maxsize=...)`, `collections.deque(maxlen=
    ...)`). `tracemalloc`, two snapshots a hundred steps apart, names the line.

    ## Fix safety
    Safe where only reports are made of what is kept.

    ## When it is wrong
    What is kept on purpose and bounded (a replay buffer that fills, a cache of the data set) grows
    for a while and then no more. Outputs kept with their graphs look the same if no loss hangs on
    them: then `.detach()` is the first thing to try.

    ## References
    - tracemalloc: https://docs.python.org/3/library/tracemalloc.html
    - sys.getallocatedblocks: https://docs.python.org/3/library/sys.html#sys.getallocatedblocks
    """

    id = "mem-leak-host"
    title = "Python objects pile up with every step"
    needs = ("step.count", "memory.rss_slope_bytes_per_step", "memory.python_blocks_per_step")
    suppresses = ("mem-leak-graph",)
    fires_on = (
        Case(
            "predictions of every step in a list",
            {
                "step.count": 2_000,
                "step.mean_s": 0.05,
                "memory.rss_slope_bytes_per_step": (40_000.0, 38_000.0, 42_000.0),
                "memory.growth_monotone": True,
                "memory.python_blocks_per_step": (2.0, 1.9, 2.1),
                "memory.graph_alive_count": 0,
                "host.memory_available_bytes": 640e9,
            },
            severity="warn",
        ),
        Case(
            "and the machine is full within the day",
            {
                "step.count": 2_000,
                "step.mean_s": 0.05,
                "memory.rss_slope_bytes_per_step": (400_000.0, 380_000.0, 420_000.0),
                "memory.growth_monotone": True,
                "memory.python_blocks_per_step": (2.0, 1.9, 2.1),
                "memory.graph_alive_count": 0,
                "host.memory_available_bytes": 16e9,
            },
            severity="critical",
        ),
    )
    silent_on = (
        Case(
            "graphs of losses are kept: that is another finding",
            {
                "step.count": 2_000,
                "memory.rss_slope_bytes_per_step": (40_000.0, 38_000.0, 42_000.0),
                "memory.growth_monotone": True,
                "memory.python_blocks_per_step": (2.0, 1.9, 2.1),
                "memory.graph_alive_count": 12,
            },
        ),
        Case(
            "a float a step: no memory to speak of",
            {
                "step.count": 2_000,
                "memory.rss_slope_bytes_per_step": (60.0, 30.0, 90.0),
                "memory.growth_monotone": True,
                "memory.python_blocks_per_step": (1.0, 0.9, 1.1),
                "memory.graph_alive_count": 0,
            },
        ),
        Case(
            "memory grows, Python's objects do not",
            {
                "step.count": 2_000,
                "memory.rss_slope_bytes_per_step": (40_000.0, 38_000.0, 42_000.0),
                "memory.growth_monotone": True,
                "memory.python_blocks_per_step": (0.01, -0.1, 0.1),
                "memory.graph_alive_count": 0,
            },
        ),
        Case(
            "a buffer that is full by now",
            {
                "step.count": 2_000,
                "memory.rss_slope_bytes_per_step": (20_000.0, 10_000.0, 30_000.0),
                "memory.growth_monotone": False,
                "memory.python_blocks_per_step": (1.0, 0.8, 1.2),
                "memory.graph_alive_count": 0,
            },
        ),
    )

    min_steps = 200
    """Steps; before that allocators and optimizer state still settle (a starting value)."""
    min_slope_bytes_per_step = 1_024.0
    """Growth; a healthy loop showed 50 bytes a step."""
    min_growth_bytes = 32.0 * 2**20
    """In all: the largest block that glibc's malloc may keep once freed (mallopt(3))."""
    min_blocks_per_step = 0.5
    """Blocks of Python's allocator; one object needs at least one."""
    exhausted_within_s = 86_400.0
    """A run left alone for a day."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Wants growth of memory and of Python's objects together."""
        steps = needed(signals, "step.count")
        slope = needed(signals, "memory.rss_slope_bytes_per_step")
        sure = low(signals, "memory.rss_slope_bytes_per_step") or 0.0
        blocks = low(signals, "memory.python_blocks_per_step") or 0.0
        if steps < self.min_steps or number(signals, "memory.graph_alive_count"):
            return
        if sure < self.min_slope_bytes_per_step or slope * steps < self.min_growth_bytes:
            return
        if blocks < self.min_blocks_per_step or not is_on(signals, "memory.growth_monotone"):
            return
        left_s = self._exhausted_after_s(signals, slope)
        urgent = left_s is not None and left_s < self.exhausted_within_s
        ends = f"; the machine is full in {duration(left_s)}" if urgent and left_s else ""
        grown = needed(signals, "memory.python_blocks_per_step")
        yield Candidate(
            summary=f"Memory grows by {size(slope)} a step and Python keeps {grown:.2g} blocks "
            f"more each time{ends}.",
            evidence=(
                *observed(
                    signals, "memory.rss_slope_bytes_per_step", self.min_slope_bytes_per_step
                ),
                *observed(signals, "memory.python_blocks_per_step", self.min_blocks_per_step),
                *observed(signals, "memory.growth_monotone"),
                *observed(signals, "memory.rss_last_bytes"),
                *observed(signals, "memory.graph_alive_count"),
                *observed(signals, "host.memory_available_bytes"),
            ),
            fixes=(self._advice(),),
            severity="critical" if urgent else "warn",
        )

    @staticmethod
    def _exhausted_after_s(signals: Signals, slope: float) -> float | None:
        free = number(signals, "host.memory_available_bytes")
        step_s = number(signals, "step.mean_s")
        return None if free is None or step_s is None else free / slope * step_s

    @staticmethod
    def _advice() -> FixAdvice:
        return FixAdvice(
            fix="keep-less",
            params={},
            safety="safe",
            text="Look for a list, dict or cache that grows with each step (two tracemalloc "
            "snapshots name the line); keep numbers, write results out, bound caches.",
        )
