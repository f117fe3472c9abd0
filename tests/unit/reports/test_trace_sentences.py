import pytest

from trainprof.reports.trace_sentences import kernel_name


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("void at::native::(anonymous namespace)::reduce_kernel<512, 1>(int)", "reduce_kernel"),
        (
            "void cutlass::Kernel2<cutlass_80_s16816gemm_bf16>(cutlass::P)",
            "cutlass_80_s16816gemm_bf16",
        ),
        ("volta_sgemm_64x64_tn", "volta_sgemm_64x64_tn"),
        ("<>", "<>"),
    ],
)
def test_kernels_have_short_names(name, short):
    assert kernel_name(name) == short
