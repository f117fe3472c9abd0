"""Batches that are cut to their longest row: the model has to know, or nothing is cut."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from trainprof.rules.fixes import pad_to_longest  # noqa: E402
from trainprof.rules.fixes.padded_batch import Unpadded, padded_batch  # noqa: E402

SCRIPT = """
    class Rows(Dataset):
        def __init__(self):
            generator = torch.Generator().manual_seed(1)
            lengths = torch.randint(3, 9, (48,), generator=generator).tolist()
            self.rows = [torch.randint(1, 50, (n,), generator=generator) for n in lengths]

        def __len__(self):
            return 48

        def __getitem__(self, index):
            row = self.rows[index]
            padding = 16 - len(row)
            ids = nn.functional.pad(row, {side})
            mask = nn.functional.pad(torch.ones_like(row), {side})
            labels = nn.functional.pad(row % 2, {side}, value={ignored})
            return {sample}

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(50, 8)
            self.head = nn.Linear(8, 2)
            self.flat = nn.Linear(16 * 8, 2)

        def forward(self, ids, mask{default}):
            hidden = self.embedding(ids)
            {hidden}
            return {output}

    torch.manual_seed(0)
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        for batch in DataLoader(Rows(), batch_size=6, shuffle=True):
            {unpack}
            logits = model(ids{given})
            loss = {loss}
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(ids.shape[1], loss.item())
"""
PLAIN = {
    "side": "(0, padding)",
    "ignored": -100,
    "sample": "{'ids': ids, 'attention_mask': mask, 'labels': labels}",
    "default": "",
    "hidden": "hidden = hidden * mask[..., None]; hidden = hidden + hidden.sum(1, keepdim=True)",
    "output": "self.head(hidden)",
    "unpack": "ids, mask, labels = batch['ids'], batch['attention_mask'], batch['labels']",
    "given": ", mask",
    "loss": "nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())",
}


def trained(run_script, **changes):
    printed = run_script(SCRIPT.format(**{**PLAIN, **changes}))
    return [int(one) for one in printed[::2]], [float(one) for one in printed[1::2]]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "sample": "ids, mask == 0, labels",
            "unpack": "ids, padding, labels = batch; mask = ~padding",
        },
    ],
    ids=["by name", "in a tuple, the other way round"],
)
def test_batches_are_cut_and_losses_stay(apply, run_script, changes):
    long, plain = trained(run_script, **changes)
    applied = apply("pad-to-longest")
    lengths, losses = trained(run_script, **changes)
    assert losses == pytest.approx(plain, rel=1e-5)
    assert set(long) == {16}
    assert lengths[0] == 16
    assert max(lengths[1:]) < 9
    active, seen, reason = applied.read()
    assert (active, reason) == (True, None)
    assert (seen["batches"], seen["cut"]) == (16, 15)
    assert 0.4 < seen["places_left_out"] < 0.6


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {
                "sample": "{'ids': ids.float(), 'labels': labels[0] }",
                "default": "=None",
                "given": "",
            }
            | {"hidden": "pass", "unpack": "ids, labels = batch['ids'].long(), batch['labels']"}
            | {"loss": "logits.square().mean() + 0 * labels.sum()"},
            "no mask lies in the batches",
        ),
        (
            {"default": "=None", "given": "", "hidden": "pass"},
            "the model is not told by a mask what is padding",
        ),
        (
            {"side": "(padding, 0)"},
            "rows are filled up at their beginning, not at their end",
        ),
        (
            {"hidden": "hidden = hidden + hidden.mean(1, keepdim=True) + 0 * mask[..., None]"},
            "the model returns something else for a shorter batch",
        ),
        (
            {"hidden": "hidden = hidden + self.flat(hidden.flatten(1))[:, :1, None]"},
            "the model fails on a shorter batch",
        ),
        (
            {"ignored": 0},
            "a tensor beside the model's inputs is not -100 in the padding",
        ),
    ],
)
def test_what_is_refused(apply, run_script, changes, reason):
    plain = trained(run_script, **changes)
    applied = apply("pad-to-longest")
    assert trained(run_script, **changes) == plain
    active, _, why = applied.read()
    assert active is False
    assert why.startswith(reason)


def test_batches_without_padding(apply, run_script):
    applied = apply("pad-to-longest")
    run_script(SCRIPT.format(**PLAIN).replace("(3, 9,", "(16, 17,"))
    assert applied.read()[::2] == (None, "no batch could be cut yet")


MASKLESS = {
    "sample": "{'ids': ids, 'kind': len(row) % 2}",
    "unpack": "ids, kinds = batch['ids'], batch['kind']",
    "default": "",
    "given": "",
    "hidden": "mask = ids != 0; hidden = (hidden * mask[..., None]).sum(1)",
    "loss": "nn.functional.cross_entropy(logits, kinds)",
}
READER = "def forward(self, ids, mask{default})"
WITHOUT_MASK = SCRIPT.replace(READER, "def forward(self, ids)").replace("48", "96")

NORM = """
    class Norm(nn.BatchNorm1d):
        def forward(self, hidden):  # zeros of padding stay zeros, but count in training
            return super().forward(hidden.flatten(0, 1)).view_as(hidden) * (hidden != 0)

