"""loop-sync-item."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, place, rate, text
from trainprof.rules.rule import Candidate, Case, Rule


class SyncItem(Rule):
    """The host waits for the device again and again, and the device is idle after each wait.

    ## What it finds
    In a trace: calls in which the host waits until the device has finished (`.item()`, `.cpu()`,
    `nonzero`, a tensor in an `if`, `torch.cuda.synchronize()`), after which the device has nothing
    to do because the next work is launched only then.

    ## Why it costs time
    A host that runs ahead keeps a queue of work before the device. When it waits until the queue
    is empty, the device stands still until the next launch arrives, and with short kernels again at
    each launch until the host is ahead again.

    The wait itself costs nothing: most of the time in `.item()` is the device's own work, which
    takes as long wherever the host stands meanwhile. So only idle time of the device counts, never
    more than the host was blocked, and nothing of it in which the host waited for a batch.

    ## Evidence needed
    - The trace says which call launched what.
    - At least one wait in two steps (of the last one a trace does not tell what follows) after
      which the device was idle until a launch that came too late.
    - Idle time of at least 3 % of the window between these waits and the next ones.

    The expected gain is Amdahl's bound: at the lower end on the idle time before the first launch
    after each wait, at the upper end on that before all launches until the next wait.

    ## Fix
    Keep sums and metrics on the device and read them every 50 steps or so; `torch.where` and masks
    in place of `if` and `nonzero`; copy with `non_blocking=True` into page-locked memory and read
    later; no `torch.cuda.synchronize()` outside of measurements.

    ## Fix safety
    Safe where a value is only logged, and is read later. A loop that decides by it (early stopping,
    a skipped step) decides later.

    ## When it is wrong
    A profiler that records stacks slows the host down and makes what follows a wait longer. Waits
    of a library that measures alternatives (cuDNN's benchmark) end after the first steps.

    ## References
    - Tuning guide, "Avoid unnecessary CPU-GPU synchronization":
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - torch.cuda.set_sync_debug_mode:
      https://docs.pytorch.org/docs/stable/generated/torch.cuda.set_sync_debug_mode.html
    """

    id = "loop-sync-item"
    title = "The host waits for the device in each step"
    what_if = "fewer-synchronisations"
    needs = ("synchronisations.behind_share", "synchronisations.costly", "timeline.window")
    fires_on = (
        Case(
            "the loss is read in each step, of a model with short kernels",
            {
                "synchronisations.costly": 12,
                "synchronisations.costly_per_step": 2.0,
                "synchronisations.cost_share": 0.11,
                "synchronisations.behind_share": 0.16,
                "synchronisations.wait_share": 0.4,
                "synchronisations.operator": "aten::item",
                "synchronisations.operator_count": 12,
                "synchronisations.where": {"file": "train.py", "line": 12, "function": "train"},
                "timeline.window": "6 whole steps",
            },
            severity="warn",
            gain=(1.1, 1.2),
        ),
        Case(
            "idle time is mostly that of later launches",
            {
                "synchronisations.costly": 6,
                "synchronisations.costly_per_step": 1.0,
                "synchronisations.cost_share": 0.01,
                "synchronisations.behind_share": 0.12,
                "synchronisations.operator": "aten::_local_scalar_dense",
                "synchronisations.operator_count": 6,
                "timeline.window": "6 whole steps",
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "half of the time in .item(), and a device that works all the time",
            {
                "synchronisations.costly": 6,
                "synchronisations.costly_per_step": 1.0,
                "synchronisations.wait_share": 0.5,
                "synchronisations.cost_share": 0.004,
                "synchronisations.behind_share": 0.01,
                "synchronisations.operator": "aten::item",
                "timeline.window": "6 whole steps",
            },
        ),
        Case(
            "one long wait in 50 steps",
            {
                "synchronisations.costly": 1,
                "synchronisations.costly_per_step": 0.02,
                "synchronisations.cost_share": 0.04,
                "synchronisations.behind_share": 0.05,
                "timeline.window": "50 whole steps",
            },
        ),
    )

    min_share = 0.03
    """Of the window (the threshold of any finding)."""
    min_per_step = 0.5
    """Waits; fewer are somebody's logging now and then."""
    min_count = 2
    """Where the trace marks no steps."""

    def applies(self, signals: Signals) -> bool:
        """There is a trace of a device."""
        window = signals.get("timeline.window").value
        return window is not None and signals.get("timeline.devices").value != 0

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at idle time that follows waits."""
        behind = needed(signals, "synchronisations.behind_share")
        count = needed(signals, "synchronisations.costly")
        per_step = number(signals, "synchronisations.costly_per_step")
        often = count >= self.min_count if per_step is None else per_step >= self.min_per_step
        if behind < self.min_share or not often:
            return
        cost = min(number(signals, "synchronisations.cost_share") or 0.0, behind)
        operator = text(signals, "synchronisations.operator") or "a call"
        where = place(signals, "synchronisations.where")
        inside = f" in {where.function}" if where is not None and where.function else ""
        many = f"{count:.0f} times" if per_step is None else rate(per_step, "time")
        yield Candidate(
            summary=(
                f"In {percent(behind)} of {text(signals, 'timeline.window')} the device was idle "
                f"because the host had waited for it, {many}, mostly with {operator}{inside}."
            ),
            evidence=(
                *observed(signals, "synchronisations.behind_share", self.min_share),
                *observed(signals, "synchronisations.cost_share"),
                *observed(signals, "synchronisations.costly_per_step", self.min_per_step),
                *observed(signals, "synchronisations.operator"),
                *observed(signals, "synchronisations.operator_count"),
                *observed(signals, "synchronisations.wait_share"),
            ),
            share=behind,
            gain=Gain(amdahl(cost), amdahl(behind)),
            where=where,
            fixes=(
                FixAdvice(
                    fix="fewer-synchronisations",
                    params={},
                    safety="safe",
                    text="Keep losses and metrics on the device, and read them every 50 steps.",
                    code="total += loss.detach()  # and total.item() when it is logged",
                ),
            ),
            confidence="medium",
            max_severity="critical" if cost >= self.min_share else "info",
        )
