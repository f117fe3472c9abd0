"""hw-cost-step."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, percent, text
from trainprof.rules.rule import Candidate, Case, Rule


class CostStep(Rule):
    """What the steps cost, and how much of that is paid for waiting.

    ## What it finds
    The price of a thousand steps where the project's settings name the price of an hour, the energy
    of the GPUs where it was measured, its CO2 where the settings name the grid's intensity; and
    which part of the time goes into waiting.

    ## Why it costs time
    A machine is paid by the hour, whether it computes or waits for data, a disk or another rank.

    ## Evidence needed
    - `price-per-hour` in `[tool.trainprof]`: then it is always a note, as it was asked for.
    - Without a price: energy that was measured (NVML), and a fifth of the step or more in waiting
      (data, synchronisation, communication, checkpoints, logging, garbage collection).

    Formulas: price of a step = price-per-hour x T / 3600; CO2 = GPU energy x pue x
    grid-gco2-per-kwh. The energy of CPUs and memory is not measured and not guessed: no power is
    taken from a data sheet.

    ## Fix
    What the other findings name. This one tells what they are worth.

    ## Fix safety
    Safe: nothing is changed.

    ## When it is wrong
    A price of the whole machine counts all its GPUs, also those that this run does not use. Phases
    that wait on the host may overlap with work on the device: the share is the host's.

    ## References
    - NVML, total energy: https://docs.nvidia.com/deploy/nvml-api/
    - Strubell et al., Energy and Policy Considerations: https://arxiv.org/abs/1906.02243
    - Zeus, energy of trainings: https://github.com/ml-energy/zeus
    """

    id = "hw-cost-step"
    title = "What the steps cost"
    needs = ("step.mean_s", "cost.waiting_share")
    can_warn = False
    fires_on = (
        Case(
            "a price is set",
            {
                "step.mean_s": 0.36,
                "cost.price_per_step": 0.00025,
                "cost.price_per_hour": 2.5,
                "cost.currency": "EUR",
                "cost.waiting_share": 0.4,
            },
            severity="info",
        ),
        Case(
            "energy was measured, a third of it while waiting",
            {
                "step.mean_s": 0.36,
                "cost.gpu_energy_per_step_j": 90.0,
                "cost.co2_per_step_g": 0.01,
                "cost.waiting_share": 0.33,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case("no price, no energy", {"step.mean_s": 0.36, "cost.waiting_share": 0.6}),
        Case(
            "energy of a training that hardly waits",
            {"step.mean_s": 0.36, "cost.gpu_energy_per_step_j": 90.0, "cost.waiting_share": 0.05},
        ),
    )

    min_waiting_share = 0.20
    """Share of the step, where no price was set (a starting value)."""
    steps_shown = 1_000
    """Steps that the sentence gives the cost of."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Multiplies what was measured with what was set."""
        price = number(signals, "cost.price_per_step")
        energy = number(signals, "cost.gpu_energy_per_step_j")
        waiting = needed(signals, "cost.waiting_share")
        if price is None and (energy is None or waiting < self.min_waiting_share):
            return
        yield Candidate(
            summary=f"{self.steps_shown:,} steps cost {self._sum(signals, price, energy)}; "
            f"{percent(waiting)} of it goes into waiting.",
            evidence=(
                *observed(signals, "cost.price_per_step"),
                *observed(signals, "cost.price_per_hour"),
                *observed(signals, "cost.gpu_energy_per_step_j"),
                *observed(signals, "cost.co2_per_step_g"),
                *observed(signals, "cost.waiting_share", self.min_waiting_share),
                *observed(signals, "step.mean_s"),
            ),
            fixes=(self._advice(),),
            severity="info",
        )

    def _sum(self, signals: Signals, price: float | None, energy: float | None) -> str:
        parts = []
        if price is not None:
            currency = text(signals, "cost.currency") or "(no currency set)"
            parts.append(f"{price * self.steps_shown:.3g} {currency}")
        if energy is not None:
            parts.append(f"{energy * self.steps_shown / 3.6e6:.3g} kWh of the GPUs")
        co2 = number(signals, "cost.co2_per_step_g")
        if co2 is not None:
            parts.append(f"{co2 * self.steps_shown:.3g} g of CO2")
        return ", ".join(parts)

    @staticmethod
    def _advice() -> FixAdvice:
        return FixAdvice(
            fix="cost-known",
            params={},
            safety="safe",
            text="Shorten what the other findings name; each shortens the bill in proportion.",
        )
