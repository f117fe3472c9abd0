"""Curves over steps: the same points however a run is cut, and never a number not measured."""

import math
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import NO_LOADER, MachineSample, ProcessSample, Sample
from trainprof.profiler.model.run import STEP_COLUMNS, Steps
from trainprof.reports.tensorboard.curves import Curves
from trainprof.reports.tensorboard.means import bucket_start, bucket_starts

MS = 1_000_000


def steps(first, count, wall_ns=10 * MS, samples=4, flags=0, **phases):
    columns = {name: array("q", [0]) * count for name in STEP_COLUMNS}
    for place in range(count):
        step = first + place
        values = {"index": step, "start_ns": step * wall_ns, "wall_ns": wall_ns, "flags": flags}
        values |= {f"{name}_ns": value for name, value in phases.items()}
        values["samples"] = samples
        values["residual_ns"] = wall_ns - sum(phases.values())
        for name, value in values.items():
            columns[name][place] = value
    return Steps(columns)


def by_name(points):
    curves = {}
    for point in points:
        for name, value in point.values.items():
            curves.setdefault(name, []).append((point.step, point.at_ns, value))
    return curves


def look(at_ns, busy, pid=7, rss=100, cpu_s=0.0, read=None):
    machine = MachineSample(cpu_busy_share=busy, disk_read_total_bytes=read)
    return Sample(at_ns, machine, (ProcessSample(pid, 1, "python", cpu_s, rss, 1, "running"),))


def test_the_first_1024_steps_have_a_point_each_and_100_000_steps_4366():
    starts = bucket_starts(np.arange(100_000))
    assert len(np.unique(starts)) == 4366
    assert starts[:1024].tolist() == list(range(1024))
    assert starts[1024:1028].tolist() == [1024, 1024, 1026, 1026]
    assert starts[-1] == 99_968


@given(st.integers(0, 2**52))
def test_one_step_and_many_steps_fall_into_the_same_buckets(step):
    assert bucket_start(step) == bucket_starts(np.array([step]))[0]
    assert bucket_start(bucket_start(step)) == bucket_start(step) <= step


def test_means_of_many_steps_are_sums_over_sums():
    curves = Curves(7)
    first = steps(0, 1024, data_wait=4 * MS)
    fast, slow = steps(1024, 1, data_wait=4 * MS), steps(1025, 1, wall_ns=30 * MS, data_wait=MS)
    points = [point for part in (first, fast, slow) for point in curves.add_steps(part)]
    found = by_name([*points, *curves.finish()])
    assert found["step/seconds"][-1] == (1025, 1026 * 30 * MS, pytest.approx(0.020))
    assert found["phase_share/data_wait"][-1][2] == pytest.approx(5 / 40)
    assert found["step/steps_per_s"][-1][2] == pytest.approx(50)
    assert found["step/samples_per_s"][-1][2] == pytest.approx(8 / 0.040)
    assert found["phase_seconds/data_wait"][0] == (0, 10 * MS, 0.004)


def test_phases_sum_to_the_step():
    curves = Curves(7)
    points = [*curves.add_steps(steps(0, 3, forward=2 * MS, backward=3 * MS)), *curves.finish()]
    for point in points:
        shares = [point.values.get(f"phase_share/{name}", 0.0) for name in PHASES]
        assert sum(shares) == pytest.approx(1)


def test_what_was_not_measured_has_no_point():
    curves = Curves(7)
    found = by_name(
        [
            *curves.add_steps(steps(0, 2, samples=-1, flags=NO_LOADER, data_wait=MS)),
            *curves.add_steps(steps(2, 1, data_wait=MS)),
            *curves.finish(),
        ]
    )
    assert [step for step, _, _ in found["phase_share/data_wait"]] == [2]
    assert [step for step, _, _ in found["step/samples_per_s"]] == [2]
    assert "phase_share/checkpoint" not in found
    assert "loss" not in found


def test_losses_keep_nan_and_infinity_and_wait_for_their_step():
    curves = Curves(7)
    losses = [(0, 1.0), (0, 3.0), (1, math.nan), (2, math.inf), (2, 1.0)]
    assert list(curves.add_losses(losses)) == []
    points = [*curves.add_steps(steps(0, 3)), *curves.add_losses([]), *curves.finish()]
    found = by_name(points)["loss"]
    assert found[0] == (0, 10 * MS, 2.0)
    assert math.isnan(found[1][2])
    assert found[2] == (2, 30 * MS, math.inf)


def test_looks_at_the_machine_are_means_over_a_step():
    curves = Curves(7)
    list(curves.add_steps(steps(0, 3)))
    looks = [
        look(2 * MS, 0.2, read=0),
        look(8 * MS, 0.4, rss=300, cpu_s=0.003, read=600),
        look(25 * MS, None, read=500),
    ]
    found = by_name([*curves.add_samples(looks), *curves.finish()])
    assert found["machine/cpu_busy_share"] == [(0, 8 * MS, pytest.approx(0.3))]
    assert found["training/resident_bytes"] == [(0, 8 * MS, 200), (2, 25 * MS, 100)]
    assert found["training/cpu_cores"] == [(0, 8 * MS, pytest.approx(0.5))]
    assert found["machine/disk_read_bytes_per_s"] == [(0, 8 * MS, pytest.approx(100_000))]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=5), st.integers(0, 3))
def test_cut_into_pieces_a_run_has_the_same_points(pieces, late):
    count = sum(pieces)
    losses = [(step, 1 / (step + 1)) for step in range(count)]
    whole = Curves(7)
    all_at_once = [
        *whole.add_steps(steps(0, count, forward=MS)),
        *whole.add_losses(losses),
        *whole.finish(),
    ]
    growing, points, done, told = Curves(7), [], 0, 0
    for piece in pieces:
        points += growing.add_steps(steps(done, piece, forward=MS))
        done += piece
        until = max(done - late, told)
        points += growing.add_losses(losses[told:until])
        told = until
    points += growing.add_losses(losses[told:])
    points += growing.finish()
    assert by_name(points) == by_name(all_at_once)
