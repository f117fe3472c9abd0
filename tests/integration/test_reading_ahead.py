"""A trace that another process reads meanwhile: the result is the same, whatever becomes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest

from trainprof.cli.reading_ahead import LEAST_BYTES
from trainprof.rules.trace_diagnosis import diagnose_trace

ENOUGH_CORES = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1
needs_cores = pytest.mark.skipif(not ENOUGH_CORES, reason="it takes two cores")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """A file that is large enough to be read ahead."""
    events = []
    for number in range(9_000):
        call = {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": 1}
        kernel = {"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7}
        where = {"device": 0, "stream": 7, "correlation": number}
        events.append({**call, "ts": 10 * number, "dur": 5, "args": {"correlation": number}})
        events.append({**kernel, "ts": 10 * number + 6, "dur": 3, "args": where})
    path = tmp_path_factory.mktemp("ahead") / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    assert path.stat().st_size > LEAST_BYTES
    return path


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "trainprof", *arguments], capture_output=True, text=True, timeout=120
    )


def test_the_command_says_what_a_reading_here_says(trace):
    told = command("diagnose", str(trace), "--format", "json")
    assert (told.returncode, told.stderr) == (0, "")
    found = json.loads(told.stdout)
    here = diagnose_trace(trace)
    assert found["headline"] == here.headline
    assert [one["rule"] for one in found["findings"]] == [one.rule for one in here.findings]


def test_what_is_no_trace_is_one_sentence(tmp_path):
    path = tmp_path / "trace.json"
    path.write_text("x" * (LEAST_BYTES + 1))
    told = command("diagnose", str(path))
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert "is no trace that can be read" in told.stderr


def test_a_wrong_rule_leaves_no_process(trace):
    told = command("diagnose", str(trace), "--select", "no-such-rule")
    assert told.returncode == 2
    assert "there is no rule no-such-rule" in told.stderr
    words = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]
    assert [one for one in words if str(trace) in one] == []


REAPED = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from trainprof.__main__ import main
main()
"""


def test_where_processes_are_reaped_by_the_system_the_command_ends_well(trace):
    told = subprocess.run(
        [sys.executable, "-c", REAPED, "diagnose", "--quiet", str(trace)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.strip()


WINDOWS = """
import os, sys
import click, pickle, struct
sys.modules["fcntl"], sys.platform = None, "win32"
vars(os).pop("sched_getaffinity", None)
from trainprof.__main__ import main
main()
"""


def test_on_windows_the_command_says_that_it_is_not_supported(trace):
    told = subprocess.run(
        [sys.executable, "-c", WINDOWS, "diagnose", str(trace)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert "Windows is not supported" in told.stderr


LOST = """
import os, signal, sys
from pathlib import Path
from trainprof.cli.reading_ahead import reading_ahead
path = Path(sys.argv[1])
with reading_ahead(["diagnose", "--quiet", str(path)]) as ahead:
    process = ahead._process
    if "lost" in sys.argv:
        os.kill(process, signal.SIGKILL)
    print(len(ahead.open(path).events))
try:
    os.kill(process, 0)
except ProcessLookupError:
    print("gone")
"""


REPLAYED = """
import os, pickle, signal, sys
from pathlib import Path
from trainprof.cli.reading_ahead import reading_ahead
with reading_ahead(["diagnose", sys.argv[1]]) as ahead:
    from trainprof.profiler.traces.timeline import timeline
    from trainprof.profiler.traces.what_if import what_if
    trace = ahead.open(Path(sys.argv[1]))
    if "lost" in sys.argv:
        os.kill(ahead._process, signal.SIGKILL)
    elif "another" in sys.argv:
        trace = pickle.loads(pickle.dumps(trace))
    found = ahead.what_if(trace, timeline(trace))
here = what_if(trace, timeline(trace))
print(found is not None and found.outcomes == here.outcomes and bool(here.outcomes))
"""


@needs_cores
@pytest.mark.parametrize("how", ["read", "lost", "another"])
def test_what_it_replays_is_what_a_replay_here_gives(trace, how):
    told = subprocess.run(
        [sys.executable, "-c", REPLAYED, str(trace), how],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (told.stdout.strip(), told.stderr) == ("True", "")


@needs_cores
@pytest.mark.parametrize("how", ["read", "lost"])
def test_a_reader_that_is_lost_costs_nothing_but_time(trace, how):
    told = subprocess.run(
        [sys.executable, "-c", LOST, str(trace), how], capture_output=True, text=True, timeout=120
    )
    assert (told.stdout.split(), told.stderr) == (["18000", "gone"], "")


UNUSED = """
import sys
from pathlib import Path
from trainprof.cli.reading_ahead import reading_ahead
with reading_ahead(["diagnose", sys.argv[1]]) as ahead:
    assert ahead is not None
    raise SystemExit("an error of another kind")
"""


@needs_cores
def test_a_reader_that_nobody_asks_is_ended(trace):
    told = subprocess.run(
        [sys.executable, "-c", UNUSED, str(trace)], capture_output=True, text=True, timeout=60
    )
    assert told.stderr.strip() == "an error of another kind"


ASKED = """
import json, os, sys
from trainprof.cli.reading_ahead import reading_ahead
found = []
for words in json.loads(sys.argv[1]):
    process = os.fork()  # once numpy is there, nothing is read ahead
    if process == 0:
        with reading_ahead(words) as ahead:
            os._exit(ahead is not None)
    found.append(bool(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])))
print(json.dumps(found))
"""


@needs_cores
def test_only_one_large_trace_that_is_to_be_diagnosed_is_read_ahead(tmp_path, trace):
    small, large, written = tmp_path / "small.json", str(trace), str(tmp_path / "report.json")
    small.write_text("[]")
    asked = {
        ("diagnose", large): True,
        ("diagnose", "--format", "json", large): True,
        ("diagnose", large, "--out", written): True,
        ("diagnose", f"--out={written}", large): True,
        ("diagnose", "--out", large): False,
        ("diagnose", str(small)): False,
        ("diagnose", large, large): False,
        ("diagnose", str(tmp_path / "absent.json")): False,
        ("diagnose",): False,
        ("export", large): False,
        (): False,
    }
    told = subprocess.run(
        [sys.executable, "-c", ASKED, json.dumps(list(asked))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(told.stdout) == list(asked.values())
