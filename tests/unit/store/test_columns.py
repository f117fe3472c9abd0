"""Columnar files: units, missing values, other versions, damage."""

import json

import pytest

from trainprof.profiler.model.run import STEP_COLUMNS
from trainprof.profiler.store.columns import read_columns, read_steps
from trainprof.profiler.store.layout import COARSE, COLUMNS
from trainprof.profiler.store.lines import Problems

HEADER = {"format": 1, "columns": COLUMNS["steps"], "unit_ns": 100, "base_ns": 7, "missing": -1}


@pytest.fixture
def steps_file(tmp_path):
    def make(*rows, **header):
        lines = [HEADER | header, *rows]
        path = tmp_path / "steps.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return make


def row(columns=COLUMNS["steps"], **values):
    return [values.get(name, 0) for name in columns]


def test_ticks_become_nanoseconds_and_the_residual_is_what_is_left(steps_file):
    path = steps_file(row(index=4, start=10, wall=50, forward=20, gc=5, cpu=-1, samples=-1))
    record = read_steps(path, "", Problems()).record(0)
    assert (record.index, record.start_ns, record.wall_ns) == (4, 1_007, 5_000)
    assert sum(record.phases_ns) == record.wall_ns
    assert record.phases_ns[-1] == 2_500
    assert (record.cpu_ns, record.run_queue_ns, record.samples) == (None, 0, None)


def test_a_coarse_line_beside_fine_ones(steps_file):
    fine = row(index=0, wall=10, forward=4)
    coarse = row(index=1, wall=10, forward=4, cpu=-1, run_queue=2, flags=COARSE | 2)
    steps = read_steps(steps_file(fine, coarse), "", Problems())
    assert steps.record(0).wall_ns == 1_000
    record = steps.record(1)
    assert (record.wall_ns, record.phases_ns[2], record.cpu_ns) == (1_000_000, 400_000, None)
    assert (record.run_queue_ns, record.flags) == (200_000, 2)


def test_a_column_that_this_version_does_not_know_is_skipped(steps_file):
    columns = ["novel", *COLUMNS["steps"], "text"]
    path = steps_file(row(columns, novel=[1], text="x", index=3, wall=9), columns=columns)
    problems = Problems()
    steps = read_steps(path, "", problems)
    assert (len(steps), steps.record(0).index, steps.record(0).wall_ns) == (1, 3, 900)
    assert problems.sentences == []


def test_a_column_that_is_absent_is_not_measured_and_a_phase_is_in_the_residual(steps_file):
    columns = ["index", "start", "wall", "forward"]
    steps = read_steps(steps_file([0, 0, 9, 4], columns=columns), "", Problems())
    assert set(steps.columns) == set(STEP_COLUMNS)
    record = steps.record(0)
    assert (record.cpu_ns, record.samples) == (None, None)
    assert (record.phases_ns[2], record.phases_ns[3], record.phases_ns[-1]) == (400, 0, 500)


def test_other_units_and_another_mark_for_missing(steps_file):
    path = steps_file(row(wall=9, cpu=-9), unit_ns=1_000, missing=-9)
    record = read_steps(path, "", Problems()).record(0)
    assert (record.wall_ns, record.cpu_ns) == (9_000, None)


@pytest.mark.parametrize(
    "bad",
    [
        [1, 2, 3],
        [*row(), 0],
        row(wall="12"),
        row(wall=None),
        row(wall=1.5),
        row(wall=10**30),
        {"wall": 1},
        row(wall=1, forward=2),
        row(wall=5, forward=-2),
    ],
)
def test_a_line_that_cannot_be_a_step_is_left_out_and_named(steps_file, bad):
    problems = Problems()
    steps = read_steps(steps_file(row(index=0), bad, row(index=2)), "process 7", problems)
    assert list(steps.columns["index"]) == [0, 2]
    assert problems.sentences == ["steps.jsonl of process 7: 1 line was unreadable and is left out"]


def test_blank_lines_are_nothing(steps_file):
    path = steps_file(row(index=0))
    path.write_bytes(path.read_bytes() + b"  \n\n" + json.dumps(row(index=1)).encode() + b"\n \n")
    problems = Problems()
    assert list(read_steps(path, "", problems).columns["index"]) == [0, 1]
    assert problems.sentences == []


def test_columns_without_which_there_are_no_steps(steps_file):
    problems = Problems()
    assert len(read_steps(steps_file([1], columns=["index"]), "process 7", problems)) == 0
    assert problems.sentences == [
        "steps.jsonl of process 7: its columns are unknown, it is left out"
    ]


def test_an_absent_file_has_no_columns(tmp_path):
    assert read_columns(tmp_path / "queue.jsonl", "", Problems()) is None
    assert len(read_steps(tmp_path / "steps.jsonl", "", Problems())) == 0
