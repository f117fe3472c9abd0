"""What the writer puts on disk, byte by byte, and what it does when it cannot."""

import errno
import json
import os
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import (
    Event,
    Fact,
    Fetch,
    MemoryPoint,
    MicroBatch,
    ProcessInfo,
    QueueDepth,
    StepRecord,
)
from trainprof.profiler.store import appended_file, writer
from trainprof.profiler.store.layout import COARSE, COLUMNS, STEP_BYTES_MAX
from trainprof.profiler.store.writer import ProcessWriter, write_process_info

BASE_NS = 5_000_000_000
SECOND_NS = 1_000_000_000


@pytest.fixture
def writes(tmp_path, clock):
    return ProcessWriter(str(tmp_path), BASE_NS, clock)


def lines_of(folder, name):
    header, *lines = (folder / f"{name}.jsonl").read_text().splitlines()
    return json.loads(header), [json.loads(line) for line in lines]


def test_nothing_is_created_before_the_first_flush(tmp_path, writes, make_step):
    writes.step(make_step())
    assert list(tmp_path.iterdir()) == []
    writes.flush()
    assert [path.name for path in tmp_path.iterdir()] == ["steps.jsonl"]


def test_a_step_is_one_array_of_ticks(tmp_path, writes, make_step):
    phases = {"data_wait": 1_000_099, "backward": 3_000_000}
    writes.step(make_step(7, BASE_NS + 2_500, phases=phases, cpu_ns=9_000_000, flags=3, samples=8))
    writes.flush()
    header, [row] = lines_of(tmp_path, "steps")
    assert header == {
        "format": 1,
        "base_ns": BASE_NS,
        "columns": list(COLUMNS["steps"]),
        "unit_ns": 100,
        "missing": -1,
    }
    values = dict(zip(header["columns"], row, strict=True))
    expected = {"index": 7, "start": 25, "wall": 100_000, "data_wait": 10_000, "backward": 30_000}
    expected |= {"cpu": 90_000, "run_queue": -1, "micro_batches": 1, "samples": 8, "flags": 3}
    assert {name: value for name, value in values.items() if value} == expected


def test_the_residual_is_the_one_phase_that_is_not_stored():
    assert PHASES[-1] == "residual"
    assert [name for name in PHASES if name not in COLUMNS["steps"]] == ["residual"]


@st.composite
def realistic_steps(draw, max_wall_ns=10 * SECOND_NS):
    """Steps of up to 10 non-zero phases, anywhere in a run of a year."""
    wall_ns = draw(st.integers(1_000, max_wall_ns))
    names = draw(st.sets(st.sampled_from(PHASES), min_size=1, max_size=10))
    cuts = sorted(draw(st.lists(st.integers(0, wall_ns), min_size=9, max_size=9)))
    parts = [b - a for a, b in zip([0, *cuts], [*cuts, wall_ns], strict=True)]
    phases = dict.fromkeys(PHASES, 0) | dict(zip(sorted(names), parts, strict=False))
    phases["residual"] += wall_ns - sum(phases.values())
    return StepRecord(
        index=draw(st.integers(0, 10**9)),
        start_ns=BASE_NS + draw(st.integers(0, 365 * 86_400 * SECOND_NS)),
        wall_ns=wall_ns,
        phases_ns=tuple(phases.values()),
        cpu_ns=draw(st.none() | st.integers(0, 16 * wall_ns)),
        run_queue_ns=draw(st.none() | st.integers(0, 16 * wall_ns)),
        micro_batches=draw(st.integers(1, 1024)),
        samples=draw(st.none() | st.integers(0, 10**6)),
        flags=draw(st.integers(0, 63)),
        inferred=draw(st.integers(0, 2 ** len(PHASES) - 1)),
    )


def line_of(record):
    """The line that the writer would write."""
    written = ProcessWriter("/nowhere", BASE_NS)
    written.step(record)
    [line] = written._files["steps"].lines
    return line


@given(realistic_steps())
def test_a_step_of_up_to_10_s_takes_at_most_160_bytes(record):
    assert len(line_of(record).encode()) <= STEP_BYTES_MAX


