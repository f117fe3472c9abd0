"""kern-late-compile."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, plural, text
from trainprof.rules.rule import Candidate, Case, Rule


class LateCompile(Rule):
    """Code is compiled or loaded in the traced steps, and nothing is computed meanwhile.

    ## What it finds
    In a trace: torch.compile at work (dynamo, inductor, Triton), or the driver loading or
    translating kernels that are called for the first time. `kern-recompile` finds recompilations in
    a run.

    ## Why it costs time
    The thread that trains compiles itself. Until it is done no work is launched.

    ## Evidence needed
    - At least 3 % of the window in which the device was idle while code was compiled or loaded; of
      a training on the CPU, in which the host did so.

    The expected gain is Amdahl's bound on that share, half of it at the lower end: shapes that are
    compiled once do not come back.

    ## Fix
    `TORCH_LOGS=recompiles` names the guard that failed. Lengths that vary: `torch.compile(...,
    dynamic=True)`, `torch._dynamo.mark_dynamic`, or padding to a few lengths. For kernels loaded
    late: a few steps of warm-up with every shape; `CUDA_MODULE_LOADING=EAGER` moves it to the
    start.

    ## Fix safety
    Numerics. A dynamic kernel may round in another order; padding must be masked.

    ## When it is wrong
    The traced steps are the first ones, of which this is expected: record later ones
    (`schedule(wait=..., warmup=...)`). Recompilations are told apart where torch numbers them.

    ## References
    - Recompilation: https://docs.pytorch.org/docs/stable/compile/programming_model.recompilation.html
    - Lazy loading: https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#lazy-loading
    """

    id = "kern-late-compile"
    title = "Code is compiled while the training runs"
    needs = ("compiling.cost_share", "timeline.window")
    fires_on = (
        Case(
            "two recompilations in four steps",
            {
                "compiling.cost_share": 0.4,
                "compiling.frames": 2,
                "compiling.recompiled": 2,
                "compiling.loads": 0,
                "timeline.window": "4 whole steps",
            },
            severity="critical",
            gain=(1.2, 1.7),
        ),
        Case(
            "kernels loaded when they are first called",
            {
                "compiling.cost_share": 0.12,
                "compiling.frames": 0,
                "compiling.loads": 30,
                "timeline.window": "one whole step",
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "one module loaded",
            {
                "compiling.cost_share": 0.01,
                "compiling.frames": 0,
                "compiling.loads": 1,
                "timeline.window": "4 whole steps",
            },
        ),
    )

    min_share = 0.03
    """Of the window (the threshold of any finding)."""
    least_saved = 0.5
    """Part of it, for the lower end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """Something was compiled or loaded in a trace."""
        return bool(number(signals, "compiling.cost_share"))

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the time that went into compiling."""
        share = needed(signals, "compiling.cost_share")
        if share < self.min_share:
            return
        frames = int(number(signals, "compiling.frames") or 0)
        again = int(number(signals, "compiling.recompiled") or 0)
        loads = int(number(signals, "compiling.loads") or 0)
        what = [
            f"{plural(frames, 'function')} compiled" if frames else "",
            f"{again} of them again" if frames and again else "",
            f"{plural(loads, 'module')} loaded" if loads else "",
        ]
        listed = ", ".join(one for one in what if one)
        yield Candidate(
            summary=(
                f"{percent(share)} of {text(signals, 'timeline.window')} went into code that was "
                f"compiled or loaded meanwhile{f' ({listed})' if listed else ''}."
            ),
            evidence=(
                *observed(signals, "compiling.cost_share", self.min_share),
                *observed(signals, "compiling.host_share"),
                *observed(signals, "compiling.frames"),
                *observed(signals, "compiling.recompiled"),
                *observed(signals, "compiling.loads"),
                *observed(signals, "compiling.longest"),
            ),
            share=share,
            gain=Gain(amdahl(share * self.least_saved), amdahl(share)),
            fixes=(
                FixAdvice(
                    fix="compile-dynamic",
                    params={"dynamic": True},
                    safety="numerics",
                    text="See which guard fails with TORCH_LOGS=recompiles; compile for dynamic "
                    "shapes, or pad to a few lengths.",
                    code="torch.compile(model, dynamic=True)",
                ),
            )
            if frames
            else (),
            confidence="medium",
        )
