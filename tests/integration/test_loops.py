"""The loop shapes people really write: steps, micro-batches, validation, loaders and ranks.

Each script prints, as its last line, what should be seen of it. `validation_in` lists the steps
that hold a validation; `validation_before` those that one precedes, at the end of an epoch, where
it may count to the step before it or after it.
"""

import json
from itertools import pairwise

import pytest

from trainprof.profiler.model.phases import PHASE_INDEX, PHASES
from trainprof.profiler.model.records import COMPILED, PARTIAL

TICK_NS = 100
"""Unit of the times in a run folder."""


@pytest.fixture(scope="session")
def expected(loop_pair):
    """What the script says of itself."""
    plain, _ = loop_pair
    assert plain.status == 0, plain.stderr
    return json.loads(plain.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def trainers(loop_pair):
    """The processes that trained, each with its steps as records."""
    _, profiled = loop_pair
    assert profiled.status == 0, profiled.stderr
    return profiled.trainers


def steps_of(trainer):
    return [trainer.steps.record(position) for position in range(len(trainer.steps))]


def updates_of(trainer):
    return [step for step in steps_of(trainer) if not step.flags & PARTIAL]


def with_phase(trainer, phase):
    """Numbers of the updates in which a phase took any time."""
    index = PHASE_INDEX[phase]
    return {number for number, step in enumerate(updates_of(trainer)) if step.phases_ns[index] > 0}


def test_one_step_per_update(trainers, expected):
    counts = [len(updates_of(trainer)) for trainer in trainers]
    processes = expected.get("ranks") or expected.get("trainers") or 1
    wanted = [expected["steps"]] * processes if expected["steps"] else []
    assert counts == wanted


def test_unfinished_accumulation_is_a_partial_step(trainers, expected):
    for trainer in trainers:
        partial = [step for step in steps_of(trainer) if step.flags & PARTIAL]
        assert len(partial) == expected.get("partial", 0)


def test_micro_batches(trainers, expected):
    wanted = expected.get("micro_batches", 1)
    for trainer in trainers:
        seen = [step.micro_batches for step in updates_of(trainer)]
        assert seen == (wanted if isinstance(wanted, list) else [wanted] * len(seen))


def test_samples(trainers, expected):
    if "samples" not in expected:
        pytest.skip("the script does not say how large its batches are")
    for trainer in trainers:
        assert {step.samples for step in updates_of(trainer)} == {expected["samples"]}


def test_phases_sum_to_the_step(trainers):
    for trainer in trainers:
        for step in steps_of(trainer):
            assert min(step.phases_ns) >= 0, dict(zip(PHASES, step.phases_ns, strict=True))
            assert sum(step.phases_ns) == pytest.approx(step.wall_ns, rel=0.001)


def test_steps_leave_no_gap(trainers, expected):
    """Between two asks everything belongs to a step: none may overlap the next one."""
    for trainer in trainers:
        steps = steps_of(trainer)
        for step, following in pairwise(steps):
            end = step.start_ns + step.wall_ns
            assert abs(following.start_ns - end) <= 2 * TICK_NS


def test_every_step_computes(trainers, expected):
    """A cut in the wrong place leaves a step without its forward or its backward."""
    if "batches" in expected:
        pytest.skip("batches whose update is skipped")
    for trainer in trainers:
        backward = with_phase(trainer, "backward") | with_phase(trainer, "optimizer")
        assert backward == set(range(expected["steps"]))


def test_validation_is_carved_out(trainers, expected):
    inside = set(expected.get("validation_in", ()))
    before = set(expected.get("validation_before", ()))
    last = expected["steps"] - 1
    for trainer in trainers:
        seen = with_phase(trainer, "validation")
        between = {step for number in before for step in (number - 1, number)}
        # What follows the last update may lie behind the last step.
        assert inside - {last} <= seen
        assert seen <= inside | between | ({last} if inside or before else set())
        for number in before - {0}:
            assert seen & {number - 1, number}, f"no validation between {number - 1} and {number}"


@pytest.mark.parametrize("phase", ["checkpoint", "logging", "gc"])
def test_phases_of_the_loop_are_where_they_were_planted(trainers, expected, phase):
    if f"{phase}_in" not in expected:
        pytest.skip(f"the script does not say where its {phase} is")
    planted = set(expected[f"{phase}_in"])
    possible = planted | set(expected.get(f"{phase}_maybe_in", ()))
    last = expected["steps"] - 1
    for trainer in trainers:
        seen = with_phase(trainer, phase)
        assert planted - {last} <= seen <= possible


def test_no_checkpoint_is_invented(trainers, expected):
    if "checkpoint_in" not in expected:
        for trainer in trainers:
            assert with_phase(trainer, "checkpoint") == set()


def test_phases_that_must_be_present(trainers, expected):
    for phase in expected.get("present", ()):
        for trainer in trainers:
            assert with_phase(trainer, phase) == set(range(expected["steps"]))


def test_loaders_are_recognised(trainers, expected):
    if "training_length" not in expected and "iterable" not in expected:
        pytest.skip("the script does not say what it trains on")
    for trainer in trainers:
        facts = [fact.data for fact in trainer.latest_facts("loader").values()]
        training = [fact for fact in facts if fact.get("role") == "training"]
        validation = [fact for fact in facts if fact.get("role") == "validation"]
        if expected.get("iterable"):
            assert [fact["iterable"] for fact in training] == [True]
            assert training[0]["num_workers"] == expected["workers"]
        elif expected["training_length"] is None:
            assert training == []
        else:
            lengths = [fact["dataset_length"] for fact in training]
            assert lengths == [expected["training_length"]]
        if "validation_length" in expected:
            lengths = [fact["dataset_length"] for fact in validation]
            assert lengths == [expected["validation_length"]]


def test_loaders_are_found_in_the_source(loop, trainers, expected):
    if expected.get("training_length") is None or loop.needs:
        pytest.skip("no loader, or one that a library makes")
    for trainer in trainers:
        for fact in trainer.latest_facts("loader").values():
            where = fact.data["where"]
            assert where["file"].endswith(loop.script)


def test_ranks(loop_pair, expected):
    _, profiled = loop_pair
    sessions = profiled.run.sessions
    if "ranks" in expected:
        assert len(sessions) == 1
        ranks = sorted(trainer.info.rank for trainer in sessions[0].trainers)
        assert ranks == list(range(expected["ranks"]))
    else:
        assert len(sessions) == (expected.get("trainers", 1) if expected["steps"] else 0)


def test_workers_are_not_trainers(loop_pair, expected):
    _, profiled = loop_pair
    if "workers" not in expected:
        pytest.skip("a loader without workers")
    (session,) = profiled.run.sessions
    # Workers are started anew in each of the two epochs.
    assert len(session.workers) == 2 * expected["workers"]


def test_compilation_is_seen(trainers, expected):
    for trainer in trainers:
        compiled = [step for step in steps_of(trainer) if step.flags & COMPILED]
        assert bool(compiled) == bool(expected.get("compiled"))


def test_losses_are_read(loop, loop_pair, trainers):
    if loop.name not in ("plain", "lbfgs", "cycled_loader"):
        pytest.skip("it prints more than one loss per backward")
    plain, _ = loop_pair
    printed = [float(line) for line in plain.stdout.splitlines()[:-1]]
    (trainer,) = trainers
    read = {loss.step: loss.value for loss in reversed(trainer.losses)}  # the first of each step
    assert [read[step] for step in range(len(printed))] == pytest.approx(printed, rel=1e-6)


def test_diagnosis_counts_the_steps(loop_pair, expected):
    _, profiled = loop_pair
    steps = profiled.diagnosis["steps"]
    if expected["steps"]:
        assert steps["count"] >= expected["steps"]
        shares = sum(phase["share"] for phase in steps["phases"].values())
        assert shares == pytest.approx(1, abs=0.001)
    else:
        assert profiled.diagnosis["verdict"] == "insufficient"
        assert steps["count"] == 0
