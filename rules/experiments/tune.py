"""The course of a tune: baseline repeats, each candidate in pairs, then all that was kept together.

Nothing here starts a process: a `Runner` does, so that recorded noise can be replayed in its place.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trainprof.profiler.model.plan import Plan
from trainprof.rules.experiments.candidates import Candidate, Refused, without_overlap
from trainprof.rules.experiments.loss_check import LossCheck, Losses, check_losses
from trainprof.rules.experiments.sample_check import sample_difference
from trainprof.rules.experiments.start_cost import break_even_steps, why_it_does_not_pay
from trainprof.rules.experiments.trial import Trial
from trainprof.rules.statistics.pairs import LOOKS, Ratio, decide, detectable, paired_ratio

EQUAL_PAIRS = 4
"""Pairs of unchanged runs before anything else: the noise of this script on this machine."""
OTHER_SEEDS = 3
"""Unchanged runs with other seeds that are made at a time, where a change draws random numbers
otherwise and they are needed to tell whether it does harm."""
MOST_SEEDS = 6
HOPELESS_AFTER = 2
"""Pairs after which a candidate that is slower by far is dropped."""
MOST_TAIL = 1.2
"""95th percentile of a step, new over old; a gain of the mean that costs the tail is none."""
MOST_MEMORY = 0.9
"""Of the machine's memory."""


class Runner(Protocol):
    """Runs the script once under a plan."""

    def run(self, plan: Plan, steps: int, label: str, seed_shift: int = 0) -> Trial:
        """One trial in a fresh process; `seed_shift` is added to the seeds that the script sets."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a watcher is told before each trial."""

    candidate: str
    pair: int
    pairs_at_most: int
    ratio: Ratio | None
    left_s: float


