"""Memory snapshots: the peak, who holds it, what grows, what breaks; and files that are none."""

from __future__ import annotations

import gzip
import pickle
import random
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapshot_builder import (
    EMPTIES,
    ENGINE,
    FORWARD,
    MODULE,
    MOVES,
    OPTIMIZER,
    SCRIPT,
    SnapshotBuilder,
)

from trainprof.cli.main import main
from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.traces import memory_snapshot
from trainprof.profiler.traces.memory_history import memory_history
from trainprof.profiler.traces.memory_snapshot import read_snapshot
from trainprof.profiler.traces.opening import Format, format_of
from trainprof.profiler.traces.reading import TraceError
from trainprof.rules.snapshot_diagnosis import diagnose_snapshot

MIB = 2**20
STACKS = {
    "optimizer": (OPTIMIZER, SCRIPT),
    "gradients": (ENGINE,),
    "activations": (FORWARD, MODULE, SCRIPT),
    "parameters": (MOVES, SCRIPT),
    "other": (SCRIPT,),
}


def trained(builder, steps=8, leak=0, activations=30):
    """Parameters from before the recording, and steps of forward, backward and update."""
    weights = builder.alloc(10 * MIB, *STACKS["parameters"], recorded=False)
    builder.entries.clear()
    state = None
    for _ in range(steps):
        forward = [builder.alloc(activations * MIB, *STACKS["activations"]) for _ in range(2)]
        gradients = builder.alloc(10 * MIB, *STACKS["gradients"])
        if leak:
            builder.alloc(leak, SCRIPT)
        state = state or builder.alloc(20 * MIB, *STACKS["optimizer"])
        for one in forward:
            builder.free(one)
        builder.optimizer_step()
        builder.free(gradients)
    return weights


def history(builder, tmp_path, **how):
    return memory_history(read_snapshot(builder.write(tmp_path / "snapshot.pickle", **how)))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_peak_and_who_holds_it(tmp_path, protocol):
    builder = SnapshotBuilder(device=1)
    trained(builder)
    found = history(builder, tmp_path, protocol=protocol)
    assert found.device == 1
    assert found.peak == (10 + 20 + 60 + 10) * MIB
    assert found.holders == {
        "optimizer": 20 * MIB,
        "gradients": 10 * MIB,
        "activations": 60 * MIB,
        "parameters": 10 * MIB,
        "other": 0,
        "before the recording": 0,
    }
    assert found.largest[0].where == Location("/home/me/model.py", 39, "forward")
    assert found.steps == 5
    assert found.allocations == 5 * 3
    assert set(found.levels.tolist()) == {40 * MIB}


def test_memory_without_a_stack_is_from_before_the_recording_or_of_autograds_threads(tmp_path):
    builder = SnapshotBuilder()
    builder.alloc(7 * MIB, recorded=False)
    builder.entries.clear()
    builder.alloc(5 * MIB, *STACKS["activations"])
    builder.alloc(3 * MIB)
    holders = history(builder, tmp_path).holders
    assert (holders["before the recording"], holders["gradients"]) == (7 * MIB, 3 * MIB)


