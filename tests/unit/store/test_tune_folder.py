"""The folder of a tune among the runs: listed, diagnosed by its unchanged run."""

import json
import os
import time

import pytest
from click.testing import CliRunner

from trainprof.cli.diagnose import diagnose
from trainprof.cli.runs import runs
from trainprof.profiler.store.reader import find_runs
from trainprof.profiler.store.trials import read_launches


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
