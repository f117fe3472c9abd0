"""What a change would gain: simulated on the dependencies of a trace."""

from __future__ import annotations

from trainprof.profiler.traces.changes import CHANGES
from trainprof.rules.catalogue import catalogue


def test_rules_name_changes_that_there_are():
    named = {rule.what_if for rule in catalogue() if rule.what_if is not None}
    assert {"no-data-wait", "fewer-launches", "balanced-ranks"} <= named <= set(CHANGES)
