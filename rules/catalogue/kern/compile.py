"""kern-compile."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    duration,
    gain,
    is_on,
    needed,
    number,
    observed,
    percent,
    place,
    text,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule
from trainprof.rules.source_calls import calls

_LONG = {
    "operators.chain_share": 0.62,
    "operators.chain_length": 6.0,
    "operators.shapes_repeat": True,
    "compilation.in_use": False,
    "host.cxx_compiler": "g++",
    "operators.gap_share": 0.05,
    "step.span_s": 3_600.0,
    "step.forward_share": (0.4, 0.38, 0.42),
    "step.backward_share": (0.5, 0.48, 0.52),
}


class Compile(Rule):
    """Much of the step goes through memory element by element, and nothing is compiled.

    ## What it finds
    Chains of element-wise operators and norms (scale, add, activation, norm, dropout) that take at
    least 30 % of a step on a CPU, forward and backward, in a training that lasts long enough for
    `torch.compile` to earn back what compiling takes.

    ## Why it costs time
    Each operator of a chain reads its input from memory and writes its output back, for a few
    operations of arithmetic an element. Compiled, a chain is one loop: an element is read once,
    goes through all of the chain in a register, and is written once.

    ## Evidence needed
    - At least two steps under torch's profiler, on the same shapes, whose chains take 30 % of the
      step or more; from 50 % on it may be a warning.
    - A C++ compiler, as torch.compile makes a C++ program of the model on a CPU.
    - The steady steps lasted long enough: what the middle of the expected gain saves of them is
      twice what compiling takes, 60 s (27, 40 and 60 s were measured for three networks of six
      blocks on a busy machine; others report 22 to 168 s). A shorter training is better off plain.

    The expected gain is Amdahl's bound. From half of the step on the lower end makes the chains 1.3
    times faster, below it promises nothing; the upper end makes them, and the pauses between
    operators, 4 times faster. Measured (torch 2.13, one thread, alternating): 2.3 times faster
    steps with all of the step in chains over 4 MiB, 2.1 times with chains over 8 KiB (half of the
    step, and a quarter in pauses), 1.3 times with products between them; each within a factor of
    1.5 either way, as the machine was busy.

    ## Fix
    `model.compile()` before the loop: in place, so that names in checkpoints stay. Time a few
    hundred steps against the plain model and keep the faster; `trainprof tune` does, and counts
    what compiling takes.

    ## Fix safety
    Numerics: a fused loop rounds in another order, and dropout draws other random numbers.

    ## When it is wrong
    Code that torch.compile cannot take as a whole (`.item()` or a print in a forward, hooks, data
    that decides the way) falls into pieces, and little is gained: silent where the source shows
    such a call in a `forward`. Silent too where shapes differ between steps, where most of the time
    is in products and convolutions, where it is compiled already, on accelerators, and in short
    runs. A run whose end was set by `--steps` does not tell how long the training goes on: from
    half of the step on it is an info then, which says from which length on compiling pays.

    ## References
    - torch.compile: https://docs.pytorch.org/docs/stable/generated/torch.compile.html
    - Ansel et al. 2024, PyTorch 2: https://doi.org/10.1145/3620665.3640366
    - Graph breaks:
      https://docs.pytorch.org/docs/stable/compile/programming_model.graph_breaks_index.html
    """

    id = "kern-compile"
    title = "Element-wise operators are not compiled"
    needs = ("operators.chain_share", "operators.shapes_repeat", "step.span_s")
    fires_on = (
        Case(
            "an hour of a network that is mostly activations and norms",
            _LONG,
            severity="warn",
            gain=(1.3, 1.6),
        ),
        Case(
            "less than two minutes, cut by --steps",
            {**_LONG, "step.span_s": 100.0, "step.limit": 400, "step.count": 400},
            severity="info",
        ),
        Case(
            "a third of the step, for a day",
            {**_LONG, "operators.chain_share": 0.34, "step.span_s": 86_400.0},
            severity="info",
        ),
    )
    silent_on = (
        Case("the same for five minutes", {**_LONG, "step.span_s": 300.0}),
        Case(
            "less than two minutes, and the script's own end came before that of --steps",
            {**_LONG, "step.span_s": 100.0, "step.limit": 400, "step.count": 390},
        ),
        Case("most of the time is in products", {**_LONG, "operators.chain_share": 0.12}),
        Case("compiled already", {**_LONG, "compilation.in_use": True}),
        Case("no C++ compiler", {**_LONG, "host.cxx_compiler": None}),
        Case("other lengths from step to step", {**_LONG, "operators.shapes_repeat": False}),
        Case(
            "a value is read in the forward",
            {
                **_LONG,
                "source.calls": {
                    ".item": [{"file": "model.py", "line": 30, "function": "forward"}]
                },
            },
        ),
        Case("on an accelerator", {**_LONG, "model.devices": {"cuda:0": 1_000}}),
    )

    min_chain_share = 0.30
    """Part of the step (a starting value): below it fourfold speed gains less than a third."""
    min_warn_share = 0.50
    """From here on the chains are what the step is about (a starting value)."""
    fused_speedup_low, fused_speedup_high = 1.3, 4.0
    """Compiled against plain chains (measured, see the page)."""
    compile_s = 60.0
    """Seconds until the first compiled step is done (measured, see the page)."""
    least_return = 2.0
    """What is saved over what compiling takes."""
    breaks = (".item", ".tolist", ".numpy", ".cpu", "print")
    """Calls in a forward that torch.compile cannot take."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Asks for a large share, a long run, and nothing that speaks against compiling."""
        share = needed(signals, "operators.chain_share")
        span_s = needed(signals, "step.span_s")
        if share < self.min_chain_share or not self._can_compile(signals):
            return
        large = share >= self.min_warn_share
        least = self.fused_speedup_low if large else 1.0
        pauses = number(signals, "operators.gap_share") or 0.0
        expected = gain(share, min(share + pauses, 1.0), least, self.fused_speedup_high)
        saved_share = 1 - 1 / expected.middle
        pays_from_s = self.least_return * self.compile_s / saved_share
        long = span_s >= pays_from_s
        if not long and not (large and self._was_cut(signals)):
            return
        length = number(signals, "operators.chain_length") or 2.0
        yield Candidate(
            summary=(
                f"Chains of {length:.0f} element-wise operators and norms take {percent(share)} of "
                f"the step; in {duration(span_s if long else pays_from_s)} of steps compiling them "
                "would pay."
            ),
            evidence=(
                *observed(signals, "operators.chain_share", self.min_chain_share),
                *observed(signals, "operators.chain_length"),
                *observed(signals, "operators.gap_share"),
                *observed(signals, "operators.shapes_repeat"),
                *observed(signals, "step.span_s"),
                *observed(signals, "step.forward_share"),
                *observed(signals, "step.backward_share"),
            ),
            share=1 - 1 / expected.middle,
            gain=expected,
            where=place(signals, "operators.chain_where") or place(signals, "model.where"),
            fixes=(self._advice(),),
            confidence="low",
            max_severity="warn" if large and long else "info",
        )

    @staticmethod
    def _was_cut(signals: Signals) -> bool:
        """Whether `--steps` ended the run, so that how long the training goes on is not known."""
        limit, count = number(signals, "step.limit"), number(signals, "step.count")
        return limit is not None and count is not None and count >= limit

    def _can_compile(self, signals: Signals) -> bool:
        inside = (call for name in self.breaks for call in calls(signals, name))
        return (
            is_on(signals, "operators.shapes_repeat")
            and not is_on(signals, "compilation.in_use")
            and text(signals, "host.cxx_compiler") is not None
            and trains_on_cpu(signals)
            and not any(call.where.function == "forward" for call in inside)
        )

    @staticmethod
    def _advice() -> FixAdvice:
        return FixAdvice(
            fix="model-compile",
            params={},
            safety="numerics",
            text="Compile the model before the loop; time it against the plain one and keep the "
            "faster.",
            code="model.compile()",
        )
