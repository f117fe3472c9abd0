"""Lists become tensors in one pass: the same bits, or the usual way."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")

from torch.utils.data import DataLoader, Dataset  # noqa: E402

from trainprof.profiler.model.plan import Target  # noqa: E402
from trainprof.rules.fixes import number_lists  # noqa: E402
from trainprof.rules.fixes.kept_rows import KeptRows  # noqa: E402
from trainprof.rules.fixes.number_lists import quick_tensor  # noqa: E402
from trainprof.rules.fixes.same_values import same_bits  # noqa: E402

FLOATS = st.floats(width=64)
INTEGERS = st.integers(-(2**31), 2**31 - 1)
numbers = st.one_of(
    FLOATS,
    INTEGERS,
    st.booleans(),
    st.sampled_from([2**31, -(2**40), numpy.float64(1.5), numpy.float32(0.1), numpy.int64(3)]),
)


@st.composite
def nested(draw):
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    kind = draw(st.sampled_from([FLOATS, INTEGERS, numbers]))
    rows = draw(st.sampled_from([list, tuple]))

    def make(shape):
        return rows(make(shape[1:]) if shape[1:] else draw(kind) for _ in range(shape[0]))

    return make(shape)


@settings(max_examples=60, deadline=None)
@given(nested(), st.sampled_from([None, torch.float32, torch.float64, torch.int64]))
def test_nested_lists_give_what_torch_gives(data, dtype):
    least, number_lists.LEAST_NUMBERS = number_lists.LEAST_NUMBERS, 1
    try:
        found = quick_tensor(torch, data, dtype)
    finally:
        number_lists.LEAST_NUMBERS = least
    if found is not None:
        assert same_bits(torch, found, torch.tensor(data, dtype=dtype))


ROWS = [[random.Random(i).random() for _ in range(64)] for i in range(8)]


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        tuple(tuple(row) for row in ROWS),
        [[3, 4] * 40, [5, -6] * 40],
        [[[0.5, float("nan")]] * 40] * 2,
        [numpy.arange(6.0, dtype="f4").reshape(2, 3)] * 3,
        [numpy.arange(3)] * 2,
        [numpy.arange(6.0).reshape(2, 3).T] * 2,
    ],
)
@pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy")
def test_what_is_made_in_one_pass(data):
    assert same_bits(torch, quick_tensor(torch, data), torch.tensor(data))


@pytest.mark.parametrize(
    "data",
    [
        3.0,
        [],
        [[]],
        [1.0, 2.0],
        [*ROWS, ROWS[0][:-1]],
        [*ROWS, [1] * 64],
        [[True] * 64] * 2,
        [[2**40] * 64] * 2,
        [[numpy.float64(1.0)] * 64] * 2,
        [*ROWS[:-1], [*ROWS[-1][:-1], numpy.float64(1.0)]],
        [*ROWS[:-1], tuple(ROWS[-1])],
        [numpy.zeros(3), numpy.zeros(3, "f4")],
        [numpy.zeros(3), numpy.zeros(4)],
        [numpy.zeros(3), [0.0] * 3],
        [numpy.zeros(3, ">f8")],
        [numpy.array(["a"])],
        torch.zeros(3),
        {"a": 1},
    ],
)
def test_what_is_left_to_torch(data):
    assert quick_tensor(torch, data) is None


def test_other_types_than_asked_for():
    assert quick_tensor(torch, ROWS, torch.int64) is None
    assert quick_tensor(torch, [numpy.zeros(3)], torch.float32) is None
    assert quick_tensor(torch, [[3, 4] * 40], torch.int8) is None


class Rows(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        return [0.25 * index] * 100, index


def collate(samples):
    rows, labels = zip(*samples, strict=True)
    return torch.tensor(rows), torch.tensor(labels)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_stay_the_same(apply, workers):
    def batches():
        return list(DataLoader(Rows(), 8, collate_fn=collate, num_workers=workers))

    plain = batches()
    applied = apply("collate-stack")
    usual = torch.tensor
    found = batches()
    assert torch.tensor is usual
    for one, other in zip(plain, found, strict=True):
        assert all(same_bits(torch, *pair) for pair in zip(one, other, strict=True))
    active, seen, reason = applied.read()
    assert (active, reason) == (True, None)
    assert seen == {"batches": 8, "tensors": 8, "checked": 8}


def test_a_difference_ends_it(apply, monkeypatch):
    applied = apply("collate-stack")
    wrong = torch.zeros(8, 100)
    from trainprof.rules.fixes import collate_stack

    monkeypatch.setattr(
        collate_stack, "quick_tensor", lambda torch, data, dtype: wrong if len(data) == 8 else None
    )
    rows = [rows for rows, _ in DataLoader(Rows(), 8, collate_fn=collate)]
    assert torch.cat(rows)[:, 0].tolist() == [0.25 * i for i in range(64)]
    assert applied.read()[::2] == (False, "a tensor came out other than torch makes it")


def test_a_default_device_stays(apply):
    apply("collate-stack")

    def on_device(samples):
        with torch.device("meta"):
            return collate(samples)

    rows, _ = next(iter(DataLoader(Rows(), 8, collate_fn=on_device)))
    assert rows.device.type == "meta"


SCRIPT = """
    torch.manual_seed(0)

    class Rows(Dataset):
        def __len__(self):
            return 64

        def __getitem__(self, index):
            return {item}

    def collate(rows):
        return {collate}

    model = nn.Linear(100, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for rows in DataLoader(Rows(), batch_size=8, shuffle=True, collate_fn=collate):
        loss = model(rows).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item())