steps = st.lists(
    st.tuples(st.sampled_from(["alloc", "free", "step", "back"]), st.integers(1, 50),
              st.sampled_from(list(STACKS)), st.integers(0, 20)),
    min_size=1, max_size=60,
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.integers(0, 30))
def test_a_replay_agrees_with_a_plain_one(tmp_path, acts, lost):
    builder = SnapshotBuilder()
    live, levels = {}, []
    peak = {"used": 0, "held": 0, "by": {}}
    start = builder.segment(1000)
    for act, size, kind, place in acts:
        if act == "alloc":
            live[builder.alloc(size, *STACKS[kind])] = (size, kind)
        elif act == "free" and live:
            address = list(live)[place % len(live)]
            builder.free(address)
            del live[address]
        elif act == "step":
            builder.optimizer_step()
            levels.append((len(builder.entries), sum(size for size, _ in live.values())))
        elif act == "back" and start in builder.segments and start not in live:
            builder.give_back(start)
        used = sum(size for size, _ in live.values())
        if used > peak["used"]:
            by = {name: sum(s for s, k in live.values() if k == name) for name in STACKS}
            peak = {"used": used, "held": sum(builder.segments.values()), "by": by}
    whole = history(builder, tmp_path)
    assert whole.peak == peak["used"]
    assert whole.reserved_at_end == sum(builder.segments.values())
    assert whole.in_use_at_end == sum(size for size, _ in live.values())
    if peak["used"]:
        assert whole.reserved == peak["held"]
        assert {name: whole.holders[name] for name in STACKS} == peak["by"]
    marks = {count: level for count, level in levels if count}
    assert whole.levels.tolist() == list(marks.values())[2:]
    # the ring buffer has lost the beginning: the levels of what is left are the same
    if not builder.segments:
        return
    builder.entries = builder.entries[lost:]
    cut = history(builder, tmp_path)
    assert cut.in_use_at_end == whole.in_use_at_end
    assert cut.peak <= whole.peak
    if cut.holders is not None:
        assert sum(cut.holders.values()) == cut.peak


def rules_of(builder, tmp_path):
    found = diagnose_snapshot(builder.write(tmp_path / "snapshot.pickle"))
    return {finding.rule: finding for finding in found.findings}


def test_a_leak_is_found_with_its_line(tmp_path):
    builder = SnapshotBuilder()
    trained(builder, leak=64 * 1024)
    found = rules_of(builder, tmp_path)["mem-leak-device"]
    assert found.where == Location("/home/me/train.py", 17, "<module>")
    assert "64 KiB more" in found.summary
    healthy = SnapshotBuilder()
    trained(healthy)
    assert not rules_of(healthy, tmp_path)


def test_memory_that_is_given_back_and_asked_for_anew(tmp_path):
    for frames, rules in [((), {"mem-frag"}), ((EMPTIES, SCRIPT), set())]:
        builder = SnapshotBuilder()
        trained(builder)
        free = [one for one, block in builder.blocks.items() if block[2] == "inactive"]
        builder.give_back(free[0], frames)
        builder.alloc(500 * MIB, *STACKS["activations"])
        assert {*rules_of(builder, tmp_path)} == rules
    (advice,) = rules_of_broken(tmp_path, expandable=False)["mem-frag"].fixes
    assert advice.fix == "allocator-segments"
    (advice,) = rules_of_broken(tmp_path, expandable=True)["mem-frag"].fixes
    assert advice.fix == "even-sizes"


def rules_of_broken(tmp_path, expandable):
    """Out of memory for 50 MiB, of which 60 are free in two pieces."""
    builder = SnapshotBuilder(expandable=expandable)
    trained(builder)
    builder.out_of_memory(50 * MIB, 10 * MIB)
    return rules_of(builder, tmp_path)


def test_out_of_memory_in_pieces_and_because_of_activations(tmp_path):
    found = rules_of_broken(tmp_path, expandable=False)
    assert found["mem-frag"].severity == "critical"
    assert "failed though enough memory was free" in found["mem-frag"].summary
    builder = SnapshotBuilder()
    trained(builder, activations=100)
    builder.out_of_memory(500 * MIB, 5 * MIB)
    found = rules_of(builder, tmp_path)
    assert {*found} == {"opt-ckpt-needed"}
    assert found["opt-ckpt-needed"].severity == "warn"
    assert found["opt-ckpt-needed"].where == Location("/home/me/model.py", 39, "forward")


def test_twice_as_much_reserved_as_allocated(tmp_path):
    builder = SnapshotBuilder()
    addresses = [builder.alloc(1024 * MIB, SCRIPT) for _ in range(2)]
    for one in addresses:
        builder.free(one)
    for _ in range(2):
        builder.segment(2048 * MIB)
    builder.entries = builder.entries[-2:]
    assert not rules_of(builder, tmp_path)  # nothing is in use
    builder.alloc(1024 * MIB, SCRIPT)
    assert rules_of(builder, tmp_path)["mem-frag"].severity == "info"


