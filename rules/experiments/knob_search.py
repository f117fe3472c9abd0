"""Which value of a knob is best: short pairs of its own, proposed and given up by optuna.

The values around the advised one are measured against the unchanged script. The best then goes
through the planned pairs like any candidate: the pairs that chose it prove nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainprof.errors import MissingExtraError
from trainprof.rules.experiments.candidates import Candidate, Searched
from trainprof.rules.fixes.registry import fix_named

try:
    import optuna
except ModuleNotFoundError as missing:
    if missing.name != "optuna":
        raise
    raise MissingExtraError(
        "only the advised values are tried; those around them are searched with optuna, which is "
        "not installed: pip install 'trainprof[tune]'"
    ) from None

FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Of the advised value."""
PER_CPU = {"num_workers": 2, "num_threads": 1, "threads": 1}
"""More of these for each processor have nothing to run on."""
MOST_TRIED = 8
"""Settings of one candidate: all of them where there are no more, else those that TPE proposes."""
PAIRS = 2
"""Short ones of each setting; one that is behind the median after the first gets no second."""
BETTER_BY = 0.02
"""Log-ratio; a setting that is no further ahead of the advised one does not replace it."""
MOST_TIME = 0.3
"""Of the time that is left; the rest is for proof."""

Measure = Callable[[Candidate, int], float | None]
"""Log-ratio of one short pair, old over new time, from the candidate and the pair's number; None
where the fix was refused or a trial failed."""


@dataclass(slots=True)
class KnobSearch:
    """Chooses the values of a candidate's knobs.

    Attributes:
        cpus: That the training may use. clock: Monotonic seconds.
    """

    cpus: int
    clock: Callable[[], float]

    def __call__(self, candidate: Candidate, measure: Measure, left_s: float) -> Candidate:
        """The candidate with the best setting, and with what was tried; as it is without knobs."""
        space = self.space(candidate)
        if not space:
            return candidate
        until = self.clock() + MOST_TIME * left_s
        tried: dict[tuple[int, ...], list[float]] = {}

        def objective(trial: Any) -> float:
            setting = {name: trial.suggest_categorical(name, space[name]) for name in space}
            key = tuple(setting.values())
            known = key in tried
            ratios = tried.setdefault(key, [])
            for pair in range(0 if known else PAIRS):
                ratio = measure(_with(candidate, setting), pair)
                if ratio is None:
                    raise optuna.TrialPruned
                ratios.append(ratio)
                trial.report(statistics.fmean(ratios), pair)
                if pair + 1 < PAIRS and trial.should_prune():
                    raise optuna.TrialPruned
            if not ratios:
                raise optuna.TrialPruned
            return statistics.fmean(ratios)

        def stop_when_late(study: Any, _: Any) -> None:
            if self.clock() > until:
                study.stop()

        advised = {name: candidate.application.params[name] for name in space}
        study = _study(space)
        study.enqueue_trial(advised)
        study.optimize(objective, n_trials=_most(space), callbacks=[stop_when_late])
        return _best(candidate, tuple(space), tuple(advised.values()), tried)

    def space(self, candidate: Candidate) -> dict[str, list[int]]:
        """Values to try by knob, the advised ones among them; empty where there is no choice."""
        found = {}
        for name in fix_named(candidate.application.fix).searched:
            advised = candidate.application.params.get(name)
            if isinstance(advised, int) and advised >= 1:
                most = PER_CPU.get(name, math.inf) * self.cpus
                values = {max(round(advised * factor), 1) for factor in FACTORS}
                found[name] = sorted({value for value in values if value <= most} | {advised})
        return found if any(len(values) > 1 for values in found.values()) else {}

    def largest(self, candidate: Candidate) -> dict[str, Any]:
        """Its parameters, each knob at the highest value that may be tried."""
        highest = {name: values[-1] for name, values in self.space(candidate).items()}
        return {**candidate.application.params, **highest}


def _study(space: Mapping[str, Sequence[int]]) -> Any:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    size = math.prod(len(values) for values in space.values())
    sampler: Any = optuna.samplers.TPESampler(seed=0)
    if size <= MOST_TRIED:
        sampler = optuna.samplers.GridSampler(dict(space), seed=0)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2)
    return optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)


def _most(space: Mapping[str, Sequence[int]]) -> int:
    """Trials of the study: the grid comes to the advised setting, which was first, once more."""
    size = math.prod(len(values) for values in space.values())
    return size + 1 if size <= MOST_TRIED else MOST_TRIED


def _with(candidate: Candidate, setting: Mapping[str, int]) -> Candidate:
    application = candidate.application
    params = {**application.params, **setting}
    return replace(candidate, application=replace(application, params=params))


def _best(
    candidate: Candidate,
    names: tuple[str, ...],
    advised: tuple[int, ...],
    tried: Mapping[tuple[int, ...], Sequence[float]],
) -> Candidate:
    means = {key: statistics.fmean(ratios) for key, ratios in tried.items() if ratios}
    complete = {key: mean for key, mean in means.items() if len(tried[key]) == PAIRS}
    best = max(complete, key=lambda key: complete[key], default=advised)
    if best != advised and complete[best] < complete.get(advised, -math.inf) + BETTER_BY:
        best = advised
    searched = tuple(
        Searched(
            dict(zip(names, key, strict=True)),
            math.exp(means[key]) if key in means else None,
            len(ratios),
        )
        for key, ratios in tried.items()
    )
    return replace(_with(candidate, dict(zip(names, best, strict=True))), searched=searched)