@given(realistic_steps(max_wall_ns=3_000 * SECOND_NS))
def test_longer_steps_keep_to_160_bytes_too(record):
    assert len(line_of(record).encode()) <= STEP_BYTES_MAX


def test_the_longest_line_is_written_with_coarse_durations():
    tenth_ns = SECOND_NS - 100
    record = StepRecord(
        index=10**9,
        start_ns=BASE_NS + 365 * 86_400 * SECOND_NS,
        wall_ns=10 * tenth_ns,
        phases_ns=(tenth_ns,) * 10 + (0,) * 4,
        cpu_ns=16 * 10 * tenth_ns,
        run_queue_ns=16 * 10 * tenth_ns,
        micro_batches=1024,
        samples=10**6,
        flags=63,
        inferred=2**14 - 1,
    )
    line = line_of(record)
    values = dict(zip(COLUMNS["steps"], json.loads(line), strict=True))
    assert values["flags"] == 63 | COARSE
    assert values["data_wait"] == 9_999  # of 0.1 ms
    assert len(line) == 130
    fine_bytes = len(line) + 3 * 12 - 1  # twelve durations with three digits more; flags 63
    assert fine_bytes > STEP_BYTES_MAX


@given(realistic_steps(max_wall_ns=SECOND_NS))
def test_a_line_is_coarse_only_where_it_would_be_too_long(record):
    flags = json.loads(line_of(record))[COLUMNS["steps"].index("flags")]
    fine = StepRecord(0, BASE_NS, record.wall_ns, record.phases_ns)
    assert not json.loads(line_of(fine))[COLUMNS["steps"].index("flags")] & COARSE
    assert flags & ~COARSE == record.flags


def test_a_step_costs_little_more_than_the_formatting_of_its_numbers(make_step, tmp_path):
    writes = ProcessWriter(str(tmp_path), BASE_NS)
    record = make_step(123_456, phases={"forward": 3_456_789, "backward": 4_567_890}, cpu_ns=9**7)
    values = tuple(json.loads(line_of(record)))
    template = writer._STEP_LINE

    def nanoseconds(call):
        return min(timeit.repeat(call, number=2_000, repeat=25)) / 2_000 * 1e9

    assert nanoseconds(lambda: writes.step(record)) < 4 * nanoseconds(lambda: template % values)


def test_micro_batches_and_states_go_to_files_of_their_own(tmp_path, writes, make_step):
    micro = (MicroBatch(BASE_NS + 100, 500, 100, 200, 99), MicroBatch(BASE_NS + 600, 500, 0, 0, 0))
    cpu_ns = tuple(range(0, 1_400, 100))
    writes.step(make_step(3, micro=micro, phases_cpu_ns=cpu_ns))
    writes.step(make_step(4, phases_cpu_ns=cpu_ns, phases_run_queue_ns=cpu_ns))
    writes.flush()
    assert lines_of(tmp_path, "micro")[1] == [[3, 1, 5, 1, 2, 0], [3, 6, 5, 0, 0, 0]]
    ticks = list(range(14))
    assert lines_of(tmp_path, "states")[1] == [[3, *ticks, *[-1] * 14], [4, *ticks, *ticks]]


def test_the_small_series(tmp_path, writes):
    for value in (0.5, 3, float("nan"), float("inf"), float("-inf")):
        writes.loss(1, value)
    writes.queue(QueueDepth(2, "l0", 1_000, None))
    writes.queue(QueueDepth(3, "l0", 1_000, 4))
    writes.memory(MemoryPoint(4, BASE_NS + 300, 123))
    writes.fetch(Fetch(1, BASE_NS, 200, 100, 64))
    writes.marks([(0, BASE_NS + 100, None, None), (4, BASE_NS + 200, 2, float("nan"), 1, 2)])
    writes.event(Event("gc", BASE_NS, 5, {"generation": 2}))
    writes.flush()
    losses = lines_of(tmp_path, "losses")[1]
    assert losses == [[1, 0.5], [1, 3], [1, "NaN"], [1, "Infinity"], [1, "-Infinity"]]
    assert lines_of(tmp_path, "queue")[1] == [[2, "l0", 10, -1], [3, "l0", 10, 4]]
    assert lines_of(tmp_path, "memory")[1] == [[4, 3, 123]]
    assert lines_of(tmp_path, "fetch")[1] == [[1, 0, 2, 1, 64]]
    assert lines_of(tmp_path, "marks")[1] == [[0, 1, None, None], [4, 2, 2, "NaN"]]
    event = {"kind": "gc", "start_ns": BASE_NS, "duration_ns": 5, "data": {"generation": 2}}
    assert lines_of(tmp_path, "events")[1] == [event]


