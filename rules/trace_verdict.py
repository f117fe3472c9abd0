"""The verdict on a trace: in one word, and in one sentence that names the window."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signals
from trainprof.profiler.traces.timeline import CAUSES
from trainprof.profiler.traces.training_thread import WORK
from trainprof.rules.engine import Evaluation
from trainprof.rules.reading import percent, place
from trainprof.rules.trace_signals.traced import Traced
from trainprof.rules.verdict import Verdict, gravest, insufficient

UNEXPLAINED = 0.3
"""Part of the window that is lost to nothing that a rule could name; beyond it a trace is no proof
of health (a starting value)."""
HOST = ("Python", CAUSES[-1])


def pronounce(evaluation: Evaluation, one: Traced, signals: Signals) -> Verdict:
    """A finding at warn or above is a bottleneck; without one, work must fill the window."""
    grave = [finding for finding in evaluation.findings if finding.severity != "info"]
    if grave:
        return Verdict("bottleneck", gravest(grave).summary)
    if one.timeline.devices:
        return _of_device(one, signals)
    return _of_thread(one, signals)


def _of_device(one: Traced, signals: Signals) -> Verdict:
    window, device = one.timeline.window, one.timeline.devices[0]
    whole = max(window.length_ns, 1)
    lost = sum(device.causes.get(cause, 0) for cause in HOST) / whole
    if lost >= UNEXPLAINED:
        return insufficient(
            f"in {percent(lost)} of the window ({window.text}) the device did nothing, and the "
            f"trace does not tell what the host did; {_where(signals, 'frames.idle_where')}"
        )
    busy = percent(device.busy_ns / whole)
    return Verdict("healthy", f"Healthy: the device is busy for {busy} of {window.text}.")


def _of_thread(one: Traced, signals: Signals) -> Verdict:
    window, thread = one.timeline.window, one.thread
    if not one.on_cpu:
        return insufficient("the trace holds no work of a device, and may be of a training on one")
    if thread is None or not window.steps:
        return insufficient("the trace marks no steps of a training")
    worked = sum(thread.share(activity) for activity in WORK)
    computes = f"the training computes for {percent(worked)} of {window.text}"
    if worked < 1 - UNEXPLAINED:
        return insufficient(
            f"{computes} only, and no rule names what it does in the rest; "
            f"{_where(signals, 'frames.other_where')}"
        )
    return Verdict("healthy", f"Healthy: {computes}.")


def _where(signals: Signals, name: str) -> str:
    """The function that the time is spent in, or how to learn it."""
    found = place(signals, name)
    if found is None:
        return "record one with stacks (with_stack=True)"
    return f"most of it in {found.function} ({found.file}:{found.line})"
