"""Samples that are kept: the same batches in the same order, or a refusal that says why."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, Dataset, Subset  # noqa: E402

from trainprof.rules.fixes import cached_samples  # noqa: E402
from trainprof.rules.fixes.same_values import same_values  # noqa: E402

PARAMS = {"bytes": 100_000}


class Prepared(Dataset):
    """Counts how often samples are prepared, outside of itself."""

    made: list = []  # noqa: RUF012

    def __len__(self):
        return 40

    def __getitem__(self, index):
        Prepared.made.append(index)
        picture = torch.full((4, 3, 2), float(index)).permute(2, 0, 1)
        return {"picture": picture, "label": index, "name": f"scan {index}"}


def batches(dataset, epochs=3, **options):
    torch.manual_seed(3)
    loader = DataLoader(dataset, batch_size=8, shuffle=True, **options)
    return [batch for _ in range(epochs) for batch in loader] + [torch.rand(1)]


@pytest.mark.parametrize("dataset", [Prepared(), Subset(Prepared(), range(39, -1, -1))])
def test_batches_stay_the_same(apply, dataset):
    plain = batches(dataset)
    applied = apply("dataset-cache", PARAMS)
    Prepared.made = []
    assert same_values(torch, batches(dataset), plain)
    assert len(Prepared.made) == 40 + 2 * 8
    assert applied.read() == (True, {"kept": 40, "looked_up": 80, "compared": 16}, None)


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_share_what_is_kept(apply, persistent):
    options = {"num_workers": 2, "persistent_workers": persistent}
    plain = batches(Prepared(), **options)
    applied = apply("dataset-cache", PARAMS)
    assert same_values(torch, batches(Prepared(), **options), plain)
    active, seen, _ = applied.read()
    assert active is True
    assert (seen["kept"], seen["looked_up"]) == (40, 80)


def test_a_batch_that_is_written_to_leaves_what_is_kept(apply):
    apply("dataset-cache", PARAMS)
    for _ in range(3):
        for picture in DataLoader(Pictures(), batch_size=None, sampler=range(20)):
            assert picture.count_nonzero() == 6
        loader = DataLoader(Pictures(), batch_size=1, collate_fn=lambda samples: samples[0])
        for picture in loader:
            assert picture.count_nonzero() == 6
            picture.zero_()


class Pictures(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.ones(2, 3)


def test_disk_takes_what_memory_does_not(apply, monkeypatch):
    monkeypatch.setattr(cached_samples, "host_memory", lambda: (20_000, 40_000))
    applied = apply("dataset-cache", PARAMS)
    plain = batches(Prepared())
    assert applied.read()[1]["looked_up"] == 80
    applied.undo()
    assert same_values(torch, batches(Prepared()), plain)


Usage = namedtuple("Usage", "total used free")


def test_samples_that_do_not_fit(apply, monkeypatch):
    monkeypatch.setattr(cached_samples, "host_memory", lambda: (20_000_000, 40_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 10_000_000))
    applied = apply("dataset-cache", {"bytes": 90_000_000})
    batches(Prepared())
    reason = "all samples take 99 MB, half of what is free is 10 MB of memory and 5 MB of disk"
    assert applied.read()[::2] == (False, reason)


ROWS = """
    class Rows({base}):
        {more}

        def __init__(self):
            self.x = torch.arange(64.0)[:, None].repeat(1, 4)
            self.epoch = 0
            self.generator = None
            {init}

        def __len__(self):
            return {length}

        def __getitem__(self, index):
            {first}
            return {item}

    torch.manual_seed(0)
    data = Rows()
    loader = DataLoader(data, batch_size=8, shuffle=True{options})
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(3):
        {between}
        for rows in loader:
            loss = model(torch.as_tensor(rows).float().view(-1, 4)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(loss.item())
"""
PLAIN = {
    "base": "Dataset",
    "more": "pass",
    "init": "pass",
    "length": "64",
    "first": "pass",
    "item": "self.x[index] * 2",
    "options": "",
    "between": "pass",
}


def trained(run_script, **changes):
    return run_script(ROWS.format(**{**PLAIN, **changes}))


def test_losses_are_equal(apply, run_script):
    plain = trained(run_script)
    applied = apply("dataset-cache")
    assert trained(run_script) == plain
    assert applied.read() == (True, {"kept": 64, "looked_up": 128, "compared": 18}, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"item": "self.x[index] + torch.rand(4)"}, "its samples draw random numbers"),
        ({"item": "self.x[index] + random.random()"}, "its samples draw random numbers"),
        (
            {
                "init": "import numpy; self.r = numpy",
                "item": "self.x[index] + self.r.random.rand()",
            },
            "its samples draw random numbers",
        ),
        (
            {
                "init": "self.noise = random.Random(0)",
                "item": "self.x[index] + self.noise.random()",
            },
            "the data set has a random generator of its own (noise)",
        ),
        (
            {"first": "self.epoch += 1", "item": "self.x[index] + self.epoch"},
            "the data set changes when it is read (epoch)",
        ),
        (
            {"between": "data.epoch = epoch", "item": "self.x[index] + self.epoch"},
            "the script changes the data set between epochs (epoch)",
        ),
        (
            {"between": "data.x.mul_(0.5)"},
            "the script changes the data set between epochs (x)",
        ),
        (
            {"init": "self.rows = self.x.tolist()", "item": "torch.tensor(self.rows[index])"}
            | {"between": "data.rows[20:] = [[epoch] * 4] * 44"},
            "a sample came out otherwise the second time",
        ),
        (
            {"first": "Rows.read = Rows.read + 1", "more": "read = 0"}
            | {"item": "self.x[index] + Rows.read"},
            "a sample came out otherwise the second time",
        ),
        (
            {
                "item": "frozenset([index])",
                "options": ", collate_fn=lambda b: torch.ones(len(b), 4)",
            },
            "its samples hold a builtins.frozenset, which are not kept",
        ),
        (
            {"more": "def __getitems__(self, chosen): return [self.x[i] for i in chosen]"},
            "the data set makes whole batches itself",
        ),
        (
            {"base": "IterableDataset", "options": ""}
            | {"more": "def __iter__(self): return iter(self.x)"},
            "the data set is a stream, its samples have no number",
        ),
        (
            {"between": "loader = DataLoader(Rows(), batch_size=8); loaders = loaders + [loader]"},
            "the script makes new data sets again and again",
        ),
    ],
)
def test_what_is_refused(apply, run_script, changes, reason):
    body = ROWS
    if "base" in changes:
        body = body.replace(", shuffle=True", "")
    if "loaders" in changes.get("between", ""):
        body = body.replace("range(3)", "range(6)").replace("data = Rows()", "loaders = []")
        lines = body.splitlines()
        body = "\n".join(line for line in lines if not line.startswith("    loader = "))
    body = seeded(body.format(**{**PLAIN, **changes}))
    plain = run_script(body)
    applied = apply("dataset-cache", PARAMS)
    assert run_script(body) == plain
    assert applied.read()[::2] == (False, reason)


def seeded(body):
    return "\n    random.seed(0)\n    __import__('numpy').random.seed(0)\n" + body


def test_an_array_without_a_dimension(apply, run_script):
    applied = apply("dataset-cache", PARAMS)
    trained(run_script, init="import numpy; self.scale = numpy.array(0.5)")
    assert applied.read()[0] is True


def test_workers_that_are_spawned(apply):
    applied = apply("dataset-cache", PARAMS)
    loader = DataLoader(Prepared(), num_workers=1, multiprocessing_context="spawn")
    applied.fix._on_loader(loader)
    assert applied.read()[::2] == (False, "workers that are not forked share no memory")


def test_one_epoch_looks_nothing_up(apply):
    applied = apply("dataset-cache", PARAMS)
    batches(Prepared(), epochs=1)
    assert applied.read()[::2] == (None, "no sample was asked for a second time yet")
