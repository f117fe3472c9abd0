import os
from dataclasses import replace

import pytest

from trainprof.cli.report_diffs import diffs_of
from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Finding,
    FixAdvice,
    Gain,
    Location,
    RunSummary,
    StepSummary,
)

SOURCE = """from torch.utils.data import DataLoader

loader = DataLoader(list(range(9)), batch_size=3)
"""
RULE = "data-workers-under"


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "project" / "train.py"
    script.parent.mkdir()
    script.write_text(SOURCE)
    os.utime(script, (1000.0, 1000.0))
    advice = FixAdvice("loader-workers", {"num_workers": 2}, "numerics", "Let 2 workers prepare.")
    finding = Finding(
        RULE, "warn", "", "", (), Location(str(script), 3), gain=Gain(1.2, 1.4), fixes=(advice,)
    )
    run = RunSummary("complete", argv=("train.py",), cwd=str(script.parent), started_unix_s=2000.0)
    return Diagnosis(1, "run", run, "bottleneck", "", StepSummary(9, 9), (finding,))


def test_a_fix_is_shown_as_the_change_of_the_source(found, tmp_path):
    where = found.findings[0].where
    diff = diffs_of(found, tmp_path)[RULE, "loader-workers", where]
    assert "-loader = DataLoader(list(range(9)), batch_size=3)" in diff
    assert "num_workers=2" in diff
    assert (tmp_path / "project" / "train.py").read_text() == SOURCE


def test_the_same_fix_at_two_places_is_two_changes(found, tmp_path):
    first = found.findings[0]
    script = tmp_path / "project" / "train.py"
    script.write_text(SOURCE + "other = DataLoader(list(range(5)), batch_size=5)\n")
    os.utime(script, (1000.0, 1000.0))
    second = replace(first, where=replace(first.where, line=4))
    diffs = diffs_of(replace(found, findings=(first, second)), tmp_path)
    shown = {where.line: diff for (_, _, where), diff in diffs.items()}
    assert "+loader" in shown[3]
    assert "+other" not in shown[3]
    assert "+other" in shown[4]
    assert "+loader" not in shown[4]


def test_a_source_that_was_changed_since_is_not(found, tmp_path):
    os.utime(tmp_path / "project" / "train.py", (3000.0, 3000.0))
    assert diffs_of(found, tmp_path) == {}


def test_a_file_outside_of_the_project_is_not_shown(found, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "train.py").write_text("")
    run = replace(found.run, cwd=str(elsewhere))
    assert diffs_of(replace(found, run=run), tmp_path) == {}


def test_a_file_that_is_gone_is_not_shown(found, tmp_path):
    (tmp_path / "project" / "train.py").unlink()
    assert diffs_of(found, tmp_path) == {}
