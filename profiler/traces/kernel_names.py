"""What the name of a device's kernel tells: its family, its precision, whether tensor cores run it.

Libraries put into a kernel's name what it computes (`volta_sgemm_128x64_nn`, Tensile's
`Cijk_Ailk_Bjlk_HHS_BH_…_MI32x32x8…`), compilers the types of its arguments. Nothing here knows a
model; what a name does not tell stays unknown.
"""

from __future__ import annotations

import re

import msgspec

from trainprof.profiler.traces.timeline import COMMUNICATION

MATRIX_FAMILIES = frozenset({"matrix product", "convolution", "attention"})
"""What tensor cores can compute."""

_FAMILIES = (
    ("communication", rf"{COMMUNICATION.pattern}|nvshmem|cross_device_reduce"),
    ("attention", r"flash_?(fwd|bwd|attn|attention)|fmha|attn|sdpa|attention|mha_(fwd|bwd)"),
    ("Triton", r"^triton_(?!tem)"),
    ("optimizer", r"multi_tensor|fused_?(adam|sgd|lamb|adagrad)|foreach|adam_kernel|lamb_"),
    (
        "copy",
        r"nchwtonhwc|nhwctonchw|transpose|catarray|direct_copy|copy_device_to_device"
        r"|fillfunctor|scalepackedtensor|^memcpy|copy_kernel",
    ),
    (
        "normalisation",
        r"batch_?norm|(^|[:_ ])bn_(fw|bw)|layer_?norm|group_?norm|rms_?norm|gammabeta",
    ),
    (
        "convolution",
        r"conv(?!ert)|wgrad|dgrad|fprop|winograd|scudnn|[hs](884|1688|16816)cudnn|implicit_gemm"
        r"|igemm_(fwd|bwd|wrw)|cask_cudnn|fft[12]d|flip_filter|im2col|col2im|miopensp3",
    ),
    ("softmax and loss", r"softmax|nll_?(loss|criterion)|classnll|cross_entropy"),
    (
        "index and sort",
        r"embedding|index|gather|scatter|sort|devicescan|devicecompact|reducebykey|fbgemm"
        r"|bounds_check",
    ),
    (
        "matrix product",
        r"gemm|gemv|cijk_|cublas|nvjet|splitk|cutlass|magma_|matmul|^triton_tem|rocblas|hipblas",
    ),
    ("pooling", r"pool"),
    ("recurrent cell", r"lstm|gru_cell|elemwisernn|rnncell"),
    ("reduction", r"reduce"),
    ("pointwise", r"elementwise|subtensorop|pointwise|functor|unrolled"),
)
"""In this order: the first pattern that a name holds."""
FAMILIES = (*(name for name, _ in _FAMILIES), "other")
_FAMILY = tuple((name, re.compile(pattern)) for name, pattern in _FAMILIES)
"""Of names in lower case: patterns that ignore case take five times as long."""

_PRECISION = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("fp8", r"e4m3|e5m2|float8|fp8|[_:]f8"),
        ("int8", r"i8816|i16832|imma|_s8_|s8s8"),
        ("bf16", r"bf16|bfloat16"),
        ("fp16", r"half|f16|fp16|h884|s884|h1688|hgemm"),
        ("tf32", r"tf32|xf32|tensorop_s1688gemm"),
        ("complex", r"_g?[cz]gemm"),
        ("fp32", r"sgemm|scudnn|float|f32|fp32"),
        ("fp64", r"double|dgemm|f64|d884"),
    )
)
PRECISIONS = (*(name for name, _ in _PRECISION), "unknown")
OF_TYPE = {
    "float": "fp32",
    "double": "fp64",
    "c10::Half": "fp16",
    "c10::BFloat16": "bf16",
    "c10::Float8_e4m3fn": "fp8",
    "c10::Float8_e5m2": "fp8",
    "signed char": "int8",
}
"""Precision by the type that the profiler writes for an operator's input."""

