"""The course of a tune: noise, each candidate in pairs, what was kept together, and once again.

Nothing here starts a process: a `Runner` does, so that recorded noise can be replayed in its place.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from trainprof.profiler.model.plan import Plan
from trainprof.profiler.model.tuning import Pair
from trainprof.rules.experiments.acceptance import MOST_SEEDS, Acceptance
from trainprof.rules.experiments.candidates import Candidate, Refused, without_overlap
from trainprof.rules.experiments.delays import Delays
from trainprof.rules.experiments.experiment import Experiment, plan_with
from trainprof.rules.experiments.measured_pair import FAILED, pair_of
from trainprof.rules.experiments.outcome import Outcome
from trainprof.rules.experiments.short_pairs import Choose, ShortPairs
from trainprof.rules.experiments.start_cost import break_even_steps, why_it_does_not_pay
from trainprof.rules.experiments.trial import Trial
from trainprof.rules.experiments.trial_budget import OutOfTime, Runner, TrialBudget
from trainprof.rules.experiments.watching import Progress, Watch
from trainprof.rules.statistics.pairs import LOOKS, decide, detectable, paired_ratio

EQUAL_PAIRS = 4
"""Pairs of unchanged runs before anything else: the noise of this script on this machine."""
LEAST_EQUAL_PAIRS = 2
"""Of them, where more would leave no time for the first look at a candidate."""
CLEARLY_SLOWER = math.log(1.25)
"""Of the first pair, beyond four standard deviations of equal pairs: no second one is spent."""
HOPELESS_AFTER = 2
"""Pairs after which a candidate that is slower by two standard deviations is dropped."""
ROOM_FOR_CHOICE = 2.0
"""Times what the first look takes must be left, before time goes into choosing settings."""

Again = Callable[[Plan], Sequence[Candidate]]
"""Diagnoses a run under a plan, and says what to try next."""


class BaselineFailed(Exception):
    """The script does not even run unchanged; the message says why."""


class Tune:
    """Runs the experiments of one script.

    Args:
        runner: Starts trials. candidates: What to try, the most promising first.
        refused: Carried into the outcome.
        steps: Steps of a trial. budget_s: For all trials together.
        clock: Monotonic seconds. tell: Is told before each trial. watch: And of what comes of it.
        memory_bytes: Of the machine; None where unknown.
        run_steps: Of the training in daily use; None where unknown.
        again: What to try on top of what is kept, once; None to leave it at the first round.
        choose: Sets the knobs of a candidate. short_steps: Of the trials that it may ask for.
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
        watch: Watch | None = None,
        memory_bytes: int | None = None,
        run_steps: int | None = None,
        again: Again | None = None,
        choose: Choose | None = None,
        short_steps: int | None = None,
    ) -> None:
        self._refused = list(refused)
        self._budget = TrialBudget(runner, steps=steps, budget_s=budget_s, clock=clock)
        self._tell = tell
        self._watch = watch or Watch()
        self._run_steps = run_steps
        self._again = again
        self._choose = choose
        self._short_steps = short_steps or steps
        self._equal: list[float] = []
        self._equal_pairs: list[Pair] = []
        self._equal_dropped = 0
        self._baseline: list[Trial] = []
        self._experiments = [Experiment(one.application.fix, (one,)) for one in candidates]
        self._combinations: list[Experiment] = []
        self._acceptance = Acceptance(self._baseline, self._run_with_seed, memory_bytes)
        self._delays = Delays()
        self._cut_short = False
        self.ended = "interrupted"

    def run(self) -> Outcome:
        """Everything, as far as the time allows."""
        for experiment in self._experiments:
            self._watch.attempt(experiment)
        try:
            self._measure_noise()
            self._round(self._experiments)
            self._combine([one.candidates[0] for one in self._ranked()])
            self._second_round()
            self.ended = "budget" if self._cut_short else "complete"
        except OutOfTime:
            self.ended = "budget"
        return self.outcome()

    def outcome(self) -> Outcome:
        """What is known now; also in the middle."""
        for experiment in [*self._experiments, *self._combinations]:
            if experiment.verdict is None:
                reason = experiment.reason or _unfinished(experiment, self.ended)
                experiment.settle("inconclusive", reason)
        for one in self._experiments:
            if one.verdict == "refused":
                candidate = one.candidates[0]
                refusal = Refused(candidate.application.fix, candidate.rule, one.reason)
                if refusal not in self._refused:
                    self._refused.append(refusal)
        tried = [*self._experiments, *self._combinations]
        for experiment in tried:
            self._watch.attempt(experiment)
        return Outcome(
            self._best(),
            tuple(one for one in self._experiments if one.verdict != "refused"),
            tuple(self._refused),
            tuple(self._equal),
            self.ended,
            tuple(self._combinations),
            self._equal_dropped + sum(one.dropped for one in tried),
            tuple(self._equal_pairs),
        )

    def _ranked(self) -> list[Experiment]:
        """Single fixes of the first round that are kept, the best first."""
        kept = [one for one in self._experiments if one.verdict == "keep" and not one.base]
        return sorted(kept, key=lambda one: one.speedup, reverse=True)

    def _best(self) -> Experiment | None:
        """The fastest of what was proven against the original."""
        kept = [one for one in self._combinations if one.verdict == "keep"]
        return max([*self._ranked(), *kept], key=lambda one: one.speedup, default=None)

    def _say(
        self,
        purpose: str,
        name: str,
        pair: int,
        most: int,
        ratios: Sequence[float] = (),
        experiment: Experiment | None = None,
    ) -> None:
        ratio = paired_ratio(ratios) if ratios else None
        left_s = self._budget.left_s
        self._tell(Progress(purpose, name, pair + 1, most, ratio, left_s, experiment))

    # Unchanged runs.

    def _run_with_seed(self, shift: int) -> Trial:
        self._say("seed", f"unchanged, seed {shift}", shift - 1, MOST_SEEDS)
        return self._budget.trial(Plan(()), f"seed{shift}", shift)

    def _measure_noise(self) -> None:
        """Pairs of unchanged runs."""
        while len(self._equal) < EQUAL_PAIRS:
            first_look = 2 + 2 * LOOKS[0]
            if len(self._equal) >= LEAST_EQUAL_PAIRS and not self._budget.holds(first_look):
                return
            self._say("noise", "unchanged", len(self._equal), EQUAL_PAIRS, self._equal)
            trials = self._budget.pair([(Plan(()), "unchanged")] * 2)
            first, second = trials[0].seconds, trials[-1].seconds
            if first is None or second is None:
                raise BaselineFailed(trials[-1].problem or "the unchanged script gave no time")
            self._baseline += trials
            objection = self._delays.objection("unchanged", trials, self._equal_dropped)
            self._equal_pairs.append(pair_of(trials, old_first=True, left_out=objection))
            if objection is not None:
                self._equal_dropped += 1
            else:
                self._equal.append(math.log(first / second))
                self._watch.noise(self._equal)

    # Experiments.

    def _round(self, experiments: Sequence[Experiment]) -> None:
        """Every one up to the first look, then those that are undecided to the next ones.

        What is nearly proven at a look goes on to the next one at once: in a short budget it would
        wait for others until none is left.
        """
        for experiment in experiments:
            self._leave_out_what_cannot_be_seen(experiment)
        going = [experiment for experiment in experiments if experiment.verdict is None]
        for experiment in going:
            experiment.tests = len(going)
            self._choose_setting(experiment)
            self._watch.attempt(experiment)
        for look in LOOKS:
            for experiment in sorted(going, key=lambda one: one.speedup, reverse=True):
                later = [one for one in LOOKS if one > look]
                if experiment.verdict is None:
                    self._pairs_until(look, experiment)
                while later and experiment.verdict is None and experiment.nearly_proven:
                    self._pairs_until(later.pop(0), experiment)

    def _leave_out_what_cannot_be_seen(self, experiment: Experiment) -> None:
        predicted = experiment.candidates[0].predicted
        if len(self._equal) < EQUAL_PAIRS:
            return  # how much equal runs differ is known too badly to leave anything out
        least = detectable(statistics.stdev(self._equal), LOOKS[-1])
        if predicted is not None and predicted.high < least:
            experiment.settle(
                "inconclusive",
                f"its predicted gain is {predicted.high:.2f} at most, and {LOOKS[-1]} pairs show "
                f"{least:.2f} here",
            )
            self._watch.attempt(experiment)

    def _choose_setting(self, experiment: Experiment) -> None:
        """As short pairs like it best; what proves it are the planned pairs, which are fresh."""
        if self._choose is None or not self._budget.holds(ROOM_FOR_CHOICE * 2 * LOOKS[0]):
            return
        pairs = ShortPairs(partial(self._short_trial, experiment), experiment.base)
        chosen = self._choose(experiment.candidates[0], pairs, self._budget.left_s)
        experiment.candidates = (chosen,)

    def _short_trial(
        self, experiment: Experiment, applied: tuple[Candidate, ...], label: str
    ) -> Trial:
        self._say("setting", label, 0, 1, experiment=experiment)
        return self._budget.trial(plan_with(applied), label, steps=self._short_steps)

    def _pairs_until(self, look: int, experiment: Experiment) -> None:
        """Pairs up to a look, if the time holds them, and the decision."""
        missing = look - len(experiment.log_ratios)
        several = len(self._ranked()) > 1 and experiment not in self._combinations
        reserve = LOOKS[0] if several else 0
        if not self._budget.holds(2 * (missing + reserve)):
            self._cut_short = True
            return
        while experiment.verdict is None and len(experiment.log_ratios) < look:
            self._pair(experiment)
            self._screen(experiment)
            self._watch.attempt(experiment)
        if experiment.verdict is None:
            self._decide(experiment)
            self._watch.attempt(experiment)

    def _pair(self, experiment: Experiment) -> None:
        """One pair, in the order that chance gives to its two arms."""
        name = experiment.name
        ratios = experiment.log_ratios
        self._say("pair", name, len(ratios), LOOKS[-1], ratios, experiment)
        arms = [(experiment.plan, name), (plan_with(experiment.base), f"without {name}")]
        if self._unchanged_first(experiment):
            arms.reverse()
        old_first = arms[0][1] != name
        trials = self._budget.pair(arms)
        if trials[-1].seconds is None:
            failed = trials[-1]
            experiment.measured.append(pair_of(trials, old_first=old_first, left_out=FAILED))
            verdict = "refused" if failed.refused else "failed"
            problem = failed.refused or failed.problem or "a trial gave no time"
            experiment.settle(verdict, problem)
            return
        old, new = trials if old_first else reversed(trials)
        experiment.changed.append(new)
        experiment.unchanged.append(old)
        objection = self._delays.objection(name, [new, old], experiment.dropped)
        pair = pair_of(trials, old_first=old_first, left_out=objection)
        experiment.measured.append(pair)
        if objection is not None:
            experiment.dropped += 1
        elif pair.ratio is not None:
            experiment.log_ratios.append(math.log(pair.ratio))

    def _unchanged_first(self, experiment: Experiment) -> bool:
        """Two pairs are ABBA or BAAB, so that drift strikes both arms alike; chance says which.

        With ABBA throughout, noise that lasts for two trials strikes the same arm of neighbouring
        pairs: replays of recorded times then kept 3.6 % of what does nothing, instead of 2 %. The
        changed script comes first at first: what is not in force costs no other trial.
        """
        block, second = divmod(len(experiment.log_ratios), 2)
        # Chance comes out of what was measured, so that a tune that goes on draws the same.
        flipped = random.Random(f"{self._equal} {experiment.name} {block}").random() < 0.5
        return bool(second) != (flipped and block > 0)

    def _screen(self, experiment: Experiment) -> None:
        """Drops what is slower by far after a pair or two."""
        ratios = experiment.log_ratios
        if experiment.verdict is not None or not 1 <= len(ratios) <= HOPELESS_AFTER:
            return
        noise = statistics.stdev(self._equal)
        far = len(ratios) == 1 and ratios[0] < -max(4.0 * noise, CLEARLY_SLOWER)
        again = len(ratios) == HOPELESS_AFTER and statistics.fmean(ratios) + 2.0 * noise < 0.0
        if far or again:
            experiment.settle("reject", "it is slower")

    def _decide(self, experiment: Experiment) -> None:
        """At a planned look."""
        experiment.looks += 1
        decision = decide(experiment.log_ratios, experiment.tests)
        if decision == "drop":
            experiment.settle("reject", "it is no faster")
        elif decision == "undecided":
            pairs = len(experiment.log_ratios)
            experiment.settle("inconclusive", f"{pairs} pairs do not show a gain")
        elif decision == "keep":
            experiment.reason = "it is faster, but no time was left to check its losses"
            objection = self._acceptance.objection(experiment)
            reason = objection or "faster, and the loss is unharmed"
            experiment.settle("reject" if objection else "keep", reason)
            if objection is None:
                self._weigh_start(experiment)

    def _weigh_start(self, experiment: Experiment) -> None:
        """A start that takes long must be earned back by the steps that the training does."""
        if not any(candidate.pays_off_later for candidate in experiment.candidates):
            return
        objection = why_it_does_not_pay(experiment.unchanged, experiment.changed, self._run_steps)
        if objection is not None:
            verdict = "inconclusive" if self._run_steps is None else "reject"
            experiment.settle(verdict, f"its steps are faster, but {objection}")
        else:
            steps = break_even_steps(experiment.unchanged, experiment.changed)
            experiment.reason += f"; its start is earned back after {steps:,} steps"

    # What was kept, together.

    def _combine(self, candidates: Sequence[Candidate]) -> None:
        """In fresh pairs against the original: that is what the tune claims.

        Where that is not proven, or no better than the best of them by itself, one at a time is
        left out.

        Args:
            candidates: The best first.
        """
        together = without_overlap(candidates)
        if len(together) < 2:
            return
        best = self._best()
        whole = self._together(together)
        if whole.verdict == "keep" and (best is None or whole.speedup >= best.speedup):
            return
        for place in reversed(range(len(together) if len(together) > 2 else 0)):
            fewer = self._together([*together[:place], *together[place + 1 :]])
            if fewer.verdict == "keep" and (best is None or fewer.speedup >= best.speedup):
                return

    def _together(self, candidates: Sequence[Candidate]) -> Experiment:
        name = " + ".join(one.application.fix for one in candidates)
        experiment = Experiment(name, tuple(candidates))
        self._combinations.append(experiment)
        self._watch.attempt(experiment)
        for look in LOOKS:
            if experiment.verdict is None:
                self._pairs_until(look, experiment)
        return experiment

    def _second_round(self) -> None:
        """What became worth its while with what is kept: the next bottleneck."""
        best = self._best()
        if self._again is None or best is None or self._cut_short:
            return
        if not self._budget.holds(2 * 2 * LOOKS[0]):
            return
        tried = [one.candidates[0].application for one in self._experiments]
        more = [
            Experiment(one.application.fix, (one,), best.candidates)
            for one in self._again(best.plan)
            if one.application not in tried
        ]
        self._experiments += more
        for experiment in more:
            self._watch.attempt(experiment)
        self._round(more)
        kept = [one for one in self._experiments if one.base and one.verdict == "keep"]
        if kept:
            self._combine([*best.candidates, *(one.candidates[0] for one in kept)])


def _unfinished(experiment: Experiment, ended: str) -> str:
    pairs = len(experiment.log_ratios)
    if ended == "interrupted":
        return f"interrupted after {pairs} pairs"
    if not pairs:
        return f"no time was left for the {LOOKS[0]} pairs that a verdict takes"
    return f"no time was left after {pairs} pairs, which do not show a gain"
