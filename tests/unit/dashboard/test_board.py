"""What the dashboard keeps of a run."""

import math

import pytest
from run_writer import SHARES, STARTED_UNIX_S, RunWriter

from trainprof.profiler.model.diagnosis import Diagnosis, PhaseTime, RunSummary, StepSummary
from trainprof.profiler.store.tail import RunTail
from trainprof.profiler.store.tune_progress import TuneProgress
from trainprof.reports.dashboard.board import LIVE_S, Board
from trainprof.reports.dashboard.history import History
from trainprof.reports.dashboard.panels import (
    data_line,
    loss_line,
    sparkline,
    step_lines,
    title_line,
    verdict_line,
)
from trainprof.reports.dashboard.views import stack_lines
from trainprof.reports.live_diagnosis import FIRST_DIAGNOSIS_STEPS


def _board(run, now_s=6.0, status="running"):
    board = Board(run.folder)
    board.take(RunTail(run.folder).look())
    board.tick(STARTED_UNIX_S + now_s, status)
    return board


def test_live_is_what_the_last_seconds_held(tmp_path):
    run = RunWriter(tmp_path / "run").steps(100).flush()  # from 1 s to 6 s
    live = _board(run).live(_board(run).chosen())
    assert live.rate == pytest.approx(100 / 5, rel=0.01)
    assert live.step_s == pytest.approx(0.05)
    for phase, share in SHARES.items():
        assert live.shares[phase] == pytest.approx(share, abs=0.001)


def test_a_wait_that_is_too_short_for_a_legend_is_told_beside_its_label(tmp_path):
    shares = {"data_wait": 0.004, "forward": 0.9}
    run = RunWriter(tmp_path / "run").steps(100, shares=shares).flush()
    board = _board(run)
    assert "0.4 % of the step" in data_line(board, 80).plain
    phases = {name: PhaseTime(share, 0.05 * share) for name, share in shares.items()}
    summary = RunSummary(status="complete")
    steps = StepSummary(100, 90, 0.05, phases=phases)
    board = _board(run, status="complete")
    board.diagnosis = Diagnosis(1, "run", summary, "healthy", "", steps)
    assert "0.4 % of the step" in data_line(board, 80).plain


def test_old_steps_are_not_live(tmp_path):
    run = RunWriter(tmp_path / "run").steps(20).flush()
    board = _board(run, now_s=2.0 + LIVE_S + 5)
    assert board.live(board.chosen()).rate == 0
    assert board.live(board.chosen()).step_s is None


def test_a_training_that_stands_still_is_told(tmp_path):
    run = RunWriter(tmp_path / "run").steps(20).flush()
    assert "no step for 1 min" not in step_lines(_board(run, 3.0), 80)[0].plain
    assert "no step for 2 min 58 s" in step_lines(_board(run, 180.0), 80)[0].plain


def test_the_present_of_a_finished_run_is_its_end(tmp_path):
    run = RunWriter(tmp_path / "run").steps(100).flush()
    board = _board(run, now_s=10_000.0, status="complete")
    assert board.now_s == pytest.approx(6.0)


def test_a_crash_is_told_in_the_words_of_the_report(tmp_path):
    run = RunWriter(tmp_path / "run", status="crashed", exit_status=137)
    board = _board(run.steps(100).flush(), status="crashed")
    assert "crashed, killed by SIGKILL after 6 s" in title_line(board, 80).plain
    run.write_info(exit_status=1)
    assert "crashed with exit status 1 after" in title_line(_board(run, 6.0, "crashed"), 80).plain


def test_a_diagnosis_is_only_said_to_be_under_way_once_there_are_steps_enough(tmp_path):
    run = RunWriter(tmp_path / "run").steps(FIRST_DIAGNOSIS_STEPS - 1).flush()
    told = "The first diagnosis comes after 50 steps."
    assert verdict_line(_board(run)).plain == told
    assert verdict_line(_board(run, status="complete")).plain == "The run is being diagnosed …"
    assert verdict_line(_board(run.steps(1).flush())).plain == "The run is being diagnosed …"


def test_ranks_are_chosen_in_a_circle(tmp_path):
    run = RunWriter(tmp_path / "run", ranks=3)
    for rank in range(3):
        run.steps(10, rank=rank)
    board = _board(run.flush())
    seen = []
    for _ in range(5):
        seen.append(board.selected)
        board.select(1)
    assert seen == [None, 0, 1, 2, None]
    board.select(-2)
    assert board.selected == 2
    assert [one.rank for one in board.chosen()] == [2]


def test_the_chosen_rank_stays_chosen_in_each_trial_that_has_it(tmp_path):
    def follow(board, name, ranks):
        run = RunWriter(tmp_path / name, ranks=ranks)
        board = board.follow(TuneProgress(tmp_path, run.folder))
        tail, seen = RunTail(run.folder), []
        for rank in range(ranks):  # one after the other
            run.steps(10, rank=rank).flush()
            board.take(tail.look())
            seen.append(board.selected)
        return board, seen

    board, _ = follow(Board(tmp_path), "first", 2)
    board.select(-1)
    assert board.selected == 1
    board, seen = follow(board, "second", 2)
    assert seen == [None, 1]
    assert [one.rank for one in board.chosen()] == [1]
    board, seen = follow(board, "of one process", 1)
    assert seen == [None]
    assert len(board.chosen()) == 1
    board, seen = follow(board, "fourth", 2)
    assert seen == [None, 1]
    board.select(1)
    _, seen = follow(board, "all again", 2)
    assert seen == [None, None]


