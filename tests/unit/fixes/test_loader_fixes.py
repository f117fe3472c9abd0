"""Settings of loaders that need workers, and the loaders that should have none."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

DATA = TensorDataset(torch.arange(64.0))


def test_more_batches_are_made_ahead(apply):
    applied = apply("loader-prefetch", {"prefetch_factor": 6})
    loader = DataLoader(DATA, batch_size=8, num_workers=1)
    assert loader.prefetch_factor == 6
    assert torch.equal(torch.cat([batch for (batch,) in loader]), DATA.tensors[0])
    assert applied.read() == (True, {"prefetch_factor": 6}, None)


def test_batches_come_as_they_are_ready(apply):
    applied = apply("loader-order", {"in_order": False})
    loader = DataLoader(DATA, batch_size=8, num_workers=2)
    assert loader.in_order is False
    found = torch.cat([batch for (batch,) in loader])
    assert torch.equal(found.sort().values, DATA.tensors[0])
    assert applied.read() == (True, {"in_order": False}, None)


@pytest.mark.parametrize(
    ("fix", "params", "name"),
    [
        ("loader-prefetch", {"prefetch_factor": 6}, "prefetch_factor"),
        ("loader-workers", {"persistent_workers": True}, "persistent_workers"),
    ],
)
def test_without_workers_there_is_nothing_to_set(apply, fix, params, name):
    applied = apply(fix, params)
    assert DataLoader(DATA, batch_size=8).num_workers == 0
    assert applied.read() == (False, {}, f"the loader has no workers, which {name} needs")


TRAIN = """
    def train(loader):
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        seen = []
        for batch in loader:
            x = batch.reshape(-1, batch.shape[-1])[:, :4].float()
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += batch.reshape(batch.shape[0], -1)[:, 0].tolist()
        print(len(seen), len(set(seen)), loader.num_workers)
