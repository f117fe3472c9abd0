"""Waiting for a trace: what the command says when none comes."""

import json
import threading
import time

import pytest

from trainprof.cli import tracing
from trainprof.cli.main import main
from trainprof.errors import TrainprofError
from trainprof.profiler.store.trace_files import (
    answer_path,
    order_path,
    requested_steps,
    trace_path,
    write_object,
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A folder of a run that goes on, with a process that has trained a little."""
    monkeypatch.setattr(tracing, "POLL_S", 0.001)
    monkeypatch.setattr(tracing, "read_status", lambda info, folder: status[0])
    monkeypatch.setattr(tracing, "read_run_info", lambda folder, problems: "its info")
    status[0] = "running"
    process = tmp_path / "procs" / "host-1-2"
    process.mkdir(parents=True)
    (process / "steps.jsonl").write_text("[]\n")
    return tmp_path


status = ["running"]


def training(folder, act):
    """Something that answers as a training would, once the request is there."""

    def work():
        request = folder / "trace-request"
        for _ in range(2000):
            if request.exists():
                break
            time.sleep(0.002)
        steps = requested_steps(request.read_text())
        request.unlink()
        act(steps)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def order(folder, number, ranks=1):
    content = {"first": 8, "steps": 3, "ranks": ranks, "step_s": 0.01}
    write_object(order_path(str(folder), number), content)


def answer(folder, number, state, process="host-1-2", **more):
    content = {"state": state, "first": 8, "steps": 3, "rank": None, **more}
    write_object(answer_path(str(folder), process, number), content)


def written(folder, number, process="host-1-2", rank=None):
    path = trace_path(str(folder), process, 8)
    write_object(path, {"traceEvents": []})
    answer(folder, number, "written", process, rank=rank, file=path.rpartition("/")[2])


def test_the_trace_of_each_rank_is_waited_for(run):
    def act(steps):
        assert steps == 4
        order(run, 1, ranks=2)
        answer(run, 1, "armed")
        written(run, 1, rank=0)
        time.sleep(0.02)
        written(run, 1, "host-2-2", rank=1)

    thread = training(run, act)
    taken = tracing.take_trace(run, 4)
    thread.join()
    assert [path.name for path in taken.paths] == [
        "host-1-2-step-8.pt.trace.json.gz",
        "host-2-2-step-8.pt.trace.json.gz",
    ]
    assert taken.reasons == []


def test_a_rank_that_does_not_answer_is_named(run, monkeypatch):
    monkeypatch.setattr(tracing, "OTHER_RANKS_S", 0.01)

    def act(steps):
        order(run, 1, ranks=3)
        written(run, 1, rank=0)
        answer(run, 1, "refused", "host-2-2", rank=1, reason="the disk is full")

    thread = training(run, act)
    taken = tracing.take_trace(run, 3)
    thread.join()
    assert len(taken.paths) == 1
    assert taken.reasons == [
        "no trace of rank 1 was taken: the disk is full",
        "1 of 3 ranks have not answered",
    ]


def test_orders_before_it_are_not_its_own(run):
    order(run, 4)
    answer(run, 4, "refused", reason="of another request")

    def act(steps):
        order(run, 5)
        written(run, 5)

    thread = training(run, act)
    assert len(tracing.take_trace(run, 3).paths) == 1
    thread.join()


def refused(folder):
    order(folder, 1)
    answer(folder, 1, "refused", reason="it was switched off (--trace off)")


def ended(folder):
    order(folder, 1)
    answer(folder, 1, "armed")
    status[0] = "complete"


@pytest.mark.parametrize(
    ("act", "sentence"),
    [(refused, "it was switched off"), (ended, "the run ended before a trace was whole")],
)
def test_why_there_is_none(run, act, sentence):
    thread = training(run, lambda steps: act(run))
    with pytest.raises(TrainprofError, match=sentence):
        tracing.take_trace(run, 3)
    thread.join()


def test_a_training_that_is_stuck_leaves_no_request_behind(run, monkeypatch):
    monkeypatch.setattr(tracing, "PATIENCE_S", 0.01)
    with pytest.raises(TrainprofError, match="no step of the training has ended for"):
        tracing.take_trace(run, 3)
    assert not (run / "trace-request").exists()


def test_a_run_that_is_over_is_not_asked(run):
    status[0] = "crashed"
    with pytest.raises(TrainprofError, match=r"is over \(crashed\)"):
        tracing.take_trace(run, 3)


def test_one_request_at_a_time(run):
    (run / "trace-request").write_text("")
    with pytest.raises(TrainprofError, match="another request waits"):
        tracing.take_trace(run, 3)
    assert (run / "trace-request").exists()


def test_a_window_that_is_under_way_is_told(run):
    order(run, 2)
    answer(run, 2, "armed")
    with pytest.raises(TrainprofError, match="a trace of 3 steps from step 8 is under way"):
        tracing.take_trace(run, 3)


def test_steps_that_were_told_at_the_start_are_in_nobodys_way(run):
    answer(run, 0, "armed")

    def act(steps):
        order(run, 1)
        written(run, 1)

    thread = training(run, act)
    assert len(tracing.take_trace(run, 3).paths) == 1
    thread.join()


def test_a_folder_that_may_not_be_written_is_told(run, monkeypatch):
    def refuse(path, *args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tracing.Path, "open", refuse)
    with pytest.raises(TrainprofError, match="ask as a user who may write"):
        tracing.take_trace(run, 3)


def test_the_command_says_it_in_one_sentence(tmp_path, capsys):
    (tmp_path / "procs").mkdir()
    (tmp_path / "run.json").write_text(json.dumps({"format": 1}))
    assert main(["trace", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
