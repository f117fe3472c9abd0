"""Which of what is given to `diagnose` are traces: files, folders of files, never run folders."""

from __future__ import annotations

import pytest
from trace_builder import TraceBuilder

from trainprof.cli.main import main
from trainprof.cli.trace_paths import traces_among
from trainprof.errors import UsageError


def trace(path, rank=0):
    builder = TraceBuilder().step(1, 0, 100).kernel("gemm", 10, 80)
    return builder.write(path, distributedInfo={"rank": rank, "world_size": 2})


def test_a_folder_of_traces_is_read_whole(tmp_path, capsys):
    for rank in (1, 0):
        trace(tmp_path / f"host_{rank}.1.pt.trace.json", rank)
    (tmp_path / "settings.json").write_text("{}")
    assert [one.name[:6] for one in traces_among([str(tmp_path)])] == ["host_0", "host_1"]
    assert main(["diagnose", str(tmp_path), "--format", "json"]) == 0
    assert "2 ranks" in capsys.readouterr().out


def test_files_of_other_names_count_where_none_has_torchs_own(tmp_path):
    path = trace(tmp_path / "mine.json")
    assert traces_among([str(tmp_path)]) == [path]
    assert traces_among([str(path)]) == [path]


def test_a_run_folder_is_none(tmp_path):
    (tmp_path / "procs").mkdir()
    trace(tmp_path / "trace.json")
    assert traces_among([str(tmp_path)]) == []
    assert traces_among([]) == []


def test_traces_and_others_together_are_refused(tmp_path, capsys):
    path = trace(tmp_path / "trace.json")
    with pytest.raises(UsageError, match="nothing-there is neither a trace"):
        traces_among([str(path), "nothing-there"])
    assert main(["diagnose", str(path), "nothing-there"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_json_of_several_trainings_is_refused(tmp_path, capsys):
    paths = [str(trace(tmp_path / name)) for name in ("a.json", "b.json")]
    assert main(["diagnose", *paths, "--format", "json"]) == 2
    assert "one object" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["nothing.json", "a/b.json.gz", "snapshot.pickle", "report.sqlite", "trace.gz"]
)
def test_a_trace_that_is_not_there_is_called_a_file(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", name]) == 2
    error = capsys.readouterr().err
    assert f"there is no file {name}; check its name" in error
    assert error.count("\n") == 1
    assert "run folder" not in error


def test_one_of_several_traces_that_is_not_there_is_named(tmp_path):
    path = trace(tmp_path / "trace.json")
    with pytest.raises(UsageError, match="there is no file"):
        traces_among([str(path), str(tmp_path / "nothing.json")])


def test_a_run_may_be_called_as_a_file_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trainprof-runs" / "train.json").mkdir(parents=True)
    assert traces_among(["train.json"]) == []
