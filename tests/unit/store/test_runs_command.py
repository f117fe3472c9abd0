"""`trainprof runs`."""

import json
import os
import re
import sys
import time

import pytest
from click.testing import CliRunner

from trainprof.cli.runs import runs
from trainprof.errors import RunFolderError, UsageError


@pytest.fixture
def base(tmp_path, make_run, process):
    base = tmp_path / "trainprof-runs"
    for number, fields in enumerate(
        ({}, {"status": "crashed"}, {"status": "running", "supervisor_pid": os.getpid()}, {})
    ):
        folder = base / f"2024010{number}-000000-train"
        fields = {"started_unix_s": time.time() - 1 + number / 10} | fields
        make_run((process(7, rank=0), 5), (process(8, rank=1), 5), folder=folder, **fields)
    return base


def call(base, *options, **how):
    result = CliRunner().invoke(runs, ["--base", str(base), *options], **how)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def names(base):
    return sorted(path.name[:8] for path in base.iterdir())


def test_the_list_is_newest_first_one_line_a_run_and_without_control_codes(base):
    lines = call(base).stdout.splitlines()
    assert lines[0].split() == ["run", "started", "status", "steps", "mean", "step", "size"]
    told = lines[1:5]
    assert [line[:8] for line in told] == ["20240103", "20240102", "20240101", "20240100"]
    assert [line.split()[3] for line in told] == ["complete", "running", "crashed", "complete"]
    assert [line.split()[4:7] for line in told] == [["5", "~10", "ms"]] * 4
    assert lines[5:] == ["~ all steps; trainprof diagnose RUN gives the mean of the steady ones"]
    assert "\x1b" not in call(base).stdout


def test_the_mean_step_is_that_of_the_diagnosis_that_is_stored(base):
    for number, stored in enumerate(('{"steps": {"mean_s": 0.0071}}', "{", '{"steps": {}}')):
        (base / f"2024010{number}-000000-train" / "diagnosis.json").write_text(stored)
    shown = [line.split()[5:7] for line in call(base).stdout.splitlines()[1:5]]
    assert shown == [["~10", "ms"], ["~10", "ms"], ["~10", "ms"], ["7.1", "ms"]]
    data = json.loads(call(base, "--format", "json").stdout)
    assert [run["steady_mean_s"] for run in data["runs"]] == [None, None, None, 0.0071]
    assert {run["mean_step_s"] for run in data["runs"]} == {0.01}


def test_json_is_one_object_with_a_reason_for_each_null(base, make_run):
    make_run(folder=base / "20240104-none", started_unix_s=time.time() + 1)
    data = json.loads(call(base, "--format", "json").stdout)
    first, second = data["runs"][:2]
    assert (first["steps"], first["mean_step_s"]) == (None, None)
    gaps = {"runs.0.steps", "runs.0.mean_step_s"}
    assert set(data["missing"]) == gaps | {f"runs.{place}.steady_mean_s" for place in range(5)}
    assert (second["steps"], second["mean_step_s"], second["status"]) == (5, 0.01, "complete")
    assert second["disk_bytes"] > 0


def test_no_runs(tmp_path):
    assert "record one with: trainprof run" in call(tmp_path / "none").stdout


def test_prune_keeps_the_newest_and_what_still_runs(base):
    result = call(base, "--prune", "--keep", "1", "--yes", "--format", "json")
    assert names(base) == ["20240102", "20240103"]
    assert [name[:8] for name in json.loads(result.stdout)["pruned"]] == ["20240101", "20240100"]
    assert "Deleted 2 runs" in result.stderr


def test_prune_leaves_alone_what_it_cannot_judge(base, tmp_path):
    (base / "20240100-000000-train" / "run.json").write_text("{")
    elsewhere = tmp_path / "elsewhere"
    (base / "20240101-000000-train").rename(elsewhere)
    (base / "20240101-000000-train").symlink_to(elsewhere)
    call(base, "--prune", "--keep", "0", "--yes")
    assert names(base) == ["20240100", "20240101", "20240102"]
    assert (elsewhere / "run.json").exists()


def test_prune_asks(base, monkeypatch):
    monkeypatch.setattr("trainprof.cli.runs._is_answerable", lambda: True)
    result = call(base, "--prune", "--keep", "1", input="n\n")
    assert result.exit_code == 1
    assert len(names(base)) == 4
    assert "Delete 2 runs" in result.stderr
    call(base, "--prune", "--keep", "1", input="y\n")
    assert len(names(base)) == 2


def test_prune_without_a_terminal_needs_yes(base):
    with pytest.raises(UsageError, match="add --yes"):
        call(base, "--prune", "--keep", "1")
    assert len(names(base)) == 4


@pytest.mark.parametrize("options", [["--prune"], ["--keep", "3"]])
def test_prune_and_keep_belong_together(base, options):
    with pytest.raises(UsageError, match="belong together"):
        call(base, *options)


def test_nothing_to_prune(base):
    assert "nothing to delete" in call(base, "--prune", "--keep", "9", "--yes").stderr


def test_a_folder_that_cannot_be_deleted_is_one_sentence(base, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refused)
    with pytest.raises(RunFolderError, match="could not be deleted wholly"):
        call(base, "--prune", "--keep", "1", "--yes")


def test_the_table_fits_80_columns_at_a_terminal(base):
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "trainprof", "runs", "--base", str(base)],
        dimensions=(24, 80),
        env=os.environ | {"NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "80"},
        timeout=30,
    )
    text = child.read().decode()
    child.wait()
    assert "\x1b[3" not in text  # bold, but no colour
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert lines[1].startswith("20240103-000000-train ")
    assert len(lines) == 6
    assert max(map(len, lines)) <= 80
