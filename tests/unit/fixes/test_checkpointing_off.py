"""Checkpointed functions are called directly: no second run, the same losses."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils import checkpoint as library  # noqa: E402

from trainprof.rules.fixes import checkpointing_off  # noqa: E402


class Block(nn.Module):
    """Counts how often it runs."""

    def __init__(self, norm=False):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.dropout = nn.Dropout(0.3)
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return self.dropout(self.norm(self.linear(x)).tanh())


def train(call, steps=5, norm=False):
    """Losses, and how often the block ran; `call(block, x)` is one checkpointed call."""
    torch.manual_seed(0)
    first, block, head = nn.Linear(4, 8), Block(norm), nn.Linear(8, 1)
    parts = nn.ModuleList([first, block, head])
    optimizer = torch.optim.SGD(parts.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        loss = head(call(block, first(torch.randn(16, 4)))).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, block.runs


def call_of(**options):
    return lambda block, x: library.checkpoint(block, x, **options)


@pytest.mark.parametrize("reentrant", [True, False])
def test_the_block_runs_once_and_the_losses_are_equal(apply, reentrant):
    call = call_of(use_reentrant=reentrant)
    before, runs_before = train(call)
    applied = apply("checkpointing-off")
    after, runs = train(call)
    assert (runs_before, runs) == (10, 5)
    assert after == before
    assert applied.read() == (True, {"direct": 5, "checkpointed": 0}, None)


def test_sequences_go_through_it(apply):
    def call(block, x):
        return library.checkpoint_sequential([block, nn.Tanh()], 2, x, use_reentrant=False)

    before, runs_before = train(call)
    applied = apply("checkpointing-off")
    after, runs = train(call)
    assert (runs_before, runs) == (10, 5)
    assert after == before
    assert applied.read()[0] is True


@pytest.mark.parametrize(
    ("call", "norm", "reason"),
    [
        (
            call_of(use_reentrant=False, preserve_rng_state=False),
            False,
            "draws random numbers of its own",
        ),
        (
            call_of(
                use_reentrant=False,
                context_fn=functools.partial(
                    library.create_selective_checkpoint_contexts, [torch.ops.aten.mm.default]
                ),
            ),
            False,
            "context_fn",
        ),
        (call_of(use_reentrant=False), True, "BatchNorm"),
        (
            lambda block, x: library.checkpoint(lambda y: block(y), x, use_reentrant=False),
            True,
            "BatchNorm",
        ),
        (
            lambda block, x: library.checkpoint(
                functools.partial(block.forward), x, use_reentrant=False
            ),
            True,
            "BatchNorm",
        ),
        (
            lambda block, x: library.checkpoint(block, x.detach(), use_reentrant=True),
            False,
            "use_reentrant=True trains nothing in it",
        ),
    ],
    ids=["rng", "contexts", "norm", "norm in a closure", "norm in a partial", "no gradient"],
)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_what_would_not_be_the_same_stays_checkpointed(apply, call, norm, reason):
    before = train(call, norm=norm)
    applied = apply("checkpointing-off")
    assert train(call, norm=norm) == before
    active, seen, why = applied.read()
    assert (active, seen) == (False, {"direct": 0, "checkpointed": 5})
    assert reason in why


def test_it_gives_memory_back_when_it_is_short(apply, monkeypatch):
    monkeypatch.setattr(checkpointing_off, "memory_is_short", lambda torch: True)
    applied = apply("checkpointing-off")
    _, runs = train(call_of(use_reentrant=False))
    assert runs == 9  # the first step was direct
    active, _, reason = applied.read()
    assert active is False
    assert "memory" in reason


def test_a_script_without_it(apply):
    assert apply("checkpointing-off").read()[2] == "the script checkpoints nothing"


TRANSFORMERS = """
import sys
import torch
import transformers

sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, "vocab_size": 50}
torch.manual_seed(0)
model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
model.gradient_checkpointing_enable()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(4):
    ids = torch.randint(0, 50, (2, 16))
    loss = model(input_ids=ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
"""


@pytest.mark.slow
@pytest.mark.loops
def test_transformers_flag_goes_through_it(tmp_path):
    """In a process of its own: transformers takes `checkpoint` by its name when it is imported."""
    pytest.importorskip("transformers")
    (tmp_path / "train.py").write_text(TRANSFORMERS)
    plain = [sys.executable, "train.py"]
    run = [sys.executable, "-m", "trainprof", "run", "--out", "run", "--no-probe"]
    options = ["--fix", "checkpointing-off", "--", "train.py"]
    before, after = (
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        for command in (plain, [*run, *options])
    )
    losses = before.stdout.split()
    assert len(losses) == 4, before.stderr
    assert after.stdout.split()[:4] == losses, after.stderr
    assert "checkpointing-off was applied and in force (direct=8, checkpointed=0)" in after.stderr
