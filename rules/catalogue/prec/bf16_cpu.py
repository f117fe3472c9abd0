"""prec-bf16-cpu."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    largest_phase,
    needed,
    observed,
    percent,
    text,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Bf16Cpu(Rule):
    """Wide float32 products on a CPU that multiplies bfloat16 faster.

    ## What it finds
    A training on a CPU with instructions for bfloat16 products (AMX or AVX512-BF16) whose time goes
    into wide products in float32, without autocast.

    ## Why it costs time
    Such a CPU multiplies two to sixteen times as many bfloat16 numbers as float32 numbers in the
    same time, and each has half the bytes.

    ## Evidence needed
    - `/proc/cpuinfo` names `amx_bf16` or `avx512_bf16`. Without them bfloat16 is slower.
    - Products and convolutions at least 512 wide, in float32, take at least half of the step under
      torch's profiler, backward included.
    - Autocast is not on.

    The expected gain is at most Amdahl's bound on that share with a ratio of 1.8, and may be none:
    on a CPU with AVX512-BF16 (torch 2.13, one thread, three layers, whole step) 1.5 to 1.7 times
    faster with layers 512 to 2048 wide, and 1.0 with 256; on one with AMX 1.1 to 1.8 in three runs.
    So it is a note, and to be tried.

    ## Fix
    `with torch.autocast("cpu", dtype=torch.bfloat16):` around forward and loss. No scaler is
    needed, as bfloat16 has float32's range. With AMX,
    `torch.set_float32_matmul_precision("medium")` may do as well: then float32 products alone are
    rounded, and all tensors stay as they are. With AVX512-BF16 alone nothing is rounded by it
    (torch 2.13, measured).

    ## Fix safety
    Numerics. Products are rounded to 8 bits of precision and summed in float32; compare the loss
    curves.

    ## When it is wrong
    Small layers spend more on conversions than they gain. Some operators have no bfloat16 form on a
    CPU and convert back. Silent without the CPU's flags, with autocast on, and where narrow layers
    or other operators take the time.

    ## References
    - torch.amp, autocast on CPU: https://docs.pytorch.org/docs/stable/amp.html
    - bfloat16 training on Intel CPUs:
      https://docs.pytorch.org/tutorials/recipes/amx.html
    """

    id = "prec-bf16-cpu"
    title = "float32 products on a CPU with bfloat16 units"
    needs = ("operators.product_share", "host.bf16_unit", "flags.autocast")
    can_warn = False
    fires_on = (
        Case(
            "a wide network on a CPU with AVX512-BF16",
            {
                "operators.product_share": 0.8,
                "host.bf16_unit": "avx512_bf16",
                "flags.autocast": {},
            },
            severity="info",
            gain=(1.1, 1.4),
        ),
    )
    silent_on = (
        Case(
            "autocast is on",
            {
                "operators.product_share": 0.8,
                "host.bf16_unit": "amx_bf16",
                "flags.autocast": {"cpu": "bfloat16"},
            },
        ),
        Case(
            "narrow layers take the time",
            {
                "operators.product_share": 0.3,
                "host.bf16_unit": "amx_bf16",
                "flags.autocast": {},
            },
        ),
    )

    min_share = 0.5
    """Part of the step in wide products; conversions cost the rest something (a starting value)."""
    speedup_high = 1.8
    """Best of the measurements above."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the CPU's flags, at autocast and at the share of wide products."""
        share = needed(signals, "operators.product_share")
        unit = text(signals, "host.bf16_unit")
        autocast = signals.get("flags.autocast").value
        if share < self.min_share or unit is None or not trains_on_cpu(signals):
            return
        if isinstance(autocast, Mapping) and autocast:
            return
        yield Candidate(
            summary=(
                f"Wide float32 products take {percent(share)} of the step, on a CPU with "
                f"{unit}: bfloat16 may be faster, which only a trial tells."
            ),
            evidence=(
                *observed(signals, "operators.product_share", self.min_share),
                *observed(signals, "host.bf16_unit"),
            ),
            share=share * (1 - 1 / self.speedup_high),
            gain=Gain(1.0, amdahl(share, self.speedup_high)),
            fixes=(
                FixAdvice(
                    fix="autocast-bf16",
                    params={"device": "cpu", "dtype": "bfloat16"},
                    safety="numerics",
                    text="Try autocast to bfloat16, and compare speed and loss.",
                    code='with torch.autocast("cpu", dtype=torch.bfloat16):',
                ),
                *([self._rounded_products()] if unit == "amx_bf16" else []),
            ),
            confidence="low",
            max_severity="info",
            next_bottleneck=largest_phase(signals),
        )

    @staticmethod
    def _rounded_products() -> FixAdvice:
        return FixAdvice(
            fix="matmul-precision",
            params={"precision": "medium"},
            safety="numerics",
            text="Or have products of float32 matrices alone rounded, all tensors as they are.",
            code='torch.set_float32_matmul_precision("medium")',
        )
