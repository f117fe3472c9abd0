"""Adds to each finding about a phase the line that sampled stacks have to say about it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace

from trainprof.profiler.model.diagnosis import Evidence, Finding
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, percent, place, text

PHASE_WORDS = {
    "data_wait": "the wait for batches",
    "forward": "the forward",
    "loss": "the loss",
    "backward": "the backward",
    "optimizer": "the optimizer's phase",
    "validation": "the validation",
    "checkpoint": "the saving",
    "logging": "the logging",
    "residual": "the rest of the loop",
}

_PHASE_SHARE = re.compile(r"step\.(\w+)_share")


def explain(findings: Sequence[Finding], signals: Signals) -> tuple[Finding, ...]:
    """The findings, each with one more evidence where stacks tell who spends its phase's time."""
    return tuple(_explained(finding, signals) for finding in findings)


def spent_in(signals: Signals, phase: str) -> tuple[Evidence, ...]:
    """One evidence, as "83 % of the wait for batches is spent in Pictures.__getitem__, ..."."""
    name = f"stacks.{phase}_where"
    where = place(signals, name)
    if where is None:
        return ()
    signal = signals.get(name)
    share = percent(needed(signals, f"stacks.{phase}_where_share"))
    subject = PHASE_WORDS.get(phase, f"phase {phase}")
    if "workers" in signal.method:
        subject = f"the workers' time during {subject}"
    function = f"{where.function}, " if where.function else ""
    call = text(signals, f"stacks.{phase}_call")
    inside = f", in {call}" if call else ""
    sentence = (
        f"{share} of {subject} is spent in {function}"
        f"{os.path.basename(where.file)}:{where.line}{inside}"
    )
    return (Evidence(name, sentence, "text", source=f"sampled {signal.method}"),)


def _explained(finding: Finding, signals: Signals) -> Finding:
    names = [evidence.signal for evidence in finding.evidence]
    if any(name.startswith("stacks.") for name in names):
        return finding
    for name in names:
        match = _PHASE_SHARE.fullmatch(name)
        if match is not None and match.group(1) in PHASES:
            more = spent_in(signals, match.group(1))
            return replace(finding, evidence=(*finding.evidence, *more))
    return finding
