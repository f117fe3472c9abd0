"""What the kernels of a trace tell: families, precision, tensor cores; shares name their whole."""

from __future__ import annotations

import re

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.alignment import large_layers, misaligned
from trainprof.profiler.traces.events import Flags
from trainprof.profiler.traces.kernels import Kernels
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

LAYOUT = re.compile(r"nchwtonhwc|nhwctonchw|batched_transpose_\d", re.IGNORECASE)
"""Kernels of cuDNN and MIOpen that rearrange images for their convolutions."""
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
    Description(
        "kernels.full_product_share",
        "share",
        "Of its busy time, in matrix products in fp32 without tensor cores.",
    ),
    Description("kernels.full_product_window_share", "share", "The same, of the window."),
    Description(
        "kernels.misaligned_share",
        "share",
        "Of its busy time, in matrix kernels in low precision on sizes that tensor cores dislike.",
    ),
    Description("kernels.misaligned_window_share", "share", "The same, of the window."),
    Description(
        "kernels.misaligned_sizes", "text", "Rows, columns and inner length of the dearest of them."
    ),
    Description(
        "kernels.large_layer_share",
        "share",
        "Of its busy time, in products of layers in 16 bits that are large enough for fp8.",
    ),
    Description("kernels.large_layer_window_share", "share", "The same, of the window."),
    Description(
        "kernels.layout_share",
        "share",
        "Of its busy time, in kernels that bring images from one layout into the other.",
    ),
    Description("kernels.layout_window_share", "share", "The same, of the window."),
    Description("kernels.convolution_window_share", "share", "Convolutions, of the window."),
    Description("kernels.benchmark", "bool", "cuDNN's benchmark mode was on in its convolutions."),
    Description(
        "kernels.convolution_input_shapes",
        "count",
        "Most sizes of input that convolutions with one size of weight had.",
    ),
    Description("kernels.peak_ratio", "ratio", "Its peak in 16 bits over that in fp32."),
    Description("kernels.tf32_ratio", "ratio", "Its peak in TF32 over that in fp32."),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals of the busiest device."""
    sheet = Sheet(DESCRIPTIONS)
    kernels = traced.kernels
    if kernels is not None:
        _shares(sheet, kernels)
        _products(sheet, kernels)
        _convolutions(sheet, kernels)
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


def _products(sheet: Sheet, kernels: Kernels) -> None:
    off, sizes = misaligned(kernels)
    full = kernels.of_family("matrix product") & kernels.of_precision("fp32") & ~kernels.narrow
    chosen = {
        "full_product": full & (kernels.cores != 1),
        "misaligned": off,
        "large_layer": large_layers(kernels),
    }
    for name, flags in chosen.items():
        _both(sheet, name, kernels, flags)
    text = " x ".join(map(str, sizes)) if sizes else None
    sheet.put("kernels.misaligned_sizes", text, reason="no such product tells its sizes")


def _convolutions(sheet: Sheet, kernels: Kernels) -> None:
    rearranges = [place for place, name in enumerate(kernels.names) if LAYOUT.search(name)]
    _both(sheet, "layout", kernels, np.isin(kernels.events.name, rearranges))
    convolutions = kernels.time_ns(kernels.of_family("convolution"))
    _of_window(sheet, "kernels.convolution_window_share", kernels, convolutions)
    operators = kernels.operators
    sheet.put(
        "kernels.benchmark",
        operators.benchmark,
        reason="the trace does not hold the arguments of convolutions",
    )
    sheet.put(
        "kernels.convolution_input_shapes",
        operators.input_shapes or None,
        reason="the trace holds no shapes of convolutions",
    )


def _both(sheet: Sheet, name: str, kernels: Kernels, chosen: Flags) -> None:
    sheet.put(f"kernels.{name}_share", kernels.share(chosen))
    _of_window(sheet, f"kernels.{name}_window_share", kernels, kernels.time_ns(chosen))


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
    for name, rate in (("peak", half), ("tf32", rates.get("tf32", 0.0))):
        sheet.put(
            f"kernels.{name}_ratio",
            rate / rates["fp32"] if rate and "fp32" in rates else None,
            reason="the peak rates of this device are not on the sheet",
        )
