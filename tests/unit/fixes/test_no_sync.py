"""One exchange of gradients per update: what is decided; the sums are those of two ranks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402


@pytest.fixture
def alone(tmp_path):
    """A process group of this process only."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def train(counts, hook=lambda model, optimizer, micro: None, **options):
    """Updates of so many micro-batches each; which of their backwards exchange gradients."""
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Linear(8, 1), **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    exchanged = []
    for count in counts:
        for micro in range(count):
            hook(model, optimizer, micro)
            model(torch.randn(4, 8)).square().mean().backward()
            exchanged.append(model.require_backward_grad_sync)
        optimizer.step()
        optimizer.zero_grad()
    return exchanged, model.module.weight.detach().clone()


def test_all_but_the_last_micro_batch_go_without(alone, apply):
    _, plain = train([4] * 6)
    applied = apply("no-sync")
    exchanged, weight = train([4] * 6)
    assert exchanged == [True] * 12 + [False, False, False, True] * 3
    assert torch.equal(weight, plain)
    assert applied.read() == (
        True,
        {"micro_batches": 4, "left_out": 9, "averaged_at_update": 0},
        None,
    )


def test_updates_that_come_later_or_earlier(alone, apply):
    _, plain = train([3, 3, 3, 5, 2, 3])
    applied = apply("no-sync")
    exchanged, weight = train([3, 3, 3, 5, 2, 3])
    assert exchanged[9:] == [False, False, True, True, True, False, False, False, False, True]
    assert torch.equal(weight, plain)
    assert applied.read()[1] == {"micro_batches": 3, "left_out": 6, "averaged_at_update": 1}


def in_no_sync(model, optimizer, micro):
    with model.no_sync():
        pass


def clears(model, optimizer, micro):
    if micro == 1:
        optimizer.zero_grad()


def clips(model, optimizer, micro):
    if micro:
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)


@pytest.mark.parametrize(
    ("counts", "hook", "reason"),
    [
        ([1] * 5, clears, "each update has one micro-batch"),
        ([2, 3] * 11, lambda *_: None, "its updates have different numbers of micro-batches"),
        ([4] * 6, in_no_sync, "the script uses no_sync() itself"),
        ([2] * 6, clears, "the script uses or changes gradients between the backwards of an"),
        ([2] * 6, clips, "the script uses or changes gradients between the backwards of an"),
    ],
)
def test_where_gradients_have_to_be_exchanged(alone, apply, counts, hook, reason):
    _, plain = train(counts, hook)
    applied = apply("no-sync")
    exchanged, weight = train(counts, hook)
    assert all(exchanged)
    assert torch.equal(weight, plain)
    active, _, why = applied.read()
    assert active is False
    assert why.startswith(reason)


def test_a_static_graph_and_an_optimizer_that_calls_the_model(alone, apply):
    applied = apply("no-sync")
    train([2] * 5, static_graph=True)
    assert applied.read()[2] == "static_graph=True takes all backwards for equal"
    model = DistributedDataParallel(nn.Linear(8, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    x = torch.randn(4, 8)

    def closure():
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    assert applied.fix._exchanges[1].refused == "the optimizer calls the model itself"
    assert model.require_backward_grad_sync is True


def test_gradients_that_are_left_over_stay_where_they_are(alone, apply):
    """What another model clips is no reason to exchange: other ranks may not come there."""
    applied = apply("no-sync")
    model = DistributedDataParallel(nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        for _ in range(2):
            model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
    model(torch.randn(4, 8)).square().mean().backward()
    nn.utils.clip_grad_norm_(nn.Linear(8, 1).parameters(), 1.0)
    assert applied.read()[1] == {"micro_batches": 2, "left_out": 2, "averaged_at_update": 0}
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert applied.read()[1]["averaged_at_update"] == 1


def test_without_a_parallel_model(apply):
    assert apply("no-sync").read()[::2] == (False, "no model is a DistributedDataParallel")
