"""A trace is exported with all its events, and with what was found in it as rows of their own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from plain_picture import nested, plain_picture
from plain_timeline import plain_timeline
from test_timeline import traces
from trace_builder import TraceBuilder

from trainprof.cli.main import main
from trainprof.profiler.traces import text_parts
from trainprof.profiler.traces.path_track import path_track
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.profiler.traces.what_if import what_if

REAL = Path(__file__).parents[4] / "shared" / "traces"


def exported(path, name="picture.json"):
    out = path.with_name(name)
    assert main(["export", str(path), "--to", "perfetto", "--out", str(out)]) == 0
    return out


def ours(rows):
    return {key[1]: row for key, row in rows.items() if key[0] == "trainprof"}


def total(row, name):
    return sum(end - start for called, start, end in row if called == name)


def drawn_in(out):
    """Our rows."""
    drawn = ours(plain_picture(out)[0])
    for row in drawn.values():
        nested(row)
    return drawn


def checked(path, out):
    """Our rows, which add up to what a plain reckoning says."""
    drawn, expected = drawn_in(out), plain_timeline(path)
    ((_, start, end),) = drawn["window"]
    assert end - start == expected["window"]
    for device, (busy, compute, _, exposed) in expected["devices"].items():
        states = drawn.get(f"device {device}", [])
        assert total(states, "compute") == compute
        assert total(states, "exposed communication") == exposed
        assert total(states, "exposed copies") == busy - compute - exposed
        assert total(states, "idle") == expected["window"] - busy
        causes = drawn.get(f"device {device}: the host while it is idle", [])
        assert sum(b - a for _, a, b in causes) == expected["window"] - busy
    return drawn


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(traces())
def test_any_trace_is_drawn_as_it_is_reckoned(tmp_path, builder):
    path = builder.write(tmp_path / "trace.json")
    checked(path, exported(path))


@pytest.mark.parametrize("form", [{}, {"indent": 2}, {"as_list": True}, {"packed": True}], ids=str)
@pytest.mark.parametrize("part", [100, 1 << 22])
def test_the_events_of_the_file_stand_as_they_were(tmp_path, monkeypatch, form, part):
    monkeypatch.setattr(text_parts, "PART_BYTES", part)
    builder = TraceBuilder().step(1, 0, 100).wait(0, 50).kernel("gemm", 50, 40, correlation=3)
    builder.events.append({"ph": "s", "id": 7, "pid": 100, "tid": 100, "ts": 3.25, "cat": "ac2g"})
    builder.events.append({"ph": "X", "name": "é", "pid": "a", "tid": "b", "ts": 1e3, "dur": 0.5})
    path = builder.write(tmp_path / "trace.json", **form)
    found = json.loads(exported(path).read_text())
    strangers = [one for one in found["traceEvents"] if one["pid"] != 900000001]
    assert strangers == builder.events
    assert found.get("schemaVersion") == (None if form.get("as_list") else 1)


@pytest.mark.parametrize("name", ["dlrm-8ranks-v100/worker7*", "edge-cases/*", "launch-bound*/*"])
def test_real_traces_are_drawn(tmp_path, name):
    paths = [one for one in sorted(REAL.glob(name)) if one.stat().st_size < 500_000]
    if not paths:
        pytest.skip("the real traces are not there")
    for path in paths:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        out = tmp_path / "picture.json.gz"
        if main(["export", str(copy), "--to", "perfetto", "--out", str(out)]):
            continue  # no trace at all
        drawn = drawn_in(out) if name.startswith("edge") else checked(copy, out)
        again, before = read_trace(out), read_trace(copy)
        assert len(again.events) == len(before.events) + sum(map(len, drawn.values()))


def test_findings_span_the_window_with_their_advice(tmp_path):
    builder = TraceBuilder()
    for number in range(4):
        start = 1_000 + 100 * number
        builder.step(number, start, 100).wait(start, 50)
        builder.call("cudaLaunchKernel", start + 50, 5).kernel("gemm", start + 55, 40)
    out = exported(builder.write(tmp_path / "trace.json"))
    rows, _, found = plain_picture(out)
    finding = ours(rows)["findings"][0]
    assert finding[0].startswith("data-device-starved: ")
    assert finding[1:] == (1_000_000, 1_400_000)
    told = next(one for one in found["traceEvents"] if one["name"] == finding[0])["args"]
    assert told["share"] == pytest.approx(0.5)
    assert "50 % of 4 whole steps" in told["summary"]
    assert [name for name, _, _ in ours(rows)["steps"]] == [f"step {n}" for n in range(1, 5)]


def test_the_critical_path_is_a_row(tmp_path):
    builder = TraceBuilder().step(1, 0, 1000).wait(0, 200)
    builder.call("cudaLaunchKernel", 200, 10, correlation=1).kernel("gemm", 215, 700, correlation=1)
    builder.call("cudaDeviceSynchronize", 220, 700)
    path = builder.write(tmp_path / "trace.json")
    row = ours(plain_picture(exported(path))[0])["critical path"]
    assert [start for _, start, _ in row[1:]] == [end for _, _, end in row[:-1]]
    assert (row[0][0], row[0][1], row[-1][2]) == ("data wait", 0, 1_000_000)
    assert ("computation", 215_000, 915_000) in row


def test_a_step_without_length_has_no_path(tmp_path):
    builder = TraceBuilder().step(1, 50, 0).operator("aten::mm", 20, 60)
    out = exported(builder.write(tmp_path / "trace.json"))
    assert "critical path" not in ours(plain_picture(out)[0])


@pytest.mark.parametrize("name", ["dlrm-8ranks-v100/worker7*", "launch-bound*/*"])
def test_the_path_of_a_real_trace_is_as_long_as_what_was_replayed(name):
    paths = sorted(REAL.glob(name))
    if not paths:
        pytest.skip("the real traces are not there")
    trace = read_trace(paths[0])
    found = timeline(trace)
    row, replayed = list(path_track(trace, found).slices), what_if(trace, found)
    assert sum(one.end_ns - one.start_ns for one in row) == replayed.observed_ns
    worked = {"computation": 0, "communication": 0, "copies": 0}
    for one in row:
        if one.name in worked:
            worked[one.name] += one.end_ns - one.start_ns
    assert worked == {part: replayed.path.parts_ns[part] for part in worked}


def test_a_torn_and_broken_trace_gives_a_whole_file(tmp_path):
    builder = TraceBuilder().step(1, 0, 100).kernel("gemm", 50, 40).kernel("a", 95, 2)
    text = builder.text(indent=1).replace('"name": "gemm"', '"name": "ge"mm"')
    path = tmp_path / "trace.json"
    path.write_text(text.replace('"traceEvents": [', '"traceEvents": [17, null,')[:-30])
    rows, _, _ = plain_picture(exported(path))
    assert ours(rows)["window"] == [("one whole step", 0, 100_000)]


def test_names_are_inert_and_processes_apart(tmp_path):
    evil = "</script><img src=x onerror=alert(1)>\x1b[31m\u2028"
    builder = TraceBuilder().step(1, 0, 100).kernel(evil, 50, 40)
    builder.kernel("other", 95, 2, device=900000001)
    rows, _, _ = plain_picture(exported(builder.write(tmp_path / "trace.json")))
    assert (900000001, 7) in rows
    assert "window" in ours(rows)
    assert {name for row in rows.values() for name, _, _ in row} >= {evil}


def test_the_same_trace_gives_the_same_packed_bytes(tmp_path):
    path = TraceBuilder().step(1, 0, 100).kernel("gemm", 50, 40).write(tmp_path / "trace.json")
    first = exported(path, "a.json.gz").read_bytes()
    assert exported(path, "b.json.gz").read_bytes() == first
    assert gzip.decompress(first).startswith(b'{"traceEvents":[')


def test_of_a_folder_the_only_trace_is_drawn_and_of_several_one_has_to_be_named(tmp_path, capsys):
    folder, out = tmp_path / "traces", tmp_path / "picture.json"
    folder.mkdir()
    command = ["export", str(folder), "--to", "perfetto", "--out", str(out)]
    first = TraceBuilder().step(1, 0, 100).write(folder / "rank0.pt.trace.json")
    assert main(command) == 0
    alone = out.read_bytes()
    assert main(["export", str(first), *command[2:]]) == 0
    assert out.read_bytes() == alone
    out.unlink()
    TraceBuilder().step(1, 0, 100).write(folder / "rank1.pt.trace.json")
    capsys.readouterr()
    assert main(command) == 2
    told = capsys.readouterr().err
    assert f"holds 2 traces, and a picture is of one; name one of them, such as {first}." in told
    assert not out.exists()


def test_a_trace_that_is_not_there_is_no_missing_run(tmp_path, capsys):
    path = str(tmp_path / "none.json.gz")
    assert main(["export", path, "--to", "perfetto", "--out", str(tmp_path / "out.json")]) == 2
    assert f"there is no file {path}; check its name" in capsys.readouterr().err


def test_what_cannot_be_written_is_told_and_nothing_is_left(tmp_path, capsys):
    path = TraceBuilder().step(1, 0, 100).write(tmp_path / "trace.json")
    before = path.read_bytes()

    def refused(trace, out):
        assert main(["export", str(trace), "--to", "perfetto", "--out", str(out)]) == 2
        return capsys.readouterr().err

    assert "is the trace itself" in refused(path, path)
    assert "no file that can be written over" in refused(path, tmp_path)
    assert "cannot be written (No such file" in refused(path, tmp_path / "no" / "folder.json")
    (tmp_path / "none.json").write_text("no trace")
    assert "is no trace" in refused(tmp_path / "none.json", tmp_path / "picture.json")
    assert path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["none.json", "trace.json"]
    if Path("/dev/full").exists():
        assert "no file that can be written over" in refused(path, Path("/dev/full"))
