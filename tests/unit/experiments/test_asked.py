"""`tune --fix`: what is asked for is tried, at the place and with the values that were found."""

from dataclasses import dataclass, field

import pytest

from trainprof.errors import UsageError
from trainprof.profiler.model.diagnosis import Finding, FixAdvice, Gain, Location
from trainprof.profiler.model.plan import Application, Target
from trainprof.rules.experiments.asked import ASKED, asked_candidates

ADVICE = FixAdvice(
    "loader-workers", {"num_workers": 4, "persistent_workers": True}, "safe", "Use workers."
)
FINDING = Finding(
    "data-workers-under",
    "warn",
    "Too few workers",
    "It waits.",
    (),
    where=Location("/home/me/train.py", 12),
    gain=Gain(1.1, 1.9),
    fixes=(ADVICE,),
)


@dataclass
class Diagnosed:
    """As much of a diagnosis as candidates are made of."""

    findings: tuple
    facts: dict = field(default_factory=dict)


def candidates(*asked):
    return asked_candidates(Diagnosed((FINDING,)), asked)


def test_what_is_not_advised_is_tried_all_the_same():
    first, second = candidates(
        Application("gc-freeze"), Application("loader-order", {"in_order": False})
    )
    assert (first.application, first.rule) == (Application("gc-freeze"), ASKED)
    assert (second.safety, second.predicted) == ("semantics", None)


def test_the_finding_gives_the_place_and_what_was_left_out():
    (one,) = candidates(Application("loader-workers", {"num_workers": 2}))
    assert one.application == Application(
        "loader-workers",
        {"num_workers": 2, "persistent_workers": True},
        Target("/home/me/train.py", 12),
    )
    assert (one.rule, one.safety, one.predicted) == ("data-workers-under", "safe", None)


def test_another_place_owes_nothing_to_the_finding():
    elsewhere = Application("loader-workers", {"num_workers": 2}, Target("/home/me/train.py", 40))
    (one,) = candidates(elsewhere)
    assert (one.application, one.rule, one.safety) == (elsewhere, ASKED, "numerics")


def test_what_does_not_exist_cannot_be_asked_for():
    with pytest.raises(UsageError, match="there is no fix make-it-fast"):
        candidates(Application("make-it-fast"))
