"""What a tune cannot write is one sentence, and takes nothing of what it knows away."""

from types import SimpleNamespace

import pytest

from trainprof.cli import tuning
from trainprof.cli.dashboard_services import recorded
from trainprof.profiler.model.diagnosis import Diagnosis, RunSummary, StepSummary
from trainprof.profiler.store.layout import BASELINE_FOLDER, DIAGNOSIS_FILE
from trainprof.rules.calibration import Case
from trainprof.rules.experiments.trial import Trial
from trainprof.rules.experiments.trial_journal import Options

CASE = Case("data-workers-under", "loader-workers", "cpu", 1.2, 1.6, 1.4, 1.3, 1.5, "t", 0.0)


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Makes a tune in a folder that holds a script and nothing else; no trial runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("print(1)\n")
    monkeypatch.setattr(tuning, "trial_place", lambda *_, **__: SimpleNamespace(workplace=None))

    def make(say=print, earlier=None):
        options = Options()
        return tuning.Tuning(
            ("train.py",),
            tmp_path,
            options=options,
            budget_s=60.0,
            unguarded=False,
            say=say,
            earlier=earlier,
        )

    return make


def test_a_state_folder_that_cannot_be_written_is_said(begin, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "train.py"))
    monkeypatch.setattr(tuning, "cases_of", lambda *_: [CASE])
    said = []

    begin(say=said.append)._remember(SimpleNamespace())

    path = tmp_path / "train.py" / "trainprof" / "calibration.json"
    assert said == [f"{path} cannot be written (Not a directory)"]


def test_what_it_diagnosed_is_kept_for_whoever_watches(begin, monkeypatch, tmp_path):
    steps = StepSummary(400, 380, mean_s=0.02)
    diagnosis = Diagnosis(1, "run", RunSummary("complete"), "healthy", "No bottleneck.", steps)
    monkeypatch.setattr(tuning, "judge", lambda *_: diagnosis)
    run = tmp_path / BASELINE_FOLDER
    run.mkdir(parents=True)
    assert recorded(run) is None
    assert begin()._diagnosis(run) == diagnosis
    assert recorded(run) == diagnosis
    torn = (run / DIAGNOSIS_FILE).read_bytes()[:-9]
    (run / DIAGNOSIS_FILE).write_bytes(torn)
    assert recorded(run) is None


def test_after_an_interrupt_a_trial_that_hangs_is_known_by_those_before(begin):
    """Else the first one could hang for ten minutes."""
    trials = [("a", Trial(1.0, took_s=7.0)), ("b", Trial(1.0)), ("c", Trial(1.0, took_s=5.0))]
    assert begin(earlier=trials)._longest_s() == 7.0
