"""loop-logging."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import gain, low, needed, number, observed, percent, place, rate, text
from trainprof.rules.rule import Candidate, Case, Rule


class Logging(Rule):
    """The training thread stops in every step to print, log or draw what nobody reads so often.

    ## What it finds
    Calls of `print`, `logging`, tqdm, TensorBoard, wandb and their like on the training thread that
    take a visible share of the step. It names the channel that costs most, and the line.

    ## Why it costs time
    Logging is ordinary Python on the thread that should feed the model. A scalar costs tens of
    microseconds, a flushed line a system call, a histogram of the weights a pass over all of them
    plus the encoding: with small steps that is as much as the training itself. On an accelerator
    it also reads values back, which makes the host wait for the device.

    ## Evidence needed
    - At least 3 % of the steady step's wall time inside logging calls.
    - How often, and through which channel, as counted by trainprof.

    The interval: its upper end is Amdahl's bound (no logging at all), its lower end assumes that
    half of the time stays. Logging a histogram of every weight in each step made a small network
    2.8 times slower.

    ## Fix
    Log every 50th or 100th step; keep values as tensors and write them together; histograms and
    figures once per epoch. For a progress bar: `tqdm(loader, mininterval=1)`.

    ## Fix safety
    Safe for the training: neither weights nor sample order change. Points of the log are lost for
    good, so fewer of them count as a change of semantics, which has to be asked for; a cheaper call
    (moved, smaller) is safe.

    ## When it is wrong
    Where every value is wanted (a few hundred steps in all, debugging), the time is well spent:
    `# trainprof: ignore[loop-logging]` on the line says so. Rare but expensive calls (a figure
    every 100 steps) are found too; then the advice is to make the call cheaper, not rarer.

    ## References
    - torch.utils.tensorboard: https://docs.pytorch.org/docs/stable/tensorboard.html
    - tqdm, mininterval: https://tqdm.github.io/docs/tqdm/
    - Machine Learning Engineering, "logging can be surprisingly slow":
      https://github.com/stas00/ml-engineering/tree/master/training/performance
    """

    id = "loop-logging"
    title = "Logging holds up the training loop"
    needs = ("logging.share",)
    fires_on = (
        Case(
            "a histogram of every weight in each step",
            {
                "logging.share": (0.64, 0.6, 0.68),
                "logging.calls_per_step": 12.0,
                "logging.channels": {"tensorboard": 0.63, "print": 0.01},
                "logging.where": {"file": "train.py", "line": 55},
            },
            severity="critical",
            gain=(1.5, 3.0),
        ),
        Case(
            "a flushed line per step",
            {
                "logging.share": (0.06, 0.05, 0.07),
                "logging.calls_per_step": 1.0,
                "logging.channels": {"print": 0.06},
            },
            severity="info",
        ),
        Case(
            "a figure every hundredth step",
            {
                "logging.share": (0.15, 0.12, 0.18),
                "logging.calls_per_step": 0.01,
                "logging.channels": {"tensorboard": 0.15},
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "a line every hundredth step",
            {
                "logging.share": (0.002, 0.001, 0.003),
                "logging.calls_per_step": 0.01,
                "logging.channels": {"print": 0.002},
            },
        ),
    )

    min_logging_share = 0.03
    """Share of the step; the same as the engine's gate for a note."""
    remaining_share = 0.5
    """Part of the logging time that may stay after the fix, for the lower end of the gain."""
    rare_calls_per_step = 0.1
    """Below one call in ten steps it is the price of a call, not its frequency."""
    interval_steps = 50
    """The usual logging interval: Lightning's `log_every_n_steps` default."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Reports the logging phase with the channel that fills it."""
        share = needed(signals, "logging.share")
        if share < self.min_logging_share:
            return
        share_low = low(signals, "logging.share") or 0.0
        calls = number(signals, "logging.calls_per_step")
        channel = _costliest(signals)
        often = "" if calls is None else f", {rate(calls)}"
        yield Candidate(
            summary=f"Logging takes {percent(share)} of the step, most of it {channel}{often}."
            if channel
            else f"Logging takes {percent(share)} of the step{often}.",
            evidence=(
                *observed(signals, "logging.share", self.min_logging_share),
                *observed(signals, "logging.calls_per_step"),
            ),
            share=share,
            share_low=share_low,
            gain=gain(share_low * (1 - self.remaining_share), share, float("inf")),
            where=place(signals, "logging.where"),
            fixes=(self._advice(calls),),
            confidence="high",
        )

    def _advice(self, calls_per_step: float | None) -> FixAdvice:
        if calls_per_step is not None and calls_per_step < self.rare_calls_per_step:
            return FixAdvice(
                fix="logging-cheaper",
                params={},
                safety="safe",
                text="Make the call cheaper (fewer points, smaller figures) or move it out of "
                "the training process: it is rare already.",
            )
        return FixAdvice(
            fix="logging-interval",
            params={"every_steps": self.interval_steps},
            safety="semantics",
            text=f"Log every {self.interval_steps}th step, and figures or histograms once an "
            "epoch.",
            code=f"if step % {self.interval_steps} == 0:",
        )


def _costliest(signals: Signals) -> str | None:
    channels = signals.get("logging.channels").value
    if isinstance(channels, Mapping):
        costs = {str(name): cost for name, cost in channels.items() if _is_cost(cost)}
        return max(costs, key=lambda name: costs[name]) if costs else None
    return text(signals, "logging.channels")


def _is_cost(value: object) -> bool:
    return isinstance(value, (int, float)) and value > 0