def test_only_the_training_that_began_last_counts(tmp_path):
    run = RunWriter(tmp_path / "run").steps(10)
    run.writers.append(run._process(1, 1))  # no rank: a training of its own
    run.next_step.append(0)
    run.next_start_ns.append(run.next_start_ns[0] + 5_000_000_000)
    run.steps(3, rank=1).flush()
    board = _board(run, 8.0)
    assert len(board.ranks) == 2
    assert [one.steps for one in board.training()] == [3]


def test_a_sum_of_what_one_second_held_is_nothing_that_took_a_second(tmp_path):
    run = RunWriter(tmp_path / "run").steps(20)
    run.event("gc", 1.0, 1.0, count=[1, 0, 0], total_ns=[196_472, 0, 0], manual=[0, 0, 0])
    run.event("gc", 1.5, 0.04, generation=2, collected=10, manual=False)
    run.flush()
    assert [round(one.at_s, 1) for one in _board(run).events] == [1.5]


def test_a_loss_that_is_nan_is_shown_and_not_averaged(tmp_path):
    run = RunWriter(tmp_path / "run").steps(20, loss=2.0).steps(1, loss=math.nan).flush()
    board = _board(run)
    assert loss_line(board, 80).plain.endswith("nan now · means 2 to 2")
    assert {value for value in board.loss_means() if value is not None} == {2.0}


def test_rates_of_the_machine_come_from_its_counters(tmp_path):
    run = RunWriter(tmp_path / "run")
    for second in range(3):
        run.sample(second, processes=[(100, second * 0.5)], disk_read_total_bytes=second * 1000)
    board = _board(run.flush())
    assert board.machine.gauges["disk"].value == pytest.approx(1000)
    assert board.machine.process_cpu[100].value == pytest.approx(0.5)
    assert "network" not in board.machine.gauges  # not measured is no zero


def test_gauges_stand_in_the_same_order_whatever_the_first_sample_held(tmp_path):
    run = RunWriter(tmp_path / "run")
    memory = {"memory_total_bytes": 8 << 30, "memory_available_bytes": 6 << 30}
    run.sample(0, cpu=None, gpus=(0.5,), **memory)  # what needs two samples comes later
    for second in (1, 2):
        counted = {"disk_read_total_bytes": second, "net_sent_total_bytes": second}
        run.sample(second, cpu=0.5, gpus=(0.5,), **memory, **counted)
    labels = [one.label for one in _board(run.flush()).machine.ordered()]
    assert labels == ["CPU", "memory", "disk", "network", "GPU 0", "GPU 0 mem"]


def test_a_value_that_is_no_longer_measured_is_not_shown(tmp_path):
    run = RunWriter(tmp_path / "run")
    run.sample(0, cpu=0.5)
    run.sample(1, cpu=None)
    assert _board(run.flush()).machine.gauges["cpu"].value == 0.5
    run.sample(9, cpu=None)
    assert _board(run.flush()).machine.gauges["cpu"].value is None


def test_a_history_keeps_its_sum_however_long():
    history = History(0.0, most=8)
    for second in range(1000):
        history.add(second, 3.0)
    rates = history.rates(1000.0)
    assert len(rates) <= 8
    assert rates[0] == pytest.approx(3.0)
    assert history.means()[0] == pytest.approx(3.0)


def test_a_sparkline_tells_gaps_from_zero():
    assert sparkline([0.0, None, 1.0], 10) == "▁·█"
    assert sparkline([1.0] * 100, 10) == "█" * 10
    assert sparkline([], 10) == ""


def test_values_that_are_too_large_to_add_are_whole_bars(tmp_path):
    assert sparkline([0.0, math.inf, 1.0], 10) == "▁██"
    run = RunWriter(tmp_path / "run")
    for loss in (1e308, 1.5e308):  # of one second: their sum is infinite
        run.steps(1, loss=loss)
    board = _board(run.steps(20, loss=1.0).flush())
    assert loss_line(board, 80).plain.endswith("1 now · means 1 to 1")


def test_hot_stacks_name_the_users_frames_first_and_none_of_ours():
    stack = "main (/a/train.py:7);wrap (/x/profiler/agent/hooks.py:3);get (/lib/data.py:27)"
    diagnosis = Diagnosis(
        schema=1,
        source="run",
        run=RunSummary(status="running"),
        verdict="healthy",
        headline="",
        steps=StepSummary(1, 1),
        stacks={"data_wait": {stack: 3}},
    )
    (line,) = stack_lines(diagnosis)
    assert line.plain.strip() == "100 % data wait: get (data.py:27) < main (train.py:7)"
