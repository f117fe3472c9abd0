"""prec-denormal."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain, Location
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    COMPUTE_PHASES,
    amdahl,
    high,
    is_on,
    low,
    needed,
    number,
    observed,
    percent,
    summed_share,
    text,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule
from trainprof.rules.source_calls import calls


class Denormal(Rule):
    """Numbers so close to zero that the CPU computes with them in a far slower way.

    ## What it finds
    Subnormal float32 numbers, those below 1.2e-38 but not zero, in parameters, in operands of the
    forward, in gradients or in the optimizer's state of a training on a CPU: squares of tiny
    gradients, weights that decay without gradients, states that fade in a recurrence.

    ## Why it costs time
    The CPU's arithmetic units handle normal numbers; a subnormal one takes a detour of up to some
    hundred cycles, and holds up the whole vector that it is in. Which operators suffer depends on
    the CPU: on many Intel ones products do; on an AMD EPYC (torch 2.13, one thread) products ran at
    full speed, but divisions took 2.2 times as long, GELU 1.7, SiLU 3, `torch.sqrt` 6 times as long
    as on zeros, and an update of Adam or RMSprop whose mean squares are subnormal 4.6 to 5 times.

    ## Evidence needed
    - At least 0.1 % of the elements that were looked at are subnormal, in one kind of tensor.
    - Operators of the training, tried on the very tensors of a step, run at least 1.1 times faster
      while the CPU takes subnormal numbers for zero. The switch belongs to the thread; it is on for
      one operator at a time, whose result is thrown away.
    - What that saves is at least 3 % of the step.

    The expected gain is Amdahl's bound. Its lower end takes what the trial saves: each operator of
    the forward once, and one pass over what the optimizer updates. The backward does up to twice
    the forward's work, and optimizers make several passes: so the upper end takes three times as
    much, but no more of the computing than the ratio that was measured allows. A network trained by
    RMSprop on targets of 1e-9 was predicted 1.8 to 3.6, and became 2.9 times faster.

    ## Fix
    `torch.set_flush_denormal(True)`. It holds for the calling thread, and for threads started from
    it later: so at the top of the script, before the first computation, and in `worker_init_fn` for
    transforms that compute. Better still, remove the cause: targets and losses in units in which
    they are about one, no weight decay on what gets no gradient, a floor under what fades.

    ## Fix safety
    Numerics: numbers below 1.2e-38 become zero. With an optimizer's `eps` far below its default
    (1e-8 in Adam) mean squares of zero make huge updates: change the units instead.

    ## When it is wrong
    Silent where the switch is on already, for parameters on an accelerator (these have no such slow
    way), and where subnormal numbers are there but cost nothing. Only float32 is looked at, in
    parameters, gradients, the state of the optimizers, and what a forward saves for its backward:
    tensors that the loop keeps for itself are not seen. With several threads the trial switches one
    of them, and shows less than there is to gain.

    ## References
    - torch.set_flush_denormal:
      https://docs.pytorch.org/docs/stable/generated/torch.set_flush_denormal.html
    - Training slows down on the CPU as weights become subnormal:
      https://github.com/pytorch/pytorch/issues/19651
    """

    id = "prec-denormal"
    title = "Subnormal numbers slow the CPU down"
    needs = ("denormals.fraction",)
    fires_on = (
        Case(
            "weights decayed until most are subnormal",
            {
                "denormals.fraction": 0.8,
                "denormals.kind": "parameters",
                "denormals.worst": "parameters: body.2.weight",
                "denormals.speedup": 28.0,
                "denormals.forward_share": (0.4, 0.35, 0.45),
                "flags.flush_denormal": False,
                "step.forward_share": (0.5, 0.48, 0.52),
                "step.backward_share": (0.45, 0.43, 0.47),
            },
            severity="critical",
            gain=(1.5, 12.0),
        ),
        Case(
            "the state of a recurrence fades",
            {
                "denormals.fraction": 0.02,
                "denormals.kind": "operands",
                "denormals.worst": "operands: MulBackward0",
                "denormals.speedup": 3.0,
                "denormals.forward_share": (0.15, 0.12, 0.18),
                "step.forward_share": (0.4, 0.38, 0.42),
                "step.backward_share": (0.5, 0.48, 0.52),
            },
            severity="warn",
            gain=(1.13, 2.0),
        ),
    )
    silent_on = (
        Case(
            "a few subnormal gradients that cost nothing",
            {
                "denormals.fraction": 0.004,
                "denormals.kind": "gradients",
                "denormals.speedup": 1.3,
                "denormals.forward_share": (0.002, 0.001, 0.003),
                "step.forward_share": (0.4, 0.38, 0.42),
                "step.backward_share": (0.5, 0.48, 0.52),
            },
        ),
        Case(
            "many, on a CPU that does not mind",
            {
                "denormals.fraction": 0.6,
                "denormals.speedup": 1.0,
                "denormals.forward_share": (0.0, 0.0, 0.0),
                "step.forward_share": (0.4, 0.38, 0.42),
            },
        ),
        Case(
            "one in ten thousand",
            {
                "denormals.fraction": 0.0001,
                "denormals.speedup": 2.0,
                "denormals.forward_share": (0.1, 0.08, 0.12),
                "step.forward_share": (0.4, 0.38, 0.42),
            },
        ),
        Case(
            "the switch is on by now",
            {
                "denormals.fraction": 0.8,
                "denormals.speedup": 28.0,
                "denormals.forward_share": (0.4, 0.35, 0.45),
                "flags.flush_denormal": True,
                "step.forward_share": (0.4, 0.38, 0.42),
            },
        ),
        Case(
            "trained on an accelerator",
            {
                "denormals.fraction": 0.8,
                "denormals.speedup": 28.0,
                "denormals.forward_share": (0.4, 0.35, 0.45),
                "model.devices": {"cuda:0": 1_000},
                "step.forward_share": (0.4, 0.38, 0.42),
            },
        ),
    )

    min_fraction = 0.001
    """Of the elements of a kind; fewer are a tail that every training has (a starting value)."""
    min_speedup = 1.1
    """As they are over flushed; less is within the noise of such a trial."""
    most_of_trial = 3.0
    """What may be saved, over what the trial shows: a backward takes up to twice its forward, and
    an optimizer makes several passes."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares number, ratio and cost with the thresholds; the engine judges the share."""
        fraction = needed(signals, "denormals.fraction")
        speedup = number(signals, "denormals.speedup") or 1.0
        if fraction < self.min_fraction or speedup < self.min_speedup:
            return
        compute = summed_share(signals, COMPUTE_PHASES)
        flushed = is_on(signals, "flags.flush_denormal")
        if compute is None or flushed or not trains_on_cpu(signals):
            return
        shares = ("denormals.forward_share", "denormals.update_share")
        least = min(sum(low(signals, name) or 0.0 for name in shares), 1.0)
        most = self.most_of_trial * sum(high(signals, name) or 0.0 for name in shares)
        most = min(most, compute[0] * (1 - 1 / speedup))
        gain = Gain(amdahl(least), amdahl(max(most, least)))
        kind = text(signals, "denormals.kind") or "elements"
        yield Candidate(
            summary=(
                f"{percent(fraction)} of the {kind} looked at are subnormal; operators on such "
                f"tensors run {speedup:.3g} times faster once the CPU takes them for zero."
            ),
            evidence=(
                *observed(signals, "denormals.fraction", self.min_fraction),
                *observed(signals, "denormals.worst"),
                *observed(signals, "denormals.speedup", self.min_speedup),
                *observed(signals, "denormals.forward_share"),
                *observed(signals, "denormals.update_share"),
                *observed(signals, "step.forward_share"),
                *observed(signals, "step.backward_share"),
            ),
            share=1 - 1 / gain.middle,
            share_low=least,
            gain=gain,
            where=self._where(signals),
            fixes=(self._advice(number(signals, "loader.num_workers") or 0.0),),
            confidence="high",
        )

    @staticmethod
    def _where(signals: Signals) -> Location | None:
        """A call of the switch that has not switched it on in the training thread."""
        places = [call.where for call in calls(signals, "torch.set_flush_denormal")]
        return places[0] if len(places) == 1 else None

    @staticmethod
    def _advice(workers: float) -> FixAdvice:
        beside = " and in worker_init_fn" if workers else ""
        return FixAdvice(
            fix="flush-denormal",
            params={"flush_denormal": True},
            safety="numerics",
            text=(
                "Have the CPU take subnormal numbers for zero: at the top of the script, before "
                f"the first computation, as threads take it over when they start{beside}. Or keep "
                "numbers from getting so small: other units, no decay of what gets no gradient."
            ),
            code="torch.set_flush_denormal(True)",
        )
