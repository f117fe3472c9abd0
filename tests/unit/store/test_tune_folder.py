"""The folder of a tune among the runs: listed, diagnosed by its unchanged run."""

import json
import os
import time
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from trainprof.cli.diagnose import diagnose
from trainprof.cli.runs import runs
from trainprof.profiler.store.reader import find_runs
from trainprof.profiler.store.trials import read_launches
from trainprof.profiler.store.tune_result import read_tune
from trainprof.reports.html.experiments import experiments_section
from trainprof.reports.terminal.tune import tune_text
from trainprof.reports.tune_json import tune_json, tune_schema
from trainprof.rules.experiments.progress_file import ProgressFile

BEFORE_PAIRS = Path(__file__).parent / "data" / "tune_without_pairs.json"
"""As it was written before the single pairs were recorded."""


@pytest.fixture
def tuned(tmp_path, make_run, process):
    folder = tmp_path / "trainprof-runs" / "20240101-000000-tune"
    make_run((process(7), 30), folder=folder / "baseline" / "run", argv=("train.py",), cwd="here")
    (folder / "procs").mkdir()
    (folder / "trials" / "000-unchanged").mkdir(parents=True)
    return folder


def listed(folder):
    done = CliRunner().invoke(runs, ["--base", str(folder.parent), "--format", "json"])
    return json.loads(done.stdout)["runs"]


def test_a_tune_is_listed_with_the_steps_of_its_unchanged_run(tuned):
    (tuned / "tune.json").write_text("{}")
    (row,) = listed(tuned)
    assert (row["status"], row["steps"], row["problem"]) == ("tuned", 30, None)


def test_a_tune_that_goes_on_is_not_deleted(tuned):
    command = ["--base", str(tuned.parent), "--prune", "--keep", "0", "--yes"]
    CliRunner().invoke(runs, command)
    assert listed(tuned)[0]["status"] == "running"

    long_ago = time.time() - 7200
    os.utime(tuned / "trials" / "000-unchanged", (long_ago, long_ago))
    assert listed(tuned)[0]["status"] == "tune"
    CliRunner().invoke(runs, command)
    assert not tuned.exists()


def test_a_tune_that_writes_its_course_is_listed_by_its_process(tuned, monkeypatch):
    ProgressFile(tuned).begin(("train.py",), 60.0)
    long_ago = time.time() - 7200
    os.utime(tuned / "trials" / "000-unchanged", (long_ago, long_ago))
    (tuned / "tune.json").write_bytes(BEFORE_PAIRS.read_bytes())
    os.utime(tuned / "tune.json", (long_ago, long_ago))  # of before it was resumed
    assert listed(tuned)[0]["status"] == "running"
    supervised = "trainprof.profiler.store.tune_progress.is_supervised"
    monkeypatch.setattr(supervised, lambda *_: False)
    assert listed(tuned)[0]["status"] == "tune"
    os.utime(tuned / "tune.json")
    assert listed(tuned)[0]["status"] == "tuned"


def test_a_dry_run_does_not_go_on(tuned):
    progress = ProgressFile(tuned)
    progress.begin(("train.py",), 60.0)
    progress.end("dry run")
    assert listed(tuned)[0]["status"] == "tune"


def test_the_unchanged_run_is_diagnosed(tuned):
    done = CliRunner().invoke(diagnose, [str(tuned), "--format", "json"])
    assert json.loads(done.stdout)["run"]["path"] == str(tuned / "baseline" / "run")


def test_a_tune_is_no_launch_of_a_search(tuned, make_run, process):
    (tuned / "tune.json").write_text("{}")
    plain = tuned.parent / "20240102-000000-train"
    make_run((process(7), 5), folder=plain, argv=("train.py",), cwd="here")
    infos = {entry.path.name: entry.info for entry in find_runs(tuned.parent)}
    assert len(infos) == 2
    assert len(read_launches(plain, infos[plain.name])) == 1


@pytest.fixture
def older(tmp_path):
    (tmp_path / "tune.json").write_bytes(BEFORE_PAIRS.read_bytes())
    return read_tune(tmp_path)


def test_a_tune_from_before_pairs_were_recorded_is_shown_as_it_was(older):
    assert (older.kept[0].measured, older.aa_pairs, older.least_ratio) == ((), (), None)
    assert "1.52 times faster [1.41, 1.63] with loader-workers: 6 pairs" in tune_text(older)
    inside = {block["kind"]: block for block in experiments_section(older)["blocks"]}
    assert "The single pairs were not recorded." in inside["intervals"]["caption"]
    marks = inside["intervals"]["marks"]
    assert [(mark["speedup"], mark["pairs"]) for mark in marks] == [
        (1.52, []),
        (0.9, []),
        (1.5, []),
    ]


def test_the_json_of_a_tune_holds_to_its_schema_which_is_published(older):
    jsonschema.Draft202012Validator(tune_schema()).validate(json.loads(tune_json(older)))
    published = Path(__file__).parents[3] / "docs" / "tune.schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(tune_schema())), (
        "run `trainprof schema tune --out docs/tune.schema.json`"
    )
