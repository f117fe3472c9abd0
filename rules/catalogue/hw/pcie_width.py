"""hw-pcie-width."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, low, needed, number, observed, percent, text, uses_gpu
from trainprof.rules.rule import Candidate, Case, Rule

_NARROW = {
    "gpu.devices": "0",
    "gpu.pcie_device": "GPU 0",
    "gpu.pcie_width": 4,
    "gpu.pcie_width_max": 16,
    "gpu.pcie_generation": 4,
    "gpu.pcie_generation_max": 4,
    "gpu.pcie_speed_share": 0.25,
    "gpu.pcie_bytes_per_s": 7.876e9,
    "copies.h2d_pinned_bytes_per_s": 6.4e9,
    "gpu.busy_looks": 40,
    "step.h2d_share": (0.30, 0.28, 0.32),
}


class PcieWidth(Rule):
    """The link to the GPU is narrower or slower than card and slot allow.

    ## What it finds
    A GPU of this training whose PCI Express link used fewer lanes, or an older generation, than the
    driver says it could, all the time while the GPU was busy; and a training that copies over it.

    ## Why it costs time
    Batches and parameters reach the card over this link. A quarter of the lanes moves a quarter of
    the bytes a second.

    ## Evidence needed
    - At every busy look fewer lanes or a lower generation than the highest (the best look counts):
      a card that rests lowers its link to save power, which is no fault.
    - Copies to the device take 3 % of the step or more; or the link carries half of what it can,
      which is a note, as copies beside the computing cost nothing.

    Where a window of the run was traced, what large copies from page-locked memory really reached
    stands beside what the link's lanes can carry.

    The expected gain is Amdahl's bound on the copies' share, with the link's speeds as ratio; half
    of it at the lower end. confirmed on: a fake NVML library only.

    ## Fix
    Seat the card and its riser again, or put it into a slot with all lanes (`nvidia-smi topo -m`,
    `lspci -vv`); see whether the firmware limits the slot; look for cards that share its lanes.

    ## Fix safety
    Safe: nothing is changed in the training.

    ## When it is wrong
    In a virtual machine the link that is told need not be the real one. Some boards split lanes
    among slots: then fewer than the card has are all there are.

    ## References
    - NVML, PCI Express link: https://docs.nvidia.com/deploy/nvml-api/
    - PCI-SIG, rates by generation: https://pcisig.com/specifications
    """

    id = "hw-pcie-width"
    title = "The link to the GPU is narrow"
    needs = ("gpu.pcie_speed_share", "gpu.pcie_width", "gpu.pcie_width_max")
    fires_on = (
        Case("4 of 16 lanes", _NARROW, severity="critical", gain=(1.1, 1.3)),
        Case(
            "an old generation",
            {
                **_NARROW,
                "gpu.pcie_width": 16,
                "gpu.pcie_generation": 3,
                "gpu.pcie_speed_share": 0.5,
                "step.h2d_share": (0.26, 0.25, 0.27),
            },
            severity="warn",
        ),
        Case(
            "copies beside the computing load it",
            {**_NARROW, "step.h2d_share": 0.001, "gpu.pcie_load_share": 0.7},
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "all lanes",
            {
                **_NARROW,
                "gpu.pcie_width": 16,
                "gpu.pcie_speed_share": 1.0,
            },
        ),
        Case("nothing is copied", {**_NARROW, "step.h2d_share": 0.005}),
        Case(
            "little is copied beside the computing",
            {**_NARROW, "step.h2d_share": 0.0, "gpu.pcie_load_share": 0.02},
        ),
    )

    max_speed_share = 0.99
    """Of the highest; less is fewer lanes or an older generation."""
    min_copy_share = 0.03
    """Of the step in copies to the device (a starting value)."""
    min_load_share = 0.50
    """Of what the link moves, where copies run beside the computing (a starting value)."""
    least_saved = 0.5
    """Part of the bound, for the lower end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """The training uses a GPU."""
        return uses_gpu(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Weighs a narrow link by what goes over it."""
        speed = needed(signals, "gpu.pcie_speed_share")
        if not 0.0 < speed < self.max_speed_share:
            return
        copies = number(signals, "step.h2d_share") or 0.0
        load = number(signals, "gpu.pcie_load_share") or 0.0
        waits = copies >= self.min_copy_share
        if not waits and load < self.min_load_share:
            return
        bound = amdahl(copies, 1.0 / speed)
        gain = Gain(1.0 + self.least_saved * (bound - 1.0), bound)
        saved_low = (low(signals, "step.h2d_share") or 0.0) * (1.0 - speed)
        yield Candidate(
            summary=f"{self._link(signals)}, {percent(speed)} of its speed; "
            + (
                f"copies to the GPU take {percent(copies)} of the step."
                if waits
                else f"traffic to the GPU takes {percent(load)} of what it moves."
            ),
            evidence=(
                *observed(signals, "gpu.pcie_width"),
                *observed(signals, "gpu.pcie_width_max"),
                *observed(signals, "gpu.pcie_generation"),
                *observed(signals, "gpu.pcie_generation_max"),
                *observed(signals, "gpu.pcie_speed_share", self.max_speed_share),
                *observed(signals, "gpu.pcie_bytes_per_s"),
                *observed(signals, "copies.h2d_pinned_bytes_per_s"),
                *observed(signals, "step.h2d_share", self.min_copy_share),
                *observed(signals, "gpu.pcie_load_share", self.min_load_share),
                *observed(signals, "gpu.pcie_replays"),
                *observed(signals, "gpu.busy_looks"),
            ),
            share=copies * (1.0 - speed) if waits else None,
            share_low=saved_low if waits else None,
            gain=gain if waits else None,
            fixes=(_advice(),),
            severity=None if waits else "info",
        )

    @staticmethod
    def _link(signals: Signals) -> str:
        lanes = needed(signals, "gpu.pcie_width")
        most = needed(signals, "gpu.pcie_width_max")
        who = text(signals, "gpu.pcie_device") or "The GPU"
        generation = number(signals, "gpu.pcie_generation")
        highest = number(signals, "gpu.pcie_generation_max")
        older = ""
        if generation is not None and highest is not None and generation < highest:
            older = f" of generation {generation:.0f} instead of {highest:.0f}"
        return f"The link to {who} uses {lanes:.0f} of {most:.0f} lanes{older}"


def _advice() -> FixAdvice:
    return FixAdvice(
        fix="gpu-slot",
        params={},
        safety="safe",
        text="Seat the card and its riser again, or use a slot that has all its lanes.",
        code="nvidia-smi -q -d PERFORMANCE,PCI; lspci -vv | grep LnkSta",
    )
