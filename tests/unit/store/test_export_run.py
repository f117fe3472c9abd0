"""A run folder is exported as it is: finished, still being written, or torn."""

import json

import pytest

from trainprof.cli.main import main
from trainprof.profiler.model.records import ProcessInfo


def exported(folder):
    out = folder.parent / "picture.json"
    assert main(["export", str(folder), "--to", "perfetto", "--out", str(out)]) == 0
    return json.loads(out.read_text())["traceEvents"]


def test_every_step_of_every_rank_is_there(make_run):
    ranks = [
        (ProcessInfo(10 + rank, 1, "a", "trainer", started_ns=6_000_000_000, rank=rank,
                     world_size=2, launch_key="k", ended_ns=7_000_000_000), 30)
        for rank in range(2)
    ]  # fmt: skip
    events = exported(make_run(*ranks))
    assert sum(one["name"] == "step 29" for one in events) == 2
    assert {"rank 0", "rank 1"} <= {str(one.get("args", {}).get("name")) for one in events}


def test_a_run_that_goes_on_and_a_torn_line(make_run):
    info = ProcessInfo(10, 1, "a", "trainer", started_ns=6_000_000_000)
    folder = make_run((info, 30), status="running")
    steps = next((folder / "procs").glob("*/steps.jsonl"))
    steps.write_bytes(steps.read_bytes()[:-5])
    assert sum(one["name"].startswith("step ") for one in exported(folder)) >= 29


def test_a_run_without_a_training(make_run):
    assert not [one for one in exported(make_run()) if one["ph"] == "X"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_of_a_run_that_goes_on(make_run, form, capsys):
    info = ProcessInfo(10, 1, "a", "trainer", started_ns=6_000_000_000)
    folder = make_run((info, 30), status="running")
    steps = next((folder / "procs").glob("*/steps.jsonl"))
    steps.write_bytes(steps.read_bytes()[:-5])
    out = folder.parent / "tables"
    for _ in range(2):  # what is there is replaced
        assert main(["export", str(folder), "--to", form, "--out", str(out)]) == 0
    assert f"steps.{form}" in capsys.readouterr().err
    if form == "csv":
        assert len((out / "steps.csv").read_text().splitlines()) == 30  # one was torn
        assert (out / "gpus.csv").read_text().startswith("at_s,index,")


def test_tables_need_a_run_and_a_folder(make_run, tmp_path, capsys):
    trace = tmp_path / "trace.json"
    trace.write_text("{}")
    assert main(["export", str(trace), "--to", "csv", "--out", str(tmp_path / "a")]) == 2
    assert main(["export", str(make_run()), "--to", "csv", "--out", str(trace)]) == 2
    told = capsys.readouterr().err
    assert "a file, not a run folder" in told
    assert "name the folder for the tables with --out" in told
    assert trace.read_text() == "{}"
