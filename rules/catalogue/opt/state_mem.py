"""opt-state-mem."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, percent, place
from trainprof.rules.rule import Candidate, Case, Rule


class StateMem(Rule):
    """The optimizer's state fills memory that is short.

    ## What it finds
    Optimizer state that takes a quarter of the memory or more, while nine tenths of it are in use,
    or while activations are computed twice to save memory.

    ## Why it costs time
    Adam keeps two numbers for each parameter, in single precision as a rule. Memory that they take
    is not there for a larger batch or for activations. States in 8 bits take a quarter of that
    (bitsandbytes, torchao), factored ones (Adafactor) next to nothing. The step itself does not get
    faster: any gain comes from what is done with the room, so none is predicted, and it is a note.

    ## Evidence needed
    - State of at least 25 % of the memory there is.
    - Peak memory of at least 90 % of it, or activation checkpointing in use.

    ## Fix
    An optimizer with 8-bit or factored state; ZeRO or FSDP over several ranks; training fewer
    parameters.

    ## Fix safety
    Semantics: the state is rounded to 256 values in each block, and later updates build on it. A
    tune tries it only with `--allow semantics`.

    ## When it is wrong
    Where batch and step are as large as they should be, memory in use costs nothing.

    ## References
    - Dettmers et al., 8-bit optimizers: https://arxiv.org/abs/2110.02861
    - bitsandbytes: https://github.com/bitsandbytes-foundation/bitsandbytes
    - torchao's low-bit optimizers: https://github.com/pytorch/ao/tree/main/torchao/optim
    - Memory of a training, by part:
      https://github.com/stas00/ml-engineering/blob/master/training/performance/README.md
    """

    id = "opt-state-mem"
    title = "Optimizer state fills the memory"
    needs = ("headroom.state_share", "headroom.peak_share")
    can_warn = False
    fires_on = (
        Case(
            "Adam's state takes 45 % of a full device",
            {"headroom.state_share": 0.45, "headroom.peak_share": 0.94},
            severity="info",
        ),
        Case(
            "checkpointing makes room for it",
            {
                "headroom.state_share": 0.4,
                "headroom.peak_share": 0.7,
                "recompute.calls_per_step": 24.0,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "as much state, with room left",
            {"headroom.state_share": 0.3, "headroom.peak_share": 0.6},
        ),
        Case(
            "full of activations",
            {"headroom.state_share": 0.05, "headroom.peak_share": 0.95},
        ),
    )

    min_state_share = 0.25
    """Of the memory there is (a starting value)."""
    min_peak_share = 0.90
    """From here on memory is short (TraceML warns at 0.92, the Kineto plugin at 0.90)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Much state, and little room."""
        state = needed(signals, "headroom.state_share")
        peak = needed(signals, "headroom.peak_share")
        saves = (number(signals, "recompute.calls_per_step") or 0.0) > 0
        if state < self.min_state_share or not (peak >= self.min_peak_share or saves):
            return
        yield Candidate(
            summary=f"Optimizer state takes {percent(state)} of the memory, "
            f"of which {percent(peak)} is in use at the peak.",
            evidence=(
                *observed(signals, "headroom.state_share", self.min_state_share),
                *observed(signals, "headroom.peak_share", self.min_peak_share),
                *observed(signals, "recompute.calls_per_step"),
                *observed(signals, "optimizer.type"),
            ),
            where=place(signals, "optimizer.where"),
            fixes=(
                FixAdvice(
                    fix="optimizer-8bit",
                    params={},
                    safety="semantics",
                    text="Use an optimizer with 8-bit or factored state, and a larger batch.",
                ),
            ),
            confidence="medium",
            severity="info",
            timeless=True,
        )
