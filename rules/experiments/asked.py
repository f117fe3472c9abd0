"""What `tune --fix` asks for: exactly these fixes, whether a finding advises them or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.plan import Application
from trainprof.rules.experiments.candidates import Candidate, candidates_of
from trainprof.rules.fixes.registry import fix_named

ASKED = "asked for"
"""In place of the rule, where no finding advises the fix."""


def asked_candidates(diagnosis: Diagnosis, asked: Sequence[Application]) -> list[Candidate]:
    """The candidates, in the order in which they were asked for.

    What a finding advises gives the place and the parameters that were left out. No prediction is
    taken over: it could rule out what is to be measured.

    Raises:
        UsageError: there is no such fix.
    """
    advised, _ = candidates_of(diagnosis, "semantics")
    return [_candidate(one, advised) for one in asked]


def _candidate(asked: Application, advised: Sequence[Candidate]) -> Candidate:
    kind = fix_named(asked.fix)
    for candidate in advised:
        advice = candidate.application
        same_place = asked.target is None or asked.target == advice.target
        if advice.fix == asked.fix and same_place:
            params = {**advice.params, **asked.params}
            return replace(candidate, application=replace(advice, params=params), predicted=None)
    return Candidate(
        asked,
        ASKED,
        kind.safety,
        kind.rounding,
        None,
        kind.verifies,
        kind.pays_off_later,
        kind.from_second_epoch,
    )
