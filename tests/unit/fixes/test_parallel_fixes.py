"""DistributedDataParallel's settings, and all of its fixes in a script of two ranks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402


@pytest.fixture(autouse=True)
def alone(tmp_path):
    """A process group of this process only."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Branches(nn.Module):
    """Uses its second layer where it is told to."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 1), nn.Linear(8, 1)
        self.both = True

    def forward(self, x):
        return self.first(x) + self.second(x) if self.both else self.first(x)


def train(both, **options):
    """One update for each entry; the weights at the end."""
    torch.manual_seed(0)
    model = DistributedDataParallel(Branches(), **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for now in both:
        model.module.both = now
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
    return [one.detach().clone() for one in model.parameters()]


def same(ones, others):
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


def test_the_size_of_buckets(apply):
    plain = train([True] * 3)
    applied = apply("bucket-size", {"bucket_cap_mb": 50})
    assert same(train([True] * 3), plain)
    assert applied.read() == (True, {"bucket_cap_mb": 50}, None)


def test_buckets_of_their_own(apply):
    applied = apply("bucket-size", {"bucket_cap_mb": 50})
    train([True], bucket_cap_mb_list=[1, 2])
    assert applied.read()[::2] == (False, "each bucket has a size of its own")


def test_gradients_are_views(apply):
    plain = train([True] * 3)
    applied = apply("ddp-flags", {"gradient_as_bucket_view": True})
    assert same(train([True] * 3), plain)
    assert applied.read() == (True, {"gradient_as_bucket_view": True}, None)
    model = DistributedDataParallel(nn.Linear(8, 1), gradient_as_bucket_view=True)
    model(torch.randn(4, 8)).sum().backward()
    gradient = model.module.weight.grad
    assert gradient._is_view()
    assert gradient.detach_() is gradient  # as old loops do before they set it to zero
    graph = torch.ones(2, requires_grad=True) * 2
    assert graph.detach_().requires_grad is False


def test_the_search_ends_where_there_is_nothing_to_find(apply):
    plain = train([True] * 9, find_unused_parameters=True)
    applied = apply("ddp-flags", {"find_unused_parameters": False})
    assert same(train([True] * 9, find_unused_parameters=True), plain)
    assert applied.read() == (True, {"find_unused_parameters": False}, None)


def test_a_parameter_that_is_left_out_later(apply):
    both = [True] * 7 + [False, True, False, True]
    plain = train(both, find_unused_parameters=True)
    applied = apply("ddp-flags", {"find_unused_parameters": False})
    assert same(train(both, find_unused_parameters=True), plain)
    active, seen, reason = applied.read()
    assert (active, seen) == (False, {"find_unused_parameters": False})
    assert reason == "a later step left parameters out; they were averaged as with the search"


@pytest.mark.parametrize(
    ("both", "options", "reason"),
    [
        ([True, False] * 5, {"find_unused_parameters": True}, "a backward left parameters out"),
        ([True] * 9, {}, "it does not search for unused parameters"),
        (
            [True] * 9,
            {"find_unused_parameters": True, "static_graph": True},
            "static_graph=True knows them already",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:You passed find_unused_parameters=true")
def test_where_the_search_goes_on(apply, both, options, reason):
    plain = train(both, **options)
    applied = apply("ddp-flags", {"find_unused_parameters": False})
    assert same(train(both, **options), plain)
    active, _, why = applied.read()
    assert active is False
    assert why.startswith(reason)


def test_fewer_backwards_than_are_watched(apply):
    applied = apply("ddp-flags", {"find_unused_parameters": False})
    train([True] * 3, find_unused_parameters=True)
    assert applied.read()[::2] == (None, "the first backwards are watched only")


TWO_RANKS = """
import gc
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

torch.set_num_threads(1)
dist.init_process_group("gloo", timeout=__import__("datetime").timedelta(seconds=40))
rank = dist.get_rank()

class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, x, both):
        return self.first(x) + self.second(x) if both else self.first(x)

def batches(seed):
    torch.manual_seed(seed)
    return [torch.randn(8, 16) for _ in range(14)]

def accumulate(last, model, data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(5):
        for index, x in enumerate(data):
            loss = model(x).square().mean() / 4
            loss.backward()
            if (index + 1) % 4 == 0 or (last and index + 1 == len(data)):
                nn.utils.clip_grad_norm_(model.parameters(), 0.05)
                optimizer.step()
                optimizer.zero_grad()
    return total(model)

def branch(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for step, x in enumerate(batches(rank)):
        both = step < 7 or (step != 10 and (rank == 0 or step % 2 == 0))
        model(x, both).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return total(model)

def total(model):
    return sum(parameter.double().sum().item() for parameter in model.parameters())

def make(kind):
    torch.manual_seed(0)
    return kind() if kind is Branches else nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 1))

def told(mine, reference):
    totals = [None, None]
    dist.all_gather_object(totals, mine)
    if rank == 0:
        print(*totals, reference)

for last in (True, False):  # at the end of an epoch: an update of two micro-batches, or no update
    mine = accumulate(last, DistributedDataParallel(make(None)), batches(rank))  # buckets
    both = [torch.cat(pair) for pair in zip(batches(0), batches(1))]
    told(mine, accumulate(last, make(None), both) if rank == 0 else None)
mine = branch(DistributedDataParallel(make(Branches), find_unused_parameters=True))  # flags
told(mine, branch(DistributedDataParallel(make(Branches), find_unused_parameters=True)))
gc.collect()  # of the models: gloo's thread must end before the interpreter, or torch 2.13 aborts
dist.destroy_process_group()
"""


def line(mark):
    lines = TWO_RANKS.splitlines()
    return next(number for number, text in enumerate(lines, 1) if text.endswith(mark))


def test_two_ranks_compute_what_they_did_before(tmp_path):
    from trainprof.profiler.store.reader import read_run

    (tmp_path / "train.py").write_text(TWO_RANKS)
    fixes = [
        "no-sync",
        f"bucket-size:bucket_cap_mb=1,at=train.py:{line('# buckets')}",
        f"ddp-flags:find_unused_parameters=false,at=train.py:{line('# flags')}",
    ]
    ranks = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"]
    trainprof = [sys.executable, "-m", "trainprof", "run", "--out", "run", "--quiet", "--no-probe"]
    options = ["--no-stacks", "--trace", "off", *(word for fix in fixes for word in ("--fix", fix))]
    done = subprocess.run(
        [*trainprof, *options, "--", sys.executable, "-m", *ranks],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    lines = [text.split() for text in done.stdout.splitlines()]
    assert len(lines) == 3
    for one, other, reference in lines:
        assert one == other  # the ranks stay equal
        assert float(one) == pytest.approx(float(reference), rel=1e-5)
    sessions = read_run(tmp_path / "run").sessions
    trainers = [trainer for session in sessions for trainer in session.trainers]
    assert len(trainers) == 2
    for trainer in trainers:
        facts = {fact.data["fix"]: fact.data for fact in trainer.latest_facts("fix").values()}
        assert facts["no-sync"]["active"] is True
        assert facts["no-sync"]["seen"]["averaged_at_update"] == 5
        assert facts["bucket-size"]["seen"] == {"bucket_cap_mb": 1}
        assert facts["ddp-flags"]["reason"].startswith("a later step left parameters out")
