"""hw-throttle."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import Evidence, FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, text, uses_gpu
from trainprof.rules.rule import Candidate, Case, Rule

_HOT = {
    "gpu.devices": "0",
    "gpu.known_by": "processes on it",
    "gpu.slowest": "GPU 0",
    "gpu.busy_looks": 60,
    "gpu.utilization_share": 0.95,
    "gpu.clock_share": 0.62,
    "gpu.clock_full_share": 0.99,
    "gpu.clock_lowered_share": 0.5,
    "gpu.hardware_share": 0.75,
    "gpu.hw_thermal_share": 0.75,
    "gpu.sw_thermal_share": 0.75,
    "gpu.power_cap_share": 0.0,
    "gpu.temperature_max_c": 90.0,
}


class Throttle(Rule):
    """The GPU computes at lowered clocks, because of heat or of its power supply.

    ## What it finds
    A GPU of this training whose clocks its hardware or its driver has lowered while it was busy:
    too hot, too little power from outside, or slowed by an external signal. Several are judged by
    the one with the lowest clocks.

    ## Why it costs time
    Whatever is bound by arithmetic takes longer in the proportion in which clocks are lowered; the
    hardware halves them at least. Ranks that wait for each other all go at the pace of the slowest.

    ## Evidence needed
    - At 5 % of the busy looks or more NVML names hardware slowdown (0x8), thermal slowdown (0x40)
      or the power brake (0x80), or at 10 % or more the driver's thermal slowdown (0x20).
    - Ten busy looks at least, two of them with lowered clocks. A look is busy from a utilisation of
      30 %, and never where the driver calls the card idle.
    - A card at 85 °C or more whose clocks are not lowered is a note, as is one whose power limit
      (0x4) takes a tenth of its clocks or more: that one is usual for large products.

    The expected gain is Amdahl's bound: the clocks without slowdown over those that were seen (the
    card's highest clock, where it was never seen without), on the part of the time in which kernels
    ran; half of it at the lower end, as kernels that are bound by memory do not slow down with the
    multiprocessors. Where enough steps ran at lowered clocks and at others, the ratio of their
    times is one end of the interval; if they took the same time, nothing is found.
    confirmed on: a fake NVML library only.

    ## Fix
    Heat: air flow, dust, ambient temperature, fewer hot neighbours in the case, a lower power limit
    (it keeps clocks even). Power: the supply and its cables. A power limit: `nvidia-smi -pl`, as
    far as the card allows.

    ## Fix safety
    Safe: nothing is changed in the training.

    ## When it is wrong
    Clocks that a job needs for seconds only are seen by few looks. Training steps of different kind
    before and after the heat came look like an effect of the clocks.

    ## References
    - NVML, clocks event reasons:
      https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
    - Bekman, Machine Learning Engineering, accelerators:
      https://github.com/stas00/ml-engineering/tree/master/compute/accelerator
    - TraceML, which warns from 85 °C: https://github.com/traceopt-ai/traceml
    """

    id = "hw-throttle"
    title = "The GPU runs at lowered clocks"
    needs = ("gpu.hardware_share", "gpu.sw_thermal_share", "gpu.clock_share", "gpu.busy_looks")
    fires_on = (
        Case("it is too hot", _HOT, severity="critical", gain=(1.2, 1.6)),
        Case(
            "and steps take longer since",
            {**_HOT, "gpu.slow_step_ratio": 1.5},
            severity="critical",
            gain=(1.5, 1.6),
        ),
        Case(
            "the driver slows it down now and then",
            {
                **_HOT,
                "gpu.hardware_share": 0.0,
                "gpu.hw_thermal_share": 0.0,
                "gpu.sw_thermal_share": 0.3,
                "gpu.clock_share": 0.8,
            },
            severity="warn",
        ),
        Case(
            "an external power brake",
            {
                **_HOT,
                "gpu.sw_thermal_share": 0.0,
                "gpu.hw_thermal_share": 0.0,
                "gpu.power_brake_share": 0.75,
                "gpu.temperature_max_c": 61.0,
            },
            severity="critical",
        ),
        Case(
            "hot, but at full clocks",
            {
                **_HOT,
                "gpu.hardware_share": 0.0,
                "gpu.hw_thermal_share": 0.0,
                "gpu.sw_thermal_share": 0.0,
                "gpu.clock_share": 0.99,
                "gpu.temperature_max_c": 87.0,
            },
            severity="info",
        ),
        Case(
            "at its power limit",
            {
                **_HOT,
                "gpu.hardware_share": 0.0,
                "gpu.hw_thermal_share": 0.0,
                "gpu.sw_thermal_share": 0.0,
                "gpu.power_cap_share": 0.97,
                "gpu.clock_share": 0.8,
                "gpu.temperature_max_c": 70.0,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "a healthy card at full load",
            {
                **_HOT,
                "gpu.hardware_share": 0.0,
                "gpu.sw_thermal_share": 0.0,
                "gpu.power_cap_share": 0.4,
                "gpu.clock_share": 0.95,
                "gpu.temperature_max_c": 70.0,
            },
        ),
        Case(
            "one look in a hundred",
            {
                **_HOT,
                "gpu.hardware_share": 0.01,
                "gpu.sw_thermal_share": 0.01,
                "gpu.busy_looks": 100,
                "gpu.clock_share": 0.99,
                "gpu.temperature_max_c": 80.0,
            },
        ),
        Case("three busy looks in all", {**_HOT, "gpu.busy_looks": 3}),
        Case("steps take no longer at lowered clocks", {**_HOT, "gpu.slow_step_ratio": 1.01}),
    )

    min_hardware_share = 0.05
    """Of the busy looks; the hardware cuts clocks to half or less (a starting value)."""
    min_driver_share = 0.10
    """Of the busy looks; the driver lowers them step by step (a starting value)."""
    hot_c = 85.0
    """Degrees; TraceML warns from here, and slowdowns begin between 84 and 90."""
    min_looks, min_lowered_looks = 10, 2
    """Busy looks, and those of them with lowered clocks (starting values)."""
    min_cap_share, max_capped_clock = 0.50, 0.90
    """Busy looks at the power limit, and the clock from which that is worth a note (starting
    values)."""
    least_saved = 0.5
    """Part of the bound, for the lower end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """The training uses a GPU."""
        return uses_gpu(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Lowered clocks first, then what is only a note."""
        looks = needed(signals, "gpu.busy_looks")
        if looks < self.min_looks:
            return
        if self._is_lowered(signals, looks):
            yield self._lowered(signals)
            return
        note = self._note(signals)
        if note is not None:
            yield Candidate(
                summary=note,
                evidence=(
                    *observed(signals, "gpu.temperature_max_c", self.hot_c, "TraceML"),
                    *self._evidence(signals),
                ),
                fixes=(_advice(),),
                severity="info",
                title="The GPU is at its limits",
            )

    def _is_lowered(self, signals: Signals, looks: float) -> bool:
        hardware = needed(signals, "gpu.hardware_share")
        driver = needed(signals, "gpu.sw_thermal_share")
        enough = max(hardware, driver) * looks >= self.min_lowered_looks
        return enough and (hardware >= self.min_hardware_share or driver >= self.min_driver_share)

    def _lowered(self, signals: Signals) -> Candidate:
        hardware = needed(signals, "gpu.hardware_share")
        driver = needed(signals, "gpu.sw_thermal_share")
        gain = self._gain(signals)
        heat = max(driver, number(signals, "gpu.hw_thermal_share") or 0.0) > 0.0
        brake = (number(signals, "gpu.power_brake_share") or 0.0) > 0.0
        cause = "heat" if heat else "an external power brake" if brake else "a hardware slowdown"
        degrees = number(signals, "gpu.temperature_max_c")
        at = f" (up to {degrees:.0f} °C)" if heat and degrees is not None else ""
        return Candidate(
            summary=f"{text(signals, 'gpu.slowest') or 'The GPU'} had lowered clocks at "
            f"{percent(max(hardware, driver))} of its busy looks because of {cause}{at}: its mean "
            f"clock is {percent(needed(signals, 'gpu.clock_share'))} of the highest.",
            evidence=self._evidence(signals),
            share=1.0 - 1.0 / gain.middle,
            share_low=1.0 - 1.0 / gain.low,
            gain=gain,
            fixes=(_advice(),),
            confidence="high" if number(signals, "gpu.slow_step_ratio") else "medium",
        )

    def _gain(self, signals: Signals) -> Gain:
        """By the clocks; where steps at both were timed, by these too."""
        mean = max(needed(signals, "gpu.clock_share"), 0.01)
        full = max(number(signals, "gpu.clock_full_share") or 1.0, mean)
        share = number(signals, "gpu.utilization_share")
        bound = amdahl(1.0 if share is None else share, full / mean)
        timed = number(signals, "gpu.slow_step_ratio")
        if timed is None:
            return Gain(1.0 + self.least_saved * (bound - 1.0), bound)
        if timed < 1.03:
            return Gain(1.0, max(timed, 1.0))
        return Gain(min(timed, bound), max(timed, bound))

    def _note(self, signals: Signals) -> str | None:
        name = text(signals, "gpu.slowest") or "The GPU"
        degrees = number(signals, "gpu.temperature_max_c")
        if degrees is not None and degrees >= self.hot_c:
            return f"A GPU is at {degrees:.0f} °C; its clocks are not lowered yet."
        capped = number(signals, "gpu.power_cap_share") or 0.0
        clock = needed(signals, "gpu.clock_share")
        if capped >= self.min_cap_share and clock <= self.max_capped_clock:
            return (
                f"{name} was at its power limit at {percent(capped)} of its busy looks, at "
                f"{percent(clock)} of its highest clock: usual for large products."
            )
        return None

    def _evidence(self, signals: Signals) -> tuple[Evidence, ...]:
        return (
            *observed(signals, "gpu.hardware_share", self.min_hardware_share, "NVML"),
            *observed(signals, "gpu.sw_thermal_share", self.min_driver_share, "NVML"),
            *observed(signals, "gpu.power_cap_share"),
            *observed(signals, "gpu.clock_share"),
            *observed(signals, "gpu.clock_full_share"),
            *observed(signals, "gpu.slow_step_ratio"),
            *observed(signals, "gpu.thermal_time_share"),
            *observed(signals, "gpu.temperature_max_c", self.hot_c),
            *observed(signals, "gpu.busy_looks", self.min_looks),
            *observed(signals, "gpu.utilization_share"),
            *observed(signals, "gpu.known_by"),
        )


def _advice() -> FixAdvice:
    return FixAdvice(
        fix="gpu-cooling",
        params={},
        safety="safe",
        text="See to its cooling and its power supply; a lower power limit keeps clocks even.",
        code="nvidia-smi -q -d TEMPERATURE,POWER,PERFORMANCE",
    )
