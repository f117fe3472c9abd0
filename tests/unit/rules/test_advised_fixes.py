"""Rules whose advice is a switch only where there is one, and for each object that has it."""

from __future__ import annotations

import pytest

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.catalogue import catalogue

LARGEST, OTHER = Location("/project/gan.py", 25), Location("/project/gan.py", 26)


def advice_of(rule_id, **more):
    """What the rule advises in the first of its own cases, with further signals."""
    rule = next(rule for rule in catalogue() if rule.id == rule_id)
    values = {**rule.fires_on[0].signals, **more}
    signals = Signals(
        {
            name: Signal(value[0], low=value[1], high=value[2])
            if isinstance(value, tuple) and len(value) == 3
            else Signal(value)
            for name, value in values.items()
        }
    )
    (candidate,) = rule().check(signals)
    return candidate.fixes


@pytest.mark.parametrize(
    ("rule", "signal", "switch", "by_hand"),
    [
        ("kern-attn", "model.switchable_attentions", "attention-fused", "attention-call"),
        ("kern-noncontig", "model.image_convolutions", "one-layout", "fewer-copies"),
    ],
)
def test_a_switch_is_advised_where_the_model_has_one(rule, signal, switch, by_hand):
    assert [one.fix for one in advice_of(rule, **{signal: 2})] == [switch]
    assert [one.fix for one in advice_of(rule, **{signal: 0})] == [by_hand]
    assert [one.fix for one in advice_of(rule)] == [switch]  # an older recording does not know


def test_each_optimizer_that_could_be_fused_is_named():
    places = {"optimizer.unfused_places": (LARGEST, OTHER), "optimizer.where": LARGEST}
    advised = advice_of("opt-unfused", **places)
    assert [(one.fix, one.where) for one in advised] == [
        ("optimizer-fused", None),
        ("optimizer-fused", OTHER),
    ]
    assert "gan.py:26" in advised[1].text
    assert len(advice_of("opt-unfused")) == 1
