"""Exports of Nsight Systems are read into the same columns, and diagnosed by the same rules."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nsight_builder import NsightBuilder
from plain_picture import plain_picture
from test_reading import contents
from trace_builder import TraceBuilder

from trainprof.cli.main import main
from trainprof.profiler.traces import nsight
from trainprof.profiler.traces.events import Kind
from trainprof.profiler.traces.nvtx import renamed
from trainprof.profiler.traces.opening import open_trace
from trainprof.profiler.traces.reading import TraceError, read_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace, read
from trainprof.rules.trace_signals import measure


def waiting(builder=None):
    """Steps of 100 us of which the device works for 40 and waits for a batch for 50."""
    builder = builder or NsightBuilder()
    for number in range(4):
        start = 1_000_000 + 100_000 * number
        builder.step(number, start, 100_000).wait(start, 50_000)
        builder.call("cudaLaunchKernel_v7000", start + 50_000, 5_000, correlation=number + 1)
        builder.kernel("gemm", start + 55_000, 40_000, correlation=number + 1)
    return builder


def test_everything_is_read_into_the_columns_of_a_trace(tmp_path):
    builder = NsightBuilder().gpu(0, "Made-up 9000").thread_name("python")
    builder.kernel("void gemm<float>(int)", 100, 50, correlation=5, short="gemm")
    builder.copy(200, 10, size=4096, correlation=6).copy(220, 10, kinds=(2, 2, 1))
    builder.fill(300, 5).call("cudaLaunchKernel_v7000", 90, 4, correlation=5)
    builder.call("cuLaunchKernelEx", 95, 4).call("cudaMemcpyAsync_ptsz_v7000", 96, 2)
    builder.call("poll", 10, 5, table="OSRT_API").range("forward", 80, 100, by_id=True)
    builder.row("NVTX_EVENTS", eventType=75, domainId=3, text="NCCL")
    builder.range("ncclAllReduce", 81, 2, domain=3, kind=60)
    builder.range("aten::mm, seq = 12, op_id = 4", 85, 3)
    builder.range("a mark", 86, None, kind=34).range("never ended", 87, None)
    sync = {"streamId": 7, "syncType": 2, "globalPid": builder.pid << 24}
    builder.row("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", start=400, end=410, **sync)
    path = builder.write(tmp_path / "report.sqlite")
    trace = open_trace(path)
    assert [one[:4] for one in contents(trace)] == [
        ("OTHER", "poll", 10, 15),
        ("ANNOTATION", "forward", 80, 180),
        ("ANNOTATION", "NCCL: ncclAllReduce", 81, 83),
        ("OPERATOR", "aten::mm", 85, 88),
        ("RUNTIME", "cudaLaunchKernel", 90, 94),
        ("RUNTIME", "cuLaunchKernelEx", 95, 99),
        ("RUNTIME", "cudaMemcpyAsync", 96, 98),
        ("KERNEL", "void gemm<float>(int)", 100, 150),
        ("MEMCPY", "Memcpy HtoD (Pageable -> Device)", 200, 210),
        ("MEMCPY", "Memcpy DtoH (Device -> Pinned)", 220, 230),
        ("MEMSET", "Memset (Device)", 300, 305),
        ("OTHER", "Stream Wait Event", 400, 410),
    ]
    events = trace.events
    assert (events.device[7], events.stream[7], events.size[8]) == (0, 7, 4096)
    assert events.correlation[4] == events.correlation[7] > 0
    assert trace.header["deviceProperties"][0]["name"] == "Made-up 9000"
    assert trace.header["deviceProperties"][0]["numSms"] == 80
    assert trace.lane_names[trace.lanes.index(("100", "100"))] == "python"
    assert (trace.skipped, trace.torn, trace.notes) == (0, False, ())


def test_nothing_appears_beside_the_file(tmp_path):
    path = waiting().write(tmp_path / "a name?with#signs%41.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    before = path.read_bytes()
    tmp_path.chmod(0o500)
    try:
        assert len(open_trace(path).events) == 16
    finally:
        tmp_path.chmod(0o700)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_the_same_rules_speak(tmp_path, capsys):
    path = waiting(NsightBuilder().gpu(0, "Made-up 9000")).write(tmp_path / "report.sqlite")
    assert main(["diagnose", str(path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "In 50 % of 4 whole steps the device had nothing to do while the host waited" in text
    assert "Device 0 (Made-up 9000): shares of 4 whole steps, 400 µs" in text
    for style in ("json", "markdown", "github"):
        assert main(["diagnose", str(path), "--format", style]) == 0
        assert "data-device-starved" in capsys.readouterr().out


def test_pageable_copies_are_called_so(tmp_path):
    builder = waiting()
    for number in range(4):
        start = 1_000_000 + 100_000 * number
        builder.call("cudaMemcpyAsync_v3020", start + 51_000, 900, correlation=50 + number)
        builder.copy(start + 51_100, 700, size=1 << 20, correlation=50 + number)
    found = read(builder.write(tmp_path / "report.sqlite"))
    assert measure(found).get("copies.h2d_pageable_share").value == 1.0
    assert measure(found).get("copies.h2d_bytes").value == 4 << 20


def test_what_the_export_lacks_is_told(tmp_path):
    path = NsightBuilder().kernel("gemm", 0, 10).write(tmp_path / "report.sqlite")
    problems = diagnose_trace(path).problems
    assert [one.partition(":")[0] for one in problems] == [
        "the export holds no calls of CUDA",
        "the export holds no NVTX ranges, so no steps",
    ]
    path = NsightBuilder().range("forward", 0, 10).write(tmp_path / "report.sqlite")
    assert "no kernels" in diagnose_trace(path).problems[0]


COLUMNS = ["shortName", "demangledName", "globalPid", "globalTid", "bytes", "eventType", "textId"]
COLUMNS += ["domainId", "correlationId", "deviceId", "streamId", "text", "name", "value", "nameId"]


@pytest.mark.parametrize("column", [*COLUMNS, "start", "end"])
def test_a_column_that_is_absent_leaves_the_rest(tmp_path, column):
    builder = waiting(NsightBuilder().gpu(0, "Made-up")).copy(1_000_000, 10).thread_name("python")
    path = builder.write(tmp_path / "report.sqlite", without=(column,))
    if column in ("start", "end"):
        with pytest.raises(TraceError, match="holds no kernels, calls or NVTX ranges"):
            open_trace(path)
    else:
        assert len(open_trace(path).events) == 17
        diagnose_trace(path)


def test_correlation_ids_of_several_processes_are_apart(tmp_path):
    builder = NsightBuilder().kernel("a", 10, 5, correlation=1, pid=7)
    builder.kernel("b", 20, 5, correlation=1, pid=8)
    builder.call("cudaLaunchKernel", 18, 1, correlation=1, pid=8)
    builder.call("cudaLaunchKernel", 8, 1, correlation=1, pid=7)
    found = {
        (name, start): correlation
        for _, name, start, _, correlation in contents(
            open_trace(builder.write(tmp_path / "report.sqlite"))
        )
    }
    assert found["a", 10] == found["cudaLaunchKernel", 8]
    assert found["b", 20] == found["cudaLaunchKernel", 18]
    assert found["a", 10] != found["b", 20]


@pytest.mark.parametrize(
    "names",
    [
        ["ProfilerStep#3", "ProfilerStep#4"],
        ["trainprof: step 3", "trainprof: step 4"],
        ["iteration 3", "iteration 4"],
        ["Iteration: 3", "Iteration: 4"],
        ["iter_3", "iter_4"],
        ["train_step_3", "train_step_4"],
        ["global_step3", "global_step4"],
        ["batch 3", "batch 4"],
        ["[pl][profile]run_training_batch", "[pl][profile]run_training_batch"],
    ],
)
def test_steps_are_known_by_many_names(tmp_path, names):
    builder = NsightBuilder().kernel("gemm", 20, 50)
    builder.range(names[0], 10, 100).range(names[1], 110, 100).range("forward", 20, 30)
    found = timeline(open_trace(builder.write(tmp_path / "report.sqlite")))
    assert found.window.text == "2 whole steps"
    assert (found.steps.start.tolist(), found.steps.end.tolist()) == ([10, 110], [110, 210])


def test_the_surest_pattern_on_the_busiest_thread_is_the_step():
    import numpy as np

    names = ["step 1", "iteration 1", "train_step 1", "train_step 2", "train_step 1", "backward 3"]
    found, _ = renamed(names, np.array([1, 1, 1, 1, 2, 1]))
    assert found == [
        "step 1",
        "iteration 1",
        "ProfilerStep#1 train_step 1",
        "ProfilerStep#2 train_step 2",
        "train_step 1",
        "backward 3",
    ]


@pytest.mark.parametrize("part", [1, 3, 1 << 16])
def test_parts_of_any_size_give_the_same(tmp_path, monkeypatch, part):
    path = waiting().copy(1_000_000, 10).write(tmp_path / "report.sqlite")
    expected = contents(open_trace(path))
    monkeypatch.setattr(nsight, "PART_ROWS", part)
    assert contents(open_trace(path)) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.data())
def test_the_timeline_is_that_of_the_same_trace_in_json(tmp_path, data):
    times = st.tuples(st.integers(0, 300), st.integers(0, 60))
    ours, theirs = NsightBuilder(), TraceBuilder()
    for number in range(data.draw(st.integers(0, 3))):
        ours.range(f"ProfilerStep#{number}", 50_000 + 100_000 * number, 80_000)
        theirs.step(number, 50 + 100 * number, 80)
    for _ in range(data.draw(st.integers(1, 8))):
        name = data.draw(st.sampled_from(["gemm", "ncclAllReduce"]))
        device, (start, length) = data.draw(st.integers(0, 1)), data.draw(times)
        ours.kernel(name, start * 1000, length * 1000, device=device)
        theirs.kernel(name, start, length, device=device)
    for _ in range(data.draw(st.integers(0, 4))):
        start, length = data.draw(times)
        ours.call("cudaLaunchKernel_v7000", start * 1000, length * 1000)
        theirs.call("cudaLaunchKernel", start, length)
    first = timeline(open_trace(ours.write(tmp_path / "report.sqlite")))
    second = timeline(read_trace(theirs.write(tmp_path / "trace.json")))
    assert first.window == second.window

    def lengths(found):
        return sorted((one.device, one.busy_ns, one.exposed_ns, one.causes) for one in found)

    assert str(lengths(first.devices)) == str(lengths(second.devices))


def test_an_export_to_perfetto_holds_its_events(tmp_path):
    path = waiting(NsightBuilder().thread_name("python")).write(tmp_path / "report.sqlite")
    out = tmp_path / "picture.json"
    assert main(["export", str(path), "--to", "perfetto", "--out", str(out)]) == 0
    rows, _, _ = plain_picture(out)
    assert len(rows["GPU 0", "stream 7"]) == 4
    assert rows["process 100", "thread 100 (python)"][1] == (
        "trainprof: data wait",
        1_000_000,
        1_050_000,
    )
    again = read_trace(out)
    own = [one for one in contents(again) if one[0] != "OTHER"]
    assert own == contents(open_trace(path))
    assert timeline(again).devices[0].causes == timeline(open_trace(path)).devices[0].causes


def test_what_is_no_export_is_told(tmp_path, capsys):
    def refused(path):
        assert main(["diagnose", str(path)]) == 2
        return capsys.readouterr().err

    report = tmp_path / "report.nsys-rep"
    report.write_bytes(b"\x00" * 100)
    assert "nsys export --type sqlite" in refused(report)
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as connection:
        connection.execute("CREATE TABLE users (id INTEGER, name TEXT)")
        connection.commit()
    assert "holds no kernels, calls or NVTX ranges" in refused(tmp_path / "other.sqlite")
    torn = waiting().write(tmp_path / "torn.sqlite")
    torn.write_bytes(torn.read_bytes()[:5000])
    assert "no export of Nsight Systems that can be read" in refused(torn)


def test_a_schema_that_is_no_text_is_refused_in_a_sentence(tmp_path):
    path = waiting().write(tmp_path / "report.sqlite")
    spoilt = path.read_bytes().replace(b"CUPTI_ACTIVITY_KIND_RUN", b"CUPTI_\xbeCTIVITY_KIND_RUN")
    spoilt = spoilt.replace(b"CREATE TABLE CUPTI_\xbe", b"CREATE TABLX CUPTI_\xbe")
    path.write_bytes(spoilt)
    with pytest.raises(TraceError, match="its text is damaged"):
        open_trace(path)


def test_tables_that_are_made_by_code_are_not_read(tmp_path):
    path = NsightBuilder().range("forward", 0, 10).write(tmp_path / "report.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE VIEW CUPTI_ACTIVITY_KIND_KERNEL AS WITH RECURSIVE r(start) AS (SELECT 1 UNION"
            " ALL SELECT start + 1 FROM r) SELECT start, start + 1 AS end FROM r"
        )
        connection.commit()
    assert [name for _, name, *_ in contents(open_trace(path))] == ["forward"]


def test_values_of_other_types_are_no_crash(tmp_path):
    builder = waiting()
    builder.row("CUPTI_ACTIVITY_KIND_KERNEL", start="x", end=1e300, deviceId=b"\xff", streamId="7")
    builder.row("NVTX_EVENTS", start=1.5, end="9", eventType=59, text=b"\xff\xfe", textId="a")
    builder.row("NVTX_EVENTS", start=-(2**63), end=2**63 - 1, eventType=59, text="long")
    builder.row("TARGET_INFO_GPU", id="zero", name=b"\x00\xff")
    path = builder.write(tmp_path / "report.sqlite")
    trace = open_trace(path)
    assert trace.skipped == 1
    json.dumps(diagnose_trace(path).facts, default=str)
    assert not (trace.events.kind == Kind.DEVICE_ANNOTATION).any()
