from dataclasses import replace

import pytest

from trainprof.cli.ignores import drop_ignored
from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Finding,
    Location,
    RunSummary,
    StepSummary,
)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "train.py").write_text(
        "loader = DataLoader(d)  # trainprof: ignore[data-workers-under, data-persistent]\n"
        "optimizer = Adam(p)\n"
        "torch.save(m)  # trainprof: ignore[]\n"
    )
    return tmp_path


def finding(rule, line, severity="warn"):
    return Finding(rule, severity, rule, f"{rule} costs time.", (), Location("train.py", line))


def diagnosis(project, *findings, verdict="bottleneck", steady=90):
    run = RunSummary("complete", cwd=str(project))
    return Diagnosis(1, "run", run, verdict, "Headline.", StepSummary(100, steady), findings)


def test_drops_the_named_rules_on_that_line_only(project):
    found = (
        finding("data-workers-under", 1),
        finding("data-persistent", 1),
        finding("opt-unfused", 1),
        finding("data-workers-under", 2),
        finding("loop-ckpt-stall", 3),
    )
    result = drop_ignored(diagnosis(project, *found))
    assert result.findings == found[2:]
    assert result.ignored == found[:2]
    assert result.verdict == "bottleneck"
    assert result.headline == "opt-unfused costs time."


def test_what_remains_is_judged_again(project):
    rest = finding("opt-unfused", 2, "info")
    result = drop_ignored(diagnosis(project, finding("data-workers-under", 1, "critical"), rest))
    assert result.findings == (rest,)
    assert result.verdict == "healthy"
    assert "ignore" in result.headline


def test_few_steps_are_no_health(project):
    result = drop_ignored(diagnosis(project, finding("loop-debug-on", 1), steady=3))
    assert result.verdict == "bottleneck"
    result = drop_ignored(diagnosis(project, finding("data-persistent", 1), steady=3))
    assert result.verdict == "insufficient"
    assert "only 3 steady steps" in result.headline


def test_the_headline_is_the_gravest_finding_left(project):
    rest = (finding("opt-unfused", 2), finding("loop-gc", 2, "critical"))
    result = drop_ignored(diagnosis(project, finding("data-persistent", 1), *rest))
    assert result.headline == "loop-gc costs time."


def test_a_run_with_too_little_evidence_stays_so(project):
    whole = diagnosis(project, finding("data-workers-under", 1, "info"), verdict="insufficient")
    assert drop_ignored(whole).verdict == "insufficient"
    assert drop_ignored(whole).headline == whole.headline


def test_every_training_of_the_command_is_looked_at(project):
    other = diagnosis(project, finding("data-persistent", 1))
    whole = replace(diagnosis(project), other_sessions=(other,))
    assert drop_ignored(whole).other_sessions[0].findings == ()


def test_nothing_to_drop_changes_nothing(project):
    whole = diagnosis(project, finding("opt-unfused", 2), Finding("x", "warn", "x", "x", ()))
    assert drop_ignored(whole) == whole
