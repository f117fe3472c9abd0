"""mem-leak-graph."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Location
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    duration,
    is_on,
    low,
    needed,
    number,
    observed,
    place,
    size,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


class LeakGraph(Rule):
    """Memory grows with every step because old losses keep their graphs alive.

    ## What it finds
    A loss (or an output) that is added up or put into a list as a tensor, with the autograd graph
    of its step hanging on it: `total += loss`, `history.append(loss)`, a moving average of it.

    ## Why it costs time
    Each step's graph stays: nodes always, activations too where no backward has freed them. The
    step itself hardly slows down, so nobody notices until the machine swaps or the process is
    killed, hours into the run.

    ## Evidence needed
    - At least 200 steps.
    - Direct: trainprof ties a mark to the graph of a loss now and then; some were alive 32 steps
      later, and resident memory grows by 1 KiB a step or more.
    - Or indirect: growth of at least 1 KiB a step (lower bound) without a pause, 32 MiB in all.
      Less than that may be glibc's allocator, which keeps blocks of up to 32 MiB once freed.
    - Where resident memory shows nothing (an accelerator holds the graphs, or it was not
      measured) the direct evidence alone will do, from ten graphs on.

    Where the source around the backward has exactly one line that keeps a tensor of its graph, the
    finding points at that line, else at the backward.

    No gain is predicted: it is memory, not time. It is critical if the machine's free memory would
    be used up within a day at the pace of this run. Measured: `total += loss` costs 5.3 KB a step
    with a small network, adding up evaluation losses without `no_grad` 525 KB, a healthy loop
    0.05 KB.

    ## Fix
    `total += loss.item()` (or `loss.detach()`, which does not wait for an accelerator); evaluation
    under `torch.inference_mode()`.

    ## Fix safety
    Safe: the numbers are the same, only their graphs go.

    ## When it is wrong
    Growth that ends is none: allocators and optimizer state warm up, caches fill. A window of the
    last hundred losses keeps their graphs but does not grow: then it is a note. Some methods keep
    graphs on purpose (truncated backpropagation through time, meta-learning).

    ## References
    - PyTorch FAQ, "Don't accumulate history across your training loop":
      https://docs.pytorch.org/docs/stable/notes/faq.html
    - mallopt(3), M_MMAP_THRESHOLD: https://man7.org/linux/man-pages/man3/mallopt.3.html
    """

    id = "mem-leak-graph"
    title = "Memory grows with every step"
    needs = ("step.count",)
    fires_on = (
        Case(
            "total += loss",
            {
                "step.count": 1_000,
                "step.mean_s": 0.3,
                "memory.rss_slope_bytes_per_step": (5_300.0, 4_900.0, 5_700.0),
                "memory.growth_monotone": True,
                "memory.graph_alive_count": 12,
                "memory.graph_alive_where": {"file": "train.py", "line": 42},
                "host.memory_available_bytes": 64e9,
            },
            severity="warn",
        ),
        Case(
            "evaluation losses added up without no_grad, memory gone within the day",
            {
                "step.count": 400,
                "step.mean_s": 0.05,
                "memory.rss_slope_bytes_per_step": (525_000.0, 500_000.0, 550_000.0),
                "memory.growth_monotone": True,
                "memory.graph_alive_count": 0,
                "host.memory_available_bytes": 16e9,
            },
            severity="critical",
        ),
        Case(
            "the last hundred losses kept as tensors: graphs stay, memory does not grow",
            {
                "step.count": 2_000,
                "step.mean_s": 0.004,
                "memory.rss_slope_bytes_per_step": (20.0, -60.0, 100.0),
                "memory.growth_monotone": False,
                "memory.graph_alive_count": 12,
                "host.memory_available_bytes": 16e9,
            },
            severity="info",
        ),
        Case(
            "graphs kept on an accelerator, where resident memory is flat",
            {
                "step.count": 2_000,
                "step.mean_s": 0.1,
                "memory.rss_slope_bytes_per_step": (300.0, 100.0, 500.0),
                "memory.growth_monotone": False,
                "memory.graph_alive_count": 40,
                "model.devices": {"cuda:0": 1_000_000},
                "flags.accelerator": "cuda",
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "grows during the first steps, then flat",
            {
                "step.count": 1_000,
                "step.mean_s": 0.004,
                "memory.rss_slope_bytes_per_step": (400.0, -200.0, 900.0),
                "memory.growth_monotone": False,
                "memory.graph_alive_count": 0,
                "host.memory_available_bytes": 16e9,
            },
        ),
        Case(
            "grows a little, no graph kept: an allocator settles",
            {
                "step.count": 500,
                "step.mean_s": 0.004,
                "memory.rss_slope_bytes_per_step": (8_000.0, 6_000.0, 10_000.0),
                "memory.growth_monotone": True,
                "memory.graph_alive_count": 0,
                "host.memory_available_bytes": 16e9,
            },
        ),
        Case(
            "a hundred steps tell nothing",
            {
                "step.count": 100,
                "memory.rss_slope_bytes_per_step": (500_000.0, 400_000.0, 600_000.0),
                "memory.growth_monotone": True,
                "memory.graph_alive_count": 4,
            },
        ),
    )

    min_steps = 200
    """Steps; before that allocators and optimizer state still settle (a starting value)."""
    min_slope_bytes_per_step = 1_024.0
    """Growth; a healthy loop showed 50 bytes a step, the smallest leak measured 5,300."""
    min_growth_bytes = 32.0 * 2**20
    """Without direct evidence: the largest block that glibc's malloc may keep (mallopt(3))."""
    min_graphs_unseen = 10
    """Graphs alive where resident memory cannot tell a window from a leak (a starting value)."""
    exhausted_within_s = 86_400.0
    """A run left alone for a day."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Growth with graphs alive, growth alone, and graphs alone are three cases."""
        steps = needed(signals, "step.count")
        if steps < self.min_steps:
            return
        graphs = int(number(signals, "memory.graph_alive_count") or 0)
        slope = number(signals, "memory.rss_slope_bytes_per_step")
        grows = slope is not None and slope >= self.min_slope_bytes_per_step
        if not graphs and not self._grows_by_itself(signals, steps):
            return
        hidden = slope is None or not trains_on_cpu(signals)
        unseen = hidden and graphs >= self.min_graphs_unseen
        left_s = self._exhausted_after_s(signals) if grows else None
        doomed = left_s is not None and left_s <= self.exhausted_within_s
        grave = grows or unseen
        yield Candidate(
            summary=self._summary(signals, graphs, grows, left_s if doomed else None),
            evidence=(
                *observed(
                    signals, "memory.rss_slope_bytes_per_step", self.min_slope_bytes_per_step
                ),
                *observed(signals, "memory.growth_monotone"),
                *observed(signals, "memory.graph_alive_count", 0),
                *observed(signals, "step.count", self.min_steps),
                *observed(signals, "host.memory_available_bytes"),
            ),
            where=self._where(signals) if graphs else None,
            fixes=(self._advice(graphs),),
            confidence="high" if graphs and grows else "medium" if graphs else "low",
            severity="critical" if doomed else "warn" if grave else "info",
            title=None if grave else "Graphs of old losses stay in memory",
        )

    def _grows_by_itself(self, signals: Signals, steps: float) -> bool:
        """Growth so sure, steady and large that no allocator explains it."""
        slope = low(signals, "memory.rss_slope_bytes_per_step")
        return (
            slope is not None
            and slope >= self.min_slope_bytes_per_step
            and slope * steps >= self.min_growth_bytes
            and is_on(signals, "memory.growth_monotone")
        )

    def _exhausted_after_s(self, signals: Signals) -> float | None:
        slope = number(signals, "memory.rss_slope_bytes_per_step")
        step_s = number(signals, "step.mean_s")
        available = number(signals, "host.memory_available_bytes")
        if not slope or slope <= 0 or step_s is None or available is None:
            return None
        return available / slope * step_s

    @staticmethod
    def _summary(signals: Signals, graphs: int, grows: bool, left_s: float | None) -> str:
        parts = []
        slope = number(signals, "memory.rss_slope_bytes_per_step")
        if grows and slope is not None:
            parts.append(f"Memory grows by {size(slope)} with every step")
        if graphs:
            kept = f"{graphs} loss graph{'s' if graphs > 1 else ''} outlived their steps by far"
            parts.append(kept)
        if left_s is not None:
            parts.append(f"free memory lasts for another {duration(left_s)} at this pace")
        return "; ".join(parts) + "."

    @staticmethod
    def _where(signals: Signals) -> Location | None:
        """The line that keeps the graphs where the source has only one, else their backward."""
        kept = place(signals, "source.graph_kept_where")
        return kept or place(signals, "memory.graph_alive_where")

    @staticmethod
    def _advice(graphs: int) -> FixAdvice:
        if graphs:
            return FixAdvice(
                fix="loss-detach",
                params={},
                safety="safe",
                text="Keep numbers, not tensors: what adds up or collects the loss of a "
                "step should take loss.item() or loss.detach().",
                code="total += loss.item()",
            )
        return FixAdvice(
            fix="loss-detach",
            params={},
            safety="safe",
            text="Look for lists and sums that hold outputs or losses with their graphs, above all "
            "in the evaluation; run it under torch.inference_mode().",
            code="with torch.inference_mode():",
        )
