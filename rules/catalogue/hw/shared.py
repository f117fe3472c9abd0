"""hw-shared."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, uses_gpu
from trainprof.rules.rule import Candidate, Case, Rule

_NEIGHBOUR = {
    "gpu.devices": "0",
    "gpu.known_by": "processes on it",
    "gpu.other_processes": 1,
    "gpu.other_memory_share": 0.3,
    "gpu.other_use_share": 0.4,
    "gpu.own_use_share": 0.45,
    "gpu.utilization_share": 0.95,
}


class Shared(Rule):
    """Another program computes on the same GPU.

    ## What it finds
    A process on a GPU of this training that this run has not started.

    ## Why it costs time
    A GPU gives programs their turns one after the other: while kernels of another one run, those of
    this training wait. What was measured of this training is then slower than the training is, and
    as unsteady as its neighbour.

    ## Evidence needed
    - The driver names this run's own processes on the GPU, so that others can be told from them. In
      most containers it does not, and nothing is said.
    - The others take 5 % of the multiprocessors' time or more on average (NVML's use by process).
    - Where the driver does not tell who uses how much, others that hold 5 % of the GPU's memory are
      a note.

    The expected gain is Amdahl's bound on the others' time; none at the lower end, as a neighbour
    may just use what this training leaves. confirmed on: a fake NVML library only.

    ## Fix
    None in the script. Use another GPU (`CUDA_VISIBLE_DEVICES`), agree on times, or have the GPU
    split into instances (MIG).

    ## Fix safety
    Safe: nothing is changed in the training.

    ## When it is wrong
    The other process may be a part of the same job that was started beside it (a parameter server,
    a rollout worker).

    ## References
    - NVML, processes: https://docs.nvidia.com/deploy/nvml-api/
    - CUDA, time slicing of contexts:
      https://docs.nvidia.com/deploy/mps/introduction.html
    """

    id = "hw-shared"
    title = "Another program uses the same GPU"
    needs = ("gpu.other_processes",)
    fires_on = (
        Case("a neighbour takes 40 % of its time", _NEIGHBOUR, severity="warn", gain=(1.1, 1.5)),
        Case(
            "one that holds memory, and nobody tells what it does",
            {
                "gpu.devices": "0",
                "gpu.other_processes": 2,
                "gpu.other_memory_share": 0.3,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case("alone", {**_NEIGHBOUR, "gpu.other_processes": 0, "gpu.other_use_share": 0.0}),
        Case(
            "a display server that does nothing",
            {**_NEIGHBOUR, "gpu.other_memory_share": 0.01, "gpu.other_use_share": 0.0},
        ),
        Case("a neighbour that sleeps", {**_NEIGHBOUR, "gpu.other_use_share": 0.0}),
    )

    min_use_share = 0.05
    """Of the multiprocessors' time (a starting value)."""
    min_memory_share = 0.05
    """Of the GPU's memory, where the use is not told (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """The training uses a GPU."""
        return uses_gpu(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """By what others use, or by what they hold."""
        others = int(needed(signals, "gpu.other_processes"))
        used = number(signals, "gpu.other_use_share")
        held = number(signals, "gpu.other_memory_share") or 0.0
        if not others:
            return
        told = used is not None
        if (told and (used or 0.0) < self.min_use_share) or (
            not told and held < self.min_memory_share
        ):
            return
        who = f"{others} processes" if others > 1 else "1 process"
        deed = (
            f"took {percent(used)} of the multiprocessors' time"
            if used is not None
            else f"held {percent(held)} of its memory; what they computed is not told"
        )
        gain = Gain(1.0, amdahl(used)) if used is not None else None
        yield Candidate(
            summary=f"{who} of others on this training's GPU {deed}.",
            evidence=(
                *observed(signals, "gpu.other_processes"),
                *observed(signals, "gpu.other_use_share", self.min_use_share, "NVML"),
                *observed(signals, "gpu.own_use_share"),
                *observed(signals, "gpu.other_memory_share", self.min_memory_share),
                *observed(signals, "gpu.utilization_share"),
                *observed(signals, "gpu.known_by"),
            ),
            share=used,
            gain=gain,
            fixes=(
                FixAdvice(
                    fix="gpu-alone",
                    params={},
                    safety="safe",
                    text="Use a GPU that nobody else uses, or measure again later.",
                    code="nvidia-smi pmon",
                ),
            ),
            severity=None if told else "info",
            max_severity="warn",
        )
