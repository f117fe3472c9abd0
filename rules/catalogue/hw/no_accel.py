"""hw-no-accel."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, summed_share, text
from trainprof.rules.rule import Candidate, Case, Rule

COMPUTE = ("forward", "loss", "backward")

_IDLE = {
    "unused_gpu.count": 1,
    "unused_gpu.name": "NVIDIA H100 80GB HBM3",
    "unused_gpu.peak_flops": 6.7e13,
    "unused_gpu.step_flops": 4e11,
    "unused_gpu.layer_flops": 3e9,
    "step.mean_s": 2.0,
    "step.forward_share": (0.30, 0.29, 0.31),
    "step.backward_share": (0.62, 0.61, 0.63),
    "flags.torch_cuda_build": "12.8",
}


class NoAccel(Rule):
    """The training computes on the CPU while a GPU of this machine is idle.

    ## What it finds
    A model in host memory whose steps are long computations, beside a GPU that nothing and nobody
    uses: a forgotten `.to(device)`, or a torch that was built without CUDA.

    ## Why it costs time
    Large products and convolutions take a GPU a small part of the time that they take a CPU.

    ## Evidence needed
    - All parameters that are trained lie on the CPU, and forward, loss and backward take 30 % of
      the step or more.
    - Convolutions and linear layers do at least 1e9 operations a step, and 1e7 in a layer's forward
      on average: with smaller ones launching takes as long as computing.
    - A GPU has a mean utilisation below 5 %, no process, and a tenth of its memory in use at most.
    - Neither the command (`--device cpu`, `--no-cuda`) nor `CUDA_VISIBLE_DEVICES` keeps it away.

    The upper end of the gain is Amdahl's bound on these phases; as ratio serve three tenths of the
    GPU's peak in single precision (CUDA cores x 2 x highest clock) over the rate of the CPU. The
    lower end is no gain: loading and everything else stay as they are, and copies are added.
    confirmed on: a fake NVML library only.

    ## Fix
    `device = "cuda"`; `model.to(device)` before the optimizer is made; each batch `.to(device)`.
    Where torch is a CPU build, install one for CUDA first.

    ## Fix safety
    Numerics: other kernels round otherwise.

    ## When it is wrong
    The GPU is reserved for somebody, or its memory too small; operations may be missing on it. It
    may be too old for this torch.

    ## References
    - PyTorch, install: https://pytorch.org/get-started/locally/
    - PyTorch performance tuning guide:
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    """

    id = "hw-no-accel"
    title = "An idle GPU beside a training on the CPU"
    needs = (
        "unused_gpu.count",
        "unused_gpu.peak_flops",
        "unused_gpu.step_flops",
        "step.mean_s",
    )
    fires_on = (
        Case("the model was never moved", _IDLE, severity="warn", gain=(2.0, 4.0)),
        Case(
            "a CPU build of torch",
            {key: value for key, value in _IDLE.items() if key != "flags.torch_cuda_build"},
            severity="warn",
        ),
    )
    silent_on = (
        Case("the command says so", {**_IDLE, "unused_gpu.kept_away": "--device cpu"}),
        Case("somebody uses it", {**_IDLE, "unused_gpu.count": 0}),
        Case("a small model", {**_IDLE, "unused_gpu.step_flops": 2e8}),
        Case("many small layers", {**_IDLE, "unused_gpu.layer_flops": 4e5}),
        Case(
            "it waits for its data",
            {
                **_IDLE,
                "step.forward_share": (0.05, 0.04, 0.06),
                "step.backward_share": (0.1, 0.09, 0.11),
            },
        ),
    )

    min_step_flops, min_layer_flops = 1e9, 1e7
    """Of a step, and of a layer's forward: launching a kernel takes microseconds (starting
    values)."""
    min_share = 0.30
    """Of the step in forward, loss and backward (a starting value)."""
    part_of_peak = 0.3
    """Of the peak that trainings reach in single precision (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """GPUs were sampled beside a training on the CPU."""
        return (number(signals, "unused_gpu.count") or 0) > 0

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the CPU's rate with what the GPU could do."""
        work = needed(signals, "unused_gpu.step_flops")
        layer = number(signals, "unused_gpu.layer_flops")
        away = text(signals, "unused_gpu.kept_away")
        shares = summed_share(signals, COMPUTE)
        if not needed(signals, "unused_gpu.count") or away is not None or shares is None:
            return
        small = work < self.min_step_flops or (layer or 0.0) < self.min_layer_flops
        if small or shares[0] < self.min_share:
            return
        rate = work / (shares[0] * needed(signals, "step.mean_s"))
        ratio = self.part_of_peak * needed(signals, "unused_gpu.peak_flops") / rate
        built = text(signals, "flags.torch_cuda_build") is not None
        why = "the model was not moved to it" if built else "this torch was built without CUDA"
        name = text(signals, "unused_gpu.name") or "A GPU"
        yield Candidate(
            summary=f"{name} is idle while forward and backward take {percent(shares[0])} of the "
            f"step on the CPU, at {rate / 1e9:.3g} GFLOP/s: {why}.",
            evidence=(
                *observed(signals, "unused_gpu.count"),
                *observed(signals, "unused_gpu.step_flops", self.min_step_flops),
                *observed(signals, "unused_gpu.layer_flops", self.min_layer_flops),
                *observed(signals, "unused_gpu.peak_flops"),
                *observed(signals, "step.forward_share"),
                *observed(signals, "step.backward_share"),
                *observed(signals, "flags.torch_cuda_build"),
            ),
            share=shares[0],
            share_low=shares[1],
            gain=Gain(1.0, amdahl(shares[0], max(ratio, 1.0))),
            fixes=(_advice(built),),
            confidence="medium",
            max_severity="warn",
        )


def _advice(built: bool) -> FixAdvice:
    first = "" if built else "Install a torch for CUDA. "
    return FixAdvice(
        fix="to-device",
        params={"device": "cuda"},
        safety="numerics",
        text=f"{first}Move the model before the optimizer is made, and each batch, to the GPU.",
        code='model.to("cuda"); inputs = inputs.to("cuda", non_blocking=True)',
    )
