"""`tune --resume`: the right tune goes on, and none whose measurements no longer hold."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

from trainprof.cli.resuming import earlier_tune
from trainprof.cli.tune import tune
from trainprof.errors import UsageError
from trainprof.profiler.samplers.hardware import read_hardware
from trainprof.rules.experiments.machine import machine_class
from trainprof.rules.experiments.trial import Trial
from trainprof.rules.experiments.trial_journal import About, Journal, Options
from trainprof.rules.source_edits.written import digest


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("print(1)\n")
    return tmp_path


def begin(project, name, command=("train.py",), **changes):
    script = project / "train.py"
    about = About(
        command,
        False,
        str(project),
        Options(steps=40),
        {str(script): digest(script.read_bytes())},
        machine_class(read_hardware()),
    )
    folder = project / "trainprof-runs" / name
    folder.mkdir(parents=True)
    journal = Journal(folder)
    journal.begin(replace(about, **changes))
    journal.add("key", Trial(1.0))
    return folder


def test_the_latest_tune_of_the_command_goes_on(project):
    begin(project, "20260101-100000-tune")
    wanted = begin(project, "20260102-100000-tune")
    begin(project, "20260103-100000-tune", ("other.py",))
    begin(project, "20260104-100000-tune", folder="/elsewhere")
    (project / "trainprof-runs" / "20260105-100000-train").mkdir()

    found = earlier_tune(("train.py",), None)

    assert found.folder.resolve() == wanted
    assert found.about.options.steps == 40
    assert [trial.seconds for _, trial in found.trials] == [1.0]
    assert earlier_tune((), None).about.command == ("other.py",)


def test_a_tune_can_be_named(project):
    folder = begin(project, "a")
    assert earlier_tune((), folder).folder == folder


def failing(project, *, command=("train.py",), out=None, change=None, **changes):
    begin(project, "a", **changes)
    if change is not None:
        change(project / "train.py")
    with pytest.raises(UsageError) as caught:
        earlier_tune(command, out and project / out)
    return str(caught.value)


def test_a_script_that_was_changed_ends_it(project):
    said = failing(project, change=lambda script: script.write_text("print(2)\n"))
    path = project / "train.py"
    assert said == f"{path} was changed since that tune measured it; start anew, without --resume."


def test_a_script_that_is_gone_ends_it(project):
    assert "was changed since" in failing(project, change=lambda script: script.unlink())


def test_another_machine_ends_it(project):
    said = failing(project, machine="a GPU of last year")
    assert said.startswith("that tune ran on another machine (a GPU of last year; this is ")


def test_another_folder_or_command_ends_it(project):
    said = failing(project, out="trainprof-runs/a", folder="/elsewhere")
    assert said == "that tune was begun in /elsewhere; go on from there."
    begin(project, "b", ("other.py",))
    with pytest.raises(UsageError, match=r"that tune is of `other.py`; start anew"):
        earlier_tune(("train.py",), project / "trainprof-runs" / "b")


def test_secrets_have_to_be_typed_again(project):
    typed = ("train.py", "--token", "abc")
    folder = begin(project, "a", ("train.py", "--token", "***"), secrets=True)
    assert "the command's secrets are not kept" in failing_of((), folder)
    assert earlier_tune(typed, None).folder.resolve() == folder


def failing_of(command, out):
    with pytest.raises(UsageError) as caught:
        earlier_tune(command, out)
    return str(caught.value)


def test_nothing_to_go_on_with_is_one_sentence(project):
    said = failing_of(("train.py",), None)
    assert said == "no tune of `train.py` was begun in this folder; start anew, without --resume."
    assert "it had measured nothing" in failing_of((), project)


def test_without_a_command_there_is_nothing_to_tune(project):
    result = CliRunner().invoke(tune, [])
    assert isinstance(result.exception, UsageError)
    assert "there is nothing to tune" in str(result.exception)