_TENSILE = re.compile(r"Cijk_A\w{1,8}?_B\w{1,8}?_(?P<types>[A-Z0-9]{1,12}(_MX)?)_")
_TENSILE_TYPES = (
    ("F8", "fp8"),
    ("B8", "fp8"),
    ("I8", "int8"),
    ("BB", "bf16"),
    ("BS", "bf16"),
    ("H", "fp16"),
    ("SX", "tf32"),
    ("S_MX", "tf32"),
    ("S", "fp32"),
    ("D", "fp64"),
)
"""By the beginning of Tensile's letters for the types of a problem (B alone: with a beta)."""
_NVJET = re.compile(r"nvjet_(?P<types>[a-z]+)")
_NVJET_TYPES = {"h": "fp16", "t": "bf16"}

_TENSOR_CORES = re.compile(
    r"[his](884|1688|8816|16816|16832|161616)|d884|tensorop|wmma|hmma|imma|gmma|warpgroup|nvjet|tf32"
    r"|xmma|flash_?(fwd|bwd)|fmha|sdpa_sm|xdl|gtcx|mfma|_mi\d+x\d+x"
)
"""As cuBLAS, cuDNN, CUTLASS, Tensile and MIOpen name kernels of tensor (or matrix) cores."""
_NO_TENSOR_CORES = re.compile(r"simt|xmma\w*_f32f32_f32f32_f32")

_ARCHITECTURES = {
    "volta_": (7, 0),
    "turing_": (7, 5),
    "ampere_": (8, 0),
    "sm80_": (8, 0),
    "cutlass_80_": (8, 0),
    "sm86_": (8, 6),
    "sm89_": (8, 9),
    "sm90_": (9, 0),
    "nvjet_": (9, 0),
    "sm100_": (10, 0),
}
"""A kernel that was built for an architecture runs on that and later ones only. Plain text, as
patterns take ten times as long, and names are long."""


MOST_READ = 2_000
"""Characters of a name that are looked at: more hold the types of arguments again."""


class KernelName(msgspec.Struct, frozen=True):
    """What a name tells.

    Attributes:
        family: One of `FAMILIES`. precision: One of `PRECISIONS`; its inputs', where those of sums
            differ. tensor_cores: Whether they run it; None for what they cannot compute, and where
            the name does not tell.
    """

    family: str
    precision: str
    tensor_cores: bool | None


def read_name(name: str) -> KernelName:
    """Reads the name of a kernel of NVIDIA's or AMD's libraries, of torch, or of Triton."""
    name = name[:MOST_READ]
    folded = name.lower()
    family = next((one for one, pattern in _FAMILY if pattern.search(folded)), "other")
    precision = _precision(name, folded)
    cores = None
    if family in MATRIX_FAMILIES and not name.startswith("triton_"):
        cores = bool(_TENSOR_CORES.search(folded)) and not _NO_TENSOR_CORES.search(folded)
        if not cores and precision == "unknown":
            cores = None
    return KernelName(family, precision, cores)


def _precision(name: str, folded: str) -> str:
    tensile = _TENSILE.search(name)
    if tensile:
        types = tensile["types"]
        return next((one for begin, one in _TENSILE_TYPES if types.startswith(begin)), "unknown")
    jet = _NVJET.search(name)
    if jet:
        return _NVJET_TYPES.get(jet["types"][0], "unknown")
    return next((one for one, pattern in _PRECISION if pattern.search(folded)), "unknown")


def least_capability(names: list[str]) -> tuple[int, int] | None:
    """The least compute capability of a device of NVIDIA that runs these; None if none tells."""
    found = [
        least
        for word, least in _ARCHITECTURES.items()
        if any(_has_word(name[:MOST_READ], word) for name in names)
    ]
    return max(found, default=None)


def _has_word(name: str, word: str) -> bool:
    """Whether it stands in a name, and is not the end of a longer word."""
    place = name.find(word)
    return place >= 0 and not name[max(place - 1, 0) : place].isalpha()
