"""The model of a training loop: compiled in place before it."""

import pytest

PLAIN = """\
import torch

def main():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    # epochs
    for epoch in range(3):
        for x, y in loader:
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
"""


def test_the_model_is_compiled_before_the_loop(edited):
    new = edited(PLAIN, "model-compile")
    assert new == PLAIN.replace("    # epochs\n", "    model.compile()\n    # epochs\n")
    assert edited(new, "model-compile") == new


def test_a_table_gets_sparse_gradients(edited):
    text = "items = nn.Embedding(\n    150_000,\n    32,  # wide\n)\n"
    new = edited(text, "embedding-sparse", 1)
    assert new == "items = nn.Embedding(\n    150_000,\n    32,  # wide\n    sparse=True,\n)\n"
    assert edited(new, "embedding-sparse", 1) == new


def test_precision_of_products(edited):
    text = "import torch\n\nmodel = Net()\n"
    new = edited(text, "matmul-precision", precision="medium")
    call = 'torch.set_float32_matmul_precision("medium")'
    assert new == f"import torch\n\n{call}\n\nmodel = Net()\n"
    assert edited(new, "matmul-precision", precision="medium") == new


def test_random_numbers_of_dropout_stay(edited):
    text = PLAIN.replace("Net()", "Net(dropout=0.1)")
    assert '    model.compile(options={"fallback_random": True})\n' in edited(text, "model-compile")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Net()", "torch.compile(Net())", "the file compiles something itself"),
        ("model(x)", "self.model(x)", "no model is called by its name in the training loop"),
        (
            "criterion(model(x), y)",
            "critic(model(x)); torch.optim.SGD(critic.parameters())",
            "critic and model are models in the training loop",
        ),
        ("loss.backward()", "pass", "no loop with a backward in it stands in the file"),
    ],
)
def test_what_is_left_to_a_person(by_hand, old, new, reason):
    note = by_hand(PLAIN.replace(old, new), "model-compile")
    assert note.reason == reason
    assert note.code == "model.compile() before the loop"


def test_a_regular_expression_is_no_model(edited):
    text = PLAIN.replace("import torch\n", 'import re\nimport torch\n\nWORD = re.compile("a")\n')
    assert "    model.compile()\n" in edited(text, "model-compile")
