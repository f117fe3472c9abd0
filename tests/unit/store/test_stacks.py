"""stacks.jsonl: what is written is read back, whatever happens to the file meanwhile."""

import json

from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.stacks import Frame, Holder, LockWindow, StackSample, StackWindow
from trainprof.profiler.store.layout import STACKS_FILE
from trainprof.profiler.store.lines import Problems
from trainprof.profiler.store.stack_file import MOST_FRAMES, StackFile
from trainprof.profiler.store.stacks import read_stacks

BASE_NS = 5_000_000_000

frames = st.builds(Frame, st.text(max_size=8), st.text(max_size=8), st.integers(0, 10_000))
samples = st.builds(
    StackSample,
    st.integers(0, 10**9).map(lambda ticks: BASE_NS + ticks * 100),
    st.integers(0, 10**6).map(lambda ticks: ticks * 100),
    st.integers(1, 4),
    st.integers(0, 2**63),
    st.lists(frames, min_size=1, max_size=5).map(tuple),
)


def write(folder, seen, windows=()):
    folder.mkdir(parents=True, exist_ok=True)
    file = StackFile(str(folder / STACKS_FILE), BASE_NS)
    for window in windows:
        file.window(window)
    for sample in seen:
        file.sample(sample)
        file.write()
    file.write()
    file.close()
    return folder / STACKS_FILE


@given(st.lists(samples, max_size=20))
def test_what_was_written_is_read(tmp_path_factory, seen):
    folder = tmp_path_factory.mktemp("run")
    write(folder, seen)
    problems = Problems()
    assert list(read_stacks(folder, problems).samples) == seen
    assert problems.sentences == []


def test_who_held_the_interpreter_lock_is_read(tmp_path):
    stacks = [sample(function=name).stack for name in ("main", "augment")]
    holders = (Holder(True, stacks[0], 12), Holder(False, stacks[1], 30))
    asked = LockWindow(BASE_NS, BASE_NS + 4_000, 7, 80, holders)
    unheld = LockWindow(BASE_NS + 9_000, BASE_NS + 9_900, 8, 80)
    file = StackFile(str(tmp_path / STACKS_FILE), BASE_NS)
    file.sample(sample())
    file.lock_window(asked)
    file.lock_window(unheld)
    file.write()
    file.close()

    assert read_stacks(tmp_path, Problems()).lock_windows == (asked, unheld)


def sample(at_ns=BASE_NS, function="main", depth=1):
    stack = tuple(Frame(function, "train.py", line) for line in range(depth))
    return StackSample(at_ns, 100, 7, 1, stack)


def test_a_stack_is_written_once(tmp_path):
    path = write(tmp_path, [sample(BASE_NS + place * 100) for place in range(100)])
    kinds = [json.loads(line)[0] for line in path.read_text().splitlines()[1:]]
    assert [kind for kind in kinds if isinstance(kind, str)] == ["thread", "frame", "stack"]
    assert len(path.read_text().splitlines()[-1]) < 30


def test_of_a_recursion_the_innermost_frames_stay(tmp_path):
    write(tmp_path, [sample(depth=1000)])
    (read,) = read_stacks(tmp_path, Problems()).samples
    assert len(read.stack) == MOST_FRAMES
    assert read.stack[-1].line == 999


def test_a_torn_last_line_is_dropped_in_silence(tmp_path):
    path = write(tmp_path, [sample(), sample(function="other")])
    path.write_bytes(path.read_bytes()[:-4])
    problems = Problems()
    assert len(read_stacks(tmp_path, problems).samples) == 1
    assert problems.sentences == []


def test_a_lost_definition_costs_its_samples_only(tmp_path):
    path = write(tmp_path, [sample(), sample(function="other")])
    lines = path.read_text().splitlines(keepends=True)
    lost = next(place for place, line in enumerate(lines) if '"other"' in line)
    path.write_text("".join(lines[:lost] + lines[lost + 1 :]))
    problems = Problems()
    assert [one.stack[0].function for one in read_stacks(tmp_path, problems).samples] == ["main"]
    assert problems.sentences == [
        "stacks.jsonl of the sampled stacks: 2 lines were unreadable and are left out"
    ]


def test_rubbish_and_kinds_to_come_are_no_error(tmp_path):
    path = write(tmp_path, [sample()])
    with path.open("a") as file:
        file.write('["comet",1,2]\n[]\nno json\n[1]\n[1,2,3,99]\n["stack",5,0,77]\n[null,1,1,1]\n')
    problems = Problems()
    assert len(read_stacks(tmp_path, problems).samples) == 1
    assert problems.sentences


def test_the_files_of_agents_are_read_too(tmp_path):
    window = StackWindow(BASE_NS, BASE_NS + 1000, 200, "agent")
    write(tmp_path, [sample()], [StackWindow(BASE_NS, BASE_NS + 500, 100, "py-spy")])
    write(tmp_path / "procs" / "node-7-1", [sample(function="other")], [window])
    read = read_stacks(tmp_path, Problems())
    assert {one.stack[0].function for one in read.samples} == {"main", "other"}
    assert window in read.windows


def test_a_run_without_stacks_has_none(tmp_path):
    read = read_stacks(tmp_path, Problems())
    assert (read.samples, read.windows) == ((), ())
