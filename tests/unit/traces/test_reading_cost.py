"""What reading a trace may cost: imports, time by event, and memory whatever the file holds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zlib

import pytest
from trace_builder import TraceBuilder

from trainprof.profiler.traces import reading, text_parts
from trainprof.profiler.traces.reading import TraceError, read_trace
from trainprof.rules.trace_diagnosis import diagnose_trace

NEEDLESS = {
    *("asyncio", "http", "multiprocessing", "socket", "sqlite3"),
    *("hypothesis", "jinja2", "libcst", "optuna", "pandas", "psutil", "ray", "textual", "torch"),
    "trainprof.profiler.agent.agent",
    "trainprof.profiler.launch",
    "trainprof.profiler.model.records",
    "trainprof.profiler.probe",
    "trainprof.profiler.samplers",
    "trainprof.profiler.sandbox",
    "trainprof.rules.diagnose",
    "trainprof.rules.experiments",
    "trainprof.rules.file_workers",
    "trainprof.rules.fixes",
    "trainprof.rules.signals.topics",
    "trainprof.rules.signals.training",
    "trainprof.profiler.store.reader",
    "trainprof.rules.source_edits",
}
"""Modules that the diagnosis of one trace does without: each would take time at every start."""


def large(events):
    """A step of launches and kernels."""
    builder = TraceBuilder().step(1, 0, 10 * events)
    for number in range(events // 3):
        at = 30 * number
        builder.operator("aten::mm", at, 9, **{"Input Dims": [[8, 8], [8, 8]]})
        builder.call("cudaLaunchKernel", at + 2, 5, correlation=number + 1)
        builder.kernel(f"gemm{number % 50}", at + 8, 20, correlation=number + 1)
    return builder


def test_nothing_is_imported_that_one_trace_does_not_need(tmp_path):
    path = large(60).write(tmp_path / "trace.json")
    script = (
        "import json, sys; from trainprof.cli.main import main; "
        f"main(['diagnose', {str(path)!r}, '--out', {str(tmp_path / 'out')!r}]); "
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not NEEDLESS & set(json.loads(done.stdout))


def cpu_s(work):
    """The least of three."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def test_a_diagnosis_costs_some_times_what_python_needs_to_read_the_text(tmp_path):
    small, longer = (large(count).write(tmp_path / f"{count}.json") for count in (9_000, 36_000))
    text = longer.read_text()
    plain_s = cpu_s(lambda: json.loads(text))
    small_s, longer_s = (cpu_s(lambda: diagnose_trace(path)) for path in (small, longer))  # noqa: B023
    assert longer_s < 12 * plain_s  # 3 on the machine that this was written on
    assert longer_s < 3 * 4 * small_s  # linear: 4 times the events


EVENT = '{"ph":"X","cat":"kernel","name":"gemm","ts":1,"dur":5,"args":{"device":0,"stream":7}}'
MIB = 1 << 20
HOSTILE = {
    "spaces": ("", " " * MIB, ""),
    "a header": ('{"x":"', "0" * MIB, '","traceEvents":[]}'),
    "one event": ('[{"ph":"X","name":"', "0" * MIB, '"}]'),
    "ends that are none": (f'[{EVENT},{{"a":"', "],'" * (MIB // 3), f'"}},{EVENT}]'),
    "starts that are none": (f'[{EVENT},{{"a":"', "},{" * (MIB // 3), f'"}},{EVENT}]'),
    "nested lists": (f'[{EVENT},{{"a":', "[" * MIB, "]"),
    "numbers": ("[", "1," * (MIB // 2), f"{EVENT}]"),
    "nothing begun ends": ("[", '{"ph":"B","name":"x"},' * (MIB // 22), f"{EVENT}]"),
    "names of threads": (
        "[",
        '{"ph":"M","name":"thread_name","args":{"name":"x"}},' * (MIB // 52),
        f"{EVENT}]",
    ),
    "empty events": ("[", "{}," * (MIB // 3), f"{EVENT}]"),
}


@pytest.mark.parametrize("times", [6, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_small_file_cannot_take_much_memory(tmp_path, kind, times):
    path = packed(tmp_path / "trace.json.gz", HOSTILE[kind], times)
    assert peak_bytes(path) < 1024 * MIB


def packed(path, parts, times):
    first, repeated, last = (part.encode() for part in parts)
    pack = zlib.compressobj(1, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        for text in (first, *[repeated] * times, last):
            file.write(pack.compress(text))
        file.write(pack.flush())
    return path


READS = """
import re, resource, sys
from pathlib import Path
from trainprof.profiler.traces.reading import TraceError, read_trace
try:
    read_trace(Path(sys.argv[1]))
except TraceError as error:
    assert str(error).endswith(".")
status = Path("/proc/self/status")
if status.exists():  # getrusage begins with the peak of the process that started this one
    print(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_bytes(path):
    """Of a process of its own that reads a file."""
    done = subprocess.run(
        [sys.executable, "-c", READS, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def test_memory_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    def decode(text, exact):
        raise MemoryError

    monkeypatch.setattr(reading, "decode_events", decode)
    path = large(3).write(tmp_path / "trace.json")
    with pytest.raises(TraceError, match="needs more memory than there is; record fewer steps"):
        read_trace(path)


@pytest.mark.parametrize(("character", "count"), [("n", 100_000), ("\N{FIRE}", 25_000)])
def test_names_that_take_too_much_are_told(tmp_path, monkeypatch, character, count):
    monkeypatch.setattr(reading, "MOST_KEPT", 1 << 20)
    monkeypatch.setattr(text_parts, "PART_BYTES", 1 << 16)
    builder = TraceBuilder()
    for number in range(30):
        builder.kernel(f"{number}" + character * count, number, 1)
    with pytest.raises(TraceError, match="more than 1 MiB of names and shapes"):
        read_trace(builder.write(tmp_path / "trace.json"))


def test_a_long_name_is_cut(tmp_path):
    path = TraceBuilder().kernel("n" * 10_000, 1, 1).write(tmp_path / "trace.json")
    assert [len(name) for name in read_trace(path).names] == [4096]


def test_numbers_of_any_length_are_none_of_a_trace(tmp_path):
    path = tmp_path / "trace.json"
    long = "9" * 1000
    path.write_text(f"[{EVENT},{EVENT.replace('1', long, 1)},{EVENT.replace('5', long, 1)}]")
    trace = read_trace(path)
    assert sorted(trace.events.start_ns.tolist()) == [0, 1000, 1000]
    assert sorted((trace.events.end_ns - trace.events.start_ns).tolist()) == [0, 5000, 5000]


def test_an_end_may_be_of_another_kind_than_its_begin(tmp_path):
    path = tmp_path / "trace.json"
    begin = '{"ph":"B","name":"outer","pid":1,"tid":1,"ts":10}'
    path.write_text(f'[{begin},{{"ph":"E","pid":1,"tid":1,"ts":20,"args":{{"stream":[]}}}}]')
    (length,) = (lambda events: events.end_ns - events.start_ns)(read_trace(path).events)
    assert length == 10_000
