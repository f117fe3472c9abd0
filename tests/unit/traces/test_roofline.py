"""Kernels and the operators that launched them: their work, the roofline, the use of the peak."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_flops import plain_flops
from trace_builder import TraceBuilder

from trainprof.profiler.traces.alignment import large_layers, misaligned
from trainprof.profiler.traces.kernel_names import read_name
from trainprof.profiler.traces.operator_shapes import (
    benchmarks,
    convolution_outputs,
    read_inputs,
    work_of,
)
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.roofline import roofline
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace
from trainprof.rules.trace_signals.roofline import measure
from trainprof.rules.trace_signals.traced import Traced

REAL = Path(__file__).parents[4] / "shared" / "traces"
V100 = [{"id": 0, "name": "Tesla V100-SXM2-32GB", "computeMajor": 7, "computeMinor": 0}]
H100 = [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "computeMajor": 9, "computeMinor": 0}]


def inputs(shapes, types=(), values=()):
    return read_inputs(json.dumps(shapes), json.dumps(list(types)), json.dumps(list(values)))


def multiplications(image, weight, stride, padding):
    """Of a convolution, counted one by one; those with padding count too."""
    count = 0
    (batch, channels, *sizes), (outputs, _, *kernel) = image, weight
    places = [
        range(-padding, size + padding - width + 1, stride)
        for size, width in zip(sizes, kernel, strict=True)
    ]
    for _ in itertools.product(range(batch), range(outputs), *places):
        count += channels * int(np.prod(kernel))
    return count


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(4, 7), st.integers(4, 7)),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
    st.integers(0, 2),
)
def test_convolutions_count_each_multiplication(image, weight, stride, padding):
    weight = (weight[0], image[1], *weight[1:])
    values = ["", "", "", f"[{stride}, {stride}]", f"[{padding}, {padding}]", "[1, 1]", "False"]
    forward = work_of("aten::convolution", inputs([image, weight, []], values=values), {})
    assert forward.flops == 2 * multiplications(image, weight, stride, padding)
    output = (image[0], weight[0], *(
        (size + 2 * padding - width) // stride + 1
        for size, width in zip(image[2:], weight[2:], strict=True)
    ))  # fmt: skip
    assert forward.elements == sum(int(np.prod(one)) for one in (image, weight, output))
    backward = inputs([output, image, weight])
    assert work_of("aten::convolution_backward", backward, {}).flops == 2 * forward.flops
    only_weight = inputs([output, image, weight], values=[""] * 10 + ["[False, True, False]"])
    assert work_of("aten::convolution_backward", only_weight, {}).flops == forward.flops
    outputs = convolution_outputs([("aten::convolution_backward", backward)])
    assert work_of("aten::convolution", inputs([image, weight, []]), outputs) == forward
    assert work_of("aten::convolution", inputs([image, weight, []]), {}) is None


def test_layers_that_differ_in_their_stride_alone_are_not_guessed():
    image, weight = (2, 3, 8, 8), (4, 3, 1, 1)
    both = [
        ("aten::convolution_backward", inputs([(2, 4, 8, 8), image, weight])),
        ("aten::convolution_backward", inputs([(2, 4, 4, 4), image, weight])),
    ]
    assert convolution_outputs(both) == {}


def test_a_transposed_convolution_is_left_out():
    values = ["", "", "", "[2, 2]", "[0, 0]", "[1, 1]", "True", "[0, 0]", "1"]
    said = inputs([(2, 4, 8, 8), (4, 4, 2, 2), []], values=values)
    assert work_of("aten::convolution", said, {}) is None
    sizes = [(2, 4, 16, 16), (2, 4, 8, 8), (4, 4, 2, 2)]
    backward = inputs(sizes, values=["", "", "", "", *values[3:]])
    assert work_of("aten::convolution_backward", backward, {}) is None


@pytest.mark.parametrize(
    ("name", "shapes", "flops", "elements", "dims"),
    [
        ("aten::mm", [(5, 7), (7, 3)], 2 * 5 * 7 * 3, 35 + 21 + 15, (5, 3, 7)),
        ("aten::addmm", [(3,), (5, 7), (7, 3)], 2 * 5 * 7 * 3, 35 + 21 + 15, (5, 3, 7)),
        ("aten::bmm", [(2, 5, 7), (2, 7, 3)], 4 * 5 * 7 * 3, 70 + 42 + 30, (5, 3, 7)),
        (
            "aten::scaled_dot_product_attention",
            [(2, 4, 6, 8), (2, 4, 6, 8), (2, 4, 6, 8)],
            2 * (2 * 2 * 4 * 6 * 6 * 8),
            4 * 2 * 4 * 6 * 8,
            None,
        ),
        ("aten::mm", [(5, 7), (6, 3)], None, None, None),
        ("aten::mm", [(5,), (5, 3)], None, None, None),
        ("aten::mm", [[[5, 7], [7, 3]]], None, None, None),
        ("aten::relu", [(5, 7)], None, None, None),
    ],
)
def test_the_work_of_operators(name, shapes, flops, elements, dims):
    found = work_of(name, inputs(shapes, ["float"] * 3), {})
    if flops is None:
        assert found is None
    else:
        assert (found.flops, found.elements, found.dims) == (flops, elements, dims)


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_texts_that_are_no_lists_tell_nothing(sizes, types, values):
    said = read_inputs(sizes, types, values)
    for name in ("aten::mm", "aten::convolution", "aten::convolution_backward"):
        assert work_of(name, said, {}) is None


def test_the_switch_of_cudnn_is_read():
    values = ["", "", "[1, 1]", "[1, 1]", "[1, 1]", "1", "True", "False", "True"]
    assert benchmarks("aten::cudnn_convolution", inputs([], values=values)) is True
    values[6] = "False"
    assert benchmarks("aten::cudnn_convolution", inputs([], values=values)) is False
    assert benchmarks("aten::cudnn_convolution", inputs([])) is None
    assert benchmarks("aten::mm", inputs([], values=values)) is None


class Launching(TraceBuilder):
    """Operators that launch a kernel each."""

    def __init__(self):
        super().__init__()
        self._count = 0

    def launch(self, operator, kernel, start, length, shapes, kind="float", values=()):
        self._count += 1
        said = {"Input Dims": shapes, "Input type": [kind] * len(shapes)}
        said |= {"Concrete Inputs": list(values)} if values else {}
        self.operator(operator, start, 4, **said)
        self.call("cudaLaunchKernel", start + 1, 1, correlation=self._count)
        return self.kernel(kernel, start + 5, length, correlation=self._count)


def traced(path):
    trace = read_trace(path)
    return Traced(trace, timeline(trace))


def test_use_of_the_peak_and_its_formula(tmp_path):
    builder = Launching().step(1, 0, 1000)
    builder.launch("aten::mm", "volta_sgemm_128x64_nn", 0, 400, [[1024, 1024], [1024, 1024]])
    builder.launch("aten::add", "vectorized_elementwise_kernel<float>", 500, 100, [[1024]])
    one = traced(builder.write(tmp_path / "trace.json", deviceProperties=V100))
    found = roofline(one.kernels)
    assert found.flops == 2 * 1024**3
    assert found.mfu == pytest.approx(2 * 1024**3 / (1e-3 * 15.7e12))
    assert (found.memory_side, found.compute_side) == (0.2, 0.8)  # 171 FLOP a byte, ridge 17.4
    said = measure(one)
    assert said["roofline.mfu_formula"].value == (
        "0.002147 TFLOP / (0.001 s * 15.7 TFLOP/s, dense fp32 of V100 SXM) = 14 % of one whole step"
    )
    unknown = traced(builder.write(tmp_path / "trace.json"))
    assert "not on the sheet" in measure(unknown)["roofline.mfu"].reason


def test_shapes_for_a_part_of_the_time_give_no_number(tmp_path):
    builder = Launching().step(1, 0, 1000)
    builder.launch("aten::mm", "volta_sgemm_128x64_nn", 0, 400, [[64, 64], [64, 64]])
    builder.kernel("volta_sgemm_128x64_tn", 500, 100)
    one = traced(builder.write(tmp_path / "trace.json", deviceProperties=V100))
    assert "80 %" in measure(one)["roofline.mfu"].reason


def test_an_operator_around_another_counts_once(tmp_path):
    builder = Launching().step(1, 0, 200)
    shapes = {"Input Dims": [[8, 8], [8, 8]], "Input type": ["float", "float"]}
    builder.operator("aten::linear", 0, 20).operator("aten::bmm", 1, 10, **shapes)
    builder.operator("aten::addmm", 2, 5, **shapes)
    shapes["Input Dims"] = [[2, 8, 8], [2, 8, 8]]
    builder.operator("aten::bmm", 30, 10, **shapes)
    for start, number in ((3, 1), (4, 2), (32, 3), (50, 4)):
        builder.call("cudaLaunchKernel", start, 1, correlation=number)
        builder.kernel("volta_sgemm_128x64_nn", 50 + start, 1, correlation=number)
    one = traced(builder.write(tmp_path / "trace.json", deviceProperties=V100))
    assert roofline(one.kernels).flops == 2 * 8**3 + 2 * 2 * 8**3
    assert [one.kernels.families()[0].operator, len(one.kernels.events)] == ["aten::linear", 4]
    names = one.kernels.operator_names.tolist()
    assert [one.trace.names[name] if name >= 0 else None for name in names] == [
        "aten::linear",
        "aten::linear",
        "aten::bmm",
        None,
    ]


named = st.sampled_from(["aten::mm", "aten::linear", "aten::relu", "autograd::engine::x"])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(st.data())
def test_any_kernel_is_linked_as_a_loop_links_it(tmp_path, data):
    builder = TraceBuilder().step(1, 0, 1000)
    operators = []
    for thread in (100, 101):
        time = 0
        for _ in range(data.draw(st.integers(0, 3))):
            start, length = time + data.draw(st.integers(0, 9)), data.draw(st.integers(2, 30))
            time = start + length
            operators.append((data.draw(named), start, length, thread))
            inner = data.draw(st.integers(1, length))
            operators.append((data.draw(named), start, inner, thread))
    for operator in operators:
        builder.operator(*operator)
    launches = data.draw(
        st.lists(st.tuples(st.sampled_from([100, 101]), st.integers(0, 99)), min_size=1, max_size=8)
    )
    for number, (thread, start) in enumerate(launches, start=1):
        builder.call("cudaLaunchKernel", start, 1, correlation=number, thread=thread)
        builder.kernel("volta_sgemm", 200 + 2 * number, 1, correlation=number)
    one = traced(builder.write(tmp_path / "trace.json"))
    expected = []
    for thread, start in launches:
        around = [
            (begin, -length, name)
            for name, begin, length, lane in operators
            if lane == thread and begin <= start < begin + length and not name.startswith("autogr")
        ]
        expected.append(min(around, key=lambda one: one[:2])[2] if around else None)
    names = one.kernels.operator_names.tolist()
    assert [one.trace.names[name] if name >= 0 else None for name in names] == expected


def test_sizes_that_do_not_suit_tensor_cores(tmp_path):
    half = {"kind": "c10::BFloat16"}
    gemm = "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_tn"
    builder = Launching().step(1, 0, 1000)
    builder.launch("aten::addmm", gemm, 0, 100, [[512], [141, 512], [512, 512]], **half)
    builder.launch("aten::addmm", gemm, 200, 50, [[30522], [141, 512], [512, 30522]], **half)
    builder.launch("aten::mm", gemm, 300, 20, [[512, 141], [141, 512]], **half)  # by samples only
    builder.kernel("cutlass_80_tensorop_bf16_s16816gemm_bf16_256x128_64x3_tn_align2", 400, 30)
    builder.kernel("cutlass_80_tensorop_bf16_s16816gemm_bf16_256x128_64x3_tn_align8", 500, 30)
    flags, sizes = misaligned(traced(builder.write(tmp_path / "trace.json")).kernels)
    assert flags.tolist() == [False, True, False, True, False]
    assert sizes == (141, 30522, 512)


def test_large_layers_can_run_in_fp8(tmp_path):
    builder = Launching().step(1, 0, 1000)
    large = [[4096], [8192, 4096], [4096, 4096]]
    gemm = "nvjet_tst_192x192_64x4_2x1_v_bz_TNT"
    builder.launch("aten::addmm", gemm, 0, 800, large, kind="c10::BFloat16")
    builder.launch("aten::addmm", gemm, 850, 50, [[8], [16, 8], [8, 8]], kind="c10::BFloat16")
    path = builder.write(tmp_path / "trace.json", deviceProperties=H100)
    assert large_layers(traced(path).kernels).tolist() == [True, False]
    assert "prec-fp8" in [one.rule for one in diagnose_trace(path).findings]


def test_products_in_fp32_on_a_device_with_tf32(tmp_path):
    builder = Launching().step(1, 0, 1000)
    builder.launch("aten::mm", "ampere_sgemm_128x64_nn", 0, 800, [[64, 64], [64, 64]])
    path = builder.write(tmp_path / "trace.json", deviceProperties=H100)
    assert "prec-tf32" in [one.rule for one in diagnose_trace(path).findings]
    path = builder.write(tmp_path / "trace.json", deviceProperties=V100)
    assert "prec-tf32" not in [one.rule for one in diagnose_trace(path).findings]


def test_products_with_a_vector_are_none_for_tensor_cores(tmp_path):
    builder = Launching().step(1, 0, 1000)
    builder.launch("aten::mm", "volta_sgemm_128x64_nn", 0, 400, [[64, 64], [64, 1]])
    builder.launch("aten::mm", "volta_sgemm_128x64_nn", 500, 100, [[64, 64], [64, 64]])
    kernels = traced(builder.write(tmp_path / "trace.json", deviceProperties=V100)).kernels
    assert kernels.eligible.tolist() == [False, True]


@pytest.mark.parametrize("benchmark", [True, False])
def test_convolutions_of_one_size_without_the_benchmark_mode(tmp_path, benchmark):
    builder = Launching()
    values = ["", "", "[0, 0]", "[1, 1]", "[1, 1]", "1", str(benchmark), "False", "True"]
    for number in range(3):
        builder.step(number, 1000 * number, 1000)
        shapes = [[4, 8, 16, 16], [8, 8, 1, 1]]
        name = "volta_scudnn_128x64_relu_interior_nn_v1"
        builder.launch("aten::cudnn_convolution", name, 1000 * number, 900, shapes, values=values)
    path = builder.write(tmp_path / "trace.json", deviceProperties=V100)
    rules = [one.rule for one in diagnose_trace(path).findings]
    assert ("kern-cudnn-bench" in rules) is not benchmark


@pytest.mark.parametrize(
    ("name", "mfu"),
    [
        ("input-fixed-v100-workers4/worker0.1623212756351", 0.3549),
        ("input-fixed-v100-workers4/worker0.v2", None),
    ],
)
def test_real_traces_reach_this_part_of_their_peak(name, mfu):
    paths = sorted(REAL.glob(f"{name}*"))
    if not paths:
        pytest.skip("the real traces are not there")
    one = traced(paths[0])
    found = roofline(one.kernels)
    assert found.flops == plain_flops(paths[0])
    assert found.mfu == (None if mfu is None else pytest.approx(mfu, abs=1e-3))
    if mfu is not None:  # ResNet-50: 4.1 thousand million multiplications an image, batches of 32
        assert found.flops == pytest.approx(6 * 32 * 3 * 2 * 4.1e9, rel=0.05)


def test_a_real_vocabulary_does_not_suit_tensor_cores():
    paths = sorted(REAL.glob("launch-bound-h100-inference/*"))
    if not paths:
        pytest.skip("the real traces are not there")
    kernels = traced(paths[0]).kernels
    flags, sizes = misaligned(kernels)
    assert sizes == (141, 30522, 512)
    assert kernels.share(flags) == pytest.approx(0.134, abs=0.01)


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.lists(
        st.one_of(st.integers(-5, 2**50), st.lists(st.integers(0, 9), max_size=3)), max_size=9
    ),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
@given(st.data())
def test_whatever_stands_for_shapes_and_devices_is_no_crash(tmp_path, data):
    builder = Launching().step(1, 0, 1000)
    operators = ["aten::mm", "aten::addmm", "aten::convolution", "aten::convolution_backward"]
    operators += ["aten::scaled_dot_product_attention", "aten::cudnn_convolution"]
    for number in range(3):
        name = data.draw(st.sampled_from(operators))
        builder.launch(name, "volta_sgemm_128x64_nn", 100 * number, 50, [])
        builder.events[-3]["args"] |= {
            "Input Dims": data.draw(st.one_of(odd, st.lists(odd, max_size=4))),
            "Input type": data.draw(st.one_of(odd, st.lists(st.sampled_from(["float", 3])))),
            "Concrete Inputs": data.draw(st.one_of(odd, st.lists(odd, max_size=12))),
        }
    device = {"id": 0, "name": data.draw(odd), "computeMajor": data.draw(odd)}
    device |= {"computeMinor": data.draw(odd), "warpSize": data.draw(odd)}
    devices = data.draw(st.one_of(odd, st.just([device]), st.just(V100)))
    diagnose_trace(builder.write(tmp_path / "trace.json", deviceProperties=devices))


def test_long_names_are_read_in_time():
    for name in ("Cijk_A" + "_B" * 500_000, "xmma" * 250_000, "A" * 1_000_000):
        read_name(name)
