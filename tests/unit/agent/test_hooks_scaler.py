"""Skipped updates are counted from outside; a scaler that is off, and fused steps, are not."""

from time import perf_counter_ns

import pytest
import torch
from torch import nn

from trainprof.profiler.agent import hooks_scaler
from trainprof.profiler.agent import marks as m


@pytest.fixture
def collector(hooks):
    return hooks.install(hooks_scaler)


def train(hooks, factors, *, enabled=True, **settings):
    """One update for each factor of the loss; an infinite one overflows."""
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, **settings)
    optimizer.register_step_post_hook(lambda *_: hooks.recorder.updated(m.OPTIMIZER_END))
    scaler = torch.amp.GradScaler("cpu", enabled=enabled)
    results = []
    for factor in factors:
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(2, 4)).sum() * factor).backward()
        results.append(scaler.step(optimizer))
        scaler.update()
    return results


INF = float("inf")


def test_skipped_updates_are_counted_once_a_scale_works(hooks, collector):
    train(hooks, [INF, INF, 1.0, INF, 1.0, 1.0])
    (event,) = collector.take_events()
    assert event.kind == "scaler"
    assert event.data == {"steps": 6, "skipped": 1, "searching": 2, "untold": 0}
    assert collector.take_events() == []
    train(hooks, [INF])
    (event,) = collector.take_events()
    assert event.data == {"steps": 1, "skipped": 1, "searching": 0, "untold": 0}


def test_an_event_spans_its_updates_and_nothing_before(hooks, collector):
    """Else a short training would own a part of it only, and of its counts."""
    before_ns = perf_counter_ns()
    train(hooks, [1.0, INF, 1.0])
    after_ns = perf_counter_ns()
    (event,) = collector.take_events()
    assert before_ns < event.start_ns < event.start_ns + event.duration_ns < after_ns
    train(hooks, [1.0])
    (event,) = collector.take_events()
    assert event.start_ns > after_ns
    assert event.duration_ns >= 1


def test_what_a_fused_step_does_is_not_told(hooks, collector):
    train(hooks, [1.0, INF], fused=True)
    (event,) = collector.take_events()
    assert event.data == {"steps": 2, "skipped": 0, "searching": 0, "untold": 2}


def test_a_scaler_that_is_off_skips_nothing(hooks, collector):
    train(hooks, [1.0, 1.0], enabled=False)
    assert collector.take_events() == []


def test_the_result_of_the_step_is_handed_on(hooks, collector):
    assert train(hooks, [1.0, INF]) == [None, None]


def test_what_steps_raise_passes(hooks, collector):
    scaler, model = torch.amp.GradScaler("cpu"), nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler.scale(model(torch.ones(1, 2)).sum()).backward()
    optimizer.zero_grad()
    with pytest.raises(AssertionError, match="No inf checks"):
        scaler.step(optimizer)
    assert collector.take_events() == []


def test_cost(hooks, collector, nanoseconds_per_call):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    counted = nanoseconds_per_call(lambda: collector._count(scaler, optimizer, True))
    assert counted < 10_000
