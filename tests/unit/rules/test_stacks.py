"""From sampled stacks to the sentence under a finding."""

import dataclasses

import pytest
from builders import MS, START_NS, build_run, build_steps, build_trainer, build_worker

from trainprof.profiler.model.diagnosis import Evidence, Finding
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import Event
from trainprof.profiler.model.run import PhaseStates
from trainprof.profiler.model.stacks import (
    Frame,
    Holder,
    LockWindow,
    Stacks,
    StackSample,
    StackWindow,
)
from trainprof.rules.diagnose import diagnose
from trainprof.rules.phase_stacks import WORKER, collapse, gather, hot_spot
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training
from trainprof.rules.stack_evidence import explain, spent_in
from trainprof.rules.stack_phases import is_users, library_call, phase_of

SITE = "/env/lib/python3.11/site-packages"
LOADER = Frame("_BaseDataLoaderIter.__next__", f"{SITE}/torch/utils/data/dataloader.py", 700)
FETCH = Frame("_MapDatasetFetcher.fetch", f"{SITE}/torch/utils/data/_utils/fetch.py", 50)
CALL = Frame("Module._call_impl", f"{SITE}/torch/nn/modules/module.py", 1700)
LOSS = Frame("MSELoss.forward", f"{SITE}/torch/nn/modules/loss.py", 600)
BACKWARD = Frame("Tensor.backward", f"{SITE}/torch/_tensor.py", 600)
STEP = Frame("SGD.step", f"{SITE}/torch/optim/sgd.py", 120)
HOOK = Frame("DataHooks.ask", "/env/trainprof/profiler/agent/hooks_training.py", 9)
MAIN = Frame("main", "/home/somebody/train.py", 40)
ITEM = Frame("Pictures.__getitem__", "/home/somebody/data.py", 42)
DECODE = Frame("ImageFile.load", f"{SITE}/PIL/ImageFile.py", 300)
WAIT = Frame("Queue.get", "/usr/lib/python3.11/multiprocessing/queues.py", 113)
PERIOD_NS = 50 * MS


def sampled(*parts, pid=100, thread=1, start_ns=START_NS):
    """Samples one after the other: (looks, frames)."""
    samples, now = [], start_ns
    for looks, frames in parts:
        samples.append(StackSample(now, looks * PERIOD_NS, pid, thread, tuple(frames)))
        now += looks * PERIOD_NS
    return samples


def run_with(samples, phases=None, *, workers=(), events=(), steps=200):
    trainer = build_trainer(build_steps(steps, phases or {"data_wait": 30.0, "forward": 20.0}))
    trainer = replace_info(trainer, thread=1, events=tuple(events))
    window = StackWindow(START_NS, START_NS + 10_000 * MS, PERIOD_NS, "py-spy")
    stacks = Stacks(tuple(samples), (window,))
    return dataclasses.replace(build_run(trainer, workers=workers), stacks=stacks)


def replace_info(record, *, thread, **fields):
    return dataclasses.replace(
        record, info=dataclasses.replace(record.info, thread=thread), **fields
    )


def training_of(run):
    return Training(run, run.sessions[0])


@pytest.mark.parametrize(
    ("frames", "phase"),
    [
        ([MAIN, LOADER, FETCH, ITEM], "data_wait"),
        ([MAIN, HOOK, LOADER, WAIT], "data_wait"),
        ([MAIN, LOADER, FETCH, ITEM, CALL], "data_wait"),
        ([MAIN, CALL, CALL], "forward"),
        ([MAIN, CALL, LOSS], "loss"),
        ([MAIN, BACKWARD, CALL], "backward"),
        ([MAIN, STEP], "optimizer"),
        ([MAIN, STEP, MAIN, CALL], "forward"),
        ([MAIN, STEP, MAIN, BACKWARD], "backward"),
        ([MAIN, Frame("LRScheduler.step", f"{SITE}/torch/optim/lr_scheduler.py", 1)], "residual"),
        ([MAIN, Frame("save", f"{SITE}/torch/serialization.py", 900)], "checkpoint"),
        ([MAIN, Frame("load", f"{SITE}/torch/serialization.py", 900)], "residual"),
        ([MAIN, Frame("Logger.info", "/usr/lib/python3.11/logging/__init__.py", 9)], "logging"),
        ([MAIN], "residual"),
        ([], "residual"),
    ],
)
def test_the_phase_is_told_by_the_frames(frames, phase):
    assert phase_of(frames)[0] == phase


