"""Why a number of the diagnosis is null: `missing` names each of them by its JSON path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Finding,
    KernelTime,
    OperatorTimes,
    Overhead,
    PhaseTime,
    RankSummary,
    RunSummary,
    SimulatedChange,
    StepSummary,
)
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.signals import Signals

_NO_END = "the run has no recorded end"
_NO_STEP = "no step was completed"
_NO_SPREAD = "one block of steps tells no spread"
_NO_STATES = "no step of the window carried readings of this phase"
_NO_QUEUE = f"{_NO_STATES}, or this system has no /proc/*/schedstat"
_NO_MODEL = "there is no time model for this finding"

REASONS: dict[tuple[type, str], str] = {
    (RunSummary, "started_unix_s"): "the run does not say when it began",
    (RunSummary, "wall_s"): _NO_END,
    (RunSummary, "exit_status"): _NO_END,
    (RunSummary, "world_size"): "no training process was seen",
    (RunSummary, "startup_s"): _NO_STEP,
    (StepSummary, "mean_s"): _NO_STEP,
    (StepSummary, "mean_s_low"): _NO_SPREAD,
    (StepSummary, "mean_s_high"): _NO_SPREAD,
    (StepSummary, "samples_per_s"): _NO_STEP,
    (PhaseTime, "cpu_s_per_step"): _NO_STATES,
    (PhaseTime, "run_queue_s_per_step"): _NO_QUEUE,
    (PhaseTime, "blocked_s_per_step"): _NO_QUEUE,
    (Finding, "share"): "the fact was read, its time was not measured",
    (Finding, "recoverable_s_per_step"): _NO_MODEL,
    (Finding, "gain"): _NO_MODEL,
    (Overhead, "share"): "the agent measures its cost when the training ends",
    (KernelTime, "tensor_cores"): "tensor cores do not compute it, or the names do not tell",
    (OperatorTimes, "device"): "no work of a device was traced, so no operator has any",
    (SimulatedChange, "step_after_s"): "the trace marks no steps",
    (RankSummary, "mean_s"): "this rank completed no step",
}
"""By field; texts and places that may be null need no reason."""

_SIGNAL_OF = {"mean_s": "step.mean_s", "samples_per_s": "run.samples_per_s"}


OF_TRACES = "a trace does not say"
OF_BOTH = (Finding, KernelTime, OperatorTimes, SimulatedChange)
"""Records whose reasons hold for traces as well."""


def reasons_for_nulls(diagnosis: Diagnosis, signals: Signals) -> dict[str, str]:
    """JSON path -> reason, for every number that is null and every phase that is left out."""
    missing: dict[str, str] = {}
    traced = diagnosis.source == "trace"
    for phase in PHASES:
        if phase not in diagnosis.steps.phases and traced:
            missing[f"steps.phases.{phase}"] = OF_TRACES
        elif phase not in diagnosis.steps.phases:
            share = signals.values.get(f"step.{phase}_share")
            missing[f"steps.phases.{phase}"] = (share and share.reason) or _NO_STEP
    for path, owner, name in _nulls(diagnosis, ""):
        reason = REASONS.get((owner, name))
        if traced and reason is not None and owner not in OF_BOTH:
            reason = OF_TRACES
        signal = signals.values.get(_SIGNAL_OF.get(name, ""))
        if owner is StepSummary and signal is not None:
            reason = signal.reason or reason
        if reason is not None:
            missing[path] = reason
    return missing


def _nulls(value: object, path: str) -> Iterator[tuple[str, type, str]]:
    """Path, class and name of every field that is None."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            inner = getattr(value, field.name)
            here = f"{path}.{field.name}" if path else field.name
            if inner is None:
                yield here, type(value), field.name
            elif field.name not in ("series", "facts", "other_sessions", "missing"):
                yield from _nulls(inner, here)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _nulls(inner, f"{path}.{key}")
    elif isinstance(value, tuple):
        for place, inner in enumerate(value):
            yield from _nulls(inner, f"{path}.{place}")
