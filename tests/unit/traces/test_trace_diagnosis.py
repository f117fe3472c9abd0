"""The diagnosis of a trace file: the cause, the window that its shares refer to, the gain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from trace_builder import TraceBuilder

from trainprof.cli.main import main
from trainprof.errors import UsageError
from trainprof.rules.rank_traces import diagnose_traces
from trainprof.rules.trace_diagnosis import diagnose_trace

REAL = Path(__file__).parents[4] / "shared" / "traces"
VERDICTS = {
    "input-bound-v100-workers0/worker0.1623143089861": "data-device-starved",
    "input-bound-v100-workers0/worker0.v2": "data-device-starved",
    "gpu-bound-v100/rank-0": "prec-fp32-tc",  # 63 % of its busy time in fp32 matrix kernels
    "input-fixed-v100-workers4/worker0.v2": "prec-fp32-tc",
    "launch-bound-h100-inference/gaunernst": "kern-launch-bound",
    "unbucketed-allreduce-v100/df_index": "dist-unbucketed",
}


@pytest.mark.confirms("data-device-starved", "kern-launch-bound", on="recorded traces")
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
    predicted = slow.findings[0].gain.middle
    assert predicted == pytest.approx(slow.steps.mean_s / fast.steps.mean_s, rel=0.15)


def waiting(tmp_path, **how):
    """Steps of 10 ms of which the device works for 4 and waits for a batch for 5."""
    builder = TraceBuilder()
    for number in range(4):
        start = 1_000 + 10_000 * number
        builder.step(number, start, 10_000).wait(start, 5_000)
        builder.call("cudaLaunchKernel", start + 5_000, 5).kernel("gemm", start + 5_500, 4_000)
    return builder.write(tmp_path / "trace.json", **how)


def test_the_command_tells_cause_window_and_gain(tmp_path, capsys):
    devices = [{"id": 0, "name": "Made-up 9000"}]
    path = waiting(tmp_path, deviceProperties=devices)
    assert main(["diagnose", str(path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "In 50 % of 4 whole steps the device had nothing to do while the host waited" in text
    assert "Device 0 (Made-up 9000): shares of 4 whole steps, 40 ms" in text
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


@pytest.mark.confirms("dist-late-rank", on="recorded traces")
def test_the_late_rank_of_a_real_training(capsys):
    paths = sorted(REAL.glob("dlrm-8ranks-v100/*"))
    if not paths:
        pytest.skip("the real traces are not there")
    assert main(["diagnose", *map(str, paths)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "dist-late-rank" in text
    assert "Rank 7 comes last to 5 collectives: the first to come waits 9.24 ms" in text
    assert "rank 1, with the longest step, only waits" in text
    assert "ranks 8 · mean step 12.5 ms (rank 7) to 19.9 ms (rank 1)" in text


def of_rank(tmp_path, rank, arrives, size=3):
    """A step of 1 ms with a collective that ends at 600 us."""
    builder = TraceBuilder().step(1, 0, 1000).kernel("gemm", 0, arrives)
    builder.kernel("ncclDevKernel_AllReduce", arrives, 600 - arrives)
    path = tmp_path / f"rank{rank}.json"
    return builder.write(path, distributedInfo={"rank": rank, "world_size": size})


def test_ranks_are_diagnosed_together_and_absent_ones_are_named(tmp_path):
    paths = [of_rank(tmp_path, rank, at, 4) for rank, at in [(0, 100), (1, 590), (2, 200)]]
    broken = tmp_path / "rank3.json"
    broken.write_text("no trace")
    (found,) = diagnose_traces([*paths, broken])
    late = next(one for one in found.findings if one.rule == "dist-late-rank")
    assert late.share == pytest.approx((0.49 + 0.39) / 2)
    assert late.gain.low == pytest.approx(1 / (1 - 0.39))
    assert [rank.rank for rank in found.ranks] == [0, 1, 2]
    assert "there is no trace of rank 3" in found.problems
    assert any("rank3.json is no trace" in problem for problem in found.problems)


def test_files_that_are_no_ranks_of_one_training_are_diagnosed_by_themselves(tmp_path):
    same = [of_rank(tmp_path, 0, 100), tmp_path / "copy.json"]
    same[1].write_bytes(same[0].read_bytes())
    assert len(diagnose_traces(same)) == 2
    sizes = [of_rank(tmp_path, 0, 100, size=2), of_rank(tmp_path, 1, 100, size=4)]
    assert len(diagnose_traces(sizes)) == 2
    assert len(diagnose_traces([sizes[0]])) == 1
