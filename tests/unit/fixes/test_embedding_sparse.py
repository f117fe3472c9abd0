"""The gradient of a table holds the rows of the batch, as long as only its optimizer wants it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import clip_grad_norm_  # noqa: E402

from trainprof.profiler.model.plan import Target  # noqa: E402

OPTIM = torch.optim


class Net(nn.Module):
    table = nn.Embedding

    def __init__(self, **options):
        super().__init__()
        self.items = self.table(50, 8, **options)
        self.head = nn.Linear(8, 1)

    def forward(self, rows):
        return self.head(self.items(rows).mean(dim=1)).squeeze(1)


class Tied(Net):
    def forward(self, rows):
        return super().forward(rows) + self.items.weight.sum()


class Bag(Net):
    table = nn.EmbeddingBag

    def forward(self, rows):
        return self.head(self.items(rows)).squeeze(1)


def train(kind=Net, optimizer=lambda p: OPTIM.SGD(p, lr=0.5), between=None, steps=6, **options):
    torch.manual_seed(0)
    model = kind(**options)
    chosen = optimizer(list(model.parameters()))
    losses = []
    for _ in range(steps):
        rows = torch.randint(0, 50, (16, 3))
        loss = (model(rows) - rows.float().mean(1) / 50).square().mean()
        chosen.zero_grad()
        loss.backward()
        if between is not None:
            between(model)
        chosen.step()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("kind", [Net, Bag])
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: OPTIM.SGD(p, lr=0.5),
        lambda p: OPTIM.SGD(p, lr=0.5, foreach=True),
        lambda p: OPTIM.Adagrad(p, lr=0.1),
    ],
    ids=["sgd", "foreach", "adagrad"],
)
def test_gradients_are_sparse_and_it_learns_alike(apply, kind, optimizer):
    plain, before = train(kind, optimizer)
    applied = apply("embedding-sparse", {"sparse": True})
    losses, model = train(kind, optimizer)
    assert losses == pytest.approx(plain, rel=1e-5)
    torch.testing.assert_close(model.items.weight, before.items.weight)
    unheard = torch._C.TensorBase.grad.__get__(model.items.weight)
    assert unheard.is_sparse
    assert applied.read() == (True, {"sparse": True, "gradients": 6}, None)


def test_everything_is_as_before_at_the_end(apply):
    applied = apply("embedding-sparse")
    _, model = train()
    applied.undo()
    assert type(model.items.weight) is nn.Parameter
    assert model.items.sparse is False
    assert not model.items.weight.grad.is_sparse


def clip(model):
    clip_grad_norm_(model.parameters(), 1.0)


def log(model):
    return [parameter.grad.abs().max().item() for parameter in model.parameters()]


@pytest.mark.parametrize("between", [clip, log])
def test_a_gradient_that_is_read_is_dense(apply, between):
    plain, _ = train(between=between)
    applied = apply("embedding-sparse")
    losses, model = train(between=between)
    assert losses == pytest.approx(plain, rel=1e-5)
    assert model.items.sparse is False
    active, seen, reason = applied.read()
    assert (active, seen["gradients"]) == (False, 0)
    assert reason.startswith("the script reads the table's gradient at")


@pytest.mark.parametrize(
    ("kind", "optimizer", "options", "reason"),
    [
        (Net, lambda p: OPTIM.Adam(p), {}, "Adam updates all rows at each step"),
        (Net, lambda p: OPTIM.SGD(p, lr=0.5, momentum=0.9), {}, "SGD with momentum"),
        (Net, lambda p: OPTIM.SGD(p, lr=0.5, weight_decay=0.1), {}, "SGD with weight_decay"),
        (Net, lambda p: OPTIM.SGD(p, lr=0.5, fused=True), {}, "SGD with fused"),
        (Net, lambda p: OPTIM.SGD(p, lr=0.5), {"max_norm": 1.0}, "max_norm"),
        (Net, lambda p: OPTIM.SGD(p, lr=0.5), {"scale_grad_by_freq": True}, "scale_grad_by_freq"),
        (Bag, lambda p: OPTIM.SGD(p, lr=0.5), {"mode": "max"}, "maximum"),
        (Tied, lambda p: OPTIM.SGD(p, lr=0.01), {}, "used elsewhere too"),
    ],
    ids=["adam", "momentum", "decay", "fused", "max_norm", "frequency", "maximum", "tied"],
)
def test_what_needs_all_rows_is_left_alone(apply, kind, optimizer, options, reason):
    plain, _ = train(kind, optimizer, **options)
    applied = apply("embedding-sparse")
    losses, model = train(kind, optimizer, **options)
    assert losses == pytest.approx(plain, rel=1e-5)
    assert model.items.sparse is False
    active, _, why = applied.read()
    assert active is False
    assert reason in why


def test_a_table_that_two_optimizers_hold(apply):
    applied = apply("embedding-sparse")
    other = []

    def two(parameters):
        other.append(OPTIM.SGD(parameters[:1], lr=0.1))
        return OPTIM.SGD(parameters, lr=0.5)

    train(optimizer=two)
    assert applied.read()[2] == "several optimizers hold the table"


def test_two_tables_are_not_guessed_between(apply):
    applied = apply("embedding-sparse")
    first = nn.Embedding(4, 2)
    second = nn.Embedding(4, 2)
    OPTIM.SGD([first.weight, second.weight], lr=0.1)
    assert applied.fix._chosen.ambiguous
    (first(torch.tensor([1])) + second(torch.tensor([1]))).sum().backward()


def test_a_script_without_a_table(apply):
    assert apply("embedding-sparse").read()[::2] == (False, "the script makes no embedding")


class TwoTables(Net):
    def __init__(self, **options):
        super().__init__(**options)
        self.users = nn.Embedding(50, 8)

    def forward(self, rows):
        users = self.users(rows[:, :1]).mean(dim=(1, 2))
        return super().forward(rows) + users


def test_of_two_tables_the_one_that_is_looked_up_at_the_line(apply):
    line = TwoTables.forward.__code__.co_firstlineno + 1
    applied = apply("embedding-sparse", {"sparse": True}, Target(__file__, line))
    _, model = train(TwoTables)
    assert applied.read()[0] is True
    assert (model.users.sparse, model.items.sparse) == (True, False)
