"""A long wait for batches that nothing explains is not called healthy."""

import pytest
from builders import build_run, build_steps, build_trainer
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.diagnosis import Evidence, Finding
from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.diagnose import diagnose
from trainprof.rules.unexplained import unexplained_wait


def waiting(share, low, high=None, **more):
    high = share + 0.02 if high is None else high
    values = {"step.data_wait_share": Signal(share, "share", low=low, high=high)}
    return Signals({**values, **{name: Signal(value) for name, value in more.items()}})


def finding(signal):
    return Finding("some-rule", "info", "", "", (Evidence(signal, 0.5, "share"),))


def test_a_long_wait_wants_a_reason():
    assert "for 71 % of the step" in unexplained_wait(waiting(0.71, 0.69), ())
    assert unexplained_wait(waiting(0.71, 0.69), (finding("step.gc_share"),)) is not None


@pytest.mark.parametrize("low", [0.29, 0.1])
def test_a_short_or_uncertain_wait_does_not(low):
    assert unexplained_wait(waiting(0.31, low), ()) is None


def test_a_wait_of_which_nothing_is_known_is_not_taken_for_none():
    """57 steps in 0.2 s, of a loader that delivers in bursts, were called healthy."""
    reason = unexplained_wait(waiting(0.65, 0.02, 1.0), ())
    assert reason is not None
    assert "anything from 2.0 % to 100 % of the step" in reason


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_more_is_known_the_more_may_be_healthy(one, two, three):
    """A wait that is surely short is healthy, one that is surely long or unknown is not."""
    least, share, most = sorted((one, two, three))
    told = unexplained_wait(waiting(share, least, most), ()) is not None
    assert told == (share >= 0.3 and (least >= 0.3 or most - least > 0.5))


def test_a_finding_about_the_wait_is_the_reason():
    assert unexplained_wait(waiting(0.71, 0.69), (finding("step.data_wait_share"),)) is None


def test_queueing_for_a_cpu_is_no_waiting_of_the_script_s():
    crowded = {
        "step.run_queue_share": 0.5,
        "step.cpu_share": 0.2,
        "loader.num_workers": 2,
        "loader.producer_wall_s": 0.03,
        "loader.producer_cpu_s": 0.002,
        "loader.producer_queued_s": 0.028,
        "loader.consumer_s": 0.04,
        "loader.consumer_cpu_s": 0.01,
        "host.usable_cores": 2.0,
    }
    assert unexplained_wait(waiting(0.5, 0.48, **crowded), ()) is None


def test_the_verdict_says_so():
    trainer = build_trainer(build_steps(300, {"data_wait": 30.0, "forward": 10.0}))

    diagnosis = diagnose(build_run(trainer))

    assert diagnosis.findings == ()
    assert diagnosis.verdict == "insufficient"
    assert "waits for batches for 75 % of the step" in diagnosis.headline
