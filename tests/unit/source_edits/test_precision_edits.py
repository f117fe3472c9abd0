"""A training in doubles that becomes one in single precision, where model and batches are made."""

import pytest

READS = """\
import torch


class Rows(Dataset):
    def __getitem__(self, index):
        return torch.from_numpy(self.x[index]), torch.tensor(self.y[index])


def main():
    model = Net(4).double()  # exact
    for x, y in DataLoader(Rows()):
        loss = criterion(model(x), y)
"""
TABLE = "data = TensorDataset(inputs, labels)\nmodel = Net()\nmodel.double()\nmodel.train()\n"
FIT = 'trainer = L.Trainer(max_epochs=1, precision="64-true")\ntrainer.fit(Net(), loader)\n'


@pytest.mark.parametrize(
    ("batch", "reads"),
    [
        (["float64", "float64"], "from_numpy(self.x[index]).float(), torch.tensor(self.y[index])."),
        (
            ["float64", "int64"],
            "torch.from_numpy(self.x[index]).float(), torch.tensor(self.y[index])\n",
        ),
        (["float32", "int64"], "torch.from_numpy(self.x[index]), torch.tensor(self.y[index])\n"),
    ],
)
def test_model_and_what_a_sample_holds(edited, batch, reads):
    new = edited(READS, "model-float32", dtype="float32", batch=batch)
    assert reads in new
    assert "    model = Net(4)  # exact\n" in new
    assert new.count(".float()") == batch.count("float64")


def test_a_table_of_tensors_and_a_statement(edited):
    new = edited(TABLE, "model-float32", batch=["float64", "int64"])
    assert new == ("data = TensorDataset(inputs.float(), labels)\nmodel = Net()\nmodel.train()\n")


def test_lightning(edited):
    new = edited(FIT, "model-float32", batch=["float32", "float32"])
    assert new == FIT.replace("64-true", "32-true")
    named = 'PRECISION = "64-true"\n' + FIT.replace('"64-true"', "PRECISION")
    assert edited(named, "model-float32", batch=["float32"]) == named.replace("64-t", "32-t")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (".double()", ".to(torch.float64)", "float64 is not asked for by .double()"),
        (".double()", "", "nothing in the file asks for float64 plainly"),
        ("import torch\n", "import torch\ny = x.double()\n", "is asked for at lines 2 and 11"),
        ("torch.tensor(self.y[index])", "self.y[index]", "where the batches are made is not plain"),
        ("torch.tensor(self.y[index])", "f(self.y[index])", "whether f(self.y[index]) is a tensor"),
        ("    model = Net(4).double()", "    run(Net(4).double())", "is not plainly a model"),
        ("class Rows", "data = TensorDataset(a, b)\n\n\nclass Rows", "is not plain"),
    ],
)
def test_what_is_left_to_a_person(by_hand, old, new, reason):
    text = READS.replace(old, new)
    note = by_hand(text, "model-float32", dtype="float32", batch=["float64", "float64"])
    assert reason in note.reason
    assert note.code == "torch.as_tensor(x, dtype=torch.float32) where the batches are made"


def test_batches_that_were_not_seen(by_hand):
    assert by_hand(READS, "model-float32").reason == "what type the batches have is not known"
