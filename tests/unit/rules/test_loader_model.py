"""The loader model against what was measured, and what must hold for any times."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.loader_model import (
    HANDOVER_S,
    WORST_UNDERESTIMATE,
    LoaderTimes,
    Waiting,
    io_part,
    predicted_gain,
    replayed_share,
)
from trainprof.rules.statistics.loader_simulation import simulate_loader

times = st.floats(1e-5, 1.0)


def waiting(produce_s: float, consume_s: float) -> LoaderTimes:
    """Items that wait for a disk, beside a consumer that waits for a device."""
    return LoaderTimes(produce_s, 0.05 * produce_s, consume_s, 0.0, cores=2.0)


# 16 items of 1 ms each: 40 steps in fresh processes on two quiet cores, torch 2.13.
MEASURED = [
    (waiting(0.0171, 0.005), 1, 0.0181),
    (waiting(0.0171, 0.005), 2, 0.0091),
    (waiting(0.0171, 0.005), 4, 0.0058),
    (waiting(0.0171, 0.020), 2, 0.0210),
    (LoaderTimes(0.016, 0.016, 0.005, 0.0, 2.0), 2, 0.0087),
    (LoaderTimes(0.016, 0.016, 0.008, 0.008, 2.0), 1, 0.0181),
    (LoaderTimes(0.016, 0.016, 0.008, 0.008, 2.0), 2, 0.0156),
    (LoaderTimes(0.016, 0.016, 0.008, 0.008, 2.0), 4, 0.0132),
]


@pytest.mark.parametrize(("model", "workers", "measured_s"), MEASURED)
def test_measured_times_lie_in_the_promised_range(
    model: LoaderTimes, workers: int, measured_s: float
) -> None:
    predicted_s = model.batch_s(workers)
    assert predicted_s / 1.05 <= measured_s <= predicted_s * WORST_UNDERESTIMATE


def test_predicted_gains_are_near_what_was_measured() -> None:
    """The point of a prediction, the middle of its interval, within 15 % in the median."""
    errors = []
    for model, workers, measured_s in MEASURED:
        now_s = model.batch_s(0)
        share = model.produce_s / now_s
        predicted = predicted_gain(model, Waiting(share, 0.98 * share, model.produce_s), workers)
        measured = now_s / measured_s
        assert predicted.low <= measured <= predicted.high
        errors.append(abs(predicted.middle / measured - 1.0))
    assert statistics.median(errors) < 0.10
    assert max(errors) < 0.15


def test_items_that_wait_gain_from_more_workers_than_cores() -> None:
    assert waiting(0.034, 0.006).best_workers(8) > 2


def test_items_that_compute_gain_from_free_cores_only() -> None:
    assert LoaderTimes(0.2, 0.2, 0.01, 0.01, cores=2.0).best_workers(16) <= 2


def test_one_core_that_is_busy_anyway_gets_no_worker() -> None:
    assert LoaderTimes(0.02, 0.02, 0.02, 0.02, cores=1.0).best_workers(16) == 0


def test_small_batches_from_memory_get_no_worker() -> None:
    assert LoaderTimes(0.0003, 0.0003, 0.0007, 0.0007, cores=8.0).best_workers(16) == 0


@given(times, times, times, st.floats(0.5, 64.0), st.integers(0, 64))
def test_best_pace_is_never_worse_than_none(
    produce_s: float, consume_s: float, cpu_s: float, cores: float, most: int
) -> None:
    model = LoaderTimes(produce_s, min(cpu_s, produce_s), consume_s, 0.0, cores)
    best = model.best_workers(most)
    assert 0 <= best <= most
    assert model.batch_s(best) <= model.batch_s(0) * 1.05
    assert model.batch_s(best) >= consume_s


@given(times, times, st.integers(1, 32))
def test_more_workers_never_slow_the_model_down(
    produce_s: float, consume_s: float, workers: int
) -> None:
    model = LoaderTimes(produce_s, produce_s, consume_s, consume_s, cores=4.0)
    assert model.batch_s(workers + 1) <= model.batch_s(workers)
    assert model.batch_s(workers) >= HANDOVER_S


@given(st.floats(1e-3, 0.1), st.floats(1e-3, 0.1), st.integers(1, 8), st.integers(2, 4))
def test_agrees_with_the_replay_of_the_loader(
    produce_s: float, consume_s: float, workers: int, prefetch_factor: int
) -> None:
    """With equal batches and cores enough, the closed form is the replay plus the handover."""
    count = 40 * workers * prefetch_factor
    replayed_s = simulate_loader(
        [produce_s] * count, [consume_s] * count, workers, prefetch_factor, HANDOVER_S
    )
    predicted_s = LoaderTimes(produce_s, 0.0, consume_s, 0.0, cores=64.0).batch_s(workers)
    assert replayed_s <= predicted_s * 1.01
    assert predicted_s <= (replayed_s + HANDOVER_S) * 1.01


def signals(**values: float) -> Signals:
    return Signals({name.replace("__", "."): Signal(value) for name, value in values.items()})


LOADER = {
    "loader__num_workers": 0,
    "loader__producer_wall_s": 0.03,
    "loader__producer_cpu_s": 0.01,
    "loader__consumer_s": 0.03,
    "loader__consumer_cpu_s": 0.02,
    "step__data_wait_share": 0.5,
    "host__usable_cores": 2.0,
    "host__other_cores": 1.6,
}


def test_other_programs_keep_at_most_half_of_the_cores() -> None:
    times_of_run = LoaderTimes.of(signals(**LOADER))
    assert times_of_run == LoaderTimes(0.03, 0.01, 0.03, 0.02, cores=1.0)


def test_ranks_on_one_machine_share_its_cores() -> None:
    alone = {**LOADER, "host__usable_cores": 8.0, "host__other_cores": 0.0}
    ranks = {"distributed__world_size": 4, "distributed__host_count": 2}
    assert LoaderTimes.of(signals(**alone)).cores == 8.0
    assert LoaderTimes.of(signals(**alone, **ranks)).cores == 4.0


def test_queueing_is_taken_out_of_both_times() -> None:
    queueing = {"step__run_queue_share": 0.2, "step__cpu_share": 0.4}
    times_of_run = LoaderTimes.of(signals(**LOADER, **queueing))
    assert times_of_run.crowded
    assert times_of_run.produce_s == pytest.approx(0.03 - 0.01 / 2)
    assert times_of_run.consume_s == pytest.approx(0.03 - 0.02 / 2)
    assert times_of_run.cores == 2.0


def test_a_time_is_never_shorter_than_its_cpu_time() -> None:
    queueing = {"step__run_queue_share": 0.9, "step__cpu_share": 0.05}
    times_of_run = LoaderTimes.of(signals(**LOADER, **queueing))
    assert (times_of_run.produce_s, times_of_run.consume_s) == (0.01, 0.02)


def test_waiting_on_a_busy_machine_is_what_a_quiet_one_would_show() -> None:
    queueing = {"step__run_queue_share": 0.9, "step__cpu_share": 0.05}
    run = signals(**{**LOADER, "step__data_wait_share": 0.6}, **queueing)
    waiting_share = Waiting.of(run, LoaderTimes.of(run)).share
    assert waiting_share == pytest.approx(1 / 3)


def test_starts_of_epochs_are_not_waiting() -> None:
    run = signals(**LOADER, loader__start_share=0.2)
    assert Waiting.of(run, LoaderTimes.of(run)).share == pytest.approx(0.3)


@given(times, times, times, st.floats(0.05, 0.95), st.integers(1, 16))
def test_gain_is_never_below_one_nor_above_the_end_of_all_waiting(
    produce_s: float, consume_s: float, cpu_s: float, share: float, workers: int
) -> None:
    model = LoaderTimes(produce_s, min(cpu_s, produce_s), consume_s, 0.0, cores=4.0)
    gain = predicted_gain(model, Waiting(share, 0.9 * share, consume_s * share), workers)
    assert 1.0 <= gain.low <= gain.high <= 1 / (1 - share) + 1e-9


def test_waiting_part_of_making_a_batch() -> None:
    assert io_part(signals(**LOADER)) == pytest.approx(2 / 3)
    queueing = {"step__run_queue_share": 0.4, "step__cpu_share": 0.4}
    own = {"loader__producer_queued_s": 0.015}
    assert io_part(signals(**LOADER, **queueing, **own)) == pytest.approx(1 / 3)
    unknown = {name: value for name, value in LOADER.items() if "producer_cpu" not in name}
    assert io_part(signals(**unknown)) == 0.0


REPLAY = {
    "step__data_wait_share": 0.4,
    "loader__consumer_s": 0.006,
    "loader__replay_s": 0.01,
    "loader__replay_even_s": 0.007,
}


def test_replay_saves_no_more_than_the_waiting() -> None:
    assert replayed_share(signals(**REPLAY), "loader.replay_even_s") == pytest.approx(0.3)
    less = {**REPLAY, "step__data_wait_share": 0.25}
    assert replayed_share(signals(**less), "loader.replay_even_s") == pytest.approx(0.25)


@pytest.mark.parametrize("wait", [0.1, 0.9], ids=["shows more waiting", "shows less"])
def test_replay_that_does_not_fit_explains_nothing(wait: float) -> None:
    run = signals(**{**REPLAY, "step__data_wait_share": wait})
    assert replayed_share(run, "loader.replay_even_s") == 0.0


def test_uneven_batches_need_longer_than_their_means_say() -> None:
    even = LoaderTimes(0.012, 0.001, 0.005, 0.0, cores=2.0)
    uneven = LoaderTimes(0.012, 0.001, 0.005, 0.0, cores=2.0, unevenness={4: 1.5})
    assert uneven.batch_s(4) == pytest.approx(0.0085)
    assert uneven.batch_s(2) == even.batch_s(2)
    run = signals(**LOADER, loader__unevenness={4: 1.5})  # type: ignore[arg-type]
    assert LoaderTimes.of(run).unevenness == {4: 1.5}
    queueing = {"step__run_queue_share": 0.4, "step__cpu_share": 0.4}
    crowded = signals(**LOADER, **queueing, loader__unevenness={4: 1.5})  # type: ignore[arg-type]
    assert LoaderTimes.of(crowded).unevenness == {}


def test_preempted_batches_are_not_what_a_batch_takes() -> None:
    """A few preempted ones make the mean; their queueing was hardly read at all."""
    queueing = {"step__run_queue_share": 0.6, "step__cpu_share": 0.3}
    producer = {
        "loader__producer_wall_s": 0.00286,
        "loader__producer_cpu_s": 0.00031,
        "loader__producer_queued_s": 0.00103,
        "loader__producer_median_s": 0.00028,
    }
    times_of_run = LoaderTimes.of(signals(**{**LOADER, **producer}, **queueing))
    assert times_of_run.produce_s == 0.00031
