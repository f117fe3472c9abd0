"""A wait for batches that no finding speaks of: then silence is no health."""

from __future__ import annotations

from collections.abc import Sequence

from trainprof.profiler.model.diagnosis import Finding
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import Waiting
from trainprof.rules.reading import high, low, number, percent

LEAST_SHARE = 0.30
"""Of the step, epoch starts and queueing for a CPU not counted. A quarter can be all that is left
where batches take a part of the step to hand over; a third wants a reason (a starting value)."""

TELLS_NOTHING = 0.50
"""Width of the share's interval from which on the share says nothing. Where a loader delivered in
bursts, 57 steps in 0.2 s left 2 to 100 % (a starting value)."""

_SIGNAL = "step.data_wait_share"
_TIMES = ("loader.producer_wall_s", "loader.consumer_s", "host.usable_cores", "loader.num_workers")


def unexplained_wait(signals: Signals, findings: Sequence[Finding]) -> str | None:
    """Why "healthy" would be too much to say; None where a finding tells, or little is waited."""
    if any(evidence.signal == _SIGNAL for finding in findings for evidence in finding.evidence):
        return None
    share, least, most = number(signals, _SIGNAL), low(signals, _SIGNAL), high(signals, _SIGNAL)
    if share is None or least is None or most is None or share < LEAST_SHARE:
        return None
    if most - least > TELLS_NOTHING:
        return (
            f"the wait for batches may be anything from {percent(least)} to {percent(most)} of the "
            "step: the run was too short, or too uneven, to tell"
        )
    if all(number(signals, name) is not None for name in _TIMES):
        least = min(least, Waiting.of_run(signals).share)
    if least < LEAST_SHARE:
        return None
    return (
        f"the training waits for batches for {percent(share)} of the step, and no rule can say why"
    )
