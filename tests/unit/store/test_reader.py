"""Whole run folders: finished, killed, damaged, foreign."""

import itertools
import json
import os
import time

import msgspec
import pytest

from trainprof.errors import RunFolderError
from trainprof.profiler.model.records import MachineSample, Sample
from trainprof.profiler.store import reader, status
from trainprof.profiler.store.reader import find_runs, latest_run, read_run, resolve_run


def test_a_finished_run(make_run, process):
    folder = make_run((process(7, end_s=1), 5), (process(8, "worker", parent=7), 0))
    run = read_run(folder)
    assert (run.status, run.info.name, run.problems) == ("complete", "run", ())
    [session] = run.sessions
    assert len(session.trainers[0].steps) == 5
    assert [worker.info.pid for worker in session.workers] == [8]


def test_a_run_without_processes(make_run):
    run = read_run(make_run())
    assert (run.sessions, run.others, run.problems) == ((), (), ())


def test_a_trainer_that_could_not_say_so_is_known_by_its_steps(make_run, process):
    run = read_run(make_run((process(7, "python"), 2)))
    assert run.sessions[0].trainers[0].info.role == "trainer"


def test_a_process_folder_that_is_still_empty_is_no_process(make_run):
    folder = make_run()
    (folder / "procs" / "host-7-5").mkdir(parents=True)
    assert read_run(folder).problems == ()


@pytest.mark.parametrize("damage", [b"", b"{", b"\0" * 100, b"[]", b'{"format":1}', b"\xff"])
def test_a_damaged_proc_json_leaves_the_name_of_the_folder(make_run, process, damage):
    folder = make_run((process(7, host="my-host"), 2))
    next(folder.glob("procs/*/proc.json")).write_bytes(damage)
    run = read_run(folder)
    info = run.sessions[0].trainers[0].info
    assert (info.host, info.pid, info.started_ns) == ("my-host", 7, 5_000_000_000)
    assert "proc.json of my-host-7-5000000000 is unreadable" in run.problems[0]


def test_a_missing_proc_json(make_run, process):
    folder = make_run((process(7), 2))
    next(folder.glob("procs/*/proc.json")).unlink()
    run = read_run(folder)
    assert len(run.sessions[0].trainers[0].steps) == 2
    assert "has no proc.json" in run.problems[0]


@pytest.mark.parametrize("damage", [None, b"", b"{", b"\0" * 100, b"[]", b'{"format":1}'])
def test_a_missing_or_damaged_run_json_makes_the_run_incomplete(make_run, process, damage):
    folder = make_run((process(7, clock={"unix_s": 1234.5}), 2))
    (folder / "run.json").unlink() if damage is None else (folder / "run.json").write_bytes(damage)
    run = read_run(folder)
    assert (run.status, run.info.started_unix_s) == ("incomplete", 1234.5)
    assert len(run.sessions) == len(run.problems) == 1
    assert run.problems[0].startswith("run.json is ")


def test_other_folders_are_no_runs(tmp_path):
    with pytest.raises(RunFolderError, match="there is no run folder"):
        read_run(tmp_path / "none")
    with pytest.raises(RunFolderError, match=r"is not a run folder \(it holds neither"):
        read_run(tmp_path)
    (tmp_path / "run.json").touch()
    with pytest.raises(RunFolderError, match="is a file, not a run folder"):
        read_run(tmp_path / "run.json")


@pytest.mark.parametrize("name", ["run.json", "procs/*/proc.json", "procs/*/steps.jsonl"])
def test_a_newer_format_is_refused_whatever_else_changed(make_run, process, name):
    folder = make_run((process(7), 1))
    next(folder.glob(name)).write_text('{"format":2,"name":{},"columns":7}\n')
    with pytest.raises(RunFolderError, match=r"newer trainprof \(format 2\); upgrade trainprof"):
        read_run(folder)


def test_unknown_keys_of_the_same_format_are_ignored(make_run, process):
    folder = make_run((process(7), 1))
    for name in ("run.json", next(folder.glob("procs/*/proc.json"))):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"novel": {"a": [1]}}))
    run = read_run(folder)
    assert (run.problems, run.info.name, len(run.sessions)) == ((), "run", 1)


def test_permission_denied(make_run, process, monkeypatch):
    folder = make_run((process(7), 1), (process(8), 1))

    def denied(path, data=None):
        if "-8-" in str(path):
            raise PermissionError(13, "Permission denied")
        return original(path)

    original = type(folder).iterdir
    monkeypatch.setattr(type(folder), "iterdir", denied)
    run = read_run(folder)
    assert len(run.sessions) == 1
    assert run.problems == ("host-8-5000000000 could not be read: Permission denied",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_of_another_user(make_run):
    folder = make_run()
    folder.chmod(0)
    with pytest.raises(RunFolderError, match="may not be read by this user"):
        read_run(folder)


def test_a_folder_that_may_not_be_listed(make_run, monkeypatch):
    folder = make_run()

    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(folder), "iterdir", denied)
    with pytest.raises(RunFolderError, match="may not be read by this user"):
        read_run(folder)


