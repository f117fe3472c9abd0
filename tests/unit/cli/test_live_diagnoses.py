"""`--no-calibration` reaches every process that diagnoses a run while it goes on."""

import sys

import pytest

from trainprof.cli import top as top_command
from trainprof.cli.conclude import judged
from trainprof.cli.dashboard_run import DashboardRun
from trainprof.cli.dashboard_services import services_of, services_of_tune
from trainprof.cli.session import Session, Watched

OPTION = "--no-calibration"
CHOICES = pytest.mark.parametrize("calibration", [True, False])


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Starts no diagnosis: gives the words that it would have been started with."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/words\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return lambda: (tmp_path / "words").read_text().split()


@CHOICES
@pytest.mark.parametrize("services", [services_of, services_of_tune])
def test_of_the_dashboard(tmp_path, words, services, calibration):
    services(tmp_path, calibration=calibration).diagnose()
    assert "diagnose" in words()
    assert (OPTION in words()) is not calibration


@CHOICES
def test_of_a_run_with_metrics(tmp_path, words, calibration):
    watched = Watched(None, None, 1.0, "off", False, calibration=calibration)
    session = Session(tmp_path, "run", ("train.py",), watched, quiet=True)
    session.show_in(None, wandb=False, metrics=object())
    session._viewers[0]._diagnose(tmp_path)
    assert "diagnose" in words()
    assert (OPTION in words()) is not calibration


@CHOICES
def test_of_a_run_with_a_dashboard(tmp_path, words, calibration):
    dashboard = DashboardRun(tmp_path, calibration=calibration)
    dashboard.show()
    dashboard.wait()
    dashboard.drain()
    assert "top" in words()
    assert (OPTION in words()) is not calibration


@CHOICES
def test_of_top(tmp_path, monkeypatch, calibration):
    (tmp_path / "run.json").write_text("{}")
    shown = []
    monkeypatch.setattr(top_command, "check_screen", lambda *_: None)
    monkeypatch.setattr(top_command, "show", lambda *_, **options: shown.append(options))
    top_command.top([str(tmp_path), *[OPTION][calibration:]], standalone_mode=False)
    assert shown == [{"calibration": calibration}]


@CHOICES
def test_settings_with_a_mistake_do_not_take_it_back(tmp_path, monkeypatch, capsys, calibration):
    (tmp_path / "pyproject.toml").write_text("[tool.trainprof]\nselect = 3\n")
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(
        "trainprof.cli.conclude.judge", lambda _, settings: asked.append(settings.calibration)
    )
    judged(tmp_path, calibration=calibration)
    assert asked == [calibration]
    assert "select" in capsys.readouterr().err
