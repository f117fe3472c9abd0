"""How long trials are: long enough to even out, and over the epoch that only prepares."""

from dataclasses import replace

import pytest

from trainprof.profiler.model.diagnosis import Diagnosis, RunSummary, StepSummary
from trainprof.profiler.model.plan import Application
from trainprof.rules.experiments.candidates import Candidate
from trainprof.rules.experiments.trial_length import TrialLength, trial_length

PLAIN = Candidate(Application("gc-freeze", {}), "loop-gc", "safe", True, None, None)
CACHE = replace(PLAIN, application=Application("dataset-cache", {}), from_second_epoch=True)


def diagnosis(mean_s, count=400, batches=None, micro_batches=None, counted=None):
    values = {"loader.batches": batches, "step.micro_batches": micro_batches}
    values["loader.batches_per_epoch"] = counted
    signals = {name: {"value": value} for name, value in values.items() if value is not None}
    steps = StepSummary(count, count - 10, mean_s)
    return Diagnosis(
        1, "run", RunSummary("stopped"), "bottleneck", "h", steps, facts={"signals": signals}
    )


@pytest.mark.parametrize(("mean_s", "steps"), [(0.05, 80), (0.001, 200), (1.0, 30)])
def test_steps_take_about_four_seconds(mean_s, steps):
    length = trial_length(diagnosis(mean_s), [PLAIN], whole=False)
    assert length == TrialLength(steps + 5, 5)


def test_a_script_that_ends_is_not_asked_for_more():
    assert trial_length(diagnosis(0.001, count=60), [PLAIN], whole=True).steps == 60


def test_the_first_epoch_is_warm_up_of_what_it_only_prepares():
    found = diagnosis(0.01, batches=50, micro_batches=2.0)
    assert trial_length(found, [PLAIN, CACHE], whole=False) == TrialLength(200 + 30, 30)
    assert trial_length(found, [PLAIN], whole=False).warm_up == 5


def test_an_iterable_data_set_has_no_length_and_its_epochs_are_counted():
    found = diagnosis(0.01, counted=51.2)
    assert trial_length(found, [CACHE], whole=False).warm_up == 5 + 52


@pytest.mark.parametrize("batches", [None, 3000])
def test_an_epoch_that_is_unknown_or_long_is_not_waited_for(batches):
    found = diagnosis(0.01, batches=batches)
    assert trial_length(found, [CACHE], whole=False).warm_up == 5


def test_queues_of_workers_fill_first_and_asked_steps_count():
    settings = [{"num_workers": 4, "prefetch_factor": 3}]
    assert trial_length(diagnosis(0.01), [], settings, whole=False, asked=40) == TrialLength(64, 24)