def test_a_fact_that_says_nothing_new_is_not_written_again(tmp_path, writes):
    for threads in (1, 1, 2, 1):
        writes.fact(Fact("flags", "steady", BASE_NS, {"num_threads": threads}))
    writes.fact(Fact("flags", "start", BASE_NS, {"num_threads": 1}))
    writes.flush()
    facts = [(fact["key"], fact["data"]["num_threads"]) for fact in lines_of(tmp_path, "facts")[1]]
    assert facts == [("steady", 1), ("steady", 2), ("steady", 1), ("start", 1)]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (float("inf"), "Infinity"),
        ([float("nan"), {"a": float("-inf")}], ["NaN", {"a": "-Infinity"}]),
        ("caf\udce9 \u2028", "caf? \u2028"),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_what_json_has_no_word_for_becomes_text(tmp_path, writes, value, written):
    writes.fact(Fact("model", "m0", BASE_NS, {"value": value}))
    writes.flush()
    lines = (tmp_path / "facts.jsonl").read_text(encoding="utf-8").split("\n")
    assert json.loads(lines[1])["data"] == {"value": written}


def test_a_flush_is_one_write_per_file_with_news(tmp_path, writes, make_step, monkeypatch):
    calls = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda *args: calls.append(args) or write(*args))
    for index in range(100):
        writes.step(make_step(index))
        writes.loss(index, 0.5)
    writes.flush()
    assert len(calls) == 2
    writes.flush()
    assert len(calls) == 2


def test_short_writes_are_continued(tmp_path, writes, make_step, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:17]))
    for index in range(5):
        writes.step(make_step(index))
    writes.flush()
    assert [row[0] for row in lines_of(tmp_path, "steps")[1]] == [0, 1, 2, 3, 4]
    assert writes.lost is None


class FullDisk:
    """`os.write` that fails once `free` bytes are used."""

    def __init__(self, monkeypatch, error=errno.ENOSPC):
        self.free = 10**9
        self._error = error
        self._write = os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, descriptor, data):
        if self.free <= 0:
            raise OSError(self._error, os.strerror(self._error))
        written = self._write(descriptor, data[: self.free])
        self.free -= written
        return written


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_full_disk_drops_data_and_says_from_when(
    tmp_path, writes, make_step, clock, monkeypatch, error
):
    disk = FullDisk(monkeypatch, error)
    writes.step(make_step(0))
    clock.now_ns += 2 * SECOND_NS
    writes.flush()
    disk.free = 10  # a torn line, which the writer takes back
    for index in (1, 2):
        writes.step(make_step(index))
        clock.now_ns += SECOND_NS
        writes.flush()
    reason = os.strerror(error)
    sentence = f"the run folder could not be written ({reason}): data is missing from 2.0 s"
    assert writes.lost == sentence
    assert lines_of(tmp_path, "steps")[0]["lost"] == {
        "from_ns": BASE_NS + 2 * SECOND_NS,
        "reason": reason,
    }
    disk.free = 10**9
    writes.step(make_step(3))
    clock.now_ns += SECOND_NS
    writes.flush()
    assert [row[0] for row in lines_of(tmp_path, "steps")[1]] == [0, 3]
    [event] = lines_of(tmp_path, "events")[1]
    assert event == {
        "kind": "data_missing",
        "start_ns": BASE_NS + 2 * SECOND_NS,
        "duration_ns": 2 * SECOND_NS,
        "data": {"from_ns": BASE_NS + 2 * SECOND_NS, "reason": reason},
    }
    assert writes.lost == f"{sentence} to 4.0 s"


