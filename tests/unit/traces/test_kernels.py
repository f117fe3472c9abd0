"""Kernels by family, precision and tensor cores: by their names, and in shares of busy time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_kernels import plain_kernels
from plain_timeline import clipped, total
from trace_builder import TraceBuilder

from trainprof.profiler.traces.devices import find_device
from trainprof.profiler.traces.kernel_names import FAMILIES, PRECISIONS, least_capability, read_name
from trainprof.profiler.traces.kernels import read_kernels
from trainprof.profiler.traces.launches import launched
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline

REAL = Path(__file__).parents[4] / "shared" / "traces"
NAMES = {
    "volta_sgemm_128x64_nn": ("matrix product", "fp32", False),
    "volta_dgemm_64x64_nt": ("matrix product", "fp64", False),
    "volta_cgemm_32x32_tn": ("matrix product", "complex", False),
    "volta_fp16_s884gemm_fp16_128x64_ldg8_f2f_nn": ("matrix product", "fp16", True),
    "turing_fp16_s1688gemm_fp16_128x128_ldg8_f2f_tn": ("matrix product", "fp16", True),
    "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_tn": ("matrix product", "bf16", True),
    "ampere_sgemm_32x32_sliced1x4_tn": ("matrix product", "fp32", False),
    "void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_128x128_32x3_nt_align4>(Params)": (
        "matrix product",
        "tf32",
        True,
    ),
    "void cutlass::Kernel<cutlass_80_simt_sgemm_128x64_8x5_nn_align1>(Params)": (
        "matrix product",
        "fp32",
        False,
    ),
    "sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize32x32x64_stage5": (
        "matrix product",
        "tf32",
        True,
    ),
    "sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize32x32x8_stage3_ffma": (
        "matrix product",
        "fp32",
        False,
    ),
    "sm90_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n_tilesize128x128x128": ("matrix product", "fp8", True),
    "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTT": ("matrix product", "fp16", True),
    "nvjet_tst_192x192_64x4_2x1_v_bz_TNT": ("matrix product", "bf16", True),
    "Cijk_Alik_Bljk_HHS_BH_MT128x128x32_MI32x32x8x1_SN": ("matrix product", "fp16", True),
    "Cijk_Alik_Bljk_BBS_BH_Bias_AS_SAV_MT256x192x64_MI16x16x1": ("matrix product", "bf16", True),
    "Cijk_Ailk_Bjlk_SB_MT64x64x16_SN_1LDSB0": ("matrix product", "fp32", False),
    "Cijk_Ailk_Bljk_DB_MT64x64x16_MI16x16x4x1": ("matrix product", "fp64", True),
    "Cijk_Alik_Bljk_S_MX_B_Bias_MT128x128x32_MI16x16x1": ("matrix product", "tf32", True),
    "volta_scudnn_128x64_relu_interior_nn_v1": ("convolution", "fp32", False),
    "volta_h884cudnn_256x64_ldg8_relu_exp_small_nhwc_tn_v1": ("convolution", "fp16", True),
    "sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64": (
        "convolution",
        "bf16",
        True,
    ),
    "void implicit_convolve_sgemm<float, float, 128, 6, 7, 3, 3, 5>(int)": (
        "convolution",
        "fp32",
        False,
    ),
    "igemm_fwd_gtcx2_nhwc_bf16_bx0_ex1_bt128x128x32_wt32x32x8": ("convolution", "bf16", True),
    "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<cutlass::half_t>(p)": (
        "attention",
        "fp16",
        True,
    ),
    "fmha_cutlassF_bf16_aligned_64x64_rf_sm80(Params)": ("attention", "bf16", True),
    "attn_fwd": ("attention", "unknown", None),
    "void cudnn::ops::nchwToNhwcKernel<__half, __half, float>(x)": ("copy", "fp16", None),
    "void at::native::(anonymous namespace)::CatArrayBatchedCopy<float, 2>(x)": (
        "copy",
        "fp32",
        None,
    ),
    "void at::native::batch_norm_collect_statistics_kernel<Var, c10::BFloat16>(x)": (
        "normalisation",
        "bf16",
        None,
    ),
    "void cudnn::bn_bw_1C11_kernel_new<float, float, float2, 512>(x)": (
        "normalisation",
        "fp32",
        None,
    ),
    "void (anonymous namespace)::softmax_warp_forward<c10::Half, c10::Half, float, 10>(x)": (
        "softmax and loss",
        "fp16",
        None,
    ),
    "void at::native::vectorized_elementwise_kernel<4, CUDAFunctor_add<float>>(x)": (
        "pointwise",
        "fp32",
        None,
    ),
    "void at::native::vectorized_elementwise_kernel<4, CUDAFunctor_add<double>>(x)": (
        "pointwise",
        "fp64",
        None,
    ),
    "void at::native::reduce_kernel<512, 1, ReduceOp<c10::Half>>(x)": ("reduction", "fp16", None),
    "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdam<float>>(x)": (
        "optimizer",
        "fp32",
        None,
    ),
    "void split_embedding_backward_codegen_adagrad<float>(fbgemm)": (
        "index and sort",
        "fp32",
        None,
    ),
    "void linearize_index_kernel<long>(x)": ("index and sort", "unknown", None),
    "ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)": ("communication", "fp32", None),
    "triton_poi_fused_add_relu_0": ("Triton", "unknown", None),
    "triton_tem_fused_mm_3": ("matrix product", "unknown", None),
    "Kernel": ("other", "unknown", None),
}


@pytest.mark.parametrize(("name", "told"), NAMES.items(), ids=list(NAMES))
def test_names_tell_family_precision_and_tensor_cores(name, told):
    found = read_name(name)
    assert (found.family, found.precision, found.tensor_cores) == told


def test_kernels_tell_the_least_that_a_device_must_have():
    assert least_capability(["volta_sgemm_64x64_nt", "Kernel"]) == (7, 0)
    assert least_capability(["volta_sgemm_64x64_nt", "ampere_sgemm_32x32_nt"]) == (8, 0)
    assert least_capability(["void cutlass::Kernel<cutlass_80_tensorop>(int)"]) == (8, 0)
    assert least_capability(["maxwell_sgemm_128x64_nn", "manufacturing_kernel"]) is None


def real(name):
    found = sorted(REAL.glob(f"{name}*"))
    if not found:
        pytest.skip("the real traces are not there")
    return found[0]


def kernels_of(path):
    trace = read_trace(path)
    return read_kernels(trace, timeline(trace), launched(trace))


TRACES = [
    "gpu-bound-v100/rank-0",
    "edge-cases/gpu-only-mi210",
    "input-fixed-v100-workers4/worker0.v2",
    "dlrm-8ranks-v100/worker7",
    "launch-bound-h100-inference/gaunernst",
    "edge-cases/amd-mi250-toy",
]


@pytest.mark.parametrize("name", TRACES)
def test_real_traces_are_reckoned_alike(name):
    found = kernels_of(real(name))
    shares, full = plain_kernels(real(name))
    for family, share in shares.items():
        assert found.share(found.of_family(family)) == pytest.approx(share, abs=1e-9), family
    ours = found.of_matrices & found.of_precision("fp32")
    assert found.share(ours) == pytest.approx(full, abs=1e-3)


def test_a_network_in_fp32_and_one_in_16_bits():
    slow, fast = kernels_of(real(TRACES[0])), kernels_of(real(TRACES[4]))
    assert slow.share(slow.eligible) == pytest.approx(0.627, abs=0.001)
    assert slow.share(slow.cores == 1) == 0.0
    assert slow.model.capability == (7, 0)
    assert slow.model.sheet.name == "V100 SXM"
    assert fast.share(fast.eligible) == 0.0
    assert fast.share(fast.cores == 1) == pytest.approx(0.76, abs=0.02)


def test_a_trace_that_does_not_describe_its_device_is_told_by_its_kernels():
    model = kernels_of(real(TRACES[2])).model
    assert (model.name, model.capability, model.exact) == (None, (7, 0), False)
    amd = kernels_of(real(TRACES[5])).model
    assert (amd.capability, amd.sheet, amd.has_tensor_cores) == (None, None, False)


named = st.sampled_from(sorted(NAMES))


@st.composite
def traces(draw):
    builder = TraceBuilder(capitals=draw(st.booleans()))
    for number in range(draw(st.integers(0, 2))):
        builder.step(number, 50 + 100 * number, draw(st.integers(1, 100)))
    for _ in range(draw(st.integers(1, 12))):
        length = draw(st.integers(1, 60))
        builder.kernel(draw(named), draw(st.integers(0, 300)), length, draw(st.integers(7, 9)))
    return builder


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(traces())
def test_any_trace_is_reckoned_alike(tmp_path, builder):
    trace = read_trace(builder.write(tmp_path / "trace.json"))
    cut = timeline(trace)
    window = (cut.window.start_ns, cut.window.end_ns)
    found = read_kernels(trace, cut, launched(trace))
    spans = {}
    for event in builder.events:
        if event["cat"].lower() == "kernel":
            span = (event["ts"] * 1000, (event["ts"] + event["dur"]) * 1000)
            spans.setdefault(NAMES[event["name"]][0], []).append(span)
    expected = {family: total(clipped(spans[family], *window)) for family in spans}
    expected = {family: time for family, time in expected.items() if time}
    families = found.families() if found is not None else []
    assert {one.family: one.time_ns for one in families} == expected
    assert {one.family for one in families} <= set(FAMILIES)
    for one in families:
        assert set(one.precisions) <= set(PRECISIONS)
        assert sum(one.precisions.values()) >= one.time_ns


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Tesla V100-SXM2-32GB", "V100 SXM"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80 GB"),
        ("NVIDIA A10G", None),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100", None),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("AMD Instinct MI300X", "MI300X"),
        ("AMD Radeon Graphics", None),
        (None, None),
    ],
)
def test_a_device_that_is_not_on_the_sheet_has_no_numbers(name, known):
    found = find_device(name)
    assert (found.name if found else None) == known
    if found is not None:
        assert found.ridge("fp32") == pytest.approx(
            found.tflops["fp32"] * 1e12 / (found.bandwidth_gbps * 1e9)
        )
        assert found.ridge("no such") is None
