"""Attention that is written out is seen in the kernels; gates and classifiers are none."""

from __future__ import annotations

import pytest
from trace_builder import TraceBuilder

from trainprof.profiler.traces.attention_kernels import attention_kernels
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace
from trainprof.rules.trace_signals.traced import Traced

GEMM = "ampere_fp16_s16816gemm_fp16_128x64_ldg8_f2f_nn"
SCALE = "void at::native::vectorized_elementwise_kernel<4, MulFunctor<c10::Half>>(x)"
SOFTMAX = "void softmax_warp_forward<c10::Half, c10::Half, float, 10, false, false>(x)"
LOGARITHM = "void softmax_warp_forward<c10::Half, c10::Half, float, 10, true, false>(x)"
BACKWARD = "void softmax_warp_backward<c10::Half, c10::Half, float, 10, false, false>(x)"


def run(tmp_path, kernels, steps=2):
    """Steps of 1 ms with these kernels of 10 us, each launched by its operator."""
    builder = TraceBuilder()
    number = 0
    for step in range(steps):
        start = 1000 * step
        builder.step(step, start, 1000)
        for place, (operator, kernel) in enumerate(kernels):
            number += 1
            builder.operator(operator, start + 4 * place, 3)
            builder.call("cudaLaunchKernel", start + 4 * place + 1, 1, correlation=number)
            builder.kernel(kernel, start + 100 + 40 * place, 40, correlation=number)
    return builder.write(tmp_path / "trace.json")


def found(path):
    trace = read_trace(path)
    kernels = Traced(trace, timeline(trace)).kernels
    seen = attention_kernels(kernels)
    return seen.chosen.tolist(), seen.forwards


FORWARD = [
    ("aten::linear", GEMM),
    ("aten::matmul", GEMM),
    ("aten::div", SCALE),
    ("aten::softmax", SOFTMAX),
    ("aten::matmul", GEMM),
    ("aten::linear", GEMM),
]
BOTH = [
    *FORWARD,
    ("aten::mm", GEMM),
    ("aten::bmm", GEMM),
    ("aten::bmm", GEMM),
    ("aten::_softmax_backward_data", BACKWARD),
    ("aten::div", SCALE),
    ("aten::bmm", GEMM),
    ("aten::bmm", GEMM),
    ("aten::mm", GEMM),
]


def test_forward_and_backward_belong_to_it(tmp_path):
    chosen, forwards = found(run(tmp_path, BOTH, steps=1))
    assert chosen == [False, *[True] * 4, False, False, *[True] * 6, False]
    assert forwards == 1


@pytest.mark.parametrize(
    "kernels",
    [
        [("aten::linear", GEMM), ("aten::softmax", SOFTMAX), ("aten::linear", GEMM)],
        [("aten::matmul", GEMM), ("aten::log_softmax", LOGARITHM), ("aten::bmm", GEMM)],
        [("aten::matmul", GEMM), ("aten::softmax", SOFTMAX), *[("aten::add", SCALE)] * 8],
        [("aten::bmm", GEMM), *[("aten::add", SCALE)] * 8, ("aten::softmax", SOFTMAX),
         ("aten::bmm", GEMM)],
    ],
    ids=["a gate between layers", "a loss", "nothing follows", "too far off"],
)  # fmt: skip
def test_other_softmaxes_are_none(tmp_path, kernels):
    chosen, forwards = found(run(tmp_path, kernels))
    assert not any(chosen)
    assert forwards == 0


def test_the_rule_names_the_window(tmp_path):
    findings = {one.rule: one for one in diagnose_trace(run(tmp_path, BOTH)).findings}
    summary = findings["kern-attn"].summary
    assert summary.startswith("1 attention a step is written out")
    assert summary.endswith("takes 40 % of 2 whole steps.")
    assert findings["kern-attn"].gain.low > 1.05
    assert "kern-attn" not in {
        one.rule for one in diagnose_trace(run(tmp_path, FORWARD[:1] * 10)).findings
    }
