"""Running a script once, with a stand-in for the installed command."""

import json

import psutil
import pytest

from zoo import __main__ as command
from zoo import neighbour, recording
from zoo.cases import read_case
from zoo.neighbour import busy_neighbour
from zoo.results import result_of

FINDING = {
    "rule": "loop-gc",
    "severity": "warn",
    "where": None,
    "share": 0.2,
    "next_bottleneck": None,
}
DIAGNOSIS = {
    "verdict": "bottleneck",
    "findings": [
        {
            "rule": "loop-gc",
            "severity": "warn",
            "where": None,
            "share": 0.2,
            "next_bottleneck": None,
        }
    ],
    "other_sessions": [],
    "steps": {"mean_s": 0.01},
}
STAND_IN = """#!/bin/sh
echo "$@" >> {log}
[ "$1" = diagnose ] && cat {diagnosis} && exit 0
echo planted share 0.1
echo planted share 0.25
exit {status}
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a stand-in in the place of trainprof; returns the lines it was called with."""

    def install(status=0):
        diagnosis, log = tmp_path / "diagnosis.json", tmp_path / "log"
        diagnosis.write_text(json.dumps(DIAGNOSIS))
        log.write_text("")
        stand_in = tmp_path / "trainprof"
        stand_in.write_text(STAND_IN.format(log=log, diagnosis=diagnosis, status=status))
        stand_in.chmod(0o755)
        monkeypatch.setattr(recording, "TRAINPROF", stand_in)
        monkeypatch.setattr(recording, "RECORDINGS", tmp_path / "recordings")
        monkeypatch.setattr(recording, "measuring_hashes", lambda: ("measuring",))
        return lambda: [line.split()[0] for line in log.read_text().splitlines()]

    return install


@pytest.fixture
def script(tmp_path):
    folder = tmp_path / "collections"
    folder.mkdir()
    (folder / "train.py").write_text('"""A training."""\n')
    case = {"title": "a case", "verdict": "bottleneck", "expected_rule": "loop-gc"}
    (folder / "case.json").write_text(json.dumps({**case, "quiet_only": True}))
    (only,) = read_case("cases", folder).scripts
    return only


def test_a_script_is_run_once_and_judged(install, script, capsys):
    calls = install()
    for _ in range(2):
        command._run_missing([script], deadline=float("inf"))
    assert calls() == ["run", "diagnose"]
    result = result_of(script)
    assert result.planted_share == 0.25
    assert result.fault.found_first
    assert "found loop-gc" in capsys.readouterr().out


def test_a_changed_script_is_run_again(install, script):
    install()
    recording.record(script)
    assert recording.recorded(script) is not None
    script.path.write_text('"""Another training."""\n')
    assert recording.recorded(script) is None


def test_new_rules_judge_the_same_recording(install, script, monkeypatch):
    calls = install()
    recording.record(script)
    for rules in ("before", "before", "after"):
        monkeypatch.setattr(recording, "diagnosing_hash", lambda rules=rules: rules)
        recording.diagnosis_of(script)
    assert calls() == ["run", "diagnose", "diagnose"]


def test_recordings_of_an_earlier_version_may_be_judged(install, script, monkeypatch):
    install()
    recording.record(script)
    monkeypatch.setattr(recording, "measuring_hashes", lambda: ("new",))
    assert recording.recorded(script) is None
    monkeypatch.setattr(recording, "measuring_hashes", lambda: ("new", "measuring"))
    assert recording.recorded(script) is not None


def test_a_script_that_fails_is_no_verdict(install, script, capsys):
    install(status=3)
    command._run_missing([script], deadline=float("inf"))
    result = result_of(script)
    assert result.fault is result.healthy is None
    assert "FAILED" in capsys.readouterr().out


def test_nothing_is_begun_after_the_time_is_up(install, script, capsys):
    calls = install()
    command._run_missing([script], deadline=0.0)
    assert calls() == []
    assert "1 scripts are left" in capsys.readouterr().out


def test_a_neighbour_lives_as_long_as_the_block():
    def children():
        return psutil.Process().children()

    before = children()
    with busy_neighbour(False):
        assert children() == before
    with busy_neighbour(True):
        assert len(children()) == len(before) + 1
    assert children() == before


def test_time_of_others_is_that_of_the_machine_less_that_of_finished_children(monkeypatch):
    clock, machine, children = [0.0], [100.0], [10.0]
    monkeypatch.setattr(neighbour.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(neighbour, "_busy_s", lambda: machine[0] - children[0])
    others = neighbour.OtherPrograms()
    clock[0], machine[0], children[0] = 10.0, 125.0, 20.0
    assert others.cores_used() == pytest.approx(1.5)
