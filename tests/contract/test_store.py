"""What the writer wrote, the reader reads: whole, killed, on a full disk, while it grows."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainprof.errors import RunFolderError
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import (
    Event,
    Fact,
    Fetch,
    LossValue,
    MemoryPoint,
    MicroBatch,
    ProcessInfo,
    QueueDepth,
    RunInfo,
    StepRecord,
)
from trainprof.profiler.store.folder import write_run_info
from trainprof.profiler.store.reader import read_run
from trainprof.profiler.store.writer import ProcessWriter, write_process_info

BASE_NS = 3_000_000_000
UNIT_NS = 100
HOUR_NS = 3_600_000_000_000

indices = st.integers(0, 2**40)
durations_ns = st.integers(0, HOUR_NS).map(lambda ns: ns - ns % UNIT_NS)
instants_ns = st.integers(0, 1000 * HOUR_NS).map(lambda ns: BASE_NS + ns - ns % UNIT_NS)
by_phase = st.tuples(*[durations_ns] * len(PHASES))
names = st.text(max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | names,
    lambda members: st.lists(members, max_size=3) | st.dictionaries(names, members, max_size=3),
    max_leaves=6,
)
payloads = st.dictionaries(names, values, max_size=4)


@st.composite
def steps(draw):
    phases_ns = draw(st.tuples(*[st.sampled_from([0, 0, 100, 12_300, 10**7])] * len(PHASES)))
    micro = draw(
        st.lists(st.builds(MicroBatch, instants_ns, *[durations_ns] * 4), max_size=3).map(tuple)
    )
    phases_cpu_ns = draw(st.none() | by_phase)
    # So short that no line needs coarse durations: what is read equals what was written.
    span_ns = st.integers(0, 10_000_000).map(lambda ticks: ticks * UNIT_NS)
    return StepRecord(
        index=0,
        start_ns=draw(instants_ns),
        wall_ns=sum(phases_ns),
        phases_ns=phases_ns,
        cpu_ns=draw(st.none() | span_ns),
        run_queue_ns=draw(st.none() | span_ns),
        micro_batches=draw(st.integers(1, 2**20)),
        samples=draw(st.none() | st.integers(0, 2**20)),
        flags=draw(st.integers(0, 63)),
        micro=micro,
        phases_cpu_ns=phases_cpu_ns,
        phases_run_queue_ns=None if phases_cpu_ns is None else draw(st.none() | by_phase),
        inferred=draw(st.integers(0, 2 ** len(PHASES) - 1)),
    )


records = st.one_of(
    steps(),
    st.builds(LossValue, indices, st.floats(allow_nan=False) | st.integers(-99, 99).map(float)),
    st.builds(QueueDepth, indices, names, durations_ns, st.none() | st.integers(0, 999)),
    st.builds(MemoryPoint, indices, instants_ns, st.integers(0, 2**50)),
    st.builds(Fetch, st.integers(0, 99), instants_ns, durations_ns, durations_ns, indices),
    st.builds(Fact, names, names, instants_ns, payloads),
    st.builds(
        Event,
        names.filter(lambda kind: kind != "data_missing"),
        instants_ns,
        durations_ns,
        payloads,
    ),
)


def start_run(folder, **fields):
    """A run folder with one trainer's, and that trainer's writer."""
    info = RunInfo(1, "run", ("train.py",), "/", 1000.0, BASE_NS, "0.1", **fields)
    write_run_info(folder, info)
    process_folder = folder / "procs" / f"host-7-{BASE_NS}"
    process_folder.mkdir(parents=True)
    write_process_info(
        str(process_folder), ProcessInfo(7, 1, "host", "trainer", started_ns=BASE_NS)
    )
    return process_folder, ProcessWriter(str(process_folder), BASE_NS)


def add(writer, record):
    if isinstance(record, LossValue):
        writer.loss(record.step, record.value)
        return
    method = {
        StepRecord: writer.step,
        QueueDepth: writer.queue,
        MemoryPoint: writer.memory,
        Fetch: writer.fetch,
        Fact: writer.fact,
        Event: writer.event,
    }
    method[type(record)](record)


def only_process(run):
    assert run.problems == ()
    trainers = [trainer for session in run.sessions for trainer in session.trainers]
    [process] = [*trainers, *run.others]
    return process


def of(kind, written):
    return [record for record in written if isinstance(record, kind)]


@settings(max_examples=60, deadline=None)
@given(st.lists(records, max_size=12), st.integers(1, 5))
def test_every_record_comes_back(tmp_path_factory, written, flush_every):
    folder = tmp_path_factory.mktemp("round") / "run"
    folder.mkdir()
    count = itertools.count()
    written = [
        record._replace(index=next(count)) if isinstance(record, StepRecord) else record
        for record in written
    ]
    _, writer = start_run(folder)
    for number, record in enumerate(written):
        add(writer, record)
        if number % flush_every == 0:
            writer.flush()
    writer.close()
    process = only_process(read_run(folder))
    expected_steps = of(StepRecord, written)
    assert [process.steps.record(i) for i in range(len(process.steps))] == [
        s._replace(micro=(), phases_cpu_ns=None, phases_run_queue_ns=None) for s in expected_steps
    ]
    assert dict(process.micro) == {s.index: s.micro for s in expected_steps if s.micro}
    assert [(s.step, s.cpu_ns, s.run_queue_ns) for s in process.states] == [
        (s.index, s.phases_cpu_ns, s.phases_run_queue_ns)
        for s in expected_steps
        if s.phases_cpu_ns is not None
    ]
    assert list(process.losses) == of(LossValue, written)
    assert list(process.queue) == of(QueueDepth, written)
    assert list(process.memory) == of(MemoryPoint, written)
    assert list(process.fetches) == of(Fetch, written)
    assert list(process.events) == of(Event, written)
    latest = {(fact.kind, fact.key): fact.data for fact in of(Fact, written)}
    assert {(fact.kind, fact.key): fact.data for fact in process.facts} == latest


@given(st.lists(st.integers(0, 20 * HOUR_NS), min_size=len(PHASES), max_size=len(PHASES)))
def test_phases_sum_to_the_step_however_long_it_is(tmp_path_factory, phases_ns):
    folder = tmp_path_factory.mktemp("sum") / "run"
    folder.mkdir()
    _, writer = start_run(folder)
    written = StepRecord(0, BASE_NS, sum(phases_ns), tuple(phases_ns))
    writer.step(written)
    writer.close()
    step = only_process(read_run(folder)).steps.record(0)
    assert sum(step.phases_ns) == step.wall_ns
    assert 0 <= written.wall_ns - step.wall_ns < 1_000 * UNIT_NS
    for ours, theirs in zip(step.phases_ns[:-1], phases_ns[:-1], strict=True):
        assert 0 <= theirs - ours < 1_000 * UNIT_NS


WRITE_FOREVER = """
import itertools, sys
from trainprof.profiler.model.records import Fact, StepRecord
from trainprof.profiler.store.writer import ProcessWriter
folder, every = sys.argv[1], int(sys.argv[2])
writer = ProcessWriter(folder, 3_000_000_000)
for index in itertools.count():
    start_ns = 3_000_000_000 + index * 1_000_000
    writer.step(StepRecord(index, start_ns, 1_000_000, (1_000_000,) + (0,) * 13))
    writer.loss(index, 0.5)
    if index % 7 == 0:
        writer.fact(Fact("memory", "peak", start_ns, {"peak_rss_bytes": index}))
    if index % every == every - 1:
        writer.flush()
        print(index + 1, flush=True)
