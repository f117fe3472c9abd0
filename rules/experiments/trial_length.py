"""How many steps a trial does, and how many of them are warm-up that no arm counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.rules.experiments.candidates import Candidate, measured
from trainprof.rules.experiments.trial import warm_up_steps

LEAST_STEPS, MOST_STEPS = 30, 200
"""Of a trial, its warm-up not counted."""
TRIAL_S = 4.0
"""Seconds that the steps of a trial should take: single slow steps even out."""
LONGEST_EPOCH_S = 20.0
"""A longer epoch is not waited for in every trial."""


@dataclass(frozen=True, slots=True)
class TrialLength:
    """Steps of a trial, `warm_up` of which are left out."""

    steps: int
    warm_up: int


def trial_length(
    diagnosis: Diagnosis,
    candidates: Sequence[Candidate],
    settings: Sequence[Mapping[str, Any]] = (),
    *,
    whole: bool,
    asked: int | None = None,
) -> TrialLength:
    """As many steps as even out, behind a warm-up after which every fix is in force.

    What keeps results of the first epoch gains from the second one on: the first is warm-up then.

    Args:
        diagnosis: Of the unchanged run, which has steps.
        candidates: What is to be tried.
        settings: Other parameters of loaders that may take part.
        whole: Whether that run came to the script's own end, which trials cannot go beyond.
        asked: Steps without the warm-up, where somebody wants so many.
    """
    steps = diagnosis.steps
    assert steps is not None
    assert steps.mean_s is not None
    warm_up = warm_up_steps([*[one.application.params for one in candidates], *settings])
    if any(one.from_second_epoch for one in candidates):
        epoch = _epoch_steps(diagnosis)
        if epoch is not None and epoch * steps.mean_s <= LONGEST_EPOCH_S:
            warm_up += epoch
    fitting = min(max(round(TRIAL_S / steps.mean_s), LEAST_STEPS), MOST_STEPS)
    wanted = (asked or fitting) + warm_up
    return TrialLength(min(wanted, steps.count) if whole else wanted, warm_up)


def _epoch_steps(diagnosis: Diagnosis) -> int | None:
    """Steps of one pass over the training's loader; None where its length is not known.

    A loader of an iterable data set has no length: then what was counted between its starts.
    """
    batches = measured(diagnosis, "loader.batches") or measured(
        diagnosis, "loader.batches_per_epoch"
    )
    micro_batches = measured(diagnosis, "step.micro_batches")
    if not isinstance(batches, int | float) or batches <= 0:
        return None
    each = micro_batches if isinstance(micro_batches, int | float) and micro_batches >= 1 else 1.0
    return math.ceil(batches / each)
