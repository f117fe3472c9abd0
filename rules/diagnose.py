"""From a run that was read back to the one record that every report shows."""

from __future__ import annotations

from collections.abc import Sequence

from trainprof.profiler.model.diagnosis import SCHEMA, Diagnosis, StepSummary
from trainprof.profiler.model.run import Run, Session
from trainprof.rules.engine import evaluate
from trainprof.rules.registry import chosen_rules
from trainprof.rules.rule import Rule
from trainprof.rules.run_summary import summarise_run
from trainprof.rules.signals import measure
from trainprof.rules.signals.training import Training
from trainprof.rules.step_summary import summarise_steps
from trainprof.rules.unseen import why_no_steps
from trainprof.rules.verdict import insufficient, pronounce


def diagnose(run: Run, *, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> Diagnosis:
    """The diagnosis of a run; of several trainings in it, that of the longest.

    Args:
        run: What the store read back, also while the run still goes on.
        select: Only these rules; all of them when empty.
        ignore: Not these rules.

    Raises:
        UsageError: `select` or `ignore` names a rule that does not exist.
    """
    rules = chosen_rules(select, ignore)
    return _without_steps(run) if not run.sessions else _of_session(run, run.sessions[0], rules)


def _of_session(run: Run, session: Session, rules: Sequence[Rule]) -> Diagnosis:
    training = Training(run, session)
    signals = measure(training)
    evaluation = evaluate(rules, signals)
    verdict = pronounce(evaluation, training.count, training.window.steady_count)
    return Diagnosis(
        schema=SCHEMA,
        source="run",
        run=summarise_run(run),
        verdict=verdict.word,
        headline=verdict.headline,
        steps=summarise_steps(training, signals),
        findings=evaluation.findings,
        skipped_rules=evaluation.skipped,
    )


def _without_steps(run: Run) -> Diagnosis:
    verdict = insufficient(why_no_steps(run))
    return Diagnosis(
        SCHEMA, "run", summarise_run(run), verdict.word, verdict.headline, StepSummary(0, 0)
    )
