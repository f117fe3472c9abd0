"""Intervals that hold what they promise, trends, steady state, the loader replayed."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trainprof.rules.statistics.intervals import (
    Interval,
    block_length,
    mean_interval,
    ratio_intervals,
    student_95,
    unit_edges,
    unit_sums,
)
from trainprof.rules.statistics.loader_simulation import simulate_loader
from trainprof.rules.statistics.steady import block_means, find_window
from trainprof.rules.statistics.trend import theil_sen

MS = 1_000_000


def floats(smallest, largest, least=2):
    return arrays.arrays(
        np.float64, st.integers(least, 200), elements=st.floats(smallest, largest, width=32)
    )


def autoregressive(rng, count, memory):
    """A series with mean 1 whose neighbours resemble each other."""
    noise = rng.normal(size=count)
    series = np.empty(count)
    series[0] = noise[0] / np.sqrt(1 - memory**2)
    for place in range(1, count):
        series[place] = memory * series[place - 1] + noise[place]
    return 1.0 + 0.2 * series


def holds(interval, value):
    return interval.low <= value <= interval.high


class TestUnits:
    @given(st.integers(1, 20_000), st.integers(1, 3_000))
    def test_cover_every_step_once(self, count, most):
        edges = unit_edges(count, most)

        assert len(edges) <= most
        assert unit_sums(np.ones(count, np.int64), edges).sum() == count
        assert len(set(np.diff(edges).tolist())) <= 1

    def test_blocks_hold_what_the_workers_deliver_in_one_burst(self):
        assert block_length(2_000, 1, 32) >= 32
        assert block_length(2_000, 8, 32) * 8 >= 32

    def test_a_short_series_has_at_least_two_blocks(self):
        assert block_length(20, 1, 64) == 10
        assert block_length(1, 1, 64) == 1


class TestIntervals:
    @given(floats(0.125, 1024), st.integers(1, 5))
    def test_hold_the_mean(self, values, block):
        interval = mean_interval(values, min(block, len(values)))

        assert interval.low <= interval.mean <= interval.high
        assert interval.mean == pytest.approx(values.mean())

    @given(floats(0.125, 1024), st.floats(0.01, 100))
    def test_scale_with_the_values(self, values, factor):
        one, scaled = mean_interval(values), mean_interval(values * factor)

        assert scaled.low == pytest.approx(one.low * factor, rel=1e-6)
        assert scaled.high == pytest.approx(one.high * factor, rel=1e-6)

    @given(floats(0.0, 1.0), floats(1.0, 2.0))
    def test_of_parts_that_make_the_whole_sum_to_one(self, first, second):
        length = min(len(first), len(second))
        first, second = first[:length], second[:length]

        shares = ratio_intervals([first, second], first + second, 1)

        assert sum(share.mean for share in shares) == pytest.approx(1.0)

    def test_are_the_same_every_time(self):
        values = np.random.default_rng(1).normal(size=300)

        assert mean_interval(values, 4) == mean_interval(values, 4)

    def test_of_times_do_not_reach_below_zero(self):
        assert mean_interval(np.array([0.0, 0.0, 0.0, 9.0])).low == 0.0

    def test_of_equal_steps_have_no_width(self):
        assert mean_interval(np.full(50, 0.25), 3) == Interval(0.25, 0.25, 0.25)

    def test_of_one_value_have_no_bounds(self):
        assert mean_interval(np.array([2.0])) == Interval(2.0, None, None)

    @pytest.mark.parametrize(
        ("count", "memory", "least", "most"),
        [(400, 0.0, 0.85, 0.97), (400, 0.5, 0.84, 0.97), (24, 0.0, 0.84, 0.99), (24, 0.3, 0.8, 1)],
    )
    def test_cover_the_truth_nine_times_in_ten(self, count, memory, least, most):
        rng = np.random.default_rng(7)
        block = block_length(count, 1, 1)

        hits = [
            holds(mean_interval(autoregressive(rng, count, memory), block), 1.0) for _ in range(400)
        ]

        assert least <= np.mean(hits) <= most

    def test_of_bursts_cover_the_truth_where_a_median_is_far_off(self):
        """Four workers deliver four batches at once: three steps in four do not wait at all."""
        rng = np.random.default_rng(3)
        waits = [
            np.where(np.arange(200) % 4 == 0, 24.0, 0.0) * rng.lognormal(sigma=0.3, size=200)
            for _ in range(200)
        ]
        truth = 6.0 * np.exp(0.3**2 / 2)

        hits = [holds(mean_interval(series, block_length(200, 1, 16)), truth) for series in waits]

        assert np.median(waits[0]) == 0.0
        assert np.mean(hits) >= 0.85

    def test_a_million_steps_take_less_than_a_second(self):
        columns = [np.random.default_rng(n).integers(1, 10 * MS, 1_000_000) for n in range(3)]
        begin = time.process_time()

        edges = unit_edges(1_000_000)
        sums = [unit_sums(column, edges) for column in columns] * 5
        ratio_intervals(sums, unit_sums(sum(columns), edges), block_length(len(edges), 489, 8))

        assert time.process_time() - begin < 1.0

    @pytest.mark.parametrize(
        ("freedom", "quantile"),
        [(1, 6.314), (5, 2.015), (10, 1.812), (11, 1.796), (20, 1.725), (30, 1.697), (100, 1.660)],
    )
    def test_student(self, freedom, quantile):
        assert student_95(freedom) == pytest.approx(quantile, rel=1.5e-3)


class TestTrend:
    @given(st.floats(-100, 100), st.floats(-100, 100), st.integers(4, 400), st.floats(0.125, 8))
    def test_of_a_line_is_its_slope(self, slope, offset, count, pace):
        x = np.arange(count) * pace

        trend = theil_sen(x, offset + slope * x)

        assert trend.slope == pytest.approx(slope, abs=1e-6)
        assert trend.low == pytest.approx(slope, abs=1e-6)
        assert trend.high == pytest.approx(slope, abs=1e-6)

    @given(floats(-10, 10, least=5), st.floats(-5, 5))
    def test_is_moved_by_an_added_line_only(self, y, slope):
        x = np.arange(len(y), dtype=np.float64)

        before, after = theil_sen(x, y), theil_sen(x, y + slope * x)

        assert after.slope == pytest.approx(before.slope + slope, abs=1e-6)
        assert after.low == pytest.approx(before.low + slope, abs=1e-6)
        assert before.low <= before.slope <= before.high

    def test_shrugs_off_a_fifth_of_wild_values(self):
        rng = np.random.default_rng(5)
        y = 3.0 * np.arange(50) + rng.normal(size=50)
        y[::5] = 1e6 * rng.random(10)

        assert theil_sen(np.arange(50.0), y).slope == pytest.approx(3.0, abs=0.2)

    def test_of_noise_is_flat_nine_times_in_ten(self):
        rng = np.random.default_rng(11)

        flat = [theil_sen(np.arange(20.0), rng.normal(size=20)).is_flat for _ in range(400)]

        assert 0.85 <= np.mean(flat) <= 0.96

    def test_needs_four_different_places(self):
        assert theil_sen(np.array([1.0, 1.0, 2.0, 2.0, 3.0]), np.arange(5.0)) is None

    def test_of_many_points_is_bounded(self):
        x = np.arange(200_000.0)
        begin = time.process_time()

        trend = theil_sen(x, 2.0 * x)

        assert trend.points == 300
        assert trend.slope == pytest.approx(2.0)
        assert time.process_time() - begin < 0.5


def steps(*parts):
    """Step times in nanoseconds of (count, milliseconds) after each other, with a little noise."""
    rng = np.random.default_rng(2)
    times = np.concatenate([np.full(count, ms * MS) for count, ms in parts])
    return (times * rng.lognormal(sigma=0.01, size=len(times))).astype(np.int64)


def window_of(wall, compiled=(), workers=0, prefetch=2):
    flags = np.zeros(len(wall), dtype=bool)
    flags[list(compiled)] = True
    return find_window(wall, flags, workers, prefetch)


class TestSteadyWindow:
    def test_five_steps_are_warm_up(self):
        window = window_of(steps((200, 10)))

        assert (window.first, window.stop, window.steady_count) == (5, 200, 195)
        assert window.steady

    def test_what_workers_prepared_ahead_is_warm_up(self):
        assert window_of(steps((200, 10)), workers=4, prefetch=3).first == 24

    def test_early_compilation_is_warm_up(self):
        assert window_of(steps((12, 900), (300, 10)), compiled=[0, 1, 11]).first == 12

    def test_late_compilation_belongs_to_the_training(self):
        assert window_of(steps((1_000, 10)), compiled=[0, 700]).first == 5

    def test_a_slow_beginning_is_left_out(self):
        window = window_of(steps((60, 40), (340, 10)))

        assert 60 <= window.first <= 80
        assert window.steady

    def test_a_slow_beginning_is_not_sought_in_noise(self):
        rng = np.random.default_rng(8)
        runs = [(rng.lognormal(sigma=0.3, size=400) * 10 * MS).astype(np.int64) for _ in range(50)]

        assert np.mean([window_of(wall).first == 5 for wall in runs]) >= 0.9

    def test_rare_dear_steps_are_not_mistaken_for_warm_up(self):
        """A checkpoint every hundredth step costs the training what it costs."""
        wall = np.where(np.arange(1_000) % 100 == 50, 500 * MS, 10 * MS)

        window = window_of(wall)

        assert window.first == 5
        assert window.steady

    def test_steps_that_grow_all_the_time_are_not_steady(self):
        wall = (np.linspace(10, 30, 400) * MS).astype(np.int64)

        window = window_of(wall)

        assert window.steady is False
        assert 0.3 < window.drift < 1.1

    def test_a_drift_of_two_percent_is_steady(self):
        assert window_of((np.linspace(10, 10.2, 4_000) * MS).astype(np.int64)).steady

    @pytest.mark.parametrize("count", [0, 1, 2, 5])
    def test_a_run_that_is_all_warm_up_has_no_steady_step(self, count):
        window = window_of(steps((count, 10)))

        assert window.steady_count == 0
        assert len(window) == count - count // 2
        assert window.steady is None

    @given(st.integers(0, 300), st.integers(0, 16), st.integers(1, 4))
    def test_lies_inside_the_run(self, count, workers, prefetch):
        window = window_of(np.full(count, 10 * MS), workers=workers, prefetch=prefetch)

        assert 0 <= window.first <= window.stop == count
        assert window.steady_count in (0, len(window))

    def test_bursts_of_workers_are_averaged_in_whole_blocks(self):
        bursts = np.where(np.arange(600) % 4 == 0, 24 * MS, 2 * MS)

        means = block_means(bursts, least_block=16)

        assert np.ptp(means) <= 0.1 * means.mean()


class TestLoaderSimulation:
    def test_without_workers_one_follows_the_other(self):
        assert simulate_loader([3.0] * 10, [2.0] * 10, 0) == pytest.approx(5.0)

    def test_the_slower_side_sets_the_pace(self):
        assert simulate_loader([8.0] * 80, [2.0] * 80, 2) == pytest.approx(4.0)
        assert simulate_loader([8.0] * 80, [5.0] * 80, 2) == pytest.approx(5.0)

    def test_handing_over_costs_each_batch(self):
        assert simulate_loader([1.0] * 80, [5.0] * 80, 2, handover_s=0.5) == pytest.approx(5.5)

    def test_one_slow_batch_stops_the_order_until_the_queue_is_used_up(self):
        """Delivered in order: the batches behind the slow one are ready and wait."""
        produce = [0.5] * 100
        produce[60] = 6.5

        smooth = simulate_loader([0.5] * 100, [1.0] * 100, 2, 2)
        held_up = simulate_loader(produce, [1.0] * 100, 2, 2)
        more_ahead = simulate_loader(produce, [1.0] * 100, 2, 4)

        assert smooth == pytest.approx(1.0)
        assert held_up == pytest.approx(1.0 + 2.5 / 92)  # 6.5 s, of which four batches bridge 4 s
        assert more_ahead == pytest.approx(1.0)

    @given(
        st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=40, max_size=80),
        st.integers(1, 4),
    )
    def test_is_never_quicker_than_the_loop_alone(self, pairs, workers):
        produce, consume = (list(times) for times in zip(*pairs, strict=True))
        skipped = min(4 * workers, len(consume) // 2)

        pace = simulate_loader(produce, consume, workers)

        assert pace >= np.mean(consume[skipped:]) - 1e-9
        assert pace <= (sum(produce) + sum(consume)) / (len(consume) - skipped) + 1e-9

    @given(st.floats(0.01, 10), st.floats(0.01, 10), st.integers(1, 8))
    def test_more_workers_never_slow_equal_batches_down(self, produce, consume, workers):
        few = simulate_loader([produce] * 200, [consume] * 200, workers)
        more = simulate_loader([produce] * 200, [consume] * 200, workers + 1)

        assert more <= few * 1.05

    @pytest.mark.parametrize(("produce", "consume"), [([], []), ([1.0], [1.0, 2.0])])
    def test_refuses_series_that_do_not_match(self, produce, consume):
        with pytest.raises(ValueError, match="each batch"):
            simulate_loader(produce, consume, 1)
