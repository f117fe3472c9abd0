"""What trainprof would change in a case of the zoo: its candidates as a plan, and as a patch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from zoo.cases import Case, Script
from zoo.recording import folder_of, record, recorded

from trainprof.cli.judgement import judge
from trainprof.cli.settings import load_settings
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.plan import Application, Plan, Target, plan_to_json
from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.catalogue import catalogue
from trainprof.rules.experiments.candidates import candidates_of
from trainprof.rules.experiments.trial_length import trial_length
from trainprof.rules.fixes.registry import all_fixes
from trainprof.rules.fixes.source_only import SOURCE_ONLY
from trainprof.rules.rule import Case as RuleCase
from trainprof.rules.rule import Rule

SAFETIES = ("safe", "numerics", "semantics")
ALLOWED = ("safe", "numerics")
"""What `trainprof tune` applies without being asked for more."""
LEAST_STEPS, MOST_STEPS = 20, 400


@dataclass(frozen=True)
class Prepared:
    """What is known of a case before anything is timed.

    Attributes:
        case: Its name. rule: That names its bottleneck. found: Whether the diagnosis does.
        advised: Whether that finding advises what can be applied without changing the training.
        applications: What a tune would try, the most promising first; files are relative to the
            case's folder.
        source_only: The same for what only the source can follow.
        refused: "fix: reason" of the advice that is not tried.
        safeties: Of each application: what it may change, and whether that is rounding only.
        steps, warm_up: Of a trial.
    """

    case: str
    rule: str
    found: bool
    advised: bool
    applications: tuple[Application, ...]
    source_only: tuple[Application, ...]
    refused: tuple[str, ...]
    safeties: tuple[tuple[str, bool], ...]
    steps: int
    warm_up: int

    def key(self) -> str:
        """Differs where earlier rounds cannot be continued."""
        return repr((self.applications, self.source_only, self.steps, self.warm_up))


def is_fixable(case: Case) -> bool:
    """Whether the rule that names its bottleneck ever advises something that can be applied."""
    known = {*all_fixes(), *SOURCE_ONLY}
    twin = (case.folder / "fixed.py").exists()
    return twin and any(fix in known for fix in _advised(case.plants[0]))


@cache
def _rules() -> dict[str, type[Rule]]:
    return {rule.id: rule for rule in catalogue()}


@cache
def _advised(rule: str) -> frozenset[str]:
    """Fixes that the rule advises in the cases that it fires on, with no more than is allowed."""
    kind = _rules().get(rule)
    if kind is None:
        return frozenset()
    seen = [one for case in kind.fires_on for one in kind().check(_signals(case))]
    return frozenset(advice.fix for one in seen for advice in one.fixes if advice.safety in ALLOWED)


def _signals(case: RuleCase) -> Signals:
    values = {}
    for name, value in case.signals.items():
        if isinstance(value, tuple):
            mean, low, high = value
            values[name] = Signal(mean, low=low, high=high)
        else:
            values[name] = Signal(value)
    return Signals(values)


def faulty(case: Case) -> Script:
    """Its train.py, to be recorded without a neighbour."""
    return replace(case, quiet_only=True).scripts[0]


def prepare(case: Case, trial_s: float) -> Prepared:
    """Diagnoses train.py, from a recording if there is one.

    Args:
        case: Of the zoo.
        trial_s: What the steps of a trial should take.

    Raises:
        RuntimeError: the script fails, or does no steps.
    """
    script = faulty(case)
    facts = recorded(script) or record(script)
    if facts["status"]:
        raise RuntimeError(f"{script.name} fails: {facts['error'][-300:]}")
    diagnosis = judge(folder_of(script) / "run", load_settings())
    if diagnosis.steps is None or not diagnosis.steps.mean_s:
        raise RuntimeError(f"{script.name}: {diagnosis.headline}")
    candidates, refused = candidates_of(diagnosis, ALLOWED[-1])
    applications = tuple(_in_case(one.application, case) for one in candidates)
    warm_up = trial_length(diagnosis, candidates, whole=True).warm_up
    wanted = round(trial_s / diagnosis.steps.mean_s)
    steps = min(max(wanted, LEAST_STEPS), MOST_STEPS) + warm_up
    rules = {case.plants[0], *case.acceptable}
    findings = [finding for finding in diagnosis.findings if finding.rule in rules]
    known = {*all_fixes(), *SOURCE_ONLY}
    return Prepared(
        case=case.name,
        rule=case.plants[0],
        found=bool(findings),
        advised=any(
            advice.fix in known and advice.safety in ALLOWED
            for finding in findings
            for advice in finding.fixes
        ),
        applications=applications,
        source_only=tuple(_in_case(one, case) for one in _source_only(diagnosis)),
        refused=tuple(f"{one.fix}: {one.reason}" for one in refused),
        safeties=tuple((one.safety, one.rounding) for one in candidates),
        steps=min(steps, diagnosis.steps.count),
        warm_up=warm_up,
    )


def _source_only(diagnosis: Diagnosis) -> list[Application]:
    return [
        Application(advice.fix, advice.params, Target(finding.where.file, finding.where.line))
        for finding in diagnosis.findings
        for advice in finding.fixes
        if advice.fix in SOURCE_ONLY and advice.safety in ALLOWED and finding.where is not None
    ]


def _in_case(application: Application, case: Case) -> Application:
    """With the target's file relative to the case, wherever the recording was made."""
    target = application.target
    if target is None:
        return application
    _, found, rest = target.file.rpartition(f"/{case.folder.name}/")
    return replace(application, target=replace(target, file=rest if found else target.file))


def plan_in(folder: Path, applications: tuple[Application, ...]) -> Plan:
    """The plan for a copy of the case."""
    placed = []
    for one in applications:
        target = one.target
        if target is not None:
            target = replace(target, file=str(folder / target.file))
        placed.append(replace(one, target=target))
    return Plan(tuple(placed), script=str(folder / "train.py"))


def write_patch(folder: Path, prepared: Prepared) -> tuple[list[str], str]:
    """Lets `trainprof fix --write` change a copy of the case; gives what it says, and the diff."""
    wanted = (*prepared.applications, *prepared.source_only)
    if not wanted:
        return [], ""
    plan = folder.parent / f"{folder.name}-plan.json"
    plan.write_text(plan_to_json(plan_in(folder, wanted)), encoding="utf-8")
    command = [sys.executable, "-m", "trainprof", "fix", str(plan), "--write"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    shutil.rmtree(folder / "trainprof-runs", ignore_errors=True)
    said = [line.removeprefix("trainprof: ") for line in done.stderr.splitlines()]
    return [line for line in said if line.startswith("by hand") or done.returncode], done.stdout


def as_json(prepared: Prepared) -> dict[str, object]:
    """For the rows."""
    return asdict(prepared)