def test_the_command_tells_a_snapshot_from_a_trace(tmp_path, capsys):
    builder = SnapshotBuilder()
    trained(builder)
    path = builder.write(tmp_path / "anything")
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert format_of(path) is format_of(packed) is Format.PICKLE
    for one in (path, packed):
        assert main(["diagnose", str(one)]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "Nothing is wrong with the memory: 100 MiB are in use" in text
        assert "60 % activations" in text
        assert "model.py:39" in text


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (b'{"a": 1}', Format.JSON),
        (b"\xef\xbb\xbf [", Format.JSON),
        (gzip.compress(b"[1]", mtime=0), Format.JSON),
        (b"SQLite format 3\0rest", Format.SQLITE),
        (b"PK\x03\x04", Format.ZIP),
        (b"", Format.OTHER),
        (b"\x1f\x8bno", Format.OTHER),
        (b"\x80\x09", Format.OTHER),
    ],
)
def test_formats_by_their_first_bytes(tmp_path, first, kind):
    path = tmp_path / "file"
    path.write_bytes(first)
    assert format_of(path) is kind
    assert format_of(tmp_path / "absent") is Format.OTHER


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"segments": []}, "neither segments nor a history"),
        ({"model": {}}, "it holds no segments"),
        ("text", "it holds no segments"),
        ({"segments": [print]}, "names code"),
    ],
)
def test_other_pickles_are_a_sentence(tmp_path, capsys, data, why):
    path = tmp_path / "other.pickle"
    path.write_bytes(pickle.dumps(data))
    assert main(["diagnose", str(path)]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert "Traceback" not in error


def test_what_cannot_be_understood_is_counted(tmp_path):
    builder = SnapshotBuilder()
    trained(builder)
    found = builder.snapshot()
    found["segments"].append("no segment")
    found["device_traces"][0] += [None, {"action": ["odd"], "addr": -5, "size": 2**80}]
    path = tmp_path / "odd.pickle"
    path.write_bytes(pickle.dumps(found))
    assert read_snapshot(path).skipped == 2
    diagnosis = diagnose_snapshot(path)
    assert "2 entries could not be understood and are left out" in diagnosis.problems


def test_size_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_snapshot, "MOST_BYTES", 10_000)
    bomb = tmp_path / "bomb.gz"
    packer = zlib.compressobj(wbits=31)
    bomb.write_bytes(packer.compress(b"\x80\x04" + bytes(1_000_000)) + packer.flush())
    with pytest.raises(TraceError, match="record less"):
        read_snapshot(bomb)


def test_mutated_snapshots_are_read_or_are_a_sentence(tmp_path):
    _mutated(tmp_path, 300)


@pytest.mark.slow
def test_ten_thousand_mutated_snapshots(tmp_path):
    _mutated(tmp_path, 10_000)


def _mutated(tmp_path, count):
    random_numbers = random.Random(count)
    builder = SnapshotBuilder()
    trained(builder, steps=4, leak=1024)
    builder.out_of_memory(50 * MIB, 10 * MIB)
    sound = builder.write(tmp_path / "sound.pickle", protocol=4).read_bytes()
    path = tmp_path / "mutated.pickle"
    read = 0
    for _ in range(count):
        text = bytearray(sound)
        for _ in range(random_numbers.choice([1, 1, 2, 8])):
            place = random_numbers.randrange(len(text))
            if random_numbers.random() < 0.6:
                text[place] = random_numbers.randrange(256)
            elif random_numbers.random() < 0.5:
                del text[place : place + random_numbers.randrange(1, 9)]
            else:
                text[place:place] = text[: random_numbers.randrange(1, 40)]
        path.write_bytes(text)
        try:
            diagnose_snapshot(path)
            read += 1
        except TraceError:
            continue
    assert 0 < read < count