def test_facts_and_events_wait_for_free_space(tmp_path, writes, monkeypatch):
    disk = FullDisk(monkeypatch)
    disk.free = 0
    writes.fact(Fact("model", "m0", BASE_NS, {"type": "Net"}))
    writes.flush()
    disk.free = 10**9
    writes.flush()
    assert lines_of(tmp_path, "facts")[1][0]["key"] == "m0"


def test_what_waits_is_bounded(tmp_path, writes, monkeypatch):
    disk = FullDisk(monkeypatch)
    disk.free = 0
    for index in range(40):
        writes.event(Event("log", index, 0, {"text": "x" * 100_000}))
        writes.flush()
    assert sum(map(len, writes._files["events"].lines)) < 1_200_000


def test_a_torn_line_that_cannot_be_taken_back_is_ended(tmp_path, writes, make_step, monkeypatch):
    disk = FullDisk(monkeypatch)
    writes.step(make_step(0))
    writes.flush()

    def refused(descriptor, length):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "ftruncate", refused)
    disk.free = 10
    writes.step(make_step(1))
    writes.flush()
    disk.free = 10**9
    writes.step(make_step(2))
    writes.flush()
    lines = (tmp_path / "steps.jsonl").read_text().splitlines()
    assert [len(lines), lines[2], json.loads(lines[3])[0]] == [4, "[1,0,10000", 2]


def test_a_folder_that_vanished_disturbs_nobody(tmp_path, make_step):
    writes = ProcessWriter(str(tmp_path / "gone"), BASE_NS)
    writes.step(make_step())
    writes.flush()
    writes.close()
    assert "No such file or directory" in writes.lost


def test_nothing_is_written_into_a_file_that_took_over_the_descriptor(tmp_path, writes, make_step):
    writes.step(make_step(0))
    writes.flush()
    descriptor = writes._files["steps"]._descriptor
    os.close(descriptor)  # as a script that closes all descriptors does
    (tmp_path / "theirs").touch()
    theirs = os.open(tmp_path / "theirs", os.O_WRONLY)
    assert theirs == descriptor
    writes.step(make_step(1))
    writes.flush()
    os.close(theirs)
    assert (tmp_path / "theirs").read_bytes() == b""
    assert [row[0] for row in lines_of(tmp_path, "steps")[1]] == [0, 1]


def test_a_forked_child_writes_nothing(tmp_path, writes, make_step, monkeypatch):
    writes.step(make_step())
    monkeypatch.setattr(os, "getpid", lambda: -1)
    writes.flush()
    writes.close()
    assert list(tmp_path.iterdir()) == []


def test_a_failing_close_is_a_loss(tmp_path, writes, make_step, monkeypatch):
    writes.step(make_step())
    writes.flush()
    close = os.close

    def refused(descriptor):
        close(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(appended_file.os, "close", refused)
    writes.close()
    assert "Input/output error" in writes.lost


def test_what_comes_after_close_is_written_by_a_later_flush(tmp_path, writes, make_step):
    writes.step(make_step(0))
    writes.close()
    writes.step(make_step(1))
    writes.flush()
    assert [row[0] for row in lines_of(tmp_path, "steps")[1]] == [0, 1]


def test_process_info_replaces_the_whole_file(tmp_path):
    info = ProcessInfo(1, 0, "host", "other", argv=("a", "b\udce9"))
    assert write_process_info(str(tmp_path), info)
    assert write_process_info(str(tmp_path), ProcessInfo(1, 0, "host", "trainer"))
    assert [path.name for path in tmp_path.iterdir()] == ["proc.json"]
    data = json.loads((tmp_path / "proc.json").read_text())
    assert (data["format"], data["role"]) == (1, "trainer")


def test_process_info_that_cannot_be_written_keeps_the_old_file(tmp_path, monkeypatch):
    assert write_process_info(str(tmp_path), ProcessInfo(1, 0, "host", "other"))
    FullDisk(monkeypatch).free = 0
    assert not write_process_info(str(tmp_path), ProcessInfo(1, 0, "host", "trainer"))
    assert not write_process_info(str(tmp_path / "gone"), ProcessInfo(1, 0, "host", "other"))
    assert [path.name for path in tmp_path.iterdir()] == ["proc.json"]
    assert json.loads((tmp_path / "proc.json").read_text())["role"] == "other"
