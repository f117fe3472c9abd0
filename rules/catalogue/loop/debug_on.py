"""loop-debug-on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    COMPUTE_PHASES,
    gain,
    is_on,
    observed,
    place,
    summed_share,
    text,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


@dataclass(frozen=True, slots=True)
class _Switch:
    """A debugging aid and what it does to the step.

    Attributes:
        says: The sentence of the finding.
        slowdown: How many times slower the phases it touches became, least and most, or None
            where no figure is known that would hold here.
        compute_only: True if it slows forward, loss, backward and optimizer only.
    """

    signal: str
    says: str
    severity: str
    slowdown: tuple[float, float] | None
    compute_only: bool
    fix: FixAdvice
    where: str = ""


_ANOMALY = _Switch(
    "flags.anomaly_enabled",
    "Anomaly detection is on: each operation keeps a stack trace, each gradient is searched for "
    "NaN.",
    "warn",
    (1.2, 5.1),
    True,
    FixAdvice(
        "anomaly-off",
        {"anomaly": False},
        "safe",
        "Remove set_detect_anomaly, or keep it for the steps that are under suspicion.",
        "torch.autograd.set_detect_anomaly(False)",
    ),
    "flags.anomaly_where",
)
_PROFILER = _Switch(
    "flags.profiler_enabled",
    "A torch profiler of the script's own is recording the steady steps.",
    "warn",
    (1.05, 9.4),
    False,
    FixAdvice(
        "profiler-off",
        {"profiler": False},
        "safe",
        "Remove the profiler, or give it a schedule that records a few steps only.",
        "schedule=torch.profiler.schedule(wait=1, warmup=1, active=3, repeat=1)",
    ),
    "flags.profiler_where",
)
_TRACING = _Switch(
    "flags.tracing",
    "A Python trace or profile function is set (a debugger, coverage, cProfile): each call and "
    "line of Python pays for it.",
    "warn",
    (1.0, 1.3),
    False,
    FixAdvice(
        "tracing-off",
        {"tracing": False},
        "safe",
        "Run without debugger, coverage or cProfile when you don't need them.",
    ),
)
_MALLOC = _Switch(
    "flags.python_malloc",
    "PYTHONMALLOC asks for the debug allocator of Python.",
    "info",
    (1.0, 1.05),
    False,
    FixAdvice("malloc-default", {}, "safe", "Unset PYTHONMALLOC.", "unset PYTHONMALLOC"),
)
_LAUNCH_BLOCKING = _Switch(
    "environment.CUDA_LAUNCH_BLOCKING",
    "CUDA_LAUNCH_BLOCKING=1 makes the host wait for every kernel.",
    "warn",
    None,
    False,
    FixAdvice(
        "launch-blocking-off",
        {},
        "safe",
        "Unset CUDA_LAUNCH_BLOCKING.",
        "unset CUDA_LAUNCH_BLOCKING",
    ),
)
_DETERMINISTIC = _Switch(
    "flags.deterministic_algorithms",
    "Deterministic algorithms are demanded: some operations take a slower form.",
    "info",
    None,
    True,
    FixAdvice(
        "deterministic-off",
        {"deterministic": False},
        "numerics",
        "If runs need not repeat bit by bit, leave torch.use_deterministic_algorithms out.",
    ),
)


class DebugOn(Rule):
    """A debugging aid was left on and slows every step.

    ## What it finds
    Anomaly detection, a torch profiler of the script's own, a Python trace function (debugger,
    coverage, cProfile), Python's debug allocator, CUDA_LAUNCH_BLOCKING=1, deterministic algorithms.

    ## Why it costs time
    Anomaly detection takes a stack trace for each operation of the forward and looks through each
    gradient for NaN. A profiler writes an event per operation. A trace function is called for each
    call and line of Python. Launch blocking takes away the overlap of host and device.

    ## Evidence needed
    The switch itself, read in the training process. Timing is not needed, so it is reported from
    the first step on; how much it costs depends on the model, hence the wide intervals.

    Measured (torch 2.13, CPU, slower / normal): anomaly detection 4.6 to 5.1 for steps of 0.3 ms,
    2.6 at 2 ms, 1.2 at 70 ms; a profiler that stays on 1.1 to 1.5, one that is started anew for
    each step 1.1 to 4.8, with stacks 9.4; a Python trace function 1.0 to 1.3; PYTHONMALLOC=debug
    1.03. The upper ends hold for small models, where overhead is most of the step.

    ## Fix
    Take it out, or keep it behind a flag or for the few steps that are under suspicion.

    ## Fix safety
    Safe: none of these changes a result. Deterministic algorithms are numerics: without them two
    runs may differ in the last digits.

    ## When it is wrong
    Deterministic algorithms are somebody's wish more often than not: never more than a note.
    A profiler with a schedule may just have been in its active steps. CUDA_LAUNCH_BLOCKING means
    nothing to a training on the CPU and is not reported there.

    ## References
    - Anomaly detection, "should be enabled only for debugging":
      https://docs.pytorch.org/docs/stable/autograd.html#anomaly-detection
    - Tuning guide, "Disable debugging APIs":
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - Reproducibility, on the cost of deterministic operations:
      https://docs.pytorch.org/docs/stable/notes/randomness.html
    - PYTHONMALLOC: https://docs.python.org/3/using/cmdline.html#envvar-PYTHONMALLOC
    """

    id = "loop-debug-on"
    title = "A debugging aid was left on"
    needs = ("flags.anomaly_enabled",)
    suppresses = ("opt-unfused", "prec-fp64", "loop-threads")
    fires_on = (
        Case(
            "anomaly detection",
            {
                "flags.anomaly_enabled": True,
                "flags.anomaly_where": {"file": "train.py", "line": 12},
                "step.forward_share": (0.35, 0.33, 0.37),
                "step.backward_share": (0.55, 0.53, 0.57),
            },
            severity="warn",
            gain=(1.1, 4.5),
        ),
        Case(
            "anomaly detection, seen before any step was timed",
            {"flags.anomaly_enabled": True},
            severity="warn",
        ),
        Case(
            "a profiler that never ends",
            {
                "flags.anomaly_enabled": False,
                "flags.profiler_enabled": True,
                "flags.profiler_where": {"file": "train.py", "line": 30},
            },
            severity="warn",
        ),
        Case(
            "under a debugger",
            {"flags.anomaly_enabled": False, "flags.tracing": True},
            severity="warn",
        ),
        Case(
            "determinism that was asked for",
            {"flags.anomaly_enabled": False, "flags.deterministic_algorithms": True},
            severity="info",
        ),
        Case(
            "Python's debug allocator",
            {"flags.anomaly_enabled": False, "flags.python_malloc": "debug"},
            severity="info",
        ),
        Case(
            "launch blocking on an accelerator",
            {
                "flags.anomaly_enabled": False,
                "environment.CUDA_LAUNCH_BLOCKING": "1",
                "flags.accelerator": "cuda",
                "model.devices": {"cuda:0": 100},
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "nothing is on",
            {
                "flags.anomaly_enabled": False,
                "flags.profiler_enabled": False,
                "flags.tracing": False,
                "flags.deterministic_algorithms": False,
                "flags.python_malloc": "malloc",
            },
        ),
        Case(
            "launch blocking in a training on the CPU",
            {
                "flags.anomaly_enabled": False,
                "environment.CUDA_LAUNCH_BLOCKING": "1",
                "model.devices": {"cpu": 100},
            },
        ),
    )

    switches = (_ANOMALY, _PROFILER, _TRACING, _LAUNCH_BLOCKING, _MALLOC, _DETERMINISTIC)
    """What is looked at, gravest first; the slow-downs are those of the page."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """One candidate for each switch that is on."""
        for switch in self.switches:
            if _is_set(signals, switch):
                yield self._candidate(signals, switch)

    @staticmethod
    def _candidate(signals: Signals, switch: _Switch) -> Candidate:
        predicted: Gain | None = None
        if switch.slowdown is not None:
            compute = summed_share(signals, COMPUTE_PHASES) if switch.compute_only else None
            share, share_low = compute or (0.99, 0.99)
            predicted = gain(share_low, share, *switch.slowdown)
        return Candidate(
            summary=switch.says,
            evidence=observed(signals, switch.signal, "off"),
            gain=predicted,
            where=place(signals, switch.where) if switch.where else None,
            fixes=(switch.fix,),
            confidence="high",
            severity=switch.severity,
            timeless=True,
            phases=("forward", "loss", "backward"),
        )


def _is_set(signals: Signals, switch: _Switch) -> bool:
    if switch is _MALLOC:
        return "debug" in (text(signals, switch.signal) or "")
    if switch is _LAUNCH_BLOCKING:
        return text(signals, switch.signal) == "1" and not trains_on_cpu(signals)
    return is_on(signals, switch.signal)
