"""data-device-starved."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import HANDOVER_S
from trainprof.rules.reading import amdahl, number, observed, percent, place, text
from trainprof.rules.row_advice import BY_INDEX
from trainprof.rules.rule import Candidate, Case, Rule

SINGLE = "_SingleProcessDataLoaderIter"


class DeviceStarved(Rule):
    """The device has nothing to do because the host waits for a batch.

    ## What it finds
    In a trace: times in which the device runs nothing while the host stands in the iterator of
    torch's `DataLoader`. Where the training runs on the CPU, the thread that trains is the device.

    ## Why it costs time
    Work is queued on a device by the host. A host that waits for its next batch queues nothing, and
    once the queue has run dry the device stands still. The wait itself costs nothing as long as the
    queue lasts: only the part in which the device is idle counts.

    ## Evidence needed
    - The trace marks waits for batches on the host, and work of a device; or it is of a machine
      without one.
    - In at least 5 % of the window (the whole steps, where the trace marks any) the device was idle
      and the host waited.

    The expected gain is that of a replay of the trace without the waits; at the lower end the
    training itself is slower, as workers take cores and memory bandwidth. Two trainings traced
    before and after they got four workers became 1.25 and 1.21 times faster; predicted were 1.34 to
    1.50 and 1.10 to 1.25. Where nothing can be replayed it is Amdahl's bound on the share, and half
    of it at the lower end.

    ## Fix
    Let workers prepare batches: `DataLoader(..., num_workers=4, persistent_workers=True)`, more of
    them where there are some. `trainprof run` measures how many help.

    A batch that the training process prepares in less than a millisecond is no work for workers:
    handing one over takes them 0.5 to 1 ms. There the advice is to index whole batches.

    ## Fix safety
    Numerics. Workers draw other random numbers for augmentation.

    ## When it is wrong
    A profiler that records stacks slows the host down and makes waits longer than they are.

    ## References
    - XProf, input-pipeline analysis: https://openxla.org/xprof/input_pipeline_analyzer
    - PyTorch performance tuning guide:
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    """

    id = "data-device-starved"
    title = "The device waits for batches"
    needs = ("timeline.window", "timeline.data_wait_share")
    what_if = "no-data-wait"
    yields_to = ("data-",)
    fires_on = (
        Case(
            "one process prepares all batches",
            {
                "timeline.idle_data_wait_share": 0.34,
                "timeline.data_wait_share": 0.396,
                "timeline.window": "6 whole steps",
                "timeline.loader": SINGLE,
            },
            severity="critical",
            gain=(1.2, 1.5),
        ),
        Case(
            "a training on the CPU whose thread waits",
            {
                "training_thread.on_cpu": True,
                "training_thread.data_wait_share": 0.6,
                "timeline.data_wait_share": 0.6,
                "timeline.window": "6 whole steps",
                "timeline.loader": SINGLE,
            },
            severity="critical",
        ),
        Case(
            "batches that are ready sooner than a worker could hand them over",
            {
                "training_thread.on_cpu": True,
                "training_thread.data_wait_share": 0.42,
                "timeline.data_wait_share": 0.42,
                "timeline.window": "4 whole steps",
                "timeline.loader": SINGLE,
                "step.mean_s": 763e-6,
            },
            severity="critical",
            gain=(1.1, 1.5),
        ),
        Case(
            "workers that are too few",
            {
                "timeline.idle_data_wait_share": 0.12,
                "timeline.data_wait_share": 0.2,
                "timeline.window": "6 whole steps",
                "timeline.loader": "_MultiProcessingDataLoaderIter",
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "the wait is hidden behind queued work",
            {
                "timeline.idle_data_wait_share": 0.01,
                "timeline.data_wait_share": 0.3,
                "timeline.window": "6 whole steps",
            },
        ),
        Case(
            "a device that was not recorded may be busy meanwhile",
            {
                "training_thread.on_cpu": False,
                "training_thread.data_wait_share": 0.6,
                "timeline.data_wait_share": 0.6,
                "timeline.window": "6 whole steps",
            },
        ),
    )

    min_share = 0.05
    """Of the window (XProf calls a step input-bound from 5 %)."""
    workers = 4
    """To begin with: a trace does not say how many cores there are (a starting value)."""
    least_saved = 0.5
    """Part of it, for the lower end of the gain (a starting value, see the page)."""

    def applies(self, signals: Signals) -> bool:
        """There is a trace."""
        return signals.get("timeline.window").value is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the idle time that is charged to waits for batches."""
        on_cpu = signals.get("training_thread.on_cpu").value is True
        waited = "training_thread.data_wait_share" if on_cpu else "timeline.idle_data_wait_share"
        share = number(signals, waited)
        if share is None or share < self.min_share:
            return
        window = text(signals, "timeline.window")
        single = text(signals, "timeline.loader") == SINGLE
        step_s = number(signals, "step.mean_s")
        quick = single and step_s is not None and share * step_s < HANDOVER_S
        who = ", which the training process prepares itself" if single else ""
        workers = "Let workers prepare batches" if single else "Let more workers prepare batches"
        yield Candidate(
            summary=(
                f"In {percent(share)} of {window} the training waited for a batch{who}."
                if on_cpu
                else f"In {percent(share)} of {window} the device had nothing to do while the host "
                f"waited for a batch{who}."
            ),
            evidence=(
                *observed(signals, waited, self.min_share, "XProf"),
                *observed(signals, "timeline.data_wait_share"),
                *observed(signals, "timeline.loader"),
                *observed(signals, "timeline.longest_gap_s"),
                *observed(signals, "frames.data_wait_share"),
            ),
            share=share,
            where=place(signals, "frames.data_wait_where"),
            gain=Gain(1.0 if quick else amdahl(share * self.least_saved), amdahl(share)),
            fixes=(BY_INDEX if quick else self._workers(workers),),
            confidence="medium",
        )

    def _workers(self, workers: str) -> FixAdvice:
        return FixAdvice(
            fix="loader-workers",
            params={"num_workers": self.workers, "persistent_workers": True},
            safety="numerics",
            text=f"{workers}, and keep them from epoch to epoch.",
            code=f"DataLoader(…, num_workers={self.workers}, persistent_workers=True)",
        )
