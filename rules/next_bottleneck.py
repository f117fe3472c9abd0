"""What would bound the step once a finding is fixed: the phases scaled, the loader run faster.

Two small models. The phases exclude each other, so a fix takes its time out of the phases that it
shortens and leaves the others as they are (Amdahl's law on disjoint parts). But loader workers
prepare batches beside the training: where the fix makes the training use its batches faster, they
may no longer keep up, and the wait for them grows.
"""

from __future__ import annotations

from collections.abc import Iterable

from trainprof.profiler.model.diagnosis import Evidence
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import LoaderTimes
from trainprof.rules.reading import number

LEAST_KNOWN = 0.90
"""Part of the step that measured phases have to cover, or the largest of them proves nothing."""

PHASE_OF_SIGNAL = {
    **{f"step.{phase}_share": phase for phase in PHASES},
    "loader.start_share": "data_wait",
    "gc.share": "gc",
    "checkpoint.share": "checkpoint",
    "logging.share": "logging",
    "recompute.share": "backward",
    "untrained.step_share": "backward",
}
"""Which phase a share is a part of."""


def phases_of(evidence: Iterable[Evidence]) -> tuple[str, ...]:
    """The phases whose shares the evidence names, each once."""
    named = (PHASE_OF_SIGNAL.get(one.signal) for one in evidence)
    return tuple(dict.fromkeys(phase for phase in named if phase is not None))


def phase_after(signals: Signals, phases: Iterable[str], speedup: float) -> str | None:
    """The phase that takes the largest part of the step after a fix.

    Args:
        signals: What was measured.
        phases: Those that the fix shortens; the time goes out of each in proportion to it.
        speedup: T_old / T_new of the whole step.

    Returns:
        None where the phases of the step are not known, or the fix shortens none of them.
    """
    shares = {
        phase: share
        for phase in PHASES
        if (share := number(signals, f"step.{phase}_share")) is not None
    }
    shortened = {phase: shares[phase] for phase in phases if shares.get(phase, 0.0) > 0.0}
    if sum(shares.values()) < LEAST_KNOWN or not shortened:
        return None
    saved = min(1.0 - 1.0 / max(speedup, 1.0), sum(shortened.values()))
    for phase, share in shortened.items():
        shares[phase] = share - saved * share / sum(shortened.values())
    if "data_wait" in shares and "data_wait" not in shortened:
        exposed = _wait_exposed(signals, saved)
        shares["data_wait"] = max(shares["data_wait"], exposed)
    return max(shares, key=lambda phase: shares[phase])


def _wait_exposed(signals: Signals, saved: float) -> float:
    """Share of the old step spent waiting for workers, once the loop uses its batches faster."""
    required = ("num_workers", "producer_wall_s", "consumer_s")
    known = all(number(signals, f"loader.{name}") is not None for name in required)
    workers = number(signals, "loader.num_workers") or 0.0
    step_s = number(signals, "step.mean_s")
    if not known or not workers or not step_s or number(signals, "host.usable_cores") is None:
        return 0.0
    times = LoaderTimes.of(signals)
    saved_s = saved * step_s / max(number(signals, "step.micro_batches") or 1.0, 1.0)
    quicker_s = max(times.consume_s - saved_s, 0.0)
    pace_s = times.produce_s / workers
    waiting_s = max(pace_s - quicker_s, 0.0)
    return waiting_s * max(number(signals, "step.micro_batches") or 1.0, 1.0) / step_s
