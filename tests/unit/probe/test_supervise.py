"""A scratch process that misbehaves in every way, held to its budget; no torch is imported here."""

import json
import sys
import time

import psutil
import pytest

from trainprof.profiler.model.records import Fact
from trainprof.profiler.probe import supervise
from trainprof.profiler.probe.supervise import Probe, find_copies, read_journal, scratch_environment
from trainprof.profiler.store.lines import Problems
from trainprof.profiler.store.process import read_process

BEGIN = """
import json, os, sys, time
home, copy, journal, budget, *validation = sys.argv[1:]
out = open(journal, "w", buffering=1)
say = lambda **line: out.write(json.dumps(line) + "\\n")
say(stage="ready")
say(data={"item_s": 0.5})
"""


@pytest.fixture
def run(tmp_path):
    """Probes a run with one copy by a scratch process of the given source."""
    process = tmp_path / "procs" / "node-1-2"
    process.mkdir(parents=True)
    info = {"pid": 1, "parent_pid": 0, "host": "node", "role": "trainer"}
    (process / "proc.json").write_text(json.dumps({**info, "executable": sys.executable}))

    def probe(source, *, copied=True, validated=False, budget_s=0.8, **settings):
        data = {"file": "dataset-l0"} if copied else {"reason": "it holds tensors on cuda:0"}
        fact = {"kind": "copy", "key": "l0", "at_ns": 1, "data": data}
        facts = [{"format": 1, "base_ns": 0}, fact]
        if validated:
            data = {"file": "dataset-l1", "role": "validation"}
            facts.append({"kind": "copy", "key": "l1", "at_ns": 1, "data": data})
            (process / "dataset-l1.pickle").write_bytes(b"")
        (process / "facts.jsonl").write_text("\n".join(map(json.dumps, facts)))
        for suffix in ("pickle", "buffers"):
            (process / f"dataset-l0.{suffix}").write_bytes(b"")
        start = tmp_path / "start.py"
        start.write_text(BEGIN + source)
        begun = time.monotonic()
        status = Probe(tmp_path, budget_s, start=start, **settings).run()
        record = read_process(process, Problems())
        found = [fact.data for fact in record.facts if fact.kind == "dataset"]
        assert list(process.glob("dataset-*")) == [] or not copied
        return status, found, time.monotonic() - begun

    return probe


def test_what_is_found_joins_the_facts(run):
    status, found, _ = run("say(data={'items': 3}); say(done=True)")
    assert (status.name, status.status, status.reason) == ("probe", "ok", None)
    assert found == [{"item_s": 0.5, "items": 3}]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("say(stage='items'); time.sleep(60)", "time of 0.8 s was over before the stage 'items'"),
        ("say(stage='items')\nwhile True: pass", "was over"),
        ("say(stage='items'); os._exit(3)", "ended by itself (status 3) in 'items'"),
        ("os.kill(os.getpid(), 11)", "ended by itself (SIGSEGV) in 'ready'"),
        ("say(problem='items raised ValueError: no'); say(done=True)", "raised ValueError: no"),
        ("out.write('{\"torn')", "ended by itself"),
    ],
    ids=["sleeps", "spins", "exits", "crashes", "raises", "torn"],
)
def test_what_goes_wrong_is_one_sentence_and_what_was_found_stays(run, source, reason):
    status, found, wall_s = run(source)
    assert status.status == "partial"
    assert reason in status.reason
    assert found == [{"item_s": 0.5}]
    assert wall_s < 30  # a script that sleeps does so for 60 s


def test_children_of_the_data_set_end_with_it(run, tmp_path):
    pid_file = tmp_path / "child"
    run(
        "import subprocess\n"
        f"child = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)",
        budget_s=3.0,  # within it the child has to be there
    )
    assert ended(int(pid_file.read_text()))


def ended(pid):
    """Whether a killed process is gone, or waits for its parent, within the time that takes."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_too_much_memory_ends_it(run):
    status, _, wall_s = run(
        "hold = bytearray(120 << 20); time.sleep(90)", budget_s=60, most_bytes=100 << 20
    )
    assert "needed more than 0.098 GiB of memory" in status.reason
    assert wall_s < 45  # the budget was not over


def test_the_validations_copy_goes_along_and_is_named(run):
    source = "say(data={'validation_hashed': len(validation)}); say(done=True)"
    status, found, _ = run(source, validated=True)
    assert status.status == "ok"
    assert found == [{"item_s": 0.5, "validation_hashed": 1, "validation": "l1"}]


def test_sketches_are_compared_in_this_process(run, monkeypatch):
    monkeypatch.setattr(supervise, "compare_sketches", lambda path: {"near": path.read_text()})
    _, found, _ = run("open(journal + '.sketches', 'w').write('x'); say(done=True)")
    assert found == [{"item_s": 0.5, "near": "x"}]


def test_a_refused_copy_is_passed_on(run):
    status, found, _ = run("", copied=False)
    assert status.status == "missing"
    assert status.reason == "the data set was not looked at: it holds tensors on cuda:0"
    assert found == []


def test_without_a_copy_there_is_a_reason(tmp_path):
    status = Probe(tmp_path, 1.0).run()
    assert (status.status, "could be copied" in status.reason) == ("missing", True)


def test_progress_is_told_and_taken_away(run):
    lines = []
    run("say(done=True)", progress=lines.append)
    assert lines == ["trainprof: looking at the data set (0.8 s at most)", ""]


def test_damaged_records_are_no_reason_to_fail(tmp_path):
    folder = tmp_path / "procs" / "a"
    folder.mkdir(parents=True)
    (folder / "facts.jsonl").write_text('{"kind": "copy"\n[]\n"copy"\n{"kind": "copy"}\n')
    assert [copy.name for copy in find_copies(tmp_path)] == [None]
    assert read_journal(tmp_path / "absent").data == {}


def test_the_scratch_process_sees_no_accelerator_and_no_agent():
    environment = scratch_environment({"PATH": "x", "CUDA_VISIBLE_DEVICES": "0,1"})
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["TRAINPROF_DISABLE"] == "1"
    assert environment["PATH"] == "x"


def test_a_fact_is_written_as_the_reader_wants_it(tmp_path):
    from trainprof.profiler.store.probe_file import write_probe

    (tmp_path / "proc.json").write_text('{"pid": 1, "parent_pid": 0, "host": "h", "role": "x"}')
    write_probe(tmp_path, [Fact("dataset", "l0", 1, {"a": 1})])
    write_probe(tmp_path, [Fact("dataset", "l1", 1, {"b": 1})])
    record = read_process(tmp_path, Problems())
    assert list(record.latest_facts("dataset")) == ["l0", "l1"]
