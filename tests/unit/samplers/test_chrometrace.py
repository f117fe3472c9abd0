"""What py-spy's trace says, told apart again: threads, processes that share thread ids, times."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.stacks import Frame
from trainprof.profiler.samplers.chrometrace import LONGEST_SHARED_PERIODS, read_trace

PERIOD_NS = 50_000_000
STARTED_NS = 1_000_000_000


class FakeRecorder:
    """Writes as py-spy does: the difference to the last stack of the same thread id."""

    def __init__(self):
        self.events = []
        self._previous = {}

    def sees(self, at_us, pid, thread, *functions, processes=()):
        frames = [(f'process {number}:"python train.py"', "", 0) for number in processes]
        frames += [(name, f"/home/somebody/{name}.py", line) for name, line in functions]
        before = self._previous.get(thread, [])
        same = 0
        while same < min(len(before), len(frames)) and before[same] == frames[same]:
            same += 1
        for frame in before[same:]:
            self._event("E", frame, at_us, pid, thread)
        for frame in frames[same:]:
            self._event("B", frame, at_us, pid, thread)
        self._previous[thread] = frames

    def _event(self, phase, frame, at_us, pid, thread):
        name, file, line = frame
        self.events.append(
            {
                "args": {"filename": file, "line": line},
                "cat": "py-spy",
                "name": name,
                "ph": phase,
                "pid": pid,
                "tid": thread,
                "ts": at_us,
            }
        )

    def end(self, at_us, pid):
        for thread, frames in self._previous.items():
            for frame in frames:
                self._event("E", frame, at_us, pid, thread)
        return json.dumps(self.events).encode()


def samples_of(data):
    return read_trace(data, STARTED_NS, PERIOD_NS)


def told(samples):
    """(milliseconds since the start, duration in ms, pid, functions)."""
    return [
        (
            (sample.at_ns - STARTED_NS) / 1e6,
            sample.duration_ns / 1e6,
            sample.pid,
            "/".join(frame.function for frame in sample.stack),
        )
        for sample in samples
    ]


def test_a_stack_lasts_until_the_next_look_that_differs():
    recorder = FakeRecorder()
    recorder.sees(50_000, 7, 1, ("main", 3), ("load", 9), processes=[7])
    recorder.sees(90_000, 7, 1, ("main", 3), ("load", 9), processes=[7])
    recorder.sees(150_000, 7, 1, ("main", 4), processes=[7])
    recorder.sees(200_000, 7, 1, ("main", 4), ("save", 1), processes=[7])
    assert told(samples_of(recorder.end(260_000, 7))) == [
        (50.0, 100.0, 7, "main/load"),
        (150.0, 50.0, 7, "main"),
        (200.0, 60.0, 7, "main/save"),
    ]


def test_a_return_alone_is_a_look_too():
    recorder = FakeRecorder()
    recorder.sees(10, 7, 1, ("main", 3), ("load", 9), processes=[7])
    recorder.sees(20, 7, 1, ("main", 3), processes=[7])
    assert [row[3] for row in told(samples_of(recorder.end(30, 7)))] == ["main/load", "main"]


def test_processes_that_share_a_thread_id_are_told_apart():
    """Forked workers have the ids of their parent's threads."""
    recorder = FakeRecorder()
    for at_us in (50_000, 100_000):
        recorder.sees(at_us, 7, 1, ("train", 3), ("wait", 1), processes=[7])
        recorder.sees(at_us + 10, 8, 1, ("train", 3), ("work", at_us // 50_000), processes=[7, 8])
    samples = samples_of(recorder.end(150_000, 8))
    assert [(sample.pid, sample.stack[-1]) for sample in samples] == [
        (7, Frame("wait", "/home/somebody/wait.py", 1)),
        (7, Frame("wait", "/home/somebody/wait.py", 1)),
        (8, Frame("work", "/home/somebody/work.py", 1)),
        (8, Frame("work", "/home/somebody/work.py", 2)),
    ]
    assert samples[0].duration_ns == 50_000_000


def test_silence_under_a_shared_thread_id_is_not_taken_for_a_long_stay():
    recorder = FakeRecorder()
    recorder.sees(50_000, 8, 1, ("work", 1), processes=[7, 8])
    recorder.sees(60_000, 7, 1, ("train", 3), processes=[7])
    recorder.sees(4_000_000, 7, 1, ("train", 4), processes=[7])
    durations = {
        sample.stack[-1].function: sample.duration_ns
        for sample in samples_of(recorder.end(4_000_100, 7))
    }
    assert durations["work"] == LONGEST_SHARED_PERIODS * PERIOD_NS


def test_newer_versions_number_the_threads():
    event = {
        "args": {"filename": "", "name": "140737353963328: MainThread"},
        "cat": "py-spy",
        "name": "thread_name",
        "ph": "M",
        "pid": 7,
        "tid": 0,
        "ts": 0,
    }
    recorder = FakeRecorder()
    recorder.events.append(event)
    recorder.sees(10, 7, 0, ("main", 3), processes=[7])
    (sample,) = samples_of(recorder.end(20, 7))
    assert sample.thread == 140737353963328


@pytest.mark.parametrize("data", [b"", b"[", b"{}", b"[1]", b'[{"name": 3}]', b"\xff"])
def test_what_is_no_trace_is_refused_in_one_sentence(data):
    with pytest.raises(ValueError, match="py-spy wrote no trace"):
        samples_of(data)


@given(
    st.lists(
        st.tuples(
            st.integers(7, 9),
            st.lists(st.sampled_from("abcd"), min_size=1, max_size=4),
        ),
        max_size=40,
    )
)
def test_every_look_that_tells_something_new_is_found(looks):
    """Of each process, in order, less those equal to what was seen last under the thread id."""
    recorder = FakeRecorder()
    expected, before = [], None
    for place, (pid, names) in enumerate(looks):
        recorder.sees(place * 10, pid, 1, *((name, 1) for name in names), processes=[pid])
        if (pid, names) != before:
            expected.append((pid, "/".join(names)))
        before = (pid, names)
    samples = samples_of(recorder.end(len(looks) * 10, 7))
    found = sorted(samples, key=lambda sample: sample.at_ns)
    assert [(row[2], row[3]) for row in told(found)] == expected
    assert all(sample.duration_ns >= 0 for sample in samples)
