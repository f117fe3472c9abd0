"""Checkpointed calls are counted, and their second runs timed."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils import checkpoint as library  # noqa: E402

from trainprof.profiler.agent import hooks_recompute  # noqa: E402


class Stack(nn.Module):
    """Blocks of which each is checkpointed."""

    def __init__(self, blocks=3):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(blocks))

    def forward(self, x, reentrant=False):
        for block in self.blocks:
            x = library.checkpoint(block, x, use_reentrant=reentrant).relu()
        return x


def only(events):
    (event,) = events
    return event


@pytest.mark.parametrize("reentrant", [False, True])
def test_counts_calls_and_second_runs(hooks, reentrant):
    collector = hooks.install(hooks_recompute)
    model = Stack()

    for _ in range(2):
        model(torch.ones(2, 4, requires_grad=True), reentrant).sum().backward()
    event = only(collector.take_events())

    assert (event.data["calls"], event.data["recomputed"]) == (6, 6)
    assert 0 < event.data["total_ns"] < event.duration_ns
    assert event.data["where"]["function"] == "forward"
    assert collector.take_events() == []


def test_a_forward_without_backward_repeats_nothing(hooks):
    collector = hooks.install(hooks_recompute)

    with torch.no_grad():
        Stack()(torch.ones(2, 4))

    assert only(collector.take_events()).data["recomputed"] == 0


def test_a_second_run_inside_another_is_part_of_it(hooks):
    collector = hooks.install(hooks_recompute)
    model = Stack(2)
    out = library.checkpoint(model, torch.ones(2, 4, requires_grad=True), use_reentrant=False)

    out.sum().backward()
    event = only(collector.take_events())

    assert event.data["total_ns"] < event.duration_ns
    assert event.data["recomputed"] == 3  # the outer one, then both inner ones by themselves


def test_gradients_are_those_of_an_unwatched_model(hooks):
    hooks.install(hooks_recompute)
    watched, plain = Stack(), Stack()
    watched(torch.ones(2, 4)).sum().backward()
    hooks.uninstall()
    plain(torch.ones(2, 4)).sum().backward()

    for one, other in zip(watched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_can_be_taken_back_and_keeps_its_name(hooks):
    original = library.checkpoint
    hooks.install(hooks_recompute)
    assert library.checkpoint is not original
    assert library.checkpoint.__name__ == "checkpoint"
    hooks.uninstall()
    assert library.checkpoint is original


def test_sequential_checkpoints_are_seen(hooks):
    collector = hooks.install(hooks_recompute)
    layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    x = torch.ones(2, 4, requires_grad=True)

    library.checkpoint_sequential(layers, 2, x, use_reentrant=False).sum().backward()

    assert only(collector.take_events()).data["calls"] >= 1


def test_an_error_in_the_function_passes_through(hooks):
    hooks.install(hooks_recompute)

    def fails(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        library.checkpoint(fails, torch.ones(1), use_reentrant=False)


def test_compiled_checkpoints_break_no_graph(hooks):
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    hooks.install(hooks_recompute)
    model = torch.compile(Stack(2), backend="aot_eager", fullgraph=True)

    model(torch.ones(2, 4)).sum().backward()

    assert not counters["graph_break"]
    torch._dynamo.reset()
    counters.clear()
