"""opt-unfused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    gain,
    low,
    needed,
    number,
    observed,
    percent,
    place,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Unfused(Rule):
    """The optimizer updates one tensor after another, several small operations for each.

    ## What it finds
    An optimizer of `torch.optim` whose step runs the for-loop implementation (or, on an
    accelerator, the foreach implementation) although torch ships a fused one for it, in a training
    that spends a visible part of each step there.

    ## Why it costs time
    Adam in its for-loop form launches about ten operations for every parameter tensor, and each of
    them walks the whole tensor once. With many small tensors the time goes into launching
    operations; with large ones into reading and writing memory ten times instead of once. The
    fused form does the whole update in one pass. Torch picks foreach by default on accelerators
    only, so **every optimizer left at its defaults runs the for-loop on a CPU**.

    ## Evidence needed
    - The optimizer phase takes at least 5 % of the steady step.
    - The implementation that really runs (the groups' `fused` and `foreach` flags and torch's own
      default) is for-loop on a CPU, or foreach on an accelerator.
    - Torch has a fused implementation for this class and these tensors.

    In a trace, the optimizer costs the kernels that it launched and the time in which the device
    ran dry while the host was in it; its operators tell the form.

    The expected gain is Amdahl's bound on the optimizer phase. Fused against for-loop on a CPU
    (torch 2.13, one thread, step() alone): AdamW 3.0 to 9.3 times faster, Adam 1.9 to 8.4,
    Adagrad 1.5 to 6.0, SGD with momentum 1.5 to 4.5, from 10 tensors of 100 values to two of
    8 million; plain SGD 0.7 to 2.1, which is why it must have many tensors to be reported. Clipping
    and `zero_grad()` belong to the same phase and gain nothing, so the interval starts at 2.

    ## Fix
    `optim.AdamW(model.parameters(), lr=..., fused=True)`. It also works on a live optimizer:
    `for group in optimizer.param_groups: group["fused"], group["foreach"] = True, False`.

    ## Fix safety
    Numerics. The same algorithm with another order of rounding: losses of a small network differed
    by 4e-7 relative after 30 steps. State dicts stay interchangeable.

    ## When it is wrong
    Silent for optimizers that are not torch's own, for LBFGS and others without a fused form, for
    `differentiable=True`, sparse gradients and parameters on several devices: torch refuses fused
    there. On an accelerator the gain over foreach is small (1.6 to 3.6 % of the step, 2.6 % on
    average, when torchtitan changed over), so there it is never more than a note. Plain SGD on few
    large tensors moves as many bytes in one form as in the other, so it is not reported.

    ## References
    - torch.optim, "for-loop, foreach and fused implementations":
      https://docs.pytorch.org/docs/stable/optim.html
    - PyTorch performance tuning guide:
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - torchtitan, fused AdamW by default: https://github.com/pytorch/torchtitan/pull/881
    """

    id = "opt-unfused"
    title = "Optimizer runs tensor by tensor"
    needs = ("step.optimizer_share", "optimizer.implementation", "optimizer.fused_supported")
    on_traces = True
    fires_on = (
        Case(
            "default Adam over 200 small tensors takes 60 % of a CPU step",
            {
                "step.optimizer_share": (0.6, 0.57, 0.63),
                "optimizer.implementation": "forloop",
                "optimizer.fused_supported": True,
                "optimizer.type": "Adam",
                "optimizer.tensor_count": 200,
                "optimizer.parameter_count": 20_200,
                "optimizer.where": {"file": "train.py", "line": 31},
            },
            severity="critical",
            gain=(1.5, 2.1),
        ),
        Case(
            "default AdamW takes a tenth of a CPU step",
            {
                "step.optimizer_share": (0.1, 0.09, 0.11),
                "optimizer.implementation": "forloop",
                "optimizer.fused_supported": True,
                "optimizer.type": "AdamW",
                "optimizer.tensor_count": 8,
                "optimizer.parameter_count": 400_000,
            },
            severity="info",
            gain=(1.03, 1.12),
        ),
        Case(
            "foreach on an accelerator",
            {
                "step.optimizer_share": (0.12, 0.11, 0.13),
                "optimizer.implementation": "foreach",
                "optimizer.fused_supported": True,
                "optimizer.type": "AdamW",
                "optimizer.tensor_count": 300,
                "optimizer.parameter_count": 8_000_000,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "already fused",
            {
                "step.optimizer_share": (0.4, 0.38, 0.42),
                "optimizer.implementation": "fused",
                "optimizer.fused_supported": True,
            },
        ),
        Case(
            "an optimizer that torch cannot fuse (LBFGS, sparse gradients, a class of one's own)",
            {
                "step.optimizer_share": (0.4, 0.38, 0.42),
                "optimizer.implementation": "forloop",
                "optimizer.fused_supported": False,
            },
        ),
        Case(
            "for-loop, but 2 % of the step",
            {
                "step.optimizer_share": (0.02, 0.018, 0.022),
                "optimizer.implementation": "forloop",
                "optimizer.fused_supported": True,
            },
        ),
        Case(
            "plain SGD on a few large tensors",
            {
                "step.optimizer_share": (0.3, 0.28, 0.32),
                "optimizer.implementation": "forloop",
                "optimizer.fused_supported": True,
                "optimizer.type": "SGD",
                "optimizer.momentum": 0.0,
                "optimizer.tensor_count": 8,
                "optimizer.parameter_count": 8_000_000,
            },
        ),
    )

    min_optimizer_share = 0.05
    """Below it even an update for nothing gains less than 5 % (a starting value)."""
    phase_speedup_low, phase_speedup_high = 2.0, 6.0
    """Fused against for-loop on the phase, zero_grad() and clipping included (measured, above)."""
    plain_sgd_speedup_high = 2.0
    """The most that plain SGD gained, with 200 tensors of 100 to 4,000 values (measured)."""
    small_tensor_elements = 10_000
    """Plain SGD gained from fusing below this size and lost above (measured)."""
    accelerator_gain_high = 1.036
    """Best of the configurations reported when torchtitan went from foreach to fused."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the implementation that runs with the fused one."""
        share = needed(signals, "step.optimizer_share")
        implementation = text(signals, "optimizer.implementation")
        if share < self.min_optimizer_share or implementation not in ("forloop", "foreach"):
            return
        if signals.get("optimizer.fused_supported").value is not True:
            return
        speedup = self._phase_speedup(signals)
        if speedup is None:
            return
        share_low = low(signals, "step.optimizer_share") or 0.0
        typical = (speedup[0] * speedup[1]) ** 0.5
        predicted = gain(share_low, share, *speedup)
        if implementation == "foreach":
            predicted = Gain(1.0, min(self.accelerator_gain_high, amdahl(share)))
        kind = (text(signals, "optimizer.type") or "").rpartition(".")[2]
        yield Candidate(
            summary=self._summary(signals, kind, implementation, share),
            evidence=(
                *observed(signals, "step.optimizer_share", self.min_optimizer_share),
                *observed(signals, "optimizer.implementation", "fused"),
                *observed(signals, "optimizer.type"),
                *observed(signals, "optimizer.tensor_count"),
                *observed(signals, "optimizer.parameter_count"),
            ),
            share=share * (1 - 1 / typical),
            share_low=share_low * (1 - 1 / speedup[0]),
            gain=predicted,
            where=place(signals, "optimizer.where"),
            fixes=(self._advice(kind), *self._others(signals)),
            confidence="medium",
            max_severity="info" if implementation == "foreach" else "critical",
        )

    def _phase_speedup(self, signals: Signals) -> tuple[float, float] | None:
        """How much faster the phase may become, None where fusing would not pay."""
        plain_sgd = (text(signals, "optimizer.type") or "").rpartition(".")[2] == "SGD" and number(
            signals, "optimizer.momentum"
        ) == 0.0
        if not plain_sgd:
            return self.phase_speedup_low, self.phase_speedup_high
        tensors = number(signals, "optimizer.tensor_count")
        parameters = number(signals, "optimizer.parameter_count")
        if not tensors or parameters is None or parameters / tensors > self.small_tensor_elements:
            return None
        return 1.2, self.plain_sgd_speedup_high

    @staticmethod
    def _summary(signals: Signals, kind: str, implementation: str, share: float) -> str:
        tensors = number(signals, "optimizer.tensor_count")
        how = "one at a time" if implementation == "forloop" else "in several passes"
        many = f" {tensors:,.0f} parameter tensors" if tensors else " the parameters"
        window = text(signals, "timeline.window") or "the step"
        return (
            f"{kind or 'The optimizer'} updates{many} {how} and takes {percent(share)} of {window}."
        )

    @staticmethod
    def _others(signals: Signals) -> Iterator[FixAdvice]:
        """The same for each further optimizer of the training."""
        places = signals.get("optimizer.unfused_places").value
        for where in places if isinstance(places, tuple) else ():
            if where != place(signals, "optimizer.where"):
                yield FixAdvice(
                    fix="optimizer-fused",
                    params={"fused": True},
                    safety="numerics",
                    text=f"The same for the optimizer in {PurePath(where.file).name}:{where.line}.",
                    where=where,
                )

    @staticmethod
    def _advice(kind: str) -> FixAdvice:
        return FixAdvice(
            fix="optimizer-fused",
            params={"fused": True},
            safety="numerics",
            text="Pass fused=True to the optimizer; the update then runs in one pass.",
            code=f"{kind}(…, fused=True)" if kind else None,
        )
