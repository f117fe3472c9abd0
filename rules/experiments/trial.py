"""One trial: what a short run under a plan tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.run import ProcessRecord, Run
from trainprof.rules.signals.training import Training

LEAST_STEPS = 10
"""That are left when the warm-up is cut off."""
WARM_UP_STEPS = 5
"""At least; longer where workers fill their queues first."""


@dataclass(frozen=True, slots=True)
class FixState:
    """What a fix said of itself in the training process."""

    fix: str
    active: bool | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of one arm.

    Attributes:
        seconds: Per sample, or per step where samples were not counted; None if it failed.
        per: "sample" or "step".
        p95_s: 95th percentile of a step.
        step_s: Mean step after the warm-up. start_s: The steps of the warm-up together.
        memory_bytes: The most that the run's processes held.
        losses: By step.
        shares: Of the phases in the step, as "step.data_wait_share".
        fixes: State of each fix of the plan.
        samples: What each pass over a loader drew, in a form without order (see sample_check).
        seed_calls: Seeds that the script set itself; None where that was not seen.
        delay_share: Part of the steps' time in which the training thread waited for a CPU.
        problem: Why it does not count, else None.
        refused: Where that is because a fix was not in force: its reason.
        took_s: From its start to its end.
        earlier: It comes from an interrupted tune that this one goes on with.
        folder: The run folder.
    """

    seconds: float | None
    per: str = "step"
    steps: int = 0
    p95_s: float | None = None
    step_s: float | None = None
    start_s: float | None = None
    memory_bytes: int | None = None
    losses: Mapping[int, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    fixes: tuple[FixState, ...] = ()
    samples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seed_calls: int | None = None
    delay_share: float | None = None
    problem: str | None = None
    refused: str | None = None
    took_s: float | None = None
    earlier: bool = False
    folder: str = ""


def read_trial(run: Run, steps: int, warm_up: int) -> Trial:
    """The trial that a run folder holds.

    Args:
        run: Read back.
        steps: Steps that it was to do.
        warm_up: Steps to leave out, the same in both arms.
    """
    if not run.sessions:
        return Trial(None, problem=f"it did no training step (exit status {run.info.exit_status})")
    longest = max(run.sessions, key=lambda session: len(session.trainers[0].steps))
    trainer = Training(run, longest).trainer
    fixes = _fix_states(trainer)
    problem = _problem(run, trainer, fixes, steps, warm_up)
    if problem is not None:
        done = len(trainer.steps)
        return Trial(None, steps=done, fixes=fixes, problem=problem, refused=_refusal(fixes))
    every = np.frombuffer(trainer.steps.columns["wall_ns"], np.int64)
    wall = every[warm_up:steps]
    samples = np.frombuffer(trainer.steps.columns["samples"], np.int64)[warm_up:steps]
    counted = bool(np.all(samples > 0))
    held = [sum(p.rss_bytes for p in sample.processes) for sample in run.samples]
    return Trial(
        seconds=float(wall.sum()) / 1e9 / float(samples.sum() if counted else len(wall)),
        per="sample" if counted else "step",
        steps=len(trainer.steps),
        p95_s=float(np.quantile(wall, 0.95)) / 1e9,
        step_s=float(wall.mean()) / 1e9,
        start_s=float(every[:warm_up].sum()) / 1e9,
        memory_bytes=max(held, default=None),
        losses=_losses(trainer),
        shares=_shares(trainer, warm_up, steps, float(wall.sum())),
        fixes=fixes,
        samples={key: fact.data for key, fact in trainer.latest_facts("samples").items()},
        seed_calls=_seed_calls(trainer),
        delay_share=_delay_share(trainer, warm_up, steps),
    )


def warm_up_steps(plans: Sequence[Mapping[str, Any]]) -> int:
    """Steps to leave out of every arm: until workers have filled their queues, twice over.

    Args:
        plans: Parameters of all loader settings that take part.
    """
    ahead = [
        int(params.get("num_workers") or 0) * int(params.get("prefetch_factor") or 2)
        for params in plans
    ]
    return max(WARM_UP_STEPS, 2 * max(ahead, default=0))


def _shares(trainer: ProcessRecord, first: int, stop: int, wall_ns: float) -> dict[str, float]:
    columns = trainer.steps.columns
    sums = {
        phase: float(np.frombuffer(columns[f"{phase}_ns"], np.int64)[first:stop].sum())
        for phase in PHASES
        if f"{phase}_ns" in columns
    }
    return {f"step.{phase}_share": total / wall_ns for phase, total in sums.items() if total >= 0}


def _refusal(fixes: Sequence[FixState]) -> str | None:
    """Of the first fix that was not in force."""
    idle = next((state for state in fixes if state.active is not True), None)
    if idle is None:
        return None
    return f"{idle.fix} was not in force: {idle.reason or 'it could not be read back'}"


def _delay_share(trainer: ProcessRecord, first: int, stop: int) -> float | None:
    """By the kernel's scheduler statistics, which are read on some of the steps for all of them."""
    columns = trainer.steps.columns
    queued, wall = (np.frombuffer(columns[name], np.int64) for name in ("run_queue_ns", "wall_ns"))
    read = np.flatnonzero(queued[:stop] >= 0)
    read = read[read >= first]
    if len(read) < 2:
        return None
    spanned = float(wall[read[0] + 1 : read[-1] + 1].sum())
    return min(float(queued[read[1:]].sum()) / spanned, 1.0) if spanned > 0 else None


def _seed_calls(trainer: ProcessRecord) -> int | None:
    calls = [fact.data.get("calls") for fact in trainer.latest_facts("seeds").values()]
    return calls[0] if calls and isinstance(calls[0], int) else None


def _fix_states(trainer: ProcessRecord) -> tuple[FixState, ...]:
    facts = (fact.data for fact in trainer.latest_facts("fix").values())
    return tuple(
        FixState(str(data.get("fix")), _active(data.get("active")), data.get("reason"))
        for data in facts
    )


def _active(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _problem(
    run: Run, trainer: ProcessRecord, fixes: Sequence[FixState], steps: int, warm_up: int
) -> str | None:
    """Why the trial does not count."""
    if run.info.exit_status:
        return f"the script ended with exit status {run.info.exit_status}"
    idle = _refusal(fixes)
    if idle is not None:
        return idle
    if len(trainer.steps) < min(steps, warm_up + LEAST_STEPS):
        return f"it did {len(trainer.steps)} steps only"
    return None


def _losses(trainer: ProcessRecord) -> dict[int, float]:
    """The mean loss of each step (its micro-batches)."""
    sums: dict[int, list[float]] = {}
    for loss in trainer.losses:
        if loss.value is not None:
            sums.setdefault(loss.step, []).append(loss.value)
    return {step: sum(values) / len(values) for step, values in sorted(sums.items())}
