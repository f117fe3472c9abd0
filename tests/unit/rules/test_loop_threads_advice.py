"""Which knob loop-threads names: the variable where it asked for the threads, else torch's."""

from __future__ import annotations

import pytest

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.catalogue.loop.threads import Threads

TOO_MANY = {
    "flags.num_threads": 8,
    "host.usable_cores": 2.0,
    "host.own_cores": 1.9,
    "step.run_queue_share": 0.46,
    "step.forward_share": 0.4,
    "step.backward_share": 0.45,
}


@pytest.mark.parametrize(
    ("variable", "fix", "params"),
    [
        ("8", "openmp-threads", {"threads": 2}),
        ("4", "intra-op-threads", {"num_threads": 2}),  # the script has set another number
        (None, "intra-op-threads", {"num_threads": 2}),
    ],
)
def test_the_knob_that_asked_for_the_threads(variable, fix, params):
    signals = TOO_MANY | {"environment.OMP_NUM_THREADS": variable}
    found = Threads().check(Signals({name: Signal(value) for name, value in signals.items()}))
    (advice,) = next(iter(found)).fixes
    assert (advice.fix, advice.params) == (fix, params)
