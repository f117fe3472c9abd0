"""Annotations name files as GitHub matches them, and say what to change."""

import pytest

from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Finding,
    FixAdvice,
    Gain,
    Location,
    RunSummary,
    StepSummary,
)
from trainprof.reports.github import GithubReport


def annotation(file, fixes=()):
    finding = Finding(
        "loop-gc",
        "warn",
        "Collections",
        "Collections take 12 %.",
        (),
        Location(file, 7),
        gain=Gain(1.1, 1.2),
        fixes=fixes,
    )
    run = RunSummary("complete")
    diagnosis = Diagnosis(1, "run", run, "bottleneck", "Slow.", StepSummary(99, 90), (finding,))
    return GithubReport().render(diagnosis).splitlines()[1]


@pytest.fixture
def below(monkeypatch, tmp_path):
    """The working directory is a folder of the checkout."""
    (tmp_path / "checkout" / "trainings").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "checkout" / "trainings")
    return tmp_path / "checkout"


def test_on_a_runner_files_are_named_from_the_top_of_the_checkout(below, monkeypatch):
    monkeypatch.setenv("GITHUB_WORKSPACE", str(below))
    assert "file=trainings/train.py,line=7" in annotation(str(below / "trainings" / "train.py"))
    assert "file=model.py," in annotation(str(below / "trainings" / ".." / "model.py"))
    assert f"file={below.parent}/other.py," in annotation(str(below.parent / "other.py"))
    monkeypatch.delenv("GITHUB_WORKSPACE")
    assert "file=train.py," in annotation(str(below / "trainings" / "train.py"))


def test_the_fix_stands_in_the_annotation_and_cannot_begin_another():
    advice = FixAdvice("gc-freeze", {}, "safe", "Freeze what lives.\n::error::no, 5 %")
    line = annotation("train.py", (advice,))
    assert "Fix: Freeze what lives. ::error::no, 5 %25. Gain: 1.1-1.2x faster steps" in line
    assert "Gain: 1.1-1.2x faster" in annotation("train.py")
