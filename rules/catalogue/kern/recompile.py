"""kern-recompile."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    duration,
    gain,
    largest_phase,
    low,
    needed,
    number,
    observed,
    percent,
    place,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Recompile(Rule):
    """torch.compile compiles the same code again and again while the training runs.

    ## What it finds
    Frames that dynamo has compiled before and compiles again after the warm-up, because something
    they were specialised on has changed: a shape, a Python number, a flag of a module.

    ## Why it costs time
    The training waits for each compilation, from tenths of a second to minutes. After eight
    variants of a frame (`torch._dynamo.config.recompile_limit`) dynamo gives up without an error,
    and that frame runs uncompiled from then on: the time to compile was for nothing.

    ## Evidence needed
    - At least two compilations of frames compiled before, in the steady part of the training.
    - Compilation takes at least 3 % of the time there.

    The expected gain is Amdahl's bound on the time of compilation if half to all of it goes.

    ## Fix
    `TORCH_LOGS=recompiles` names the guard that failed. Lengths that vary: `torch.compile(...,
    dynamic=True)`, `torch._dynamo.mark_dynamic`, or padding to a few lengths. Python numbers that
    change (a step counter kept on the module): make them tensors, or keep them out of the compiled
    function.

    ## Fix safety
    Numerics. A dynamic kernel may round in another order; padding must be masked.

    ## When it is wrong
    A training that goes over all its shapes once and then repeats them stops compiling by itself;
    a longer run then shows a smaller share. Compilations in the warm-up are not counted.

    ## References
    - Recompilation: https://docs.pytorch.org/docs/stable/compile/programming_model.recompilation.html
    - Dynamic shapes: https://docs.pytorch.org/docs/stable/torch.compiler_dynamic_shapes.html
    """

    id = "kern-recompile"
    title = "torch.compile compiles again and again"
    needs = ("compilation.recompiles", "step.compile_share")
    fires_on = (
        Case(
            "a new length every few steps",
            {
                "compilation.recompiles": 6,
                "compilation.mean_s": 0.8,
                "compilation.where": {"file": "train.py", "line": 40},
                "step.compile_share": (0.35, 0.25, 0.45),
            },
            severity="critical",
            gain=(1.2, 1.6),
        ),
    )
    silent_on = (
        Case(
            "compiled once, in the warm-up",
            {"compilation.recompiles": 0, "step.compile_share": (0.0, 0.0, 0.0)},
        ),
        Case(
            "one more variant in a long run, for the short last batch",
            {"compilation.recompiles": 1, "step.compile_share": (0.04, 0.0, 0.09)},
        ),
        Case(
            "a few in hours",
            {"compilation.recompiles": 5, "step.compile_share": (0.004, 0.002, 0.006)},
        ),
    )

    min_recompiles = 2
    """One is the short last batch of an epoch."""
    min_share = 0.03
    """Part of the time (the threshold of any finding)."""
    least_saved = 0.5
    """Part of it that one dynamic variant saves at least; it has to be compiled as well."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Counts the compilations in the steady part, and their share of it."""
        count = needed(signals, "compilation.recompiles")
        share = needed(signals, "step.compile_share")
        if count < self.min_recompiles or share < self.min_share:
            return
        mean_s = number(signals, "compilation.mean_s")
        each = f" of {duration(mean_s)} each" if mean_s else ""
        yield Candidate(
            summary=(
                f"{count:.0f} compilations{each} of code that had been compiled before: "
                f"{percent(share)} of the time after the warm-up."
            ),
            evidence=(
                *observed(signals, "compilation.recompiles", self.min_recompiles),
                *observed(signals, "compilation.mean_s"),
                *observed(signals, "step.compile_share", self.min_share),
            ),
            share=share,
            share_low=low(signals, "step.compile_share"),
            gain=gain(share * self.least_saved, share, 100.0),
            where=place(signals, "compilation.where"),
            fixes=(
                FixAdvice(
                    fix="compile-dynamic",
                    params={"dynamic": True},
                    safety="numerics",
                    text=(
                        "See which guard fails with TORCH_LOGS=recompiles; compile for dynamic "
                        "shapes, or pad to a few lengths."
                    ),
                    code="torch.compile(model, dynamic=True)",
                ),
            ),
            confidence="high",
            next_bottleneck=largest_phase(signals, besides=("compile",)),
        )