@dataclass(slots=True)
class Experiment:
    """One candidate (or the combination of those kept) against the original.

    Attributes:
        verdict: "keep", "reject", "inconclusive", "failed"; None while it goes on.
        reason: Of the verdict, for a reader.
    """

    name: str
    candidates: tuple[Candidate, ...]
    log_ratios: list[float] = field(default_factory=list)
    unchanged: list[Trial] = field(default_factory=list)
    changed: list[Trial] = field(default_factory=list)
    looks: int = 0
    verdict: str | None = None
    reason: str = ""
    loss: LossCheck | None = None

    @property
    def plan(self) -> Plan:
        """What the changed trials run under."""
        return Plan(tuple(candidate.application for candidate in self.candidates))

    @property
    def ratio(self) -> Ratio | None:
        """Old over new time so far."""
        return paired_ratio(self.log_ratios) if self.log_ratios else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tune found, whole or interrupted.

    Attributes:
        final: The experiment whose ratio is the tune's: the combination, or the only one kept.
        experiments: All of them, in order. refused: Fixes that were not tried.
        equal_log_ratios: Of the pairs of unchanged runs.
        ended: "complete", "budget" or "interrupted".
    """

    final: Experiment | None
    experiments: tuple[Experiment, ...]
    refused: tuple[Refused, ...]
    equal_log_ratios: tuple[float, ...]
    ended: str


class OutOfTime(Exception):
    """The budget does not hold another pair."""


class Tune:
    """Runs the experiments of one script.

    Args:
        runner: Starts trials. candidates: What to try, the most promising first.
        refused: Carried into the outcome.
        steps: Steps of a trial. budget_s: For all trials together.
        clock: Monotonic seconds. tell: Is told before each trial.
        memory_bytes: Of the machine; None where unknown.
        run_steps: Of the training in daily use; None where unknown.
    """

    def __init__(
        self,
        runner: Runner,
        candidates: Iterable[Candidate],
        refused: Iterable[Refused],
        *,
        steps: int,
        budget_s: float,
        clock: Callable[[], float],
        tell: Callable[[Progress], None] = lambda _: None,
        memory_bytes: int | None = None,
        run_steps: int | None = None,
    ) -> None:
        self._runner = runner
        self._candidates = list(candidates)
        self._refused = list(refused)
        self._steps = steps
        self._clock = clock
        self._until = clock() + budget_s
        self._tell = tell
        self._memory_bytes = memory_bytes
        self._run_steps = run_steps
        self._trial_s: list[float] = []
        self._equal: list[float] = []
        self._baseline: list[Trial] = []
        self._seeded: list[Losses] = []
        self._experiments: list[Experiment] = []
        self._final: Experiment | None = None
        self.ended = "interrupted"

    def run(self) -> Outcome:
        """Everything, as far as the time allows."""
        try:
            self._measure_noise()
            for candidate in self._candidates:
                self._try((candidate,), candidate.application.fix)
            self._combine()
            self.ended = "complete"
        except OutOfTime:
            self.ended = "budget"
        return self.outcome()

    def outcome(self) -> Outcome:
        """What is known now; also in the middle."""
        for experiment in self._experiments:
            if experiment.verdict is None:
                experiment.verdict = "inconclusive"
                experiment.reason = f"{self.ended} after {len(experiment.log_ratios)} pairs"
        return Outcome(
            self._final or self._best(),
            tuple(self._experiments),
            tuple(self._refused),
            tuple(self._equal),
            self.ended,
        )

    def _kept(self) -> list[Experiment]:
        return [one for one in self._experiments if one.verdict == "keep"]

    def _best(self) -> Experiment | None:
        kept = self._kept()
        return max(kept, key=lambda one: one.ratio.point if one.ratio else 0.0, default=None)

    # Trials.

    def _trial(self, plan: Plan, label: str, seed_shift: int = 0) -> Trial:
        expected_s = statistics.median(self._trial_s) if self._trial_s else 0.0
        if self._clock() + expected_s > self._until:
            raise OutOfTime
        started = self._clock()
        trial = self._runner.run(plan, self._steps, label, seed_shift)
        self._trial_s.append(self._clock() - started)
        return trial

    def _measure_noise(self) -> None:
        """Pairs of unchanged runs."""
        for pair in range(EQUAL_PAIRS):
            self._say("unchanged", pair, EQUAL_PAIRS, self._equal)
            trials = [self._trial(Plan(()), "unchanged") for _ in range(2)]
            self._baseline += trials
            first, second = (trial.seconds for trial in trials)
            if first is None or second is None:
                problem = next(trial.problem for trial in trials if trial.problem)
                raise BaselineFailed(problem or "the unchanged script gave no time")
            self._equal.append(math.log(first / second))

    def _say(self, name: str, pair: int, most: int, ratios: Sequence[float]) -> None:
        ratio = paired_ratio(ratios) if ratios else None
        self._tell(Progress(name, pair + 1, most, ratio, max(self._until - self._clock(), 0.0)))

    # Experiments.

    def _try(self, candidates: tuple[Candidate, ...], name: str) -> Experiment:
        experiment = Experiment(name, candidates)
        self._experiments.append(experiment)
        least = detectable(statistics.stdev(self._equal), LOOKS[-1])
        predicted = candidates[0].predicted if len(candidates) == 1 else None
        if predicted is not None and predicted.high < least:
            experiment.verdict = "inconclusive"
            experiment.reason = (
                f"its predicted gain is {predicted.high:.2f} at most, and {LOOKS[-1]} pairs show "
                f"{least:.2f} here"
            )
            return experiment
        while experiment.verdict is None:
            self._pair(experiment)
            self._look(experiment)
        return experiment

    def _pair(self, experiment: Experiment) -> None:
        """One pair; the order alternates, so that drift strikes both arms alike."""
        self._say(experiment.name, len(experiment.log_ratios), LOOKS[-1], experiment.log_ratios)
        plans = [(Plan(()), experiment.unchanged), (experiment.plan, experiment.changed)]
        if len(experiment.log_ratios) % 2:
            plans.reverse()
        for plan, trials in plans:
            label = experiment.name if plan.applications else "unchanged"
            trials.append(self._trial(plan, label))
        old, new = experiment.unchanged[-1], experiment.changed[-1]
        if new.seconds is None or old.seconds is None:
            experiment.verdict = "failed"
            experiment.reason = new.problem or old.problem or "a trial gave no time"
        else:
            experiment.log_ratios.append(math.log(old.seconds / new.seconds))

    def _look(self, experiment: Experiment) -> None:
        """Decides, if enough pairs are there."""
        if experiment.verdict is not None:
            return
        ratios = experiment.log_ratios
        noise = statistics.stdev(self._equal)
        if len(ratios) == HOPELESS_AFTER and statistics.fmean(ratios) + 2.0 * noise < 0.0:
            experiment.verdict, experiment.reason = "reject", "it is slower"
            return
        experiment.looks += len(ratios) in LOOKS
        decision = decide(ratios)
        if decision == "drop":
            experiment.verdict, experiment.reason = "reject", "it is no faster"
        elif decision == "undecided":
            experiment.verdict = "inconclusive"
            experiment.reason = f"{len(ratios)} pairs do not show a gain"
        elif decision == "keep":
            objection = self._objection(experiment)
            experiment.verdict = "reject" if objection else "keep"
            experiment.reason = objection or "faster, and the loss is unharmed"
            if objection is None:
                self._weigh_start(experiment)

    def _weigh_start(self, experiment: Experiment) -> None:
        """A start that takes long must be earned back by the steps that the training does."""
        if not any(candidate.pays_off_later for candidate in experiment.candidates):
            return
        objection = why_it_does_not_pay(experiment.unchanged, experiment.changed, self._run_steps)
        if objection is not None:
            experiment.verdict = "inconclusive" if self._run_steps is None else "reject"
            experiment.reason = f"its steps are faster, but {objection}"
        else:
            steps = break_even_steps(experiment.unchanged, experiment.changed)
            experiment.reason += f"; its start is earned back after {steps:,} steps"

    def _objection(self, experiment: Experiment) -> str | None:
        """Why something that is faster is not kept all the same."""
        for candidate in experiment.candidates:
            experiment.loss = self._check_losses(experiment, candidate)
            if experiment.loss.passed is not True:
                return f"loss check: {experiment.loss.text}"
            other = self._other_samples(experiment, candidate)
            if other is not None:
                return other
            if candidate.verifies and not _moved(experiment, *candidate.verifies):
                name, direction = candidate.verifies
                return f"{name} did not go {direction}, so the gain is not its own"
        old = [trial.p95_s for trial in experiment.unchanged if trial.p95_s]
        new = [trial.p95_s for trial in experiment.changed if trial.p95_s]
        if old and new and statistics.median(new) > MOST_TAIL * statistics.median(old):
            return "its slow steps are slower than before"
        held = [trial.memory_bytes for trial in experiment.changed if trial.memory_bytes]
        if held and self._memory_bytes and max(held) > MOST_MEMORY * self._memory_bytes:
            return "it needs nearly all of the memory"
        return None

    def _check_losses(self, experiment: Experiment, candidate: Candidate) -> LossCheck:
        """Also makes the runs with other seeds, where only these can tell."""
        while True:
            check = check_losses(
                [trial.losses for trial in [*self._baseline, *experiment.unchanged]],
                [trial.losses for trial in experiment.changed],
                safety=candidate.safety,
                rounding=candidate.rounding,
                seeded=[self._baseline[0].losses, *self._seeded],
            )
            if check.passed or not check.by_seeds or len(self._seeded) >= MOST_SEEDS:
                return check
            if not self._baseline[0].seed_calls:
                return check  # it sets no seed, so equal runs have told already
            self._run_other_seeds()

    def _run_other_seeds(self) -> None:
        for _ in range(OTHER_SEEDS):
            shift = len(self._seeded) + 1
            self._say(f"unchanged, seed {shift}", shift - 1, MOST_SEEDS, ())
            trial = self._trial(Plan(()), f"seed{shift}", shift)
            self._seeded.append(trial.losses)

    def _other_samples(self, experiment: Experiment, candidate: Candidate) -> str | None:
        """Whether samples are left out or repeated, which only semantics may."""
        if candidate.safety == "semantics":
            return None
        return sample_difference(
            [trial.samples for trial in [*self._baseline, *experiment.unchanged]],
            [trial.samples for trial in experiment.changed],
            same_order=candidate.safety == "safe" or candidate.rounding,
        )

    def _combine(self) -> None:
        """All that was kept, together, in fresh pairs: that is what the tune claims."""
        kept = self._kept()
        if len(kept) < 2:
            return
        ranked = sorted(kept, key=lambda one: one.ratio.point if one.ratio else 0.0, reverse=True)
        together = without_overlap([one.candidates[0] for one in ranked])
        if len(together) < 2:
            return
        final = self._try(tuple(together), " + ".join(c.application.fix for c in together))
        self._experiments.remove(final)
        if final.verdict == "keep":
            self._final = final


class BaselineFailed(Exception):
    """The script does not even run unchanged; the message says why."""


def _moved(experiment: Experiment, signal: str, direction: str) -> bool:
    """Whether a share of the step went where the fix was to send it; True where nothing shows."""
    old = [trial.shares[signal] for trial in experiment.unchanged if signal in trial.shares]
    new = [trial.shares[signal] for trial in experiment.changed if signal in trial.shares]
    if not old or not new:
        return True
    change = statistics.median(new) - statistics.median(old)
    return change < 0 if direction == "down" else change > 0
