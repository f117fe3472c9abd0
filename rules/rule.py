"""What a rule is: one file of the catalogue, one class, its documentation, thresholds and cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from trainprof.profiler.model.diagnosis import Evidence, FixAdvice, Gain, Location
from trainprof.profiler.model.signals import Signals

SECTIONS = (
    "What it finds",
    "Why it costs time",
    "Evidence needed",
    "Fix",
    "Fix safety",
    "When it is wrong",
    "References",
)
"""Every rule's docstring has these `## ` sections, in this order; a test checks it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a rule saw; the engine gates it, grades it and makes the `Finding`.

    Attributes:
        summary: One sentence with the number in it.
        evidence: Never empty.
        share: Share of the steady step's wall time that the cause accounts for, 0..1.
        share_low: Lower bound of its 90 % interval, where known; the engine requires it to exceed
            the threshold of the severity it grants.
        gain: Predicted T_old / T_new, or None where no time model applies (crash, NaN, memory).
        severity: Fixes the grade; None lets the engine grade by share (info 3, warn 10,
            critical 20 %).
        max_severity: Upper limit of the engine's grade (a static observation: "info").
        timeless: True for facts that need no steady steps (debug switches, NaN, start-up).
        phases: Those that the fix shortens; empty stands for those whose shares the evidence names.
        next_bottleneck: What bounds the step after the fix, where the rule knows better than the
            engine, which asks `trainprof.rules.next_bottleneck`.
    """

    summary: str
    evidence: tuple[Evidence, ...]
    share: float | None = None
    share_low: float | None = None
    gain: Gain | None = None
    where: Location | None = None
    fixes: tuple[FixAdvice, ...] = ()
    confidence: str = "medium"
    severity: str | None = None
    max_severity: str = "critical"
    timeless: bool = False
    phases: tuple[str, ...] = ()
    next_bottleneck: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A situation and what the rule must say to it. Cases become tests by themselves.

    Attributes:
        title: The situation in words.
        signals: Values by signal name; a tuple (value, low, high) gives an interval.
        severity: In `fires_on`: the grade the engine must give (None: any).
        gain: In `fires_on`: an interval that must hold the predicted gain's middle, or None.
    """

    title: str
    signals: Mapping[str, object]
    severity: str | None = None
    gain: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class _Documentation:
    """Sections of a rule's docstring by heading."""

    summary: str
    sections: dict[str, str] = field(default_factory=dict)


class Rule:
    """Base of all rules. A subclass sets the class attributes and yields candidates.

    Attributes:
        id: `<family>-<slug>`; names the file catalogue/<family>/<slug with underscores>.py.
        title: The fault, never the remedy, in a few words.
        needs: Signals without which the rule is skipped, and listed as skipped with the reason.
        can_warn: False for rules that never grade above info.
        suppresses: Rules whose findings this one explains when it fires: its symptoms.
        is_symptom: Whatever promises time explains its findings.
        yields_to: Beginnings of ids. Where such a rule has found something in a run, it knows more
            than this one does from a window of that run, and this one's finding is left out.
        on_traces: It judges traces too, by signals that they share with runs.
        trace_needs: What it needs of a trace in place of `needs`, where that is something else.
        what_if: What its fix changes in a trace, of `trainprof.profiler.traces.changes`.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    can_warn: ClassVar[bool] = True
    suppresses: ClassVar[tuple[str, ...]] = ()
    is_symptom: ClassVar[bool] = False
    yields_to: ClassVar[tuple[str, ...]] = ()
    on_traces: ClassVar[bool] = False
    trace_needs: ClassVar[tuple[str, ...]] = ()
    what_if: ClassVar[str | None] = None
    fires_on: ClassVar[tuple[Case, ...]] = ()
    silent_on: ClassVar[tuple[Case, ...]] = ()

    def applies(self, signals: Signals) -> bool:
        """False where there is nothing that the rule could be about (workers, an accelerator).

        It is then neither asked nor listed as skipped. What was not measured is no reason.
        """
        return True

    def needs_of(self, signals: Signals) -> tuple[str, ...]:
        """What has to be there: `trace_needs` of a trace, where there are any, else `needs`."""
        of_trace = signals.get("timeline.window").value is not None
        return self.trace_needs if of_trace and self.trace_needs else self.needs

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Yields what it found; every signal of `needs_of` is present."""
        raise NotImplementedError

    @classmethod
    def documentation(cls) -> _Documentation:
        """The docstring cut into its sections."""
        import inspect

        text = inspect.cleandoc(cls.__doc__ or "")
        head, *parts = text.split("\n## ")
        sections = {}
        for part in parts:
            heading, _, body = part.partition("\n")
            sections[heading.strip()] = body.strip()
        return _Documentation(head.strip(), sections)