"""


@pytest.fixture
def endless(tmp_path):
    """A process that writes until it is killed; its output tells how many steps are flushed."""
    children = []

    def start(every):
        folder, _ = start_run(tmp_path, supervisor_pid=os.getpid())
        child = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOREVER, str(folder), str(every)],
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.stdout.close()
        child.wait()


@pytest.mark.parametrize("every", [1, 97])
def test_kill_9_loses_nothing_that_was_flushed(tmp_path, endless, every):
    child = endless(every)
    for _ in range(20):
        flushed = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read().split()
    child.wait()
    flushed = int(rest[-1]) if rest else flushed
    process = only_process(read_run(tmp_path))
    assert len(process.steps) >= flushed >= 20 * every
    assert len(process.losses) >= flushed
    assert list(process.steps.columns["index"]) == list(range(len(process.steps)))


def test_a_run_is_read_while_it_is_written(tmp_path, endless):
    child = endless(13)
    child.stdout.readline()
    seen = []
    for _ in range(15):
        process = only_process(read_run(tmp_path))
        assert list(process.steps.columns["index"]) == list(range(len(process.steps)))
        seen.append(len(process.steps))
        told = int(child.stdout.readline())
        assert told > 0
    assert seen == sorted(seen)
    assert seen[-1] > seen[0] >= 13


def fill(writer, first, count):
    for index in range(first, first + count):
        start_ns = BASE_NS + index * 1_000_000
        writer.step(StepRecord(index, start_ns, 1_000_000, (1_000_000,) + (0,) * 13))
        if index % 20 == 0:
            writer.flush()
    writer.flush()


def test_a_disk_that_fills_up_in_mid_run_and_is_freed(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small tmpfs needs root; the unit tests use a fake os.write")
    try:
        _, writer = start_run(small)
        ballast = small / "ballast"
        ballast.write_bytes(b"x" * 100_000)
        fill(writer, 0, 4_000)
        assert "No space left on device" in writer.lost
        full = read_run(small)
        recorded = len(full.sessions[0].trainers[0].steps)
        assert 100 < recorded < 4_000
        assert ["No space left on device" in problem for problem in full.problems] == [True]
        ended = RunInfo(
            1, "run", ("train.py",), "/", 1000.0, BASE_NS, "0.1", status="complete", exit_status=0
        )
        write_run_info(small, ended)
        assert read_run(small).status == "complete"
        ballast.unlink()
        fill(writer, 4_000, 10)
        writer.close()
        freed = read_run(small)
        last = freed.sessions[0].trainers[0].steps.columns["index"][-1]
        assert last == 4_009
        assert len(freed.problems) == 1
        assert " s to " in freed.problems[0]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_columns_and_keys_of_a_later_writer_of_this_format(tmp_path):
    folder, writer = start_run(tmp_path)
    fill(writer, 0, 3)
    writer.queue(QueueDepth(0, "l0", 100, 2))
    writer.fact(Fact("flags", "start", BASE_NS, {"num_threads": 2}))
    writer.event(Event("gc", BASE_NS))
    writer.close()
    for path in folder.glob("*.jsonl"):
        header, *lines = [json.loads(line) for line in path.read_text().splitlines()]
        header["novel"] = {"a": 1}
        if "columns" in header:
            header["columns"].insert(1, "novel")
            lines = [[row[0], {"any": ["thing"]}, *row[1:]] for row in lines]
        else:
            lines = [row | {"novel": [1]} for row in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))
    (folder / "novel.jsonl").write_text("what is this\n")
    process = only_process(read_run(tmp_path))
    assert list(process.steps.columns["index"]) == [0, 1, 2]
    assert list(process.queue) == [QueueDepth(0, "l0", 100, 2)]
    assert process.latest_facts("flags")["start"].data == {"num_threads": 2}
    assert [event.kind for event in process.events] == ["gc"]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damage_anywhere_is_never_more_than_a_problem(tmp_path_factory, data):
    """Cuts and overwrites of any file of a process leave a run that can be read."""
    root = tmp_path_factory.mktemp("damage")
    folder, writer = start_run(root)
    fill(writer, 0, 50)
    for index in range(50):
        writer.loss(index, 0.5)
        writer.queue(QueueDepth(index, "l0", 100, 2))
        writer.fact(Fact("flags", "steady", BASE_NS, {"num_threads": index}))
    writer.close()
    path = data.draw(st.sampled_from(sorted(folder.iterdir())), label="file")
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1), label="at")
    junk = data.draw(st.binary(min_size=1, max_size=60), label="junk")
    content[at : at + len(junk)] = junk
    path.write_bytes(bytes(content[: data.draw(st.integers(at, len(content)), label="cut")]))
    try:
        run = read_run(root)
    except RunFolderError:
        assert re.search(rb'"format": *[1-9]', path.read_bytes())  # junk made a newer format of it
        return
    [process] = [*(t for s in run.sessions for t in s.trainers), *run.others]
    assert len(process.steps) <= 51
    if path.name != "steps.jsonl":
        assert len(process.steps) == 50
