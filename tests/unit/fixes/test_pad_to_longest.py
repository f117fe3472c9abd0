"""Batches that are cut to their longest row: the model has to know, or nothing is cut."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

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
            {"sample": "{'ids': ids, 'labels': labels}", "default": "=None", "given": ""}
            | {"hidden": "pass", "unpack": "ids, labels = batch['ids'], batch['labels']"},
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
