"""The steady steps as a report shows them."""

from __future__ import annotations

from trainprof.profiler.model.diagnosis import PhaseTime, StepSummary
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import high, is_on, low, number
from trainprof.rules.signals.steps import phase_states
from trainprof.rules.signals.training import Training


def summarise_steps(training: Training, signals: Signals) -> StepSummary:
    """Mean, throughput and phases of the window; a phase that was not measured is left out."""
    states = phase_states(training)
    return StepSummary(
        count=training.count,
        steady=training.window.steady_count,
        mean_s=number(signals, "step.mean_s"),
        mean_s_low=low(signals, "step.mean_s"),
        mean_s_high=high(signals, "step.mean_s"),
        samples_per_s=number(signals, "run.samples_per_s"),
        phases={
            phase: time
            for phase in PHASES
            if (time := _phase(phase, signals, states.get(phase))) is not None
        },
    )


def _phase(
    phase: str, signals: Signals, state: tuple[float, float | None] | None
) -> PhaseTime | None:
    share = number(signals, f"step.{phase}_share")
    seconds = number(signals, f"step.{phase}_s")
    if share is None or seconds is None:
        return None
    inferred = is_on(signals, f"step.{phase}_inferred")
    if seconds == 0.0:
        return PhaseTime(share, seconds, 0.0, 0.0, 0.0)
    if state is None:
        return PhaseTime(share, seconds, inferred=inferred)
    on_cpu, waiting = state
    return PhaseTime(
        share,
        seconds,
        cpu_s_per_step=on_cpu * seconds,
        run_queue_s_per_step=None if waiting is None else waiting * seconds,
        blocked_s_per_step=None if waiting is None else (1.0 - on_cpu - waiting) * seconds,
        inferred=inferred,
    )
