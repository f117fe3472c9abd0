"""Many ranks: read in processes, compared from briefs; what is of no use is named and left out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from slow_work import double, double_or_die
from trace_builder import TraceBuilder

from trainprof.cli import trace_reading
from trainprof.cli.main import main
from trainprof.rules import file_workers
from trainprof.rules.file_workers import each_in_a_process
from trainprof.rules.rank_traces import diagnose_traces, local_briefs

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from trace_tiles import load, tile_ranks

REAL = Path(__file__).parents[4] / "shared" / "traces" / "dlrm-8ranks-v100"


def rank(tmp_path, number, size, arrives=None, name=None):
    """A step of 1 ms with a collective that ends at 600 us; rank 5 comes last."""
    arrives = arrives or (590 if number == 5 else 100 + number)
    builder = TraceBuilder().step(1, 0, 1000).kernel("gemm", 0, arrives)
    builder.kernel("ncclDevKernel_AllReduce", arrives, 600 - arrives)
    said = {"distributedInfo": {"rank": number, "world_size": size}}
    return builder.write(tmp_path / (name or f"rank{number}.json"), **said)


def test_the_result_is_the_same_however_many_read(tmp_path):
    paths = [rank(tmp_path, number, 16) for number in range(16)]
    alone, together = (diagnose_traces(paths, briefs=local_briefs(jobs)) for jobs in (1, 3))
    assert alone == together
    assert [one.rank for one in alone[0].ranks] == list(range(16))
    assert "rank 5, shown here" in alone[0].run.name


def test_sixteen_ranks_of_real_traces(tmp_path):
    sources = sorted(REAL.glob("*"))
    if not sources:
        pytest.skip("the real traces are not there")
    paths = tile_ranks(sources, 16, tmp_path)
    (found,) = diagnose_traces(paths)
    late = next(one for one in found.findings if one.rule == "dist-late-rank")
    assert "Rank 7 comes last to 5 collectives: the first to come waits 9.24 ms" in late.summary
    assert len(found.ranks) == found.run.world_size == 16


def test_what_cannot_be_used_is_named_and_left_out(tmp_path):
    paths = [rank(tmp_path, number, 9) for number in (0, 1, 5)]
    torn = rank(tmp_path, 2, 9)
    torn.write_text(torn.read_text()[:-40])
    twice = rank(tmp_path, 1, 9, name="copy.json")
    other = rank(tmp_path, 3, 4)
    nobody = TraceBuilder().step(1, 0, 1000).write(tmp_path / "nobody.json")
    broken = tmp_path / "broken.json"
    broken.write_text("no trace")
    (found,) = diagnose_traces([*paths, torn, twice, other, nobody, broken, tmp_path / "gone"])
    assert [one.rank for one in found.ranks] == [0, 1, 5]
    assert found.problems == (
        "there is no trace of rank 3, 4, 6, 7, 8",
        f"left out: {torn} of rank 2 ends in the middle.",
        f"left out: {twice} is of rank 1, as is {paths[1]}.",
        f"left out: {other} is of rank 3 of 4, the others of 9 ranks.",
        f"left out: {nobody} does not say of which rank it is.",
        f"left out: {broken} is no trace that can be read: it holds no list of events; name a file "
        "that torch.profiler has exported.",
        f"left out: {tmp_path / 'gone'}: No such file or directory; name a trace file.",
    )


def test_a_world_of_any_size_takes_no_longer(tmp_path):
    paths = [rank(tmp_path, number, 10**18) for number in range(2)]
    (found,) = diagnose_traces(paths)
    assert found.problems == (
        "there is no trace of rank 2, 3, 4, 5, 6, 7, 8, 9 and 999,999,999,999,999,990 more",
    )


def test_a_process_that_is_killed_costs_one_item():
    counts = []
    found = each_in_a_process(double_or_die, range(6), 2, lambda *what: what, counts.append)
    killed = "the process that read it was killed, as where memory runs out"
    assert found == [0, 2, 4, (3, killed), 8, 10]
    assert counts == sorted(counts)
    assert counts[-1] == 6
    assert not children_reading()


def test_none_is_left_behind_when_it_is_stopped():
    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        each_in_a_process(double, range(6), 2, lambda *what: what, stop)
    assert not children_reading()


def children_reading():
    """Processes that hold a file; the one that starts them, and its helper, go when we go."""
    helpers = ("forkserver", "resource_tracker")
    found = psutil.Process().children()
    commands = [" ".join(one.cmdline()) for one in found]
    return [one for one in commands if not any(name in one for name in helpers)] + [
        grandchild for one in found for grandchild in one.children()
    ]


STOPPED = """
import sys
sys.path[:0] = {path!r}
import slow_work
from trainprof.rules import rank_traces
rank_traces.brief = slow_work.sleep
from trainprof.cli.main import main
if __name__ == "__main__":
    sys.exit(main(["diagnose", "--jobs", "2", *{files!r}]))
