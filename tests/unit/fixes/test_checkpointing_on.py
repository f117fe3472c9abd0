"""Blocks that keep much compute it again; losses are the same to the last bit."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils import checkpoint as library  # noqa: E402


class Block(nn.Module):
    def __init__(self, extra=None):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Dropout(0.2), nn.Linear(64, 8))
        self.extra = extra or nn.Identity()
        self.runs = 0

    def forward(self, x, *, scale=1.0):
        self.runs += 1
        return self.extra(x + scale * self.body(x))


class Net(nn.Module):
    def __init__(self, make=Block):
        super().__init__()
        self.stem, self.head = nn.Linear(4, 8), nn.Linear(8, 1)
        self.blocks = nn.ModuleList(make() for _ in range(3))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, scale=0.5)
        return self.head(x).squeeze(1)


class WithItsOwn(Net):
    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = library.checkpoint(block, x, use_reentrant=False)
        return self.head(x).squeeze(1)


def train(kind=Net, make=Block, steps=4, prepare=lambda model: None):
    torch.manual_seed(0)
    model = kind(make)
    prepare(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        x = torch.randn(16, 4)
        loss = (model(x) - x.sum(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


def kept_bytes(model):
    """What a forward in training keeps for its backward."""
    kept = {}

    def count(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(torch.randn(512, 4)).sum()
    return sum(kept.values())


def test_blocks_run_again_and_the_losses_are_equal(apply):
    plain, before = train()
    before_bytes = kept_bytes(before)
    applied = apply("checkpointing-on")
    losses, model = train()
    assert losses == plain
    assert [block.runs for block in model.blocks] == [1 + 2 * 3] * 3
    active, seen, reason = applied.read()
    assert (active, seen["blocks"], seen["calls"], reason) == (True, 3, 9, None)
    assert 0.5 * seen["of_bytes"] < seen["bytes"] < seen["of_bytes"]
    assert kept_bytes(model) < 0.4 * before_bytes


def test_validation_runs_once(apply):
    apply("checkpointing-on")
    _, model = train()
    runs = model.blocks[0].runs
    model.eval()(torch.randn(2, 4))
    with torch.no_grad():
        model.train()(torch.randn(2, 4))
    assert model.blocks[0].runs == runs + 2


def hook(model):
    for block in model.blocks:
        block.register_forward_hook(lambda module, args, out: None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"make": lambda: Block(nn.BatchNorm1d(8))}, "changes its buffers (BatchNorm)"),
        ({"prepare": hook}, "the script hooks a block"),
        ({"kind": WithItsOwn}, "the script checkpoints itself"),
        ({"kind": lambda make: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))}, "no blocks in a"),
    ],
    ids=["norm", "hooks", "its own", "no blocks"],
)
def test_what_must_not_run_twice(apply, options, reason):
    plain, _ = train(**options)
    applied = apply("checkpointing-on")
    assert train(**options)[0] == plain
    active, seen, why = applied.read()
    assert (active, seen["calls"]) == (False, 0)
    assert reason in why


def test_nothing_was_called_yet(apply):
    assert apply("checkpointing-on").read()[0] is None