"""


def test_a_script(apply, run_script):
    script = SCRIPT.format(item="[0.01 * index] * 100", collate="torch.tensor(rows)")
    plain = run_script(script)
    applied = apply("collate-stack")
    assert run_script(script) == plain
    assert applied.read()[0] is True


def test_a_script_that_stacks_already(apply, run_script):
    applied = apply("collate-stack")
    run_script(SCRIPT.format(item="torch.full((100,), 0.01 * index)", collate="torch.stack(rows)"))
    active, _, reason = applied.read()
    assert (active, reason) == (False, "no list of numbers or arrays becomes a tensor there")


def test_the_line_of_another_loader(apply, run_script, tmp_path):
    applied = apply("collate-stack", target=Target(str(tmp_path / "train.py"), 2))
    run_script(SCRIPT.format(item="[0.01 * index] * 100", collate="torch.tensor(rows)"))
    active, _, reason = applied.read()
    assert active is None
    assert reason == f"no loader is about {tmp_path / 'train.py'}:2"


@pytest.mark.parametrize("place", ["def collate(rows):", "class Rows(", "in DataLoader("])
def test_the_line_of_the_loader_and_of_its_parts(apply, run_script, tmp_path, place):
    script = SCRIPT.format(item="[0.01 * index] * 100", collate="torch.tensor(rows)")
    lines = (run_script.head + script).splitlines()
    (line,) = (number for number, text in enumerate(lines, 1) if place in text)
    applied = apply("collate-stack", target=Target(str(tmp_path / "train.py"), line))
    run_script(script)
    assert applied.read()[0] is True


def kept_rows(rows, most_bytes=10**6):
    kept = KeptRows(torch, most_bytes)
    kept.keep(rows, torch.tensor(rows))
    return kept


def floats(count=4, length=8):
    source = random.Random(1)
    return [[source.random() + 1 for _ in range(length)] for _ in range(count)]


def test_rows_that_are_asked_for_again():
    rows = floats()
    kept = kept_rows(rows)
    some = (rows[2], rows[0])
    assert same_bits(torch, kept.tensor(some, None), torch.tensor(some))
    kept.tensor(some, None).zero_()  # what the script does to its batch
    assert same_bits(torch, kept.tensor(some, torch.float32), torch.tensor(some))
    assert kept.found == 3
    assert kept.tensor(rows, torch.float64) is None
    assert kept.tensor([*rows, [1.0] * 8], None) is None
    assert kept.tensor(rows[0], None) is None
    assert kept.tensor([], None) is None


@pytest.mark.parametrize("new", [[2.5] * 8, [1.0] * 7, [1] * 8, []])
def test_rows_that_were_changed(new):
    rows = [[1.0] * 8, *floats()]
    kept = kept_rows(rows)
    rows[0][:] = new
    assert kept.tensor(rows, None) is None
    rows[0][:] = [3.0] * 8
    kept.keep(rows, torch.tensor(rows))
    assert same_bits(torch, kept.tensor(rows, None), torch.tensor(rows))


def test_rows_with_a_zero_are_not_kept():
    rows = floats()
    rows[1][3] = 0.0
    kept = kept_rows(rows)
    rows[1][3] = -0.0
    assert kept.tensor(rows, None) is None
    assert kept.tensor(rows[2:], None) is not None


def test_rows_that_are_new_each_time_are_let_go():
    kept = kept_rows(floats(), most_bytes=40 * 8 * 6)
    kept.keep(*(lambda rows: (rows, torch.tensor(rows)))(floats()))
    assert kept._rows == {}
    kept.keep(*(lambda rows: (rows, torch.tensor(rows)))(floats()))
    assert kept._rows == {}


class HeldRows(Rows):
    def __init__(self):
        self.rows = floats(64, 100)

    def __getitem__(self, index):
        return self.rows[index], index


@pytest.mark.parametrize("workers", [0, 1])
def test_epochs_over_rows_that_the_data_set_holds(apply, workers, monkeypatch):
    data = HeldRows()

    def batches(epochs):
        loader = DataLoader(data, batch_size=8, collate_fn=collate, num_workers=workers)
        found = []
        for epoch in range(epochs):
            data.rows[5][7] = 1.5 + epoch
            found += [rows.clone() for rows, _ in loader]
        return found

    plain = batches(5)
    applied = apply("collate-stack")
    assert all(same_bits(torch, *pair) for pair in zip(batches(5), plain, strict=True))
    assert applied.read()[::2] == (True, None)
    rows = applied.fix._rows
    assert (rows is not None and rows.found == 4 * 7) == (workers == 0)
