"""prec-fp64."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    COMPUTE_PHASES,
    amdahl,
    gain,
    is_on,
    number,
    observed,
    percent,
    place,
    summed_share,
    text,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Fp64(Rule):
    """The model computes in double precision, mostly because NumPy's default slipped in.

    ## What it finds
    Parameters of type float64, or float32 parameters that are fed float64 batches. NumPy makes
    float64 unless told otherwise, `torch.from_numpy` keeps it, and a model that then complains
    about mixed types is often "fixed" by `model.double()`.

    ## Why it costs time
    A double has twice the bytes, and a vector register holds half as many. On a CPU that doubles
    the time of everything that is not overhead. On GPUs it is worse: A100 and H100 reach half of
    their float32 rate in float64 outside of tensor cores, consumer cards 1/32 to 1/64 of it.

    ## Evidence needed
    - At least 10 % of the parameters are float64 (or the batches are, with float32 parameters:
      then only a note, since the loop may well convert them).
    - Forward, loss, backward and optimizer together take at least 10 % of the step.
    - In a trace: at least 10 % of the window in kernels of the device in fp64 (by their names and
      the inputs of their operators), or in operators of the CPU that take no other floats.

    The expected gain is Amdahl's bound on those phases. Measured on a CPU (torch 2.13, one
    thread, multi-layer perceptrons): 2.1 to 2.4 times faster in float32 with layers 256 to 1024
    wide, no difference with layers 32 wide, where launching operations is all the work. On a device
    the lower end counts kernels besides matrix products alone, which read half the bytes; the upper
    end has twice the rate on NVIDIA's data centre devices (compute capability x.0), 32 times it on
    its others, and half the bytes where the device is not known.

    ## Fix
    Make the batches float32 where they are born (`astype(numpy.float32)`, `torch.as_tensor(x,
    dtype=torch.float32)`) and keep the model in float32 (`model.float()`, no `model.double()`).

    ## Fix safety
    Numerics, and more than a last digit: about 7 instead of 16 decimal digits. Nearly all networks
    train alike in float32; compare the loss curves once.

    ## When it is wrong
    Where `torch.set_default_dtype(torch.float64)` was called, somebody wanted doubles (physics,
    implicit layers, gradient checks): the finding is then only a note that asks. Small models gain
    little: below 100,000 parameters it is a note too, and its interval starts at no gain.

    ## References
    - CUDA C++ programming guide, throughput of arithmetic instructions:
      https://docs.nvidia.com/cuda/cuda-c-programming-guide/#arithmetic-instructions
    - torch.set_default_dtype: https://docs.pytorch.org/docs/stable/generated/torch.set_default_dtype.html
    - NumPy data types: https://numpy.org/doc/stable/user/basics.types.html
    """

    id = "prec-fp64"
    title = "Training computes in double precision"
    needs = ("model.float64_share", "step.forward_share", "step.backward_share")
    trace_needs = ("fp64.window_share", "timeline.window")
    fires_on = (
        Case(
            "model.double() on a wide network",
            {
                "model.float64_share": 1.0,
                "model.parameter_count": 4_000_000,
                "model.devices": {"cpu": 4_000_000},
                "model.where": {"file": "train.py", "line": 20},
                "flags.default_dtype": "torch.float32",
                "batch.float64": True,
                "batch.tensors": "float64, float64",
                "step.forward_share": (0.35, 0.33, 0.37),
                "step.loss_share": (0.01, 0.01, 0.01),
                "step.backward_share": (0.5, 0.48, 0.52),
                "step.optimizer_share": (0.1, 0.09, 0.11),
            },
            severity="critical",
            gain=(1.4, 2.4),
        ),
        Case(
            "doubles on purpose",
            {
                "model.float64_share": 1.0,
                "model.parameter_count": 4_000_000,
                "flags.default_dtype": "torch.float64",
                "step.forward_share": (0.4, 0.38, 0.42),
                "step.backward_share": (0.5, 0.48, 0.52),
            },
            severity="info",
        ),
        Case(
            "float32 model fed with double batches",
            {
                "model.float64_share": 0.0,
                "batch.float64": True,
                "step.forward_share": (0.3, 0.28, 0.32),
                "step.loss_share": (0.08, 0.07, 0.09),
                "step.backward_share": (0.5, 0.48, 0.52),
            },
            severity="info",
        ),
        Case(
            "an A100 computes in fp64, in a trace",
            {
                "fp64.window_share": 0.6,
                "fp64.busy_share": 0.7,
                "fp64.matrix_window_share": 0.4,
                "fp64.operator": "aten::mm",
                "kernels.capability": 8.0,
                "timeline.window": "5 whole steps",
            },
            severity="critical",
            gain=(1.1, 1.4),
        ),
        Case(
            "operators of a CPU take doubles, in a trace",
            {
                "fp64.window_share": 0.8,
                "fp64.operator": "aten::linear",
                "training_thread.on_cpu": True,
                "timeline.window": "5 whole steps",
            },
            severity="critical",
            gain=(1.3, 1.9),
        ),
    )
    silent_on = (
        Case(
            "a loss is summed up in fp64, in a trace",
            {
                "fp64.window_share": 0.04,
                "fp64.busy_share": 0.05,
                "fp64.matrix_window_share": 0.0,
                "kernels.capability": 8.6,
                "timeline.window": "5 whole steps",
            },
        ),
        Case(
            "float32 throughout",
            {
                "model.float64_share": 0.0,
                "batch.float64": False,
                "step.forward_share": (0.4, 0.38, 0.42),
                "step.backward_share": (0.5, 0.48, 0.52),
            },
        ),
        Case(
            "doubles in a step that waits for data nearly all the time",
            {
                "model.float64_share": 1.0,
                "step.forward_share": (0.01, 0.009, 0.011),
                "step.backward_share": (0.01, 0.009, 0.011),
            },
        ),
    )

    min_float64_share = 0.10
    """Share of the parameters; fewer are a head kept exact on purpose (a starting value)."""
    cpu_speedup_low, cpu_speedup_high = 1.5, 2.4
    """float32 against float64 on a CPU, layers of 256 and more (measured, see the page)."""
    accelerator_speedup_high = 32.0
    """Half the consumer cards' ratio of 64 in the CUDA guide: not every operation is arithmetic."""
    min_traced_share = 0.10
    """Of a trace's window (a starting value)."""
    bytes_ratio = 2.0
    """Of a double over a float; and of the rates where the device has compute capability x.0."""
    small_model_parameters = 100_000
    """Below it launching operations outweighs arithmetic: layers 32 wide gained nothing."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the parameters first; double batches alone are a lesser matter."""
        if text(signals, "timeline.window") is not None:
            yield from self._traced(signals)
            return
        portion = number(signals, "model.float64_share") or 0.0
        if portion >= self.min_float64_share:
            yield from self._parameters(signals, portion)
        elif is_on(signals, "batch.float64"):
            yield from self._batches(signals)

    def _parameters(self, signals: Signals, portion: float) -> Iterator[Candidate]:
        compute = summed_share(signals, COMPUTE_PHASES)
        if compute is None:
            return
        share, share_low = compute[0] * portion, compute[1] * portion
        deliberate = "float64" in (text(signals, "flags.default_dtype") or "")
        parameters = number(signals, "model.parameter_count")
        small = parameters is not None and parameters < self.small_model_parameters
        least = 1.0 if small else self.cpu_speedup_low
        most = self.cpu_speedup_high if trains_on_cpu(signals) else self.accelerator_speedup_high
        question = " torch's default type was set to float64: is that meant?" if deliberate else ""
        yield Candidate(
            summary=(
                f"{_portion(portion)} float64, and the arithmetic takes "
                f"{percent(compute[0])} of the step.{question}"
            ),
            evidence=(
                *observed(signals, "model.float64_share", self.min_float64_share),
                *observed(signals, "batch.float64"),
                *observed(signals, "flags.default_dtype"),
                *observed(signals, "step.forward_share"),
                *observed(signals, "step.backward_share"),
            ),
            share=share * (1 - 1 / self.cpu_speedup_high),
            share_low=share_low * (1 - 1 / self.cpu_speedup_low),
            gain=gain(share_low, share, least, most),
            where=place(signals, "model.where"),
            fixes=(self._advice(signals),),
            confidence="low" if deliberate or small else "medium",
            max_severity="info" if deliberate or small else "critical",
        )

    def _batches(self, signals: Signals) -> Iterator[Candidate]:
        touched = summed_share(signals, ("h2d", "loss"))
        if touched is None:
            return
        share, share_low = touched
        yield Candidate(
            summary=(
                "The loader returns float64 to a float32 model: twice the bytes to move, and the "
                f"loss ({percent(share)} of the step with the transfer) may run in doubles."
            ),
            evidence=(
                *observed(signals, "batch.float64", False),
                *observed(signals, "step.loss_share"),
                *observed(signals, "step.h2d_share"),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(1.0, gain(share, share, self.cpu_speedup_high).high),
            where=place(signals, "loader.where"),
            fixes=(self._advice(signals),),
            confidence="low",
            max_severity="info",
        )

    def _traced(self, signals: Signals) -> Iterator[Candidate]:
        share = number(signals, "fp64.window_share") or 0.0
        if share < self.min_traced_share:
            return
        operator = text(signals, "fp64.operator")
        most = f", most of it in {operator}" if operator else ""
        yield Candidate(
            summary=f"{percent(share)} of {text(signals, 'timeline.window')} is computed in double "
            f"precision{most}.",
            evidence=(
                *observed(signals, "fp64.window_share", self.min_traced_share),
                *observed(signals, "fp64.busy_share"),
                *observed(signals, "fp64.matrix_window_share"),
                *observed(signals, "kernels.capability"),
            ),
            share=share,
            gain=self._traced_gain(signals, share),
            fixes=(self._advice(signals),),
            confidence="medium",
        )

    def _traced_gain(self, signals: Signals, share: float) -> Gain:
        matrices = number(signals, "fp64.matrix_window_share")
        if matrices is None:
            return gain(share, share, self.cpu_speedup_low, self.cpu_speedup_high)
        capability = number(signals, "kernels.capability")
        full_rate = capability is None or capability == int(capability)
        most = self.bytes_ratio if full_rate else self.accelerator_speedup_high
        rest = max(share - matrices, 0.0)
        return Gain(amdahl(rest, self.cpu_speedup_low), amdahl(share, most))

    @staticmethod
    def _advice(signals: Signals) -> FixAdvice:
        batch = text(signals, "batch.tensors")
        known = {"batch": batch.split(", ")} if batch is not None else {}
        return FixAdvice(
            fix="model-float32",
            params={"dtype": "float32", **known},
            safety="numerics",
            text=(
                "Make the batches float32 where they are made and keep the model in float32; "
                "then compare the loss curves once."
            ),
            code="torch.as_tensor(x, dtype=torch.float32)",
        )


def _portion(portion: float) -> str:
    return "All parameters are" if portion > 0.995 else f"{percent(portion)} of the parameters are"
