"""From a run that was read back to the one record that every report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainprof.profiler.model.diagnosis import SCHEMA, Diagnosis, RankSummary, StepSummary
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.run import ProcessRecord, Run, Session
from trainprof.profiler.model.signals import Signals
from trainprof.profiler.store.trials import EarlierRun, Launch
from trainprof.rules.calibration import NO_CALIBRATION, Calibration, with_past
from trainprof.rules.costs import Costs
from trainprof.rules.coverage import collectors, overhead, problems
from trainprof.rules.engine import evaluate
from trainprof.rules.experiments.machine import machine_class
from trainprof.rules.fact_sheet import collect_facts
from trainprof.rules.nulls import reasons_for_nulls
from trainprof.rules.phase_stacks import collapsed_stacks
from trainprof.rules.reading import number
from trainprof.rules.registry import chosen_rules
from trainprof.rules.rule import Rule
from trainprof.rules.run_summary import summarise_run
from trainprof.rules.run_traces import told_by_traces, with_link_speed, with_traces
from trainprof.rules.series import build_series
from trainprof.rules.signals.ranks import mean_step_ns
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import NO_COSTS, Training
from trainprof.rules.stack_evidence import explain
from trainprof.rules.step_summary import summarise_steps
from trainprof.rules.unexplained import unexplained_wait
from trainprof.rules.unseen import why_no_steps
from trainprof.rules.verdict import insufficient, pronounce


def diagnose(
    run: Run,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    costs: Costs = NO_COSTS,
    earlier_runs: Sequence[EarlierRun] = (),
    launches: Sequence[Launch] = (),
    calibration: Calibration = NO_CALIBRATION,
) -> Diagnosis:
    """The diagnosis of a run; of several trainings in it, that of the longest.

    The other trainings are diagnosed by themselves, in `other_sessions`.

    Args:
        run: What the store read back, also while the run still goes on.
        select: Only these rules; all of them when empty.
        ignore: Not these rules.
        costs: Prices from the settings.
        earlier_runs: Complete runs of the same script, this one included.
        launches: All its runs, in order.
        calibration: What became of earlier predictions.

    Raises:
        UsageError: `select` or `ignore` names a rule that does not exist.
    """
    rules = chosen_rules(select, ignore)
    if not run.sessions:
        return _without_steps(run)
    longest = max(range(len(run.sessions)), key=lambda place: _trained_ns(run.sessions[place]))
    trainings = [Training(run, one, costs, earlier_runs, launches) for one in run.sessions]
    diagnoses = [
        _of_session(training, place, rules, calibration) for place, training in enumerate(trainings)
    ]
    others = tuple(one for place, one in enumerate(diagnoses) if place != longest)
    return replace(diagnoses[longest], other_sessions=others)


def _trained_ns(session: Session) -> int:
    return max(sum(trainer.steps.columns["wall_ns"]) for trainer in session.trainers)


def _of_session(
    training: Training, place: int, rules: Sequence[Rule], calibration: Calibration
) -> Diagnosis:
    run = training.run
    told = told_by_traces(run, training.session, rules)
    signals = with_link_speed(measure(training), told)
    evaluation = evaluate(rules, signals)
    findings = with_traces(evaluation.findings, told.findings, rules, signals)
    machine = machine_class(run.info.hardware)
    evaluation = replace(evaluation, findings=with_past(findings, calibration, machine))
    verdict = pronounce(evaluation, training.count, training.window.steady_count)
    unexplained = unexplained_wait(signals, evaluation.findings)
    if unexplained is not None and verdict.word == "healthy":
        verdict = insufficient(unexplained)
    if training.count == 0 and verdict.word != "bottleneck":
        verdict = insufficient(why_no_steps(run))
    world_size = number(signals, "distributed.world_size")
    diagnosis = Diagnosis(
        schema=SCHEMA,
        source="run",
        run=summarise_run(
            run,
            training.trainer,
            session=place,
            startup_s=number(signals, "run.startup_s"),
            world_size=None if world_size is None else int(world_size),
        ),
        verdict=verdict.word,
        headline=verdict.headline,
        steps=summarise_steps(training, signals),
        findings=explain(evaluation.findings, signals),
        skipped_rules=evaluation.skipped,
        collectors=collectors(run, training.trainer),
        overhead=overhead(training),
        devices=told.devices,
        operators=told.operators,
        series=build_series(training),
        stacks=collapsed_stacks(training),
        ranks=tuple(_rank(training, *one) for one in enumerate(training.session.trainers)),
        facts=collect_facts(training.trainer, signals),
        problems=(*problems(training, signals), *told.problems, *_remark(calibration)),
    )
    return replace(diagnosis, missing=reasons_for_nulls(diagnosis, signals))


def _remark(calibration: Calibration) -> list[str]:
    return [] if calibration.problem is None else [calibration.problem]


def _rank(training: Training, place: int, trainer: ProcessRecord) -> RankSummary:
    """A rank's steps; where ranks have no numbers, the place in the session."""
    mean_ns = mean_step_ns(trainer)
    shares: dict[str, float] = {}
    if mean_ns:
        means = {phase: mean_step_ns(trainer, f"{phase}_ns") or 0.0 for phase in PHASES}
        shares = {
            phase: mean / mean_ns
            for phase, mean in means.items()
            if phase not in training.unmeasured
        }
    return RankSummary(
        rank=place if trainer.info.rank is None else trainer.info.rank,
        pid=trainer.info.pid,
        steps=len(trainer.steps),
        mean_s=None if mean_ns is None else mean_ns / 1e9,
        phases_share=shares,
    )


def _without_steps(run: Run) -> Diagnosis:
    """A run in which no process trained."""
    verdict = insufficient(why_no_steps(run))
    diagnosis = Diagnosis(
        schema=SCHEMA,
        source="run",
        run=summarise_run(run),
        verdict=verdict.word,
        headline=verdict.headline,
        steps=StepSummary(0, 0),
        collectors=collectors(run, None),
        problems=(*run.problems, *run.info.notes),
    )
    return replace(diagnosis, missing=reasons_for_nulls(diagnosis, Signals()))
