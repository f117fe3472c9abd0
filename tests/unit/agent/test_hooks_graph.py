"""Graphs that outlive their step: the loss's own, and those of outputs that were kept."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from trainprof.profiler.agent.hooks_graph import AGE_STEPS, GraphWatch  # noqa: E402
from trainprof.profiler.agent.recorder import Recorder  # noqa: E402


def watched(train):
    """Events after a few steps; `train(step, model)` gives the loss."""
    recorder = Recorder()
    watch = GraphWatch(recorder)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    events = []
    for step in range(2 * AGE_STEPS):
        recorder.updates = step
        loss = train(step, model)
        watch.watch(loss)
        loss.backward(retain_graph=True)
        del loss
        events += watch.take_events()
    return events


def loss_of(logits):
    return torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def test_a_loop_that_keeps_nothing():
    assert watched(lambda step, model: loss_of(model(torch.ones(2, 4)))) == []


def test_losses_that_add_up():
    total = [torch.zeros(())]

    def train(step, model):
        loss = loss_of(model(torch.ones(2, 4)))
        total[0] = total[0] + loss
        return loss

    events = watched(train)

    assert len(events) == AGE_STEPS
    assert events[0].data["step_made"] == 0


def test_outputs_that_are_kept():
    kept = []

    def train(step, model):
        logits = model(torch.ones(2, 4))
        kept.append(logits)
        return loss_of(logits)

    assert len(watched(train)) == AGE_STEPS


def test_numbers_and_detached_outputs_may_be_kept():
    kept = []

    def train(step, model):
        logits = model(torch.ones(2, 4))
        loss = loss_of(logits)
        kept.append((logits.detach(), loss.item()))
        return loss

    assert watched(train) == []


def test_a_graph_that_is_used_in_each_step_is_no_leak():
    weights = torch.nn.Parameter(torch.ones(4))
    scale = weights.softmax(0)

    assert watched(lambda step, model: model(torch.ones(2, 4)).sum() * scale.sum()) == []