"""


def trained_without_mask(run_script, script=WITHOUT_MASK, **changes):
    printed = run_script(script.format(**{**PLAIN, **MASKLESS, **changes}))
    return [int(one) for one in printed[::2]], [float(one) for one in printed[1::2]]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {  # what it adds for places is cut with them
            "hidden": "mask = ids != 0; hidden = hidden + self.flat.weight[0, : ids.shape[1], None]"
            "; hidden = (hidden * mask[..., None]).sum(1)"
        },
        {  # labels leave padding out
            "sample": "ids, labels",
            "unpack": "ids, labels = batch",
            "hidden": "pass",
            "loss": PLAIN["loss"],
        },
    ],
    ids=["pooled", "positions", "labels"],
)
def test_rows_without_a_mask_are_cut_after_several_trials(apply, run_script, changes):
    long, plain = trained_without_mask(run_script, **changes)
    applied = apply("pad-to-longest")
    lengths, losses = trained_without_mask(run_script, **changes)
    assert losses == pytest.approx(plain, rel=1e-5)
    assert set(long) == {16}
    tries = lengths.index(next(one for one in lengths if one < 16))
    assert 3 <= tries <= 8
    assert max(lengths[tries:]) < 9
    active, seen, reason = applied.read()
    assert (active, reason) == (True, None)
    assert (seen["batches"], seen["cut"]) == (32, 32 - tries)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden": "hidden = hidden.mean(1)"}, "the model returns something else for a shorter"),
        ({"hidden": "hidden = self.norm(hidden).sum(1)"}, "the model returns something else for a"),
        ({"hidden": "hidden = hidden[:, 0] + self.flat(hidden.flatten(1))[:, :1]"}, "the model fa"),
        (
            {"hidden": "pass"}
            | {"loss": "nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten() % 2)"},
            "the model returns something for each place, and no mask or label leaves padding out",
        ),
        (
            {"sample": "{'ids': ids, 'kind': len(row) % 2, 'other': ids.float() + 1}"},
            "a tensor beside the model's inputs is not -100 in the padding",
        ),
        ({"side": "(padding, 0)"}, "no mask lies in the batches, nor rows of whole numbers"),
    ],
    ids=["mean", "batch norm over places", "a fixed length", "tokens as labels", "beside", "start"],
)
def test_what_is_refused_without_a_mask(apply, run_script, changes, reason):
    script = WITHOUT_MASK.replace("(50, 8)", "(50, 8, padding_idx=0); self.norm = Norm(8)")
    script = script.replace("    class Reader(", NORM + "    class Reader(")
    plain = trained_without_mask(run_script, script, **changes)
    applied = apply("pad-to-longest")
    assert trained_without_mask(run_script, script, **changes) == plain
    active, _, why = applied.read()
    assert active is False
    assert why.startswith(reason)


def test_every_module_that_gets_the_rows_has_to_agree(apply, run_script):
    script = WITHOUT_MASK.replace(
        "    optimizer = ",
        "    torch.manual_seed(0)\n    second = nn.Sequential(nn.Embedding(50, 2), Mean())\n"
        "    optimizer = ",
    ).replace(
        "    torch.manual_seed(0)\n    model",
        "    class Mean(nn.Module):\n        def forward(self, hidden):\n"
        "            return hidden.mean(1)\n\n    torch.manual_seed(0)\n    model",
    )
    changes = {"loss": "nn.functional.cross_entropy(logits + second(ids), kinds)"}
    plain = trained_without_mask(run_script, script, **changes)
    applied = apply("pad-to-longest")
    assert trained_without_mask(run_script, script, **changes) == plain
    assert applied.read()[::2] == (False, "the model returns something else for a shorter batch")


def test_processes_that_train_together(apply, run_script, monkeypatch):
    plain = trained_without_mask(run_script)
    group = {"store": torch.distributed.HashStore(), "rank": 0, "world_size": 1}
    torch.distributed.init_process_group("gloo", **group)
    try:
        applied = apply("pad-to-longest")
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
        assert trained_without_mask(run_script) == plain
    finally:
        torch.distributed.destroy_process_group()
    active, _, reason = applied.read()
    assert active is False
    assert reason == "without a mask it is tried in one process only; several train together"


@pytest.fixture
def two_processes(monkeypatch):
    """One, which is told that there are two: what waits for the other is not called."""
    group = {"store": torch.distributed.HashStore(), "rank": 0, "world_size": 1}
    torch.distributed.init_process_group("gloo", **group)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("parallel", [True, False])
def test_a_rank_that_tries_a_batch_waits_for_no_other(
    apply, run_script, monkeypatch, two_processes, parallel
):
    script = SCRIPT
    if parallel:
        wrapped = "nn.parallel.DistributedDataParallel(Reader(), find_unused_parameters=True)"
        script = SCRIPT.replace("model = Reader()", f"model = {wrapped}")
    forwards = []
    forward = torch.nn.parallel.DistributedDataParallel.forward
    monkeypatch.setattr(
        torch.nn.parallel.DistributedDataParallel,
        "forward",
        lambda *args, **kwargs: (forwards.append(1), forward(*args, **kwargs))[1],
    )
    applied = apply("pad-to-longest")
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    run_script(script.format(**{**PLAIN, "output": "self.head(hidden)"}))
    active, _, reason = applied.read()
    if parallel:
        assert (active, reason, len(forwards)) == (True, None, 16)
    else:
        assert reason == "several processes train together, and not by DistributedDataParallel"


def test_a_model_that_changes_its_mind(apply, run_script, monkeypatch):
    """It is tried again now and then: from some step on it counts all places."""
    monkeypatch.setattr(pad_to_longest, "TRY_AGAIN", 12)
    hidden = (
        "self.calls = getattr(self, 'calls', 0) + 1; mask = ids != 0; "
        "hidden = (hidden * mask[..., None]).sum(1) if self.calls < 20 else hidden.mean(1)"
    )
    applied = apply("pad-to-longest")
    lengths, _ = trained_without_mask(run_script, hidden=hidden)
    assert 16 not in lengths[8:11]
    assert set(lengths[-8:]) == {16}
    assert applied.read()[::2] == (False, "the model returns something else for a shorter batch")


def test_rows_that_no_module_gets(apply, run_script):
    applied = apply("pad-to-longest")
    trained_without_mask(run_script, given=" + 0")  # another tensor, of the same values
    assert applied.read()[0] is True
    applied.undo()
    applied = apply("pad-to-longest")
    trained_without_mask(run_script, given=".flip(1)")
    assert applied.read()[::2] == (False, "no module gets the rows of the batches as they are")


def test_another_value_at_the_end_is_not_cut():
    rows = torch.tensor([[5, 6, 0, 0], [5, 0, 0, 0]])
    found = padded_batch(torch, (rows, torch.tensor([1, 0])))
    assert (found.fill, found.length, found.longest) == (0, 4, 2)
    assert found.valid.tolist() == [[True, True, False, False], [True, False, False, False]]
    with pytest.raises(Unpadded):
        padded_batch(torch, rows + 3, fill=0)
    with pytest.raises(Unpadded):
        padded_batch(torch, rows[:1])
    with pytest.raises(Unpadded):
        padded_batch(torch, torch.tensor([[5, 6], [5, 7]]))


def test_other_rows_of_the_same_places_keep_theirs():
    rows = torch.tensor([[5, 6, 0, 0], [5, 0, 0, 0]])
    labels = torch.tensor([[2, 2, 2, -100], [2, -100, -100, -100]])
    assert padded_batch(torch, {"ids": rows, "labels": labels}).longest == 3
