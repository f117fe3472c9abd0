"""mem-frag."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, is_on, number, observed, percent, plural, size, text
from trainprof.rules.rule import Candidate, Case, Rule


class Frag(Rule):
    """The allocator holds memory that it cannot use, and asks the device for more.

    ## What it finds
    In a trace or a memory snapshot: reserved memory of at least twice what is allocated, memory
    that goes back to the device and is asked for anew, and allocations that fail although enough is
    free.

    ## Why it costs time
    PyTorch's allocator keeps freed blocks for reuse. Where sizes vary, none of them fits, and it
    asks the device for more; when there is no more, it gives all free blocks back, which waits for
    the device to be idle, and asks again. Each such call costs up to a millisecond and holds up all
    launches. Where that is not enough the training ends, out of memory.

    ## Evidence needed
    One of

    - in at least 3 % of the window of a trace the device is idle while the host is in cudaMalloc or
      cudaFree, with at least one such call a step;
    - in a snapshot, memory that was given back (not by `empty_cache()`) and asked for at once;
    - an allocation failed for which more than it asked for was free, in pieces;
    - at the peak of what is allocated at least 2.0 times as much is reserved, and that is 30 % of
      the device or more (TraceML); where the size of the device is not known, 4 GiB.

    The expected gain is Amdahl's bound on the idle time, where a trace tells it; memory itself has
    no time model. confirmed on: built files only.

    ## Fix
    `PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True`, set before the training starts. Where sizes
    vary with the length of sequences: bucket the lengths, or run the longest batch first. Take
    `torch.cuda.empty_cache()` out of the loop.

    ## Fix safety
    Safe.

    ## When it is wrong
    The first steps of a training reserve what later ones reuse; a trace of these shows calls that
    cost nothing later.

    ## References
    - PyTorch, CUDA semantics, memory management:
      https://docs.pytorch.org/docs/stable/notes/cuda.html#memory-management
    - Expandable segments: https://github.com/pytorch/pytorch/issues/91692
    - TraceML, thresholds for reserved memory: https://github.com/traceopt-ai/traceml
    """

    id = "mem-frag"
    title = "Memory of the device is broken into pieces"
    needs = ("device_memory.device",)
    fires_on = (
        Case(
            "a trace in which cudaMalloc and cudaFree keep the device idle",
            {
                "device_memory.device": "0",
                "device_memory.segment_calls_per_step": 12.0,
                "timeline.idle_allocator_share": 0.14,
                "timeline.window": "5 whole steps",
            },
            severity="warn",
            gain=(1.05, 1.2),
        ),
        Case(
            "memory given back and asked for anew",
            {
                "device_memory.device": "0",
                "device_memory.segment_calls_per_step": 6.0,
                "device_memory.retries": 4,
                "device_memory.expandable": False,
            },
            severity="warn",
        ),
        Case(
            "out of memory with enough of it free",
            {
                "device_memory.device": "0",
                "device_memory.segment_calls_per_step": 0.0,
                "device_memory.failures": 1,
                "device_memory.broken_failures": 1,
            },
            severity="critical",
        ),
        Case(
            "three times as much reserved as allocated",
            {
                "device_memory.device": "0",
                "device_memory.segment_calls_per_step": 0.0,
                "device_memory.reserved_ratio": 3.0,
                "device_memory.most_reserved_bytes": 30 * 2**30,
                "device_memory.reserved_share": 0.4,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "twice as much reserved, on a device with plenty",
            {
                "device_memory.device": "0",
                "device_memory.segment_calls_per_step": 0.0,
                "device_memory.reserved_ratio": 2.4,
                "device_memory.most_reserved_bytes": 5 * 2**30,
                "device_memory.reserved_share": 0.06,
            },
        ),
        Case(
            "out of memory because there is no more",
            {
                "device_memory.device": "0",
                "device_memory.segment_calls_per_step": 0.0,
                "device_memory.reserved_ratio": 1.05,
                "device_memory.failures": 1,
                "device_memory.broken_failures": 0,
                "device_memory.retries": 0,
            },
        ),
        Case(
            "calls that keep nothing waiting",
            {
                "device_memory.device": "0",
                "device_memory.segment_calls_per_step": 3.0,
                "timeline.idle_allocator_share": 0.004,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    min_idle_share = 0.03
    """Of the window (the least that the engine calls a finding)."""
    min_ratio, min_reserved_share = 2.0, 0.30
    """Reserved by allocated memory, and of the device (TraceML)."""
    min_reserved_bytes = 4 * 2**30
    """Where the size of the device is not known (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """There is memory of a device to speak of."""
        asked = ("segment_calls_per_step", "most_reserved_bytes", "retries")
        return any(number(signals, f"device_memory.{name}") is not None for name in asked)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """The gravest of four signs."""
        idle = number(signals, "timeline.idle_allocator_share") or 0.0
        calls = number(signals, "device_memory.segment_calls_per_step") or 0.0
        broken = int(number(signals, "device_memory.broken_failures") or 0)
        retries = int(number(signals, "device_memory.retries") or 0)
        if broken:
            what = f"{plural(broken, 'allocation')} failed though enough memory was free, in pieces"
            yield self._candidate(signals, what, "critical")
        elif calls >= 1.0 and idle >= self.min_idle_share:
            window = text(signals, "timeline.window") or "the window"
            what = f"In {percent(idle)} of {window} the device waited while the host asked it for "
            what += f"memory or gave it back, {calls:.0f} times a step"
            yield self._candidate(signals, what, None, idle)
        elif retries:
            what = (
                f"Memory went back to the device {plural(retries, 'time')} and was asked for anew"
            )
            yield self._candidate(signals, what, "warn")
        elif self._is_large(signals):
            ratio = number(signals, "device_memory.reserved_ratio") or 0.0
            most = number(signals, "device_memory.most_reserved_bytes") or 0.0
            what = f"At the peak {ratio:.1f} times as much memory is reserved as is allocated "
            yield self._candidate(signals, f"{what}(up to {size(most)})", "info")

    def _is_large(self, signals: Signals) -> bool:
        ratio = number(signals, "device_memory.reserved_ratio")
        if ratio is None or ratio < self.min_ratio:
            return False
        share = number(signals, "device_memory.reserved_share")
        most = number(signals, "device_memory.most_reserved_bytes") or 0.0
        return (
            most >= self.min_reserved_bytes if share is None else share >= self.min_reserved_share
        )

    def _candidate(
        self, signals: Signals, what: str, severity: str | None, idle: float | None = None
    ) -> Candidate:
        names = ("segment_calls_share", "most_reserved_bytes", "inactive_split_share", "emptied")
        return Candidate(
            summary=f"{what}.",
            evidence=(
                *observed(signals, "device_memory.segment_calls_per_step"),
                *observed(signals, "timeline.idle_allocator_share", self.min_idle_share),
                *observed(signals, "device_memory.retries"),
                *observed(signals, "device_memory.broken_failures"),
                *observed(signals, "device_memory.reserved_ratio", self.min_ratio, "TraceML"),
                *observed(signals, "device_memory.reserved_share", self.min_reserved_share),
                *(one for name in names for one in observed(signals, f"device_memory.{name}")),
                *observed(signals, "device_memory.expandable"),
            ),
            share=idle,
            gain=None if idle is None else Gain(amdahl(idle / 2), amdahl(idle)),
            fixes=self._advice(is_on(signals, "device_memory.expandable")),
            confidence="medium",
            severity=severity,
            timeless=severity is not None,
        )

    @staticmethod
    def _advice(expandable: bool) -> tuple[FixAdvice, ...]:
        if expandable:
            return (
                FixAdvice(
                    fix="even-sizes",
                    params={},
                    safety="semantics",
                    text="Let sizes vary less: bucket the lengths, run the longest batch first.",
                ),
            )
        return (
            FixAdvice(
                fix="allocator-segments",
                params={},
                safety="safe",
                text="Let the allocator grow its segments instead of asking for new ones.",
                code="PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
            ),
        )
