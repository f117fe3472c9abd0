"""Steps and phases of every loop shape, against the times that the tape gave each phase."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainprof.profiler.agent import marks as m
from trainprof.profiler.agent.segment import Segmenter, segment
from trainprof.profiler.model import records
from trainprof.profiler.model.phases import PHASES

_spec = importlib.util.spec_from_file_location(
    "mark_loops", Path(__file__).with_name("mark_loops.py")
)
mark_loops = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mark_loops)
LOOPS = mark_loops.LOOPS
Tape = mark_loops.Tape


def totals(steps):
    """Time per phase over all steps, without the zeroes."""
    sums = {}
    for step in steps:
        for name, time in zip(PHASES, step.phases_ns, strict=True):
            if time:
                sums[name] = sums.get(name, 0) + time
    return sums


@pytest.mark.parametrize("loop", LOOPS)
def test_every_update_is_one_step(loop):
    tape, expected = LOOPS[loop]()
    assert len(segment(tape.marks)) == expected


@pytest.mark.parametrize("loop", LOOPS)
def test_phases_sum_to_the_step_and_steps_join(loop):
    steps = segment(LOOPS[loop]()[0].marks)
    for step in steps:
        assert sum(step.phases_ns) == step.wall_ns
    for before, after in pairwise(steps):
        assert before.start_ns + before.wall_ns == after.start_ns
        assert after.index == before.index + 1


@pytest.mark.parametrize("loop", LOOPS)
def test_each_phase_has_the_time_it_was_given(loop):
    """Exact, but for what lies before the first step and after the last."""
    tape, _ = LOOPS[loop]()
    steps = segment(tape.marks)
    measured = totals(steps)
    inside = sum(step.wall_ns for step in steps)
    outside = tape.now - 1_000 - inside
    for phase in set(tape.truth) | set(measured):
        missing = tape.truth[phase] - measured.get(phase, 0)
        assert 0 <= missing <= outside, (phase, tape.truth[phase], measured.get(phase, 0))
    assert outside <= 400, "no more than the iterator before and the exhausted ask after"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50])
def test_the_stream_may_arrive_in_any_pieces(loop, chunk):
    marks = LOOPS[loop]()[0].marks
    segmenter = Segmenter()
    for start in range(0, len(marks), chunk):
        segmenter.feed(marks[start : start + chunk])
    segmenter.finish()
    assert segmenter.take() == segment(marks)


@pytest.mark.parametrize("loop", ["accumulation", "fetches up front"])
def test_micro_batches_are_counted_and_recorded(loop):
    steps = segment(LOOPS[loop]()[0].marks)
    assert [step.micro_batches for step in steps] == [3] * len(steps)
    for step in steps:
        assert len(step.micro) == 3
        assert sum(part.wall_ns for part in step.micro) == step.wall_ns
        assert [part.backward_ns for part in step.micro] == [400, 400, 400]
        assert step.samples == 24


@pytest.mark.parametrize(
    "loop", ["one ahead", "gan", "lbfgs, without loader", "accuracy on the training loader"]
)
def test_a_batch_is_counted_once_however_it_is_fetched_and_used(loop):
    steps = segment(LOOPS[loop]()[0].marks)
    assert [step.micro_batches for step in steps] == [1] * len(steps)


def test_a_closure_is_one_more_micro_batch():
    steps = segment(LOOPS["accumulation with closure"]()[0].marks)
    assert [step.micro_batches for step in steps] == [2] * len(steps)


def test_evaluated_batches_are_no_training_samples():
    steps = segment(mark_loops.accuracy_on_the_training_loader()[0].marks)
    assert [step.samples for step in steps] == [8] * len(steps)


def test_an_unfinished_accumulation_is_a_partial_step():
    tape, _ = mark_loops.accumulation(updates=2, every=3, leftover=2, epochs=2)
    steps = segment(tape.marks)
    assert [bool(step.flags & records.PARTIAL) for step in steps] == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    assert [step.micro_batches for step in steps] == [3, 3, 2, 3, 3, 2]


def test_loops_without_loader_say_so():
    for loop, expected in (("without loader", True), ("plain", False), ("lbfgs", False)):
        steps = segment(LOOPS[loop]()[0].marks)
        assert all(bool(step.flags & records.NO_LOADER) is expected for step in steps), loop


def test_epoch_boundaries_are_labelled():
    steps = segment(mark_loops.plain(4, 3)[0].marks)
    assert [bool(step.flags & records.EPOCH_BOUNDARY) for step in steps] == (
        [False] * 4 + ([True] + [False] * 3) * 2
    )


def test_inferred_phases_are_marked():
    step = segment(mark_loops.plain()[0].marks)[0]
    names = {name for bit, name in enumerate(PHASES) if step.inferred >> bit & 1}
    assert names == {"loss", "optimizer"}


def test_the_last_update_by_hand_needs_no_forward_after_it():
    """An update without optimizer is noticed in the next forward, which the last one lacks."""
    tape = mark_loops.Tape()
    for step in range(5):
        if step:
            tape.mark(m.UPDATE)
        tape.forward()
        tape.loss()
        tape.backward()
        tape.spend("residual", 5)
    steps = segment(tape.marks)
    assert len(steps) == 5
    assert [bool(step.flags & records.LAST) for step in steps] == [False] * 4 + [True]


def test_training_and_validation_loaders_are_told_apart():
    for loop in ("validation in mid-epoch", "validation each epoch"):
        segmenter = Segmenter()
        segmenter.feed(LOOPS[loop]()[0].marks)
        assert segmenter.training_loaders == {mark_loops.TRAIN}


def test_a_loader_that_turns_out_to_train_ends_the_step_at_its_first_ask():
    """The second data set is only known to train once its first backward runs."""
    tape = Tape()
    tape.iterator(0)
    for _ in range(3):
        tape.micro_batch(0)
        tape.optimizer()
    tape.iterator(1)
    asked = tape.now
    for _ in range(3):
        tape.micro_batch(1)
        tape.optimizer()
    tape.exhausted(1)
    steps = segment(tape.marks)
    assert len(steps) == 6
    assert steps[3].start_ns == asked


def test_from_the_first_explicit_step_on_only_these_count():
    tape = Tape()
    tape.mark(m.STEP)
    for _ in range(4):
        for _ in range(2):
            tape.forward()
            tape.loss()
            tape.backward()
            tape.optimizer()
        tape.mark(m.STEP)
    assert len(segment(tape.marks)) == 4


def test_a_lost_closing_mark_does_not_derail_later_steps():
    """An optimizer that raises leaves no closing mark; the script catches and goes on."""
    tape, _ = mark_loops.plain(3)
    tape.batch()
    tape.forward()
    tape.loss()
    tape.backward()
    tape.mark(m.OPTIMIZER, 0)
    tape.spend("residual", 10)
    more, _ = mark_loops.plain(5)
    shift = tape.now
    shifted = [(kind, time + shift, *rest) for kind, time, *rest in more.marks]
    steps = segment([*tape.marks, *shifted])
    assert 7 <= len(steps) <= 9
    assert all(sum(step.phases_ns) == step.wall_ns for step in steps)


@pytest.mark.parametrize("with_states", [range(0), range(300), range(30, 70), range(200, 201)])
def test_repeated_steps_are_measured_as_if_each_came_alone(with_states):
    """Steps of one shape are taken many at a time: the records are those of the slow way."""
    tape, _ = mark_loops.plain(300)
    step = -1
    marks = []
    for mark in tape.marks:
        step += mark[0] == m.ASK
        marks.append((*mark, mark[1] // 2, mark[1] // 10) if step in with_states else mark)
    alone = Segmenter()
    for mark in marks:
        alone.feed([mark])
        alone._repetitions.forget()
    alone.finish()
    steps = segment(marks)
    assert steps == alone.take()
    assert len(steps) == 300


def test_thread_states_are_per_phase_where_every_mark_has_them():
    tape, _ = mark_loops.plain(3)
    marks = [(*mark, mark[1] // 2, mark[1] // 10) for mark in tape.marks]
    step = segment(marks)[1]
    assert step.phases_cpu_ns is not None
    assert step.phases_run_queue_ns is not None
    forward = PHASES.index("forward")
    assert step.phases_cpu_ns[forward] == pytest.approx(step.phases_ns[forward] / 2, abs=1)
    assert step.cpu_ns == pytest.approx(step.wall_ns / 2, abs=1)
    assert step.run_queue_ns == pytest.approx(step.wall_ns / 10, abs=1)


def test_inference_for_hours_does_not_grow():
    tape = Tape()
    segmenter = Segmenter()
    for _ in range(30):
        tape.marks = []
        for _ in range(1_000):
            tape.batch()
            tape.forward(bits=0)
        segmenter.feed(tape.marks)
    assert segmenter.count == 0
    assert len(segmenter._marks) <= 20_000
    assert segmenter.seen["asks"] >= 20_000


@pytest.mark.parametrize("portion", [1, 7, 1_000])
def test_the_updates_of_each_optimizer_are_counted(portion):
    tape = Tape()
    for number, times in ((0, 5), (1, 200), (0, 3)):
        for _ in range(times):
            tape.batch()
            tape.forward()
            tape.backward()
            tape.optimizer(number)
    segmenter = Segmenter()
    for start in range(0, len(tape.marks), portion):
        segmenter.feed(tape.marks[start : start + portion])
    segmenter.finish()
    assert segmenter.seen["updates_o0"] == 8
    assert segmenter.seen["updates_o1"] == 200


def test_a_validation_without_a_loader_is_found_by_the_switch_of_mode():
    for loop in ("validation without a loader", "validation without a loader, with gradients"):
        segmenter = Segmenter()
        segmenter.feed(LOOPS[loop]()[0].marks)
        segmenter.finish()
        assert len(segmenter.measure.validations) == 2, loop


def test_a_training_in_evaluation_mode_is_training():
    for loop in ("evaluation mode throughout", "adversarial in evaluation mode"):
        assert "validation" not in totals(segment(LOOPS[loop]()[0].marks))


def test_one_long_validation_is_one_step():
    tape = Tape()
    tape.iterator()
    tape.micro_batch()
    tape.optimizer()
    tape.validation(batches=500)
    tape.micro_batch()
    tape.optimizer()
    tape.exhausted()
    steps = segment(tape.marks)
    assert len(steps) == 2
    assert totals(steps)["validation"] > 500 * 300


PARTS = st.sampled_from(
    ["step", "log", "save", "gc", "validate", "accumulate", "epoch", "idle", "teacher"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=40), st.integers(1, 9))
def test_any_interleaving_keeps_the_laws(parts, chunk):
    """Whatever a loop does between its steps: sums hold, steps join, updates are counted."""
    tape = Tape()
    tape.iterator()
    tape.micro_batch()
    tape.optimizer()
    for part in parts:
        if part == "step":
            tape.micro_batch()
            tape.optimizer()
        elif part in ("log", "save", "gc"):
            kind = {"log": m.LOG, "save": m.SAVE, "gc": m.GC}[part]
            with tape.bracket(kind):
                tape.spend({"log": "logging", "save": "checkpoint"}.get(part, part), 70)
        elif part == "validate":
            tape.validation()
        elif part == "accumulate":
            tape.micro_batch()
            tape.micro_batch()
            tape.optimizer()
        elif part == "epoch":
            tape.exhausted()
            tape.iterator()
        elif part == "teacher":
            tape.batch()
            tape.forward(7, bits=0)
            tape.forward()
            tape.loss()
            tape.backward()
            tape.optimizer()
        else:
            tape.spend("residual", 11)
    tape.exhausted()
    segmenter = Segmenter()
    for start in range(0, len(tape.marks), chunk):
        segmenter.feed(tape.marks[start : start + chunk])
    segmenter.finish()
    steps = segmenter.take()
    assert len(steps) == tape.updates
    assert all(sum(step.phases_ns) == step.wall_ns for step in steps)
    assert all(
        before.start_ns + before.wall_ns == after.start_ns for before, after in pairwise(steps)
    )
    assert segmenter.seen["updates"] == tape.updates


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), st.integers(0, 7)), max_size=120))
def test_no_sequence_of_marks_breaks_the_segmenter(sequence):
    """Threads, exceptions and other libraries can leave any order of marks."""
    now = 0
    marks = []
    for kind, number, extra in sequence:
        now += 10
        marks.append((kind, now, number, extra))
    for step in segment(marks):
        assert sum(step.phases_ns) == step.wall_ns
        assert min(step.phases_ns) >= 0
