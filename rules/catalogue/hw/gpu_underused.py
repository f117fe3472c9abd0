"""hw-gpu-underused."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import is_on, needed, number, observed, percent, text, uses_gpu
from trainprof.rules.rule import Candidate, Case, Rule

_LITTLE = {
    "gpu.devices": "0",
    "gpu.utilization_share": 0.12,
    "gpu.memory_share": 0.08,
    "gpu.looks": 60,
    "cost.waiting_share": 0.02,
}


class GpuUnderused(Rule):
    """The GPU is larger than this training needs.

    ## What it finds
    GPUs of this training on which some kernel runs less than 30 % of the time, with most of the
    memory free, where nothing else explains it.

    ## Why it costs time
    It costs money: a GPU is paid by the hour, whether kernels run or not.

    ## Evidence needed
    - A mean utilisation below 30 % and at most half of the memory in use, over the steady steps.
    - The host waits for data, synchronisation, checkpoints, logging or collections in less than a
      tenth of the step: else these are the cause.
    - No other finding promises time: under such a one this note is hidden.

    A utilisation tells how long some kernel ran, not how much of the GPU it filled: a low one
    proves that it is idle, a high one proves nothing. No speed-up is predicted; with a price per
    hour in the settings the note says what the idle time of a thousand steps costs.
    confirmed on: a fake NVML library only.

    ## Fix
    A larger batch first, if the training allows one. Else a smaller GPU, an instance of this one
    (MIG), or several trainings on it, as in a search.

    ## Fix safety
    Semantics: a larger batch is another training; a smaller GPU is not.

    ## When it is wrong
    Kernels so short that launching them takes longer leave the GPU idle too: a trace tells
    (`trainprof diagnose` of one), and compiling or CUDA graphs help then. The memory in use is
    what the driver sees, which torch's allocator keeps also when it does not need it.

    ## References
    - NVML, utilisation: https://docs.nvidia.com/deploy/nvml-api/
    - Bekman, Machine Learning Engineering, performance:
      https://github.com/stas00/ml-engineering/tree/master/training/performance
    - TraceML, which calls less than 30 % low: https://github.com/traceopt-ai/traceml
    """

    id = "hw-gpu-underused"
    title = "The GPU has little to do"
    needs = ("gpu.utilization_share", "gpu.memory_share", "cost.waiting_share")
    can_warn = False
    is_symptom = True
    fires_on = (
        Case("a small model on a large GPU", _LITTLE, severity="info"),
        Case(
            "and what that costs",
            {**_LITTLE, "cost.price_per_step": 0.0001, "cost.currency": "EUR"},
            severity="info",
        ),
    )
    silent_on = (
        Case("it waits for data", {**_LITTLE, "cost.waiting_share": 0.7}),
        Case("the memory is needed", {**_LITTLE, "gpu.memory_share": 0.8}),
        Case("half of the time", {**_LITTLE, "gpu.utilization_share": 0.5}),
        Case("others use it as well", {**_LITTLE, "gpu.other_processes": 2}),
        Case("an instance of a split GPU", {**_LITTLE, "gpu.mig": True}),
    )

    max_utilization = 0.30
    """Mean; TraceML calls less low."""
    max_memory, max_waiting = 0.50, 0.10
    """Part of the memory in use, and of the step in which the host waits (starting values)."""
    min_looks = 10
    """In the steady steps."""
    steps_shown = 1_000
    """Steps that the sentence gives the cost of."""

    def applies(self, signals: Signals) -> bool:
        """The training uses a GPU."""
        return uses_gpu(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Little use, little memory, and nothing that is waited for."""
        use, memory = needed(signals, "gpu.utilization_share"), needed(signals, "gpu.memory_share")
        waiting = needed(signals, "cost.waiting_share")
        if use >= self.max_utilization or memory > self.max_memory or waiting >= self.max_waiting:
            return
        shared = (number(signals, "gpu.other_processes") or 0) > 0 or is_on(signals, "gpu.mig")
        if shared or (number(signals, "gpu.looks") or 0) < self.min_looks:
            return
        yield Candidate(
            summary=f"Kernels ran {percent(use)} of the time, and at most {percent(memory)} of "
            f"the GPU's memory was in use{self._price(signals, use)}.",
            evidence=(
                *observed(signals, "gpu.utilization_share", self.max_utilization, "TraceML"),
                *observed(signals, "gpu.memory_share", self.max_memory),
                *observed(signals, "cost.waiting_share", self.max_waiting),
                *observed(signals, "cost.price_per_step"),
                *observed(signals, "cost.gpu_energy_per_step_j"),
                *observed(signals, "gpu.known_by"),
            ),
            fixes=(
                FixAdvice(
                    fix="gpu-smaller",
                    params={},
                    safety="semantics",
                    text="Try a larger batch; else use a smaller GPU, a part of this one (MIG), or "
                    "run several trainings on it. A trace tells whether launches hold it up.",
                ),
            ),
            confidence="low",
            severity="info",
        )

    def _price(self, signals: Signals, use: float) -> str:
        price = number(signals, "cost.price_per_step")
        if price is None:
            return ""
        idle = price * self.steps_shown * (1.0 - use)
        currency = text(signals, "cost.currency") or "(no currency set)"
        return f": of {self.steps_shown:,} steps, {idle:.3g} {currency} pay for idle time"
