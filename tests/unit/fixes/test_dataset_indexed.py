"""Batches by one index: the same batches in the same order, or the usual way."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")

from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset  # noqa: E402

from trainprof.rules.fixes.same_values import same_values  # noqa: E402

X = torch.randn(70, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(70)


class Mine(Dataset):
    """Rows of several kinds."""

    def __init__(self):
        self.x, self.array, self.classes = X, X.double().numpy(), Y.numpy()
        self.labels, self.weights = Y.tolist(), [0.5 * i for i in range(70)]

    def __len__(self):
        return 70


class Tuples(Mine):
    def __getitem__(self, i):
        """A row."""
        return self.x[i], self.array[i], self.classes[i], self.labels[i], self.weights[i]


class Dicts(Mine):
    def __getitem__(self, index):
        return {"x": self.x[index], "label": self.labels[index]}


class Single(Mine):
    def __getitem__(self, i):
        return self.array[i]


def batches(dataset, **options):
    torch.manual_seed(3)
    loader = DataLoader(dataset, batch_size=8, shuffle=True, **options)
    return [batch for _ in range(2) for batch in loader] + [torch.rand(1)]


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(X, Y),
        Subset(Subset(TensorDataset(X, Y), range(60)), range(0, 60, 2)),
        Tuples(),
        Dicts(),
        Single(),
        Subset(Tuples(), list(range(40))),
    ],
    ids=lambda one: type(one).__name__,
)
def test_batches_stay_the_same(apply, dataset):
    plain = batches(dataset)
    applied = apply("dataset-indexed")
    assert same_values(torch, batches(dataset), plain)
    active, seen, reason = applied.read()
    assert (active, reason) == (True, None)
    assert seen["batches"] == len(plain) - 1
    assert 0 < seen["checked"] < seen["batches"] or seen["batches"] < 9


def test_in_workers(apply):
    plain = batches(TensorDataset(X, Y), num_workers=2)
    applied = apply("dataset-indexed")
    assert same_values(torch, batches(TensorDataset(X, Y), num_workers=2), plain)
    assert applied.read()[:2] == (True, {"batches": 18, "checked": 16})


def test_data_that_is_replaced_between_epochs(apply):
    apply("dataset-indexed")
    dataset = Tuples()
    loader = DataLoader(dataset, batch_size=35)
    for epoch in range(3):
        dataset.x = X + epoch
        assert torch.equal(torch.cat([batch[0] for batch in loader]), X + epoch)


def test_a_row_that_does_not_exist(apply):
    apply("dataset-indexed")
    with pytest.raises(IndexError):
        list(DataLoader(TensorDataset(X), sampler=[3, 99], batch_size=2))


def test_a_batch_that_differs(apply, monkeypatch):
    from trainprof.rules.fixes.indexed_rows import Indexed

    applied = apply("dataset-indexed")
    monkeypatch.setattr(Indexed, "batch", lambda self, indices: [X[: len(indices)]])
    loader = DataLoader(TensorDataset(X), sampler=range(69, -1, -1), batch_size=7)
    assert torch.equal(torch.cat([batch for (batch,) in loader]), X.flip(0))
    reason = "a batch came out other than the data set makes it"
    assert applied.read() == (False, {"batches": 1, "checked": 1}, reason)


def loaded(what, loader="DataLoader(data, batch_size=8)"):
    return f"""
        class Rows(Dataset):
            def __init__(self):
                self.x = torch.arange(64.0)
                self.names = ["a"] * 64

            def __len__(self):
                return 64

            def __getitem__(self, i):
                return {what}

        data = Rows()
        print(sum(len(batch) for batch in {loader}))
    """


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (loaded("self.x[i] * 2"), "its __getitem__ does more than return rows"),
        (loaded("self.x[i + 0]"), "its __getitem__ does more than return rows"),
        (loaded("self.names[i]"), "it holds a list, not a tensor or an array"),
        (
            loaded("self.x[i]", "DataLoader(data, batch_size=8, collate_fn=list)"),
            "the loader has a collate function of its own",
        ),
        (
            loaded("self.x[i]", "DataLoader(data, batch_size=None, sampler=[[0]] * 64)"),
            "the loader does not make batches of samples with a number",
        ),
        (
            loaded(
                "self.x[i]",
                "DataLoader(TensorDataset(torch.ones(64, requires_grad=True)), batch_size=1)",
            ),
            "its tensors are no plain numbers",
        ),
        (
            loaded("self.x[i]", "DataLoader(TensorDataset(torch.ones(64, device='meta')))"),
            "its rows lie on meta",
        ),
    ],
)
def test_what_is_refused(apply, run_script, script, reason):
    applied = apply("dataset-indexed")
    assert run_script(script) == ["64"]
    assert applied.read() == (False, {"batches": 0, "checked": 0}, reason)


TRAINS = """
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(640, 8), torch.randn(640, 1))
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(2):
        for x, y in DataLoader(data, batch_size=64, shuffle=True):
            loss = (model(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(loss.item())
"""


def test_losses_are_equal(apply, run_script):
    plain = run_script(TRAINS)
    applied = apply("dataset-indexed")
    assert run_script(TRAINS) == plain
    assert applied.read()[0] is True


def test_it_is_advised_for_tensors_in_memory():
    from trainprof.profiler.model.signals import Signal, Signals
    from trainprof.rules.catalogue.data.workers_needless import WorkersNeedless

    case = WorkersNeedless.fires_on[0]
    values = {
        name: Signal(value[0], low=value[1], high=value[2])
        if isinstance(value, tuple)
        else Signal(value)
        for name, value in case.signals.items()
    }
    (finding,) = WorkersNeedless().check(Signals(values))
    assert [advice.fix for advice in finding.fixes] == ["loader-workers", "dataset-indexed"]
