"""A run folder read as it grows gives what one look at its end would give."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_writer import RunWriter

from trainprof.errors import RunFolderError
from trainprof.profiler.store.reader import read_run
from trainprof.profiler.store.tail import FileTail, RunTail
from trainprof.profiler.store.writer import write_process_info


def test_each_look_gives_only_what_was_added(tmp_path):
    run = RunWriter(tmp_path / "run")
    tail = RunTail(run.folder)
    run.steps(3, loss=0.5).flush()
    (first,) = tail.look().records
    assert list(first.steps.columns["index"]) == [0, 1, 2]
    assert [value for _, value in first.losses] == [0.5] * 3
    assert tail.look().records == ()
    run.steps(2).flush()
    (second,) = tail.look().records
    assert list(second.steps.columns["index"]) == [3, 4]


def test_what_is_new_of_a_process_that_trains_is_told_once_also_without_a_step(tmp_path):
    run = RunWriter(tmp_path / "run")
    tail = RunTail(run.folder)
    (begun,) = tail.look().records
    assert (begun.info.role, len(begun.steps), begun.events) == ("trainer", 0, ())
    assert [tail.look().records for _ in range(5)] == [()] * 5
    (folder,) = run.folder.glob("procs/*")
    write_process_info(str(folder), dataclasses.replace(begun.info, ended_ns=7))
    told = [one for _ in range(8) for one in tail.look().records]
    assert [one.info.ended_ns for one in told] == [7]


def test_no_sample_comes_before_what_its_time_counts_from(tmp_path):
    tail = RunTail(tmp_path / "run")
    assert tail.look().info is None  # it was not begun yet
    run = RunWriter(tmp_path / "run")
    run.sample(0.5)
    run.flush()
    look = tail.look()
    assert len(look.samples) == 1
    assert look.info == run.info


def test_the_steps_are_those_that_the_whole_reader_reads(tmp_path):
    run = RunWriter(tmp_path / "run")
    tail = RunTail(run.folder)
    walls_ns = []
    for size in (1, 5, 2, 9):
        run.steps(size, wall_ns=31_234_500).flush()
        for one in tail.look().records:
            walls_ns += one.steps.columns["wall_ns"]
    (session,) = read_run(run.folder).sessions
    assert walls_ns == list(session.trainers[0].steps.columns["wall_ns"])


@settings(deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(0, 400), max_size=8), block=st.integers(32, 200))
def test_wherever_a_write_is_torn_each_line_comes_once(tmp_path_factory, cuts, block):
    text = '{"format": 1}\n' + "".join(f'["{"x" * (i % 7)}", {i}]\n' for i in range(20))
    data = text.encode()
    path = tmp_path_factory.mktemp("tail") / "facts.jsonl"
    tail = FileTail(path)
    seen = b""
    for end in [*sorted(cuts), len(data)]:
        path.write_bytes(data[:end])
        while added := tail.lines(block):
            seen += added
        while tail.behind:
            seen += tail.lines(block)
    assert seen == data[data.index(b"\n") + 1 :]


def test_a_line_without_end_is_passed_over(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_bytes(b'{"format": 1}\n' + b"x" * 1000 + b"\n[1]\n")
    tail = FileTail(path)
    seen = tail.lines(100)
    while tail.behind:
        seen += tail.lines(100)
    assert seen == b"[1]\n"


def test_unreadable_lines_are_left_out(tmp_path):
    run = RunWriter(tmp_path / "run").steps(2).flush()
    path = next(run.folder.glob("procs/*/steps.jsonl"))
    with path.open("ab") as file:
        file.write(b"no json\n")
    run.steps(1).flush()
    (records,) = RunTail(run.folder).look().records
    assert list(records.steps.columns["index"]) == [0, 1, 2]


def test_a_newer_format_is_said(tmp_path):
    run = RunWriter(tmp_path / "run")
    (run.folder / "run.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(RunFolderError, match="newer trainprof"):
        RunTail(run.folder).look()


def test_nan_and_infinite_losses_are_read(tmp_path):
    run = (
        RunWriter(tmp_path / "run").steps(1, loss=float("nan")).steps(1, loss=float("inf")).flush()
    )
    (records,) = RunTail(run.folder).look().records
    assert [str(value) for _, value in records.losses] == ["nan", "inf"]
