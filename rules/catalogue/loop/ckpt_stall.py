"""loop-ckpt-stall."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    duration,
    low,
    needed,
    number,
    observed,
    percent,
    place,
    size,
)
from trainprof.rules.rule import Candidate, Case, Rule


class CkptStall(Rule):
    """Training stands still while checkpoints are written.

    ## What it finds
    `torch.save`, `save_pretrained`, safetensors and the like on the training thread, so often or so
    slow that the saves take a visible share of the run.

    ## Why it costs time
    A save serialises every tensor and writes it before the next step may begin: for Adam three
    times the model's bytes. Nothing else happens meanwhile; on an accelerator the device idles.

    ## Evidence needed
    - Two saves or more in different steps, so that the interval between them is known; the one at
      the end of a short run says nothing about a long one.
    - At least 3 % of the time between two saves is spent saving.

    The interval of the gain: saving in the background still copies the tensors once, and the
    smallest saving reported for that is 40 % of the save (Orbax, 300M parameters; 97 % at 340B).
    The upper end is Amdahl's bound, reached by saving rarely. A save in each step instead of every
    50th made a small network 3.1 times slower.

    ## Fix
    Save less often, and keep the last few only. How often is a trade: with a save of s seconds and
    one failure in M seconds, an interval of sqrt(2 s M) loses the least (Young 1974). Or hand a
    copy to the background: `torch.distributed.checkpoint.async_save`, or a thread that writes a
    CPU copy of the state dict.

    ## Fix safety
    Saving in the background is safe if the copy is complete before the next optimizer step; it
    needs memory for one more checkpoint. Saving less often changes no weight either, but a crash
    costs more steps. Whether that is acceptable is for you to say, so it counts as semantics.

    ## When it is wrong
    A machine that is taken away at short notice (spot instances) justifies frequent saves. Network
    file systems vary: a slow minute is no rule. A short test run that saves as often as the long
    one will do over a much longer time is over-stated.

    ## References
    - Asynchronous saving with torch.distributed.checkpoint:
      https://docs.pytorch.org/tutorials/recipes/distributed_async_checkpoint_recipe.html
    - Orbax, asynchronous checkpointing: https://orbax.readthedocs.io/
    - J. W. Young, A first order approximation to the optimum checkpoint interval, CACM 17(9), 1974
    - J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart dumps,
      FGCS 22(3), 2006
    """

    id = "loop-ckpt-stall"
    title = "Checkpoints stop the training"
    needs = ("checkpoint.share", "checkpoint.count")
    fires_on = (
        Case(
            "a save in each step",
            {
                "checkpoint.share": (0.68, 0.63, 0.72),
                "checkpoint.count": 300,
                "checkpoint.mean_s": 0.004,
                "checkpoint.bytes": 1_200_000,
                "checkpoint.interval_steps": 1.0,
                "checkpoint.where": {"file": "train.py", "line": 61},
                "step.mean_s": 0.0059,
            },
            severity="critical",
            gain=(1.5, 3.4),
        ),
        Case(
            "a save every 50th step that costs a twentieth of the time",
            {
                "checkpoint.share": (0.05, 0.04, 0.06),
                "checkpoint.count": 6,
                "checkpoint.mean_s": 0.5,
                "checkpoint.interval_steps": 50.0,
                "step.mean_s": 0.2,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "one save at the end of a short run",
            {"checkpoint.share": 0.3, "checkpoint.count": 1, "checkpoint.mean_s": 1.0},
        ),
        Case(
            "a save per epoch that costs less than a hundredth",
            {
                "checkpoint.share": (0.008, 0.006, 0.01),
                "checkpoint.count": 5,
                "checkpoint.mean_s": 0.2,
            },
        ),
        Case(
            "model and optimizer saved once, one after the other",
            {"checkpoint.share": 0.3, "checkpoint.count": 2, "checkpoint.mean_s": 1.0},
        ),
        Case("never saves", {"checkpoint.share": 0.0, "checkpoint.count": 0}),
    )

    min_checkpoint_share = 0.03
    """Share of the time; the same as the engine's gate for a note."""
    min_saves = 2
    """An interval needs two ends."""
    background_saving = 0.40
    """Least part of a save that going to the background removed (Orbax, 300M parameters)."""
    target_share = 0.01
    """Share of the time that the advised interval leaves to saving (a starting value)."""
    time_between_failures_s = 86_400.0
    """One failure a day, for Young's interval (a starting value; a single machine fails less)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Reports saves whose interval is known."""
        share = needed(signals, "checkpoint.share")
        saves = needed(signals, "checkpoint.count")
        steps = number(signals, "checkpoint.interval_steps")
        if share < self.min_checkpoint_share or saves < self.min_saves or not steps:
            return
        share_low = low(signals, "checkpoint.share") or 0.0
        yield Candidate(
            summary=self._summary(signals, share, steps),
            evidence=(
                *observed(signals, "checkpoint.share", self.min_checkpoint_share),
                *observed(signals, "checkpoint.count", self.min_saves),
                *observed(signals, "checkpoint.mean_s"),
                *observed(signals, "checkpoint.bytes"),
                *observed(signals, "checkpoint.interval_steps"),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(amdahl(share_low * self.background_saving), amdahl(share)),
            where=place(signals, "checkpoint.where"),
            fixes=(self._rarer(signals, share, steps), self._background()),
            confidence="high",
        )

    @staticmethod
    def _summary(signals: Signals, share: float, steps: float) -> str:
        mean_s = number(signals, "checkpoint.mean_s")
        bytes_ = number(signals, "checkpoint.bytes")
        often = f" every {steps:.3g} steps" if steps >= 1.5 else " in each step"
        each = [duration(mean_s)] if mean_s is not None else []
        each += [size(bytes_)] if bytes_ else []
        what = f" ({', '.join(each)})" if each else ""
        return f"A save{what}{often} takes {percent(share)} of the training's time."

    def _rarer(self, signals: Signals, share: float, steps: float) -> FixAdvice:
        """An interval at which saving takes `target_share` of the time."""
        saving = min(share, 0.99) / (1 - min(share, 0.99))
        every = _round_up(steps * saving * (1 - self.target_share) / self.target_share)
        text = (
            f"Save every {every:,} steps, which leaves {percent(self.target_share)} of the time to "
            "it, and keep the last few checkpoints only."
        )
        mean_s = number(signals, "checkpoint.mean_s")
        if mean_s:
            best_s = math.sqrt(2 * mean_s * self.time_between_failures_s)
            text += f" With one failure a day, {duration(best_s)} between saves loses the least."
        return FixAdvice(
            fix="checkpoint-interval",
            params={"every_steps": every},
            safety="semantics",
            text=text,
            code=f"if step % {every} == 0:",
        )

    @staticmethod
    def _background() -> FixAdvice:
        return FixAdvice(
            fix="checkpoint-background",
            params={},
            safety="safe",
            text="Copy the state dict to host memory and write it in the background, for example "
            "with torch.distributed.checkpoint.async_save.",
        )


def _round_up(steps: float) -> int:
    """To two significant digits, so that the advice reads like one a person would give."""
    digits = max(0, math.floor(math.log10(max(steps, 1.0))) - 1)
    scale = int(10.0**digits)
    return math.ceil(steps / scale) * scale