@pytest.mark.parametrize(
    ("file", "users"),
    [
        ("/home/somebody/train.py", True),
        ("train.py", True),
        ("/home/lib/train.py", True),
        (f"{SITE}/torch/nn/modules/module.py", False),
        ("/usr/lib/python3/dist-packages/yaml/__init__.py", False),
        ("/usr/lib/python3.13t/json/decoder.py", False),
        ("<frozen importlib._bootstrap>", False),
        ("/env/trainprof/profiler/agent/agent.py", False),
        ("", False),
    ],
)
def test_the_users_own_files(file, users):
    assert is_users(Frame("f", file, 1)) is users


def test_a_library_is_named_with_its_function():
    assert library_call(DECODE) == "PIL's load"
    assert library_call(Frame("loads", "/usr/lib/python3.11/json/__init__.py", 1)) == "json's loads"
    assert library_call(ITEM) is None


def test_the_innermost_function_that_holds_half_is_named():
    helper = Frame("decode", "/home/somebody/data.py", 12)
    run = run_with(
        sampled(
            (60, [MAIN, LOADER, FETCH, ITEM, helper, DECODE]),
            (20, [MAIN, LOADER, FETCH, ITEM]),
            (20, [MAIN, LOADER, FETCH]),
            (50, [MAIN, CALL]),
        )
    )
    spot = hot_spot(gather(training_of(run))["data_wait"])
    assert (spot.where.file, spot.where.line) == ("/home/somebody/data.py", 12)
    assert spot.where.function == "decode"
    assert spot.share == pytest.approx(0.6)
    assert spot.call == "PIL's load"
    assert spot.looks == 100


def test_the_largest_is_named_where_none_holds_half():
    others = [Frame(f"f{place}", "/home/somebody/data.py", place) for place in range(4)]
    run = run_with(
        sampled(
            (40, [MAIN, LOADER, FETCH, ITEM]),
            *((20, [MAIN, LOADER, FETCH, one]) for one in others),
        )
    )
    spot = hot_spot(gather(training_of(run))["data_wait"])
    assert spot.where.function == "Pictures.__getitem__"
    assert spot.share == pytest.approx(1 / 3)


def test_few_looks_say_nothing():
    run = run_with(sampled((19, [MAIN, LOADER, FETCH, ITEM])))
    assert hot_spot(gather(training_of(run))["data_wait"]) is None


def test_a_phase_without_the_users_functions_says_nothing():
    run = run_with(sampled((100, [MAIN, STEP])))
    assert hot_spot(gather(training_of(run))["optimizer"]) is None


def test_other_threads_and_processes_do_not_count():
    other = sampled((50, [MAIN]), thread=2) + sampled((50, [MAIN]), pid=55)
    assert gather(training_of(run_with(other))) == {}


def test_what_lies_in_a_validation_is_validation():
    validation = Event("validation", START_NS + 50 * PERIOD_NS, 100 * PERIOD_NS)
    run = run_with(
        sampled((50, [MAIN, LOADER, FETCH, ITEM]), (50, [MAIN, LOADER, FETCH, ITEM])),
        events=[validation],
    )
    phases = gather(training_of(run))
    assert {name: phase.total_ns // PERIOD_NS for name, phase in phases.items()} == {
        "data_wait": 50,
        "validation": 50,
    }


def test_workers_speak_for_the_wait_they_cause():
    own = sampled((50, [MAIN, LOADER, WAIT]), (100, [MAIN, CALL]))
    theirs = sampled(
        (40, [MAIN, FETCH, ITEM, DECODE]), (10, [MAIN, WAIT]), (100, [MAIN, WAIT]), pid=200
    )
    worker = replace_info(build_worker([]), thread=1)
    run = run_with(own + theirs, workers=[worker])
    signals = measure(training_of(run))
    (evidence,) = spent_in(signals, "data_wait")
    assert evidence.value == (
        "80 % of the workers' time during the wait for batches is spent in "
        "Pictures.__getitem__, data.py:42, in PIL's load"
    )
    lines = diagnose(run).stacks["data_wait"]
    assert sum(time for line, time in lines.items() if line.startswith(WORKER.function)) == 2_500


def test_the_sentence_goes_under_the_finding_about_the_phase():
    run = run_with(sampled((83, [MAIN, LOADER, FETCH, ITEM, DECODE]), (17, [MAIN, LOADER, FETCH])))
    signals = measure(training_of(run))
    finding = Finding("x", "warn", "t", "s", (Evidence("step.data_wait_share", 0.6, "share"),))
    other = Finding("y", "warn", "t", "s", (Evidence("loss.count", 3, "count"),))
    explained, untouched = explain([finding, other], signals)
    assert explained.evidence[-1].value == (
        "83 % of the wait for batches is spent in Pictures.__getitem__, data.py:42, in PIL's load"
    )
    assert untouched == other
    assert explain([explained], signals) == (explained,)


