"""Each phase's time agrees with what the script's own clock says of the cost planted in it.

The truth is the script's stamps around each plant, never the nominal time of a sleep: on a busy
machine both the script and trainprof see the plant take longer.
"""

import json
import statistics
import sys

import pytest

from trainprof.profiler.model.phases import PHASE_INDEX

RELATIVE = 0.05
ABSOLUTE_S = 0.2e-3
"""Tolerance: 5 % or 0.2 ms per step, whichever is larger."""

PREEMPTED = 10
"""One step in so many may lose its CPU between trainprof's clock and the script's: left out."""

PLANTS = {
    "busy": ("planted_costs.py", "--how", "busy"),
    "sleep": ("planted_costs.py", "--how", "sleep"),
    "waits": ("planted_waits.py",),
}
PHASES_OF = {
    "planted_costs.py": (
        "data_wait",
        "forward",
        "loss",
        "backward",
        "optimizer",
        "checkpoint",
        "logging",
        "validation",
        "residual",
    ),
    "planted_waits.py": ("data_wait", "forward", "loss", "backward", "optimizer", "gc"),
}


@pytest.fixture(scope="module", params=sorted(PLANTS))
def planted(request, profile, loops_folder, tmp_path_factory):
    """The script's name, its stamps per step, and the steps that trainprof saw."""
    script, *arguments = PLANTS[request.param]
    stamps = tmp_path_factory.mktemp("stamps") / "stamps.json"
    command = [sys.executable, loops_folder / script, *arguments, "--stamps", stamps]
    profiled = profile(command)
    assert profiled.status == 0, profiled.stderr
    (trainer,) = profiled.trainers
    steps = [trainer.steps.record(position) for position in range(len(trainer.steps))]
    return script, json.loads(stamps.read_text()), steps


def test_every_step_is_there(planted):
    _, stamps, steps = planted
    assert len(steps) == len(stamps)


@pytest.mark.parametrize("phase", sorted({name for names in PHASES_OF.values() for name in names}))
def test_phase_agrees_with_the_stamps(planted, phase):
    script, stamps, steps = planted
    if phase not in PHASES_OF[script]:
        pytest.skip(f"{script} plants nothing in {phase}")
    index = PHASE_INDEX[phase]
    # The first step of everything imports and allocates between the two clocks; the last one may
    # end with its update, and what the script did after it is in no step.
    pairs = [
        (step.phases_ns[index] / 1e9, stamp.get(phase, 0.0))
        for step, stamp in zip(steps[1:-1], stamps[1:-1], strict=True)
    ]
    planted_in = quietest([pair for pair in pairs if pair[1]])
    measured_s = statistics.fmean(measured for measured, _ in planted_in)
    stamped_s = statistics.fmean(stamped for _, stamped in planted_in)
    assert measured_s == pytest.approx(stamped_s, rel=RELATIVE, abs=ABSOLUTE_S)
    # And not only on average: a cost booked one step late would pass the mean.
    typical_s = statistics.median(abs(measured - stamped) for measured, stamped in planted_in)
    assert typical_s <= max(RELATIVE * stamped_s, ABSOLUTE_S)
    for measured, _ in quietest([pair for pair in pairs if not pair[1]]):
        assert measured <= ABSOLUTE_S


def quietest(pairs):
    """All but the tenth of the pairs whose two times differ most."""
    ordered = sorted(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    return ordered[: len(ordered) - round(len(ordered) / PREEMPTED)]


def test_nothing_else_takes_time(planted):
    """Phases in which nothing was planted stay empty."""
    script, _, steps = planted
    idle = set(PHASE_INDEX) - set(PHASES_OF[script]) - {"residual", "gc", "logging"}
    for phase in idle:
        mean_s = statistics.fmean(step.phases_ns[PHASE_INDEX[phase]] for step in steps) / 1e9
        assert mean_s <= ABSOLUTE_S, phase