"""


def test_control_c_leaves_a_sentence_and_no_process(tmp_path):
    files = [str(rank(tmp_path, number, 4)) for number in range(4)]
    script = tmp_path / "script.py"
    script.write_text(STOPPED.format(path=[str(Path(__file__).parent)], files=files))
    with subprocess.Popen(
        [sys.executable, str(script)], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for(lambda: len(list(tmp_path.glob("*.begun"))) == 2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said = process.communicate(timeout=40)[1]
    assert process.returncode == 130
    assert said == "trainprof: stopped when 0 of 4 traces were read; nothing was diagnosed.\n"
    wait_for(lambda: not of_session(process.pid))


def wait_for(condition):
    until = time.monotonic() + 40  # less than a reader of this test would sleep
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def of_session(number):
    found = []
    for pid in psutil.pids():
        try:
            found += [pid] if os.getsid(pid) == number else []
        except ProcessLookupError:
            continue
    return found


def test_one_file_and_little_work_start_no_process(tmp_path, monkeypatch):
    def fail(*what):
        raise AssertionError("processes are started")

    monkeypatch.setattr(file_workers, "each_in_a_process", fail)
    paths = [rank(tmp_path, number, 2) for number in range(2)]
    assert len(diagnose_traces(paths[:1], briefs=local_briefs(8))) == 1
    assert len(diagnose_traces(paths)) == 1


def test_what_takes_longer_than_a_second_shows_how_far_it_is(tmp_path, monkeypatch):
    lines = []
    now = iter([0.0, 0.5, 1.5, 2.5])
    monkeypatch.setattr(trace_reading.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(trace_reading, "tell", lines.append)
    assert main(["diagnose", *(str(rank(tmp_path, number, 3)) for number in range(3))]) == 0
    assert lines == ["read 2 of 3 traces", "read 3 of 3 traces", ""]


def test_files_without_ranks_are_read_once_and_diagnosed_by_themselves(tmp_path, capsys):
    paths = []
    for number in range(3):
        builder = TraceBuilder().step(1, 0, 1000).kernel("gemm", 0, 500 + number)
        paths.append(builder.write(tmp_path / f"trace{number}.json"))
    found = diagnose_traces(paths, briefs=local_briefs(2))
    assert [one.run.name for one in found] == [path.name for path in paths]
    assert main(["diagnose", *map(str, paths), "--format", "json"]) == 2
    assert "give one trace, or one training" in capsys.readouterr().err


def test_a_tiled_trace_has_ids_and_steps_of_its_own(tmp_path):
    from trace_tiles import tile_in_time

    builder = TraceBuilder()
    for number in range(2):
        start = 1_000 + 100 * number
        builder.step(number, start, 100).call("cudaLaunchKernel", start, 5, correlation=number + 1)
        builder.kernel("gemm", start + 10, 40, correlation=number + 1)
    source = builder.write(tmp_path / "trace.json")
    assert tile_in_time(source, 3, tmp_path / "tiled.json.gz") == 18
    events = load(tmp_path / "tiled.json.gz")["traceEvents"]
    steps = [one["name"] for one in events if one["name"].startswith("Profiler")]
    assert steps == [f"ProfilerStep#{number}" for number in range(6)]
    kernels = [one for one in events if one["cat"] == "kernel"]
    assert len({one["args"]["correlation"] for one in kernels}) == 6
    assert [one["ts"] for one in kernels] == [1010 + 100 * number for number in range(6)]
    assert json.dumps(events)
