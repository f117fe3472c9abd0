"""The diagnosis of a trace file: the cause, the window that its shares refer to, the gain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from trace_builder import TraceBuilder

from trainprof.cli.main import main
from trainprof.errors import UsageError
from trainprof.rules.trace_diagnosis import diagnose_trace

REAL = Path(__file__).parents[4] / "shared" / "traces"
VERDICTS = {
    "input-bound-v100-workers0/worker0.1623143089861": "data-device-starved",
    "input-bound-v100-workers0/worker0.v2": "data-device-starved",
    "gpu-bound-v100/rank-0": None,
    "launch-bound-h100-inference/gaunernst": "kern-launch-bound",
    "unbucketed-allreduce-v100/df_index": "kern-launch-bound",
}


@pytest.mark.parametrize(("name", "rule"), VERDICTS.items(), ids=list(VERDICTS))
def test_real_traces_name_their_cause(name, rule):
    found = sorted(REAL.glob(f"{name}*"))
    if not found:
        pytest.skip("the real traces are not there")
    diagnosis = diagnose_trace(found[0])
    assert [finding.rule for finding in diagnosis.findings][:1] == ([rule] if rule else [])
    assert diagnosis.verdict == ("bottleneck" if rule else "healthy")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("input-bound-v100-workers0/worker0.1623143089861", "worker0.1623212756351"),
        ("input-bound-v100-workers0/worker0.v2", "worker0.v2"),
    ],
)
def test_the_predicted_gain_holds_what_workers_then_gained(before, after):
    paths = [*REAL.glob(f"{before}*"), *REAL.glob(f"input-fixed-v100-workers4/{after}*")]
    if len(paths) != 2:
        pytest.skip("the real traces are not there")
    slow, fast = map(diagnose_trace, paths)
    gain = slow.findings[0].gain
    assert gain.low <= slow.steps.mean_s / fast.steps.mean_s <= gain.high


def waiting(tmp_path, **how):
    """Steps of 100 us of which the device works for 40 and waits for a batch for 50."""
    builder = TraceBuilder()
    for number in range(4):
        start = 1_000 + 100 * number
        builder.step(number, start, 100).wait(start, 50)
        builder.call("cudaLaunchKernel", start + 50, 5).kernel("gemm", start + 55, 40)
    return builder.write(tmp_path / "trace.json", **how)


def test_the_command_tells_cause_window_and_gain(tmp_path, capsys):
    devices = [{"id": 0, "name": "Made-up 9000"}]
    path = waiting(tmp_path, deviceProperties=devices)
    assert main(["diagnose", str(path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "In 50 % of 4 whole steps the device had nothing to do while the host waited" in text
    assert "Device 0 (Made-up 9000): shares of 4 whole steps, 400 µs" in text
    assert "gain 1.3-2.0x faster steps" in text
    assert main(["diagnose", str(path), "--format", "json", "--fail-on", "critical"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["source"], found["steps"]["count"]) == ("trace", 4)
    assert found["devices"][0]["shares"]["compute"] == pytest.approx(0.4)
    assert found["devices"][0]["idle"]["data wait"] == pytest.approx(0.5)
    assert found["missing"]["overhead.share"] == "a trace does not say"


def test_a_trace_without_a_device_is_no_evidence(tmp_path):
    builder = TraceBuilder().step(1, 0, 100).operator("aten::mm", 10, 50)
    found = diagnose_trace(builder.write(tmp_path / "trace.json"))
    assert found.verdict == "insufficient"
    assert "the trace holds no work of a device" in found.headline


def test_what_is_wrong_with_the_file_is_said(tmp_path, capsys):
    path = waiting(tmp_path, indent=1)
    path.write_text(path.read_text()[:-700])
    found = diagnose_trace(path)
    assert found.run.status == "incomplete"
    assert "the file ends in the middle" in found.problems[0]
    path.write_text("no trace")
    assert main(["diagnose", str(path)]) == 2
    assert "is no trace that can be read" in capsys.readouterr().err


def test_rules_are_chosen_by_name(tmp_path):
    path = waiting(tmp_path)
    assert not diagnose_trace(path, ignore=["data-device-starved"]).findings
    assert diagnose_trace(path, select=["data-device-starved"]).findings
    with pytest.raises(UsageError, match="there is no rule"):
        diagnose_trace(path, select=["no-such-rule"])