def test_the_rest_of_the_loop_is_named_only_where_it_is_most_of_what_frames_do_not_tell():
    samples = sampled((100, [MAIN]))
    loop = run_with(samples, {"residual": 40.0, "loss": 5.0})
    assert spent_in(measure(training_of(loop)), "residual")
    loss = run_with(samples, {"residual": 5.0, "loss": 40.0})
    assert spent_in(measure(training_of(loss)), "residual") == ()


def test_without_stacks_the_signals_say_so():
    trainer = build_trainer(build_steps(50, {"forward": 10.0}))
    run = build_run(trainer)
    signal = measure(training_of(run)).get("stacks.data_wait_where")
    assert (signal.value, signal.reason) == (None, "no stacks were sampled")
    assert diagnose(run).stacks == {}


def test_a_stack_is_one_line_of_a_flame_graph():
    strange = Frame("f;g", "/home/a;b.py", 3)
    assert collapse((WORKER, MAIN, strange)) == (
        "[DataLoader worker];main (/home/somebody/train.py:40);f,g (/home/a,b.py:3)"
    )


def test_tokenizing_in_the_loop_is_seen_in_its_stacks():
    encode = Frame("encode", "/home/somebody/train.py", 48)
    fast = Frame("encode_batch", f"{SITE}/transformers/tokenization_utils_fast.py", 500)
    samples = sampled((30, [MAIN, encode, fast]), (10, [MAIN]))
    run = run_with(samples, {"residual": 40.0, "forward": 10.0})
    signals = measure(training_of(run))
    assert signals.get("stacks.residual_token_share").value == pytest.approx(0.75)
    assert [finding.rule for finding in diagnose(run).findings] == ["data-tokenize-inloop"]


BOOT = Frame("Thread._bootstrap", "/usr/lib/python3.11/threading.py", 1002)


def locked(*holders, looks=80, states=(0.4, 0.0), main=(MAIN, CALL)):
    """A training of which half is forward, whose thread is on a CPU for a part of that."""
    steps = build_steps(400, {"forward": 10.0, "backward": 10.0}, flags=8)
    cpu = tuple(
        round(10 * MS * states[0]) if phase in ("forward", "backward") else 0 for phase in PHASES
    )
    queued = tuple(
        round(10 * MS * states[1]) if phase in ("forward", "backward") else 0 for phase in PHASES
    )
    trainer = build_trainer(
        steps,
        states=[PhaseStates(step, cpu, queued) for step in range(5, 400, 16)],
        facts=[
            ("flags", "steady", {"num_threads": 1}),
            ("model", "m0", {"devices": {"cpu": 9}, "parameter_count": 9, "trained": True}),
        ],
    )
    trainer = replace_info(trainer, thread=1)
    window = LockWindow(START_NS, START_NS + 4_000 * MS, 100, looks, tuple(holders))
    stacks = Stacks(tuple(sampled((50, main))), (), (window,))
    return dataclasses.replace(build_run(trainer), stacks=stacks)


def test_a_thread_that_holds_the_lock_while_the_training_is_blocked_is_a_finding():
    agent = Frame("Agent._work", "/env/trainprof/profiler/agent/agent.py", 160)
    run = locked(
        Holder(False, (BOOT, ITEM, DECODE), 40),
        Holder(True, (MAIN,), 20),
        Holder(False, (BOOT, agent), 3),
    )
    signals = measure(training_of(run))

    assert signals.get("lock.others_share").value == pytest.approx(0.5)
    assert signals.get("lock.compute_blocked_share").value == pytest.approx(0.6, abs=0.01)
    finding = {one.rule: one for one in diagnose(run).findings}["data-gil-threads"]
    assert finding.share == pytest.approx(0.5)
    assert (finding.where.line, finding.where.function) == (42, "Pictures.__getitem__")


@pytest.mark.parametrize(
    "values",
    [
        {"looks": 20},
        {"states": (0.97, 0.0)},
        {"states": (0.1, 0.88)},  # it waits for a CPU, not for the lock
        {"main": (BOOT, MAIN, CALL)},
    ],
    ids=str,
)
def test_where_it_may_be_otherwise_nothing_is_said(values):
    looks = values.get("looks", 80)
    run = locked(Holder(False, (BOOT, ITEM), looks // 2), **values)
    assert "data-gil-threads" not in {one.rule for one in diagnose(run).findings}
