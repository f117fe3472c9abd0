"""What the host did while the device was idle: optimizers, compiling, saving, Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_launches import events_of
from plain_timeline import DEVICE, clipped, total, union
from trace_builder import TraceBuilder

from trainprof.profiler.traces.compiling import compiling
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import COMPILES, SAVES, timeline
from trainprof.profiler.traces.zero_grads import zero_grads
from trainprof.rules.trace_diagnosis import diagnose_trace
from trainprof.rules.trace_signals.traced import Traced

REAL = Path(__file__).parents[4] / "shared" / "traces"


def traced(path):
    trace = read_trace(path)
    return Traced(trace, timeline(trace))


def plain_zero_grads(path):
    """Host and idle time of zero_grad(), in ns."""
    events, one = events_of(path), traced(path)
    window, device = one.timeline.window, one.timeline.devices[0].device
    span = (window.start_ns, window.end_ns)
    own = [e[2:4] for e in events if e[0] in DEVICE and e[4].get("device", -1) == device]
    inside = [e[2:4] for e in events if e[1].startswith("Optimizer.zero_grad#")]
    inside = union(clipped([*inside], *span))
    host = total(inside)
    return host, host - sum(total(clipped(own, *each)) for each in inside)


def compared(path):
    one = traced(path)
    found = zero_grads(one.trace, one.timeline)
    return (found.host_ns, found.idle_ns) if found else (0, 0), plain_zero_grads(path)


@pytest.mark.parametrize("name", ["dlrm-8ranks-v100/worker0", "edge-cases/gpu-user-annotation"])
def test_real_traces_are_reckoned_alike(name):
    paths = sorted(REAL.glob(f"{name}*"))
    if not paths:
        pytest.skip("the real traces are not there")
    ours, theirs = compared(paths[0])
    assert ours == theirs
    assert ours[1] > 0


@st.composite
def traces(draw):
    builder, at = TraceBuilder(), 10
    if draw(st.booleans()):
        builder.step(1, 20, draw(st.integers(50, 300)))
    builder.kernel("gemm", 5, 5)
    for _ in range(draw(st.integers(1, 8))):
        length = draw(st.integers(1, 40))
        builder._add("user_annotation", "Optimizer.zero_grad#SGD.zero_grad", at, length, 100)
        builder.kernel("fill", at + draw(st.integers(0, 50)), draw(st.integers(1, 30)))
        at += length + draw(st.integers(0, 20))
    return builder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(traces())
def test_any_trace_is_reckoned_alike(tmp_path, builder):
    ours, theirs = compared(builder.write(tmp_path / "trace.json"))
    assert ours == theirs


@pytest.mark.confirms("opt-zero-idle", on="recorded traces")
def test_gradients_filled_with_zeros_while_the_device_is_idle_are_a_finding():
    paths = sorted(REAL.glob("input-fixed-v100-workers4/worker0.v2*"))
    if not paths:
        pytest.skip("the real traces are not there")
    found = next(one for one in diagnose_trace(paths[0]).findings if one.rule == "opt-zero-idle")
    assert "in SGD.zero_grad()" in found.summary
    assert found.share == pytest.approx(0.061, abs=5e-4)


def recompiling(builder):
    """As torch 2.13 writes it: two compilations of a frame that was compiled before."""
    for number in (1, 2):
        at = 1000 * number
        builder.step(number, at, 1000)
        for name in ("dynamo", "entire_frame_compile", "_compile.compile_inner (dynamo_timed)"):
            builder.operator(name, at + 100, 600)
        builder.operator("build_guards (dynamo_timed)", at + 650, 40)
        builder._add("user_annotation", f"dynamo_data: compile_id=0/{number}", at + 699, 1, 100)
        builder.operator("Torch-Compiled Region: 0/0", at + 750, 100)
    return builder


def test_recompilations_are_counted_and_charged(tmp_path):
    builder = recompiling(TraceBuilder())
    for number in (1, 2):
        builder.call("cudaLaunchKernel", 1000 * number + 760, 5, number)
        builder.kernel("gemm", 1000 * number + 770, 200, correlation=number)
    builder.call("cuModuleLoadData", 1900, 20)
    path = builder.write(tmp_path / "trace.json")
    one = traced(path)
    found = compiling(one.trace, one.timeline.window)
    assert (found.frames, found.recompiled, found.loads) == (2, 2, 1)
    assert found.host_ns == 2 * 600_000 + 20_000
    assert one.timeline.devices[0].causes["compilation"] == 1_200_000
    finding = next(one for one in diagnose_trace(path).findings if one.rule == "kern-late-compile")
    assert finding.share == pytest.approx(0.6)
    assert "2 functions compiled, 2 of them again, 1 module loaded" in finding.summary


def test_recompilations_of_a_training_on_the_cpu(tmp_path):
    path = recompiling(TraceBuilder()).write(tmp_path / "trace.json")
    finding = next(one for one in diagnose_trace(path).findings if one.rule == "kern-late-compile")
    assert finding.share == pytest.approx(0.6)


def test_a_region_that_runs_compiled_is_no_compilation():
    for name in ("Torch-Compiled Region: 0/0", "CompiledFunction", "CompiledFunctionBackward",
                 "## Call CompiledFxGraph fal4x ##", "cudaLaunchKernel", "aten::mm"):  # fmt: skip
        assert not COMPILES.search(name)
    for name in ("cuModuleLoadDataEx", "hipModuleLoadData", "cuLibraryLoadData",
                 "compile_fx.<locals>.bw_compiler (dynamo_timed)"):  # fmt: skip
        assert COMPILES.search(name)


def test_activations_that_are_computed_again_are_no_saving():
    for name in ("torch/utils/checkpoint.py(480): checkpoint", "CheckpointFunction",
                 "torch/nn/modules/module.py(2143): _save_to_state_dict",
                 "CheckpointFunctionBackward", "ctx.save_for_backward"):  # fmt: skip
        assert not SAVES.search(name)
    for name in ("torch/serialization.py(944): save", "## checkpoint ##", "torch.save",
                 "trainer.py(9): save_checkpoint", "Saving"):  # fmt: skip
        assert SAVES.search(name)


def test_python_checkpoints_and_collection_are_causes_where_stacks_tell(tmp_path):
    """Frames of other threads (a progress bar's) explain nothing."""
    builder = TraceBuilder().step(1, 0, 100)
    builder._add("python_function", "tqdm/_monitor.py(60): run", 0, 100, 7)
    builder._add("python_function", "train.py(3): train", 0, 80, 100)
    builder._add("python_function", "torch/serialization.py(944): save", 10, 20, 100)
    builder._add("python_function", "<built-in function collect>", 40, 5, 100)
    builder.call("cudaLaunchKernel", 84, 5, 1).kernel("gemm", 90, 10, correlation=1)
    device = traced(builder.write(tmp_path / "trace.json")).timeline.devices[0]
    assert {cause: length for cause, length in device.causes.items() if length} == {
        "checkpoint": 20_000,
        "garbage collection": 5_000,
        "Python": 55_000,
        "launch call": 5_000,
        "other work of the host": 5_000,
    }
    assert sum(times.total for times in device.parts.values()) == 100_000
