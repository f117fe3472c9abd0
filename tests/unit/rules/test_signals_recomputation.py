"""Signals recompute.*: summed events against the steps, and a bound of the memory."""

import pytest
from builders import SECOND, START_NS, build_run, build_samples, build_steps, build_trainer

from trainprof.profiler.model.records import Event
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training

WHERE = {"file": "train.py", "line": 7, "function": "forward"}
MEBI = 2**20


def recomputed(second, total_ms, calls=400):
    data = {"calls": calls, "recomputed": calls, "total_ns": total_ms * 1_000_000, "where": WHERE}
    return Event("recompute", START_NS + second * SECOND, SECOND, data)


def signals(events, *, device="cpu", state_bytes=40 * MEBI, peak=200 * MEBI):
    facts = [
        ("memory", "peak", {"peak_rss_bytes": peak, "accelerator_peak_bytes": None}),
        ("optimizer", "o0", {"type": "AdamW", "state_bytes": state_bytes}),
        (
            "model",
            "m0",
            {
                "parameter_bytes": 20 * MEBI,
                "parameter_count": 10,
                "trainable_count": 10,
                "devices": {device: 10},
                "trained": True,
            },
        ),
    ]
    steps = build_steps(500, {"forward": 3.0, "backward": 7.0})  # 100 steps a second
    trainer = build_trainer(steps, facts=facts, events=events)
    run = build_run(trainer, samples=build_samples(6, available_bytes=1800 * MEBI))
    return measure(Training(run, run.sessions[0]))


def test_share_of_the_step_and_calls():
    measured = signals([recomputed(second, ms) for second, ms in enumerate((240, 260, 250, 250))])

    share = measured.get("recompute.share")
    assert share.value == pytest.approx(0.25, abs=0.01)
    assert share.low < 0.25 < share.high
    assert measured.get("recompute.where").value.line == 7


def test_memory_without_it_is_bounded_by_one_region_times_their_number():
    measured = signals([recomputed(second, 250, calls=400) for second in range(5)])

    assert measured.get("recompute.calls_per_step").value == pytest.approx(4.0, abs=0.1)
    assert measured.get("recompute.memory_share").value == pytest.approx(0.1)
    # 200 MiB of 2,000 and three more regions of 200 - 20 - 20 - 40 MiB
    bound = measured.get("recompute.memory_share_without").value
    assert bound == pytest.approx(0.1 + 3 * 0.06, abs=0.01)


def test_no_events_mean_not_in_use():
    measured = signals([])

    assert measured.get("recompute.calls_per_step").value == 0.0
    assert "not in use" in measured.get("recompute.share").reason


def test_an_accelerator_has_no_time_here():
    measured = signals([recomputed(0, 250)], device="cuda:0")

    assert measured.get("recompute.share").value is None
    assert "accelerator" in measured.get("recompute.share").reason


def test_a_failed_collector_is_lost():
    failed = Event("collector_failed", 0, 0, {"collector": "hooks_recompute", "error": "odd"})

    assert signals([failed]).get("recompute.calls_per_step").lost
