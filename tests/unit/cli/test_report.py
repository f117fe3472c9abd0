import json
from dataclasses import asdict

import pytest

from trainprof.cli import conclude as concluding
from trainprof.cli.main import main
from trainprof.errors import RunFolderError
from trainprof.profiler.model.tuning import TriedFix, TuneResult
from trainprof.profiler.store.tune_result import read_tune

TUNED = TuneResult(run="r", speedup=1.5, ci=(1.4, 1.6), pairs=8, kept=(TriedFix("f", {}, "r"),))
NO_TRAINING = {
    "format": 1,
    "name": "empty",
    "argv": ["train.py"],
    "cwd": "/nowhere",
    "started_unix_s": 1_767_268_800.0,
    "started_ns": 0,
    "trainprof": "0.1.0",
    "status": "complete",
    "ended_unix_s": 1_767_268_801.0,
    "exit_status": 0,
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run in which nothing trained."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(NO_TRAINING))
    return folder


def test_the_page_goes_into_the_folder_of_the_run_and_is_named(run, capsys):
    assert main(["report", "run"]) == 0
    assert capsys.readouterr().out == "run/report.html\n"
    assert "<!DOCTYPE html>" in (run / "report.html").read_text()


def test_the_page_goes_where_it_is_asked_for(run, tmp_path):
    assert main(["report", "run", "--out", "page.html"]) == 0
    assert (tmp_path / "page.html").stat().st_size < 5_000_000
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report", "run", "--out", "."], "no file that can be written over"),
        (["report", "run", "--out", "nowhere/page.html"], "cannot be written (No such file"),
        (["report", "absent"], "there is no run folder absent"),
        (["report", "absent.json"], "there is no file absent.json"),
    ],
)
def test_mistakes_are_one_sentence(run, capsys, arguments, sentence):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_a_trace_is_never_written_over(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trace = tmp_path / "trace.json"
    trace.write_text('{"traceEvents": []}')
    assert main(["report", "trace.json", "--out", "trace.json"]) == 2
    assert "is the trace itself" in capsys.readouterr().err
    assert trace.read_text() == '{"traceEvents": []}'


def test_the_end_of_a_run_says_where_its_page_is(run, capsys):
    concluding.conclude(run)
    assert "run/report.html" in capsys.readouterr().err
    assert (run / "report.html").exists()


def test_a_page_that_cannot_be_written_is_said_and_is_no_failure(run, capsys):
    (run / "report.html").mkdir()
    concluding.conclude(run)
    error = capsys.readouterr().err
    assert "report.html cannot be written" in error
    assert "`trainprof report --out FILE`" in error  # --out of the run is a folder
    assert "The same as a page" not in error
    assert (run / "diagnosis.json").exists()


def test_a_tune_is_read_back(tmp_path):
    assert read_tune(tmp_path) is None
    (tmp_path / "tune.json").write_text(json.dumps(asdict(TUNED)))
    assert read_tune(tmp_path) == TUNED


@pytest.mark.parametrize(
    ("text", "sentence"), [("{", "is damaged"), ('{"run": "r", "schema": 99}', "newer trainprof")]
)
def test_a_tune_that_cannot_be_read_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "tune.json").write_text(text)
    with pytest.raises(RunFolderError, match=sentence):
        read_tune(tmp_path)
