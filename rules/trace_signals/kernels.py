"""What the kernels of a trace tell: families, precision, tensor cores; shares name their whole."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.kernels import Kernels
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS = (
    Description("kernels.count", "count", "Kernels of the busiest device in the window."),
    Description("kernels.top_family", "text", "The family of kernels that takes most of its time."),
    Description(
        "kernels.matrix_share",
        "share",
        "Of its busy time, in kernels that multiply matrices, convolve or attend.",
    ),
    Description("kernels.convolution_share", "share", "Of its busy time, in convolutions."),
    Description(
        "kernels.tensor_core_share", "share", "Of its busy time, in kernels of tensor cores."
    ),
    Description(
        "kernels.eligible_share",
        "share",
        "Of its busy time, in matrix kernels in fp32 that tensor cores could compute in 16 bits.",
    ),
    Description("kernels.eligible_window_share", "share", "The same, of the window."),
    Description(
        "kernels.full_precision_memory_window_share",
        "share",
        "Of the window, in pointwise and normalising kernels in fp32, which read half in 16 bits.",
    ),
    Description("kernels.tf32_share", "share", "Of its busy time, in matrix kernels in TF32."),
    Description("kernels.half_share", "share", "Of its busy time, in matrix kernels in 16 bits."),
    Description("kernels.fp8_share", "share", "Of its busy time, in matrix kernels in fp8."),
    Description("kernels.fp64_share", "share", "Of its busy time, in kernels in fp64."),
    Description(
        "kernels.capability",
        "version",
        "NVIDIA's compute capability of the device, or the least that its kernels need.",
    ),
    Description("kernels.peak_ratio", "ratio", "Its peak in 16 bits over that in fp32."),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals of the busiest device."""
    sheet = Sheet(DESCRIPTIONS)
    kernels = traced.kernels
    if kernels is not None:
        _shares(sheet, kernels)
        _model(sheet, kernels)
    return sheet.finish("the trace holds no kernels in its window")


def _shares(sheet: Sheet, kernels: Kernels) -> None:
    matrices = kernels.of_matrices
    of_busy = {
        "kernels.matrix_share": matrices,
        "kernels.convolution_share": kernels.of_family("convolution"),
        "kernels.tensor_core_share": kernels.cores == 1,
        "kernels.tf32_share": matrices & kernels.of_precision("tf32"),
        "kernels.half_share": matrices & kernels.of_precision("fp16", "bf16"),
        "kernels.fp8_share": matrices & kernels.of_precision("fp8"),
        "kernels.fp64_share": kernels.of_precision("fp64"),
    }
    for name, chosen in of_busy.items():
        sheet.put(name, kernels.share(chosen), method="of the time in which the device was busy")
    if kernels.model.has_tensor_cores:
        sheet.put("kernels.eligible_share", kernels.share(kernels.eligible))
        _of_window(
            sheet, "kernels.eligible_window_share", kernels, kernels.time_ns(kernels.eligible)
        )
    else:
        why = "the device has no tensor cores, as far as the trace tells"
        sheet.miss("kernels.eligible_share", why)
        sheet.miss("kernels.eligible_window_share", why)
    memory = kernels.of_family("pointwise", "normalisation") & kernels.of_precision("fp32")
    name = "kernels.full_precision_memory_window_share"
    _of_window(sheet, name, kernels, kernels.time_ns(memory))
    sheet.put("kernels.count", len(kernels.events))
    sheet.put("kernels.top_family", kernels.families()[0].family)


def _of_window(sheet: Sheet, name: str, kernels: Kernels, time_ns: int) -> None:
    window = kernels.window
    sheet.put(name, time_ns / max(window.length_ns, 1), method=window.text)


def _model(sheet: Sheet, kernels: Kernels) -> None:
    model = kernels.model
    if model.capability is not None:
        major, minor = model.capability
        how = "as the trace states it" if model.exact else "the least that its kernels need"
        sheet.put("kernels.capability", major + minor / 10, method=how)
    else:
        sheet.miss(
            "kernels.capability", "the trace does not tell it, or the device is not NVIDIA's"
        )
    rates = model.sheet.tflops if model.sheet is not None else {}
    half = max(rates.get("fp16", 0.0), rates.get("bf16", 0.0))
    ratio = half / rates["fp32"] if half and "fp32" in rates else None
    sheet.put(
        "kernels.peak_ratio", ratio, reason="the peak rates of this device are not on the sheet"
    )