def test_samples_of_the_host(make_run):
    folder = make_run()
    samples = [Sample(at, MachineSample(cpu_busy_share=0.5)) for at in (1, 2)]
    lines = [b'{"format":1}', *map(msgspec.json.encode, samples), b'{"at_ns":3', b"x"]
    (folder / "host.jsonl").write_bytes(b"\n".join(lines))
    run = read_run(folder)
    assert run.samples == tuple(samples)
    assert run.problems == ("host.jsonl of the machine: 1 line was unreadable and is left out",)


def test_of_the_samples_of_many_days_an_even_part_is_read(make_run, monkeypatch):
    folder = make_run()
    lines = [msgspec.json.encode(Sample(at, MachineSample())) for at in range(10_000)]
    path = folder / "host.jsonl"
    path.write_bytes(b"\n".join([b'{"format":1}', *lines, b""]))
    monkeypatch.setattr(reader, "SAMPLE_BYTES_MAX", path.stat().st_size // 4)
    at_ns = [sample.at_ns for sample in read_run(folder).samples]
    assert 1_900 < len(at_ns) < 2_600
    assert at_ns[-1] > 9_990
    assert max(b - a for a, b in itertools.pairwise(at_ns)) == 5


def test_an_outage_is_told_once(make_run, process):
    folder = make_run((process(7), 2))
    path = next(folder.glob("procs/*")) / "steps.jsonl"
    header, *rows = path.read_text().splitlines()
    lost = {"from_ns": 7_000_000_000, "reason": "No space left on device"}
    path.write_text("\n".join([json.dumps(json.loads(header) | {"lost": lost}), *rows, ""]))
    sentence = (
        "process 7 could not write the run folder (No space left on device): "
        "its data is missing from 2.0 s{} after its start"
    )
    assert read_run(folder).problems == (sentence.format(""),)
    event = {"kind": "data_missing", "start_ns": lost["from_ns"], "duration_ns": 3_000_000_000}
    events = [{"format": 1}, event | {"data": lost}]
    (path.parent / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    assert read_run(folder).problems == (sentence.format(" to 5.0 s"),)


class TestStatus:
    @pytest.fixture
    def running(self, make_run):
        def make(pid, started_unix_s=None, **fields):
            started_unix_s = time.time() if started_unix_s is None else started_unix_s
            fields = {"status": "running", "supervisor_pid": pid} | fields
            return read_run(make_run(started_unix_s=started_unix_s, **fields)).status

        return make

    def test_a_live_supervisor(self, running):
        assert running(os.getpid()) == "running"

    def test_no_supervisor(self, running):
        assert running(None) == "incomplete"
        assert running(2**22 + 1) == "incomplete"

    def test_a_process_that_took_over_the_id(self, running):
        assert running(os.getpid(), started_unix_s=1000.0) == "incomplete"

    def test_a_run_on_another_machine_is_told_by_its_files(self, running, tmp_path):
        assert running(os.getpid(), host="elsewhere") == "incomplete"
        file = tmp_path / "run" / "procs" / "elsewhere-1-1" / "steps.jsonl"
        file.parent.mkdir(parents=True)
        file.touch()
        assert running(None, host="elsewhere") == "running"
        old_s = time.time() - 2 * status.SILENCE_S
        os.utime(file, (old_s, old_s))
        assert running(None, host="elsewhere") == "incomplete"

    @pytest.mark.parametrize("ended", ["complete", "crashed", "stopped"])
    def test_an_ended_run_is_what_it_says(self, running, ended):
        assert running(None, status=ended) == ended


class TestFinding:
    @pytest.fixture
    def three(self, make_run, tmp_path):
        for name, started in (("a", 300.0), ("b", 100.0), ("c", 200.0)):
            make_run(folder=tmp_path / "runs" / name, started_unix_s=started)
        (tmp_path / "runs" / ".gitignore").write_text("*")
        (tmp_path / "runs" / "notes").mkdir()
        return tmp_path / "runs"

    def test_newest_first(self, three):
        assert [entry.path.name for entry in find_runs(three)] == ["a", "c", "b"]
        assert latest_run(three) == three / "a"

    def test_none(self, tmp_path):
        assert find_runs(tmp_path / "none") == []
        with pytest.raises(RunFolderError, match=r"there is no run under .*; record one with"):
            latest_run(tmp_path)

    def test_a_base_that_is_a_file(self, tmp_path):
        (tmp_path / "x").touch()
        with pytest.raises(RunFolderError, match="cannot be listed"):
            find_runs(tmp_path / "x")

    def test_damaged_and_newer_runs_are_listed_too(self, three):
        (three / "a" / "run.json").write_text("{")
        (three / "b" / "run.json").write_text('{"format":9}')
        entries = {entry.path.name: entry for entry in find_runs(three)}
        assert [entries[name].status for name in "abc"] == ["incomplete", "unreadable", "complete"]
        assert "newer trainprof" in entries["b"].problem

    def test_what_a_command_line_may_say(self, three, monkeypatch):
        assert resolve_run(None, three) == three / "a"
        assert resolve_run("b", three) == three / "b"
        assert resolve_run(str(three / "c"), three) == three / "c"
        with pytest.raises(RunFolderError, match="there is no run folder nosuch"):
            resolve_run("nosuch", three)
        monkeypatch.chdir(three.parent)
        monkeypatch.setattr(reader, "RUNS_BASE", "runs")
        with pytest.raises(RunFolderError, match="is not a run folder"):
            resolve_run("runs", three)