"""


def run(folder, body, before=(), fix="loader-workers:num_workers=2"):
    """The script's output, and the state of its fix, under two workers that it did not ask for."""
    from trainprof.profiler.store.reader import read_run

    head = "import multiprocessing, os, torch\nfrom torch.utils.data import *\n"
    script = head + textwrap.dedent(TRAIN) + textwrap.dedent(body)
    (folder / "train.py").write_text(script)
    trainprof = [sys.executable, "-m", "trainprof", "run", "--out", "run", "--quiet", "--no-probe"]
    options = ["--no-stacks", "--trace", "off", "--fix", fix, "--"]
    done = subprocess.run(
        [*before, *trainprof, *options, sys.executable, "train.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (session,) = read_run(folder / "run").sessions
    (fact,) = session.trainers[0].latest_facts("fix").values()
    return done.stdout.split(), fact.data["active"], fact.data["reason"]


def stream(share):
    if not share:
        body = "return iter(torch.arange(64.0)[:, None].repeat(1, 4))"
    else:
        body = (
            "info = torch.utils.data.get_worker_info()\n"
            "            first, step = (info.id, info.num_workers) if info else (0, 1)\n"
            "            return iter(torch.arange(float(first), 64, step)[:, None].repeat(1, 4))"
        )
    return f"""
    class Rows(IterableDataset):
        def __iter__(self):
            {body}

    train(DataLoader(Rows(), batch_size=8))
    """


def test_a_stream_that_would_come_twice(tmp_path):
    output, active, reason = run(tmp_path, stream(share=False))
    assert output == ["64", "64", "0"]
    assert active is False
    assert reason.startswith("each worker would deliver all of the data")


def test_a_stream_that_asks_for_its_share(tmp_path):
    output, active, _ = run(tmp_path, stream(share=True))
    assert (output, active) == (["64", "64", "2"], True)


SPAWNED = """
    class Rows(Dataset):
        def __init__(self):
            self.scale = {scale}

        def __len__(self):
            return 64

        def __getitem__(self, index):
            return torch.full((4,), float(index))

    {guard}
        multiprocessing.set_start_method("{method}")
        train(DataLoader(Rows(), batch_size=8))
"""
GUARD = 'if __name__ == "__main__":'


@pytest.mark.parametrize(
    ("scale", "guard", "method", "reason"),
    [
        ("lambda x: x", GUARD, "spawn", "workers are started by spawn, and the dataset does not"),
        ("1.0", "if True:", "forkserver", "the script has no `if __name__"),
    ],
)
def test_what_cannot_be_spawned(tmp_path, scale, guard, method, reason):
    output, active, why = run(tmp_path, SPAWNED.format(scale=scale, guard=guard, method=method))
    assert output == ["64", "64", "0"]
    assert active is False
    assert reason in why


TOUCHES_A_DEVICE = """
    torch.cuda.is_initialized = lambda: True  # stands for a GPU, which behaves like this in a fork
    parent = os.getpid()

    class Rows(Dataset):
        def __len__(self):
            return 64

        def __getitem__(self, index):
            if torch.cuda.is_initialized() and os.getpid() != parent:
                raise RuntimeError("Cannot re-initialize CUDA in forked subprocess.")
            return torch.full((4,), float(index))

    train(DataLoader(Rows(), batch_size=8))
"""


def test_a_data_set_that_needs_the_device_after_a_fork(tmp_path):
    output, active, reason = run(tmp_path, TOUCHES_A_DEVICE)
    assert output == ["64", "64", "0"]
    assert active is False
    assert reason == (
        "a forked process cannot read the data set (RuntimeError: Cannot re-initialize CUDA in "
        "forked subprocess.)"
    )


OWN_GENERATOR = """
    import random

    class Noise:
        def __init__(self):
            self.numbers = random.Random(0)

        def __call__(self, x):
            return x + 0.0 * self.numbers.random()

    class Rows(Dataset):
        def __init__(self):
            self.transform = Noise()

        def __len__(self):
            return 64

        def __getitem__(self, index):
            return self.transform(torch.full((4,), float(index)))

    train(DataLoader(Rows(), batch_size=8))
"""


def test_a_generator_that_each_worker_would_copy(tmp_path):
    output, active, reason = run(tmp_path, OWN_GENERATOR)
    assert output == ["64", "64", "0"]
    assert active is False
    assert "a generator of its own (transform.numbers)" in reason


CHANGED = """
    class Rows(Dataset):
        epoch = 0

        def __len__(self):
            return 16

        def __getitem__(self, index):
            return torch.full((4,), 100.0 * self.epoch + index)

    rows = Rows()
    loader = DataLoader(rows, batch_size=8)
    for epoch in range(3):
        rows.epoch = epoch
        print(int(max(batch.max() for batch in loader)))
    train(loader)
"""


def test_a_data_set_that_changes_between_epochs(tmp_path):
    fix = "loader-workers:num_workers=2,persistent_workers=true"
    output, active, reason = run(tmp_path, CHANGED, fix=fix)
    assert output == ["15", "115", "215", "16", "16", "2"]
    assert active is False
    assert "changes the data set between epochs" in reason


LARGE = """
    class Rows(Dataset):
        def __len__(self):
            return 16

        def __getitem__(self, index):
            return torch.full((100_000,), float(index))

    train(DataLoader(Rows(), batch_size=4))
"""


def test_shared_memory_that_is_too_small(tmp_path):
    little = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=4m none /dev/shm && exec "$@"'
    try:
        allowed = subprocess.run([*little, mount, "sh", "true"], check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("no mount namespace can be made here")
    output, active, reason = run(tmp_path, LARGE, before=[*little, mount, "sh"])
    assert output == ["16", "16", "0"]
    assert active is False
    assert reason == "its workers may hold 10 MB of batches in /dev/shm, where 4 MB are free"


SHORT_MEMORY = """
    import sys

    memory = next(one for name, one in sys.modules.items() if name.endswith("rules.fixes.memory"))
    memory.host_memory = lambda: (500_000_000, 16_000_000_000)  # as on a machine that is full
    train(DataLoader(torch.arange(64.0)[:, None].repeat(1, 4), batch_size=8))
"""


def test_memory_that_would_not_suffice(tmp_path):
    output, active, reason = run(tmp_path, SHORT_MEMORY)
    assert output == ["64", "64", "0"]
    assert active is False
    assert reason == "less than a tenth of the memory is left, which workers would take"


def test_short_memory_and_larger_batches(apply, monkeypatch):
    from trainprof.rules.fixes import memory

    monkeypatch.setattr(memory, "host_memory", lambda: (500_000_000, 16_000_000_000))
    applied = apply("batch-larger", {"batch_size": 32})
    assert [len(batch) for (batch,) in DataLoader(DATA, batch_size=16)] == [16] * 4
    assert applied.read()[::2] == (False, "memory is short")


def test_larger_batches(apply):
    applied = apply("batch-larger", {"batch_size": 32})
    loader = DataLoader(DATA, 8)
    assert [len(batch) for (batch,) in loader] == [32, 32]
    assert applied.read() == (True, {"batch_size": 32}, None)


@pytest.mark.parametrize(
    ("options", "size", "reason"),
    [
        ({"batch_size": 8}, 100, "the data set has 64 samples only"),
        ({"batch_size": None}, 16, "the loader makes no batches"),
        ({"batch_sampler": [[0, 1]]}, 16, "its batches are made by a sampler of the script's own"),
    ],
)
def test_batches_that_stay_as_they_are(apply, options, size, reason):
    applied = apply("batch-larger", {"batch_size": size})
    before = [len(batch) if batch.dim() else 1 for (batch,) in DataLoader(DATA, **options)]
    assert before == {8: [8] * 8, None: [1] * 64}.get(options.get("batch_size", 0), [2])
    assert applied.read()[::2] == (False, reason)
