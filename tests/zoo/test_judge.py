"""The judge of the zoo: diagnoses in, verdicts out."""

from pathlib import Path

import pytest

from zoo.cases import Case, Script
from zoo.judge import judge_fault, judge_healthy

SOURCE = "import torch\nloader = DataLoader(photos)\nfor batch in loader:\n    step(batch)\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.py").write_text(SOURCE)
    return tmp_path


def finding(rule, severity="warn", line=2, **more):
    where = {"file": "/elsewhere/train.py", "line": line, "function": None}
    other = {"share": 0.3, "next_bottleneck": None, **more}
    return {"rule": rule, "severity": severity, "where": where, **other}


def diagnosis(*findings, verdict="bottleneck", **more):
    return {"findings": list(findings), "verdict": verdict, "other_sessions": [], **more}


def case(folder=Path("nowhere"), plants=("data-workers-under",), **more):
    wheres = more.pop("wheres", ("DataLoader(",) + (None,) * (len(plants) - 1))
    return Case("cases", folder, "a case", plants, wheres, **more)


def test_the_plant_alone_is_found_first_at_its_line(folder):
    said = judge_fault(case(folder), diagnosis(finding("data-workers-under")), 0.0)
    assert said.found_first
    assert (said.rank, said.where, said.severity) == (1, True, "warn")
    assert (said.alarms, said.unplanted_ahead) == ((), ())
    assert (said.blamed, said.blamed_rightly) == (1, 1)
    assert said.predicted_share == 0.3


def test_silence_is_a_miss(folder):
    said = judge_fault(case(folder), diagnosis(verdict="healthy"), 0.0)
    assert not said.found_within(2)
    assert said.rank is said.where is said.rule is None


@pytest.mark.parametrize("severity", ["info", "warn"])
def test_an_unplanted_rule_ahead_makes_it_a_miss(folder, severity):
    findings = (finding("opt-unfused", severity), finding("data-workers-under"))
    said = judge_fault(case(folder), diagnosis(*findings), 0.0)
    assert not said.found_first
    assert said.found_within(2)
    assert said.unplanted_ahead == ("opt-unfused",)
    assert said.alarms == (("opt-unfused",) if severity == "warn" else ())


def test_an_unplanted_rule_behind_costs_precision_only(folder):
    findings = (finding("data-workers-under"), finding("opt-unfused"))
    said = judge_fault(case(folder), diagnosis(*findings), 0.0)
    assert said.found_first
    assert (said.blamed, said.blamed_rightly, said.alarms) == (2, 1, ("opt-unfused",))


def test_an_acceptable_rule_counts_as_the_plant(folder):
    acceptable = case(folder, acceptable=frozenset({"data-persistent"}))
    said = judge_fault(acceptable, diagnosis(finding("data-persistent")), 0.0)
    assert said.found_first
    assert said.rule == "data-persistent"
    assert said.alarms == ()


@pytest.mark.parametrize(("line", "hit"), [(2, True), (3, False), (0, False), (99, False)])
def test_location_is_the_text_on_the_line(folder, line, hit):
    found = finding("data-workers-under", line=line)
    assert judge_fault(case(folder), diagnosis(found), 0.0).where is hit


def test_location_in_another_file_is_no_hit(folder):
    found = finding("data-workers-under")
    found["where"]["file"] = "/elsewhere/other.py"
    assert judge_fault(case(folder), diagnosis(found), 0.0).where is False


def test_no_location_is_no_hit_unless_none_is_asked_for(folder):
    found = {**finding("data-workers-under"), "where": None}
    assert judge_fault(case(folder), diagnosis(found), 0.0).where is False
    assert judge_fault(case(folder, wheres=(None,)), diagnosis(found), 0.0).where is None


@pytest.mark.parametrize(("other_cores", "first"), [(0.9, True), (0.1, False)])
def test_contention_is_excused_only_where_others_did_compete(folder, other_cores, first):
    findings = (finding("loop-contention", "info"), finding("data-workers-under"))
    assert judge_fault(case(folder), diagnosis(*findings), other_cores).found_first is first


def test_contention_counts_where_it_is_the_plant(folder):
    planted = case(folder, plants=("loop-contention",), wheres=(None,))
    said = judge_fault(planted, diagnosis(finding("loop-contention", "info")), 1.0)
    assert said.found_first


def test_two_plants(folder):
    planted = case(
        folder, plants=("data-workers-under", "loop-gc"), next_bottleneck="garbage collection"
    )
    first = finding("data-workers-under", next_bottleneck="garbage collection, then forward")
    said = judge_fault(planted, diagnosis(first, finding("loop-gc")), 0.0)
    assert said.found_first
    assert (said.second_rank, said.next_named) == (2, True)
    assert (said.blamed_rightly, said.alarms) == (2, ())


def test_two_plants_in_the_wrong_order(folder):
    planted = case(folder, plants=("data-workers-under", "loop-gc"), next_bottleneck="gc")
    findings = (finding("loop-gc"), finding("data-workers-under"))
    said = judge_fault(planted, diagnosis(*findings), 0.0)
    assert not said.found_first
    assert said.found_within(2)
    assert said.unplanted_ahead == ()
    assert said.next_named is False


def test_findings_of_every_training_of_the_command_count(folder):
    other = diagnosis(finding("opt-unfused"))
    said = judge_healthy(diagnosis(verdict="healthy", other_sessions=[other]), 0.0)
    assert said.alarms == ("opt-unfused",)


def test_notes_on_a_healthy_script_are_no_alarms():
    said = judge_healthy(diagnosis(finding("opt-unfused", "info"), verdict="healthy"), 0.0)
    assert (said.alarms, said.notes, said.verdict) == ((), ("opt-unfused",), "healthy")


def test_the_busy_third_is_always_the_same():
    cases = [case(Path(f"folder_{number}")) for number in range(300)]
    assert 70 < sum(one.is_busy for one in cases) < 130
    assert [one.is_busy for one in cases] == [one.is_busy for one in cases]
    assert not any(case(one.folder, quiet_only=True).is_busy for one in cases)


def test_a_case_with_a_knob_runs_once_per_level(folder):
    levels = case(folder, levels=(2, 25)).scripts
    assert [(script.arguments, script.level) for script in levels] == [
        (("--share", "2"), 2),
        (("--share", "25"), 25),
    ]
    assert isinstance(levels[0], Script)
