"""Parts of a model that get no gradients, above the optimizer that does not hold them."""

import pytest

TEXT = """\
import torch
from torch import nn


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.head, self.neck = nn.Linear(4, 2), nn.Linear(4, 4)


def main():
    model = Classifier()
    # Only the head is trained.
    optimizer = torch.optim.SGD(
        model.head.parameters(), lr=0.1
    )
"""


def frozen(text, *parts):
    lines = "".join(f"    {part}.requires_grad_(False)\n" for part in parts)
    return text.replace("    # Only", lines + "    # Only")


@pytest.mark.parametrize(
    ("modules", "parts"),
    [
        (["encoder"], ["model.encoder"]),
        (["encoder", "neck"], ["model.encoder", "model.neck"]),
        (["encoder.layers.0"], ["model.encoder.layers[0]"]),
    ],
)
def test_a_line_for_each_part(edited, modules, parts):
    new = edited(TEXT, "freeze-untrained", modules=modules)
    assert new == frozen(TEXT, *parts)
    assert edited(new, "freeze-untrained", modules=modules) == new


@pytest.mark.parametrize(
    "optimizer",
    [
        "optim.SGD([*model.head.parameters()], lr=0.1)",
        "Adam(params=model.head.parameters())",
        "Adam([{'params': model.head.parameters()}, {'params': model.neck.parameters()}])",
    ],
)
def test_other_ways_to_give_parameters(edited, optimizer):
    text = TEXT.replace(
        "torch.optim.SGD(\n        model.head.parameters(), lr=0.1\n    )", optimizer
    )
    text = text.replace("import nn\n", "import nn, optim\nfrom torch.optim import Adam\n")
    assert edited(text, "freeze-untrained", modules=["encoder"]) == frozen(text, "model.encoder")


def test_places_of_a_sequential(edited):
    text = (
        "model = nn.Sequential(encoder, head)\n"
        "optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)\n"
    )
    assert edited(text, "freeze-untrained", modules=["0"]) == text.replace(
        "optimizer =", "model[0].requires_grad_(False)\noptimizer ="
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("model.head.parameters()", "model.parameters()", "which parameters the optimizer gets"),
        ("model.head.parameters()", "trained(model)", "which parameters the optimizer gets"),
        ("model.head.parameters()", "self.head.parameters()", "which parameters the optimizer"),
        ("model = Classifier()", "model = load()", "whether model.encoder is meant"),
        ("self.encoder", "self.backbone", "whether model.encoder is meant"),
        ("def main", "other = torch.optim.SGD(x)\n\n\ndef main", "makes 2 optimizers"),
        ("torch.optim.SGD", "make", "makes no optimizers"),
    ],
)
def test_what_is_left_to_a_person(by_hand, old, new, reason):
    note = by_hand(TEXT.replace(old, new), "freeze-untrained", modules=["encoder"])
    assert reason in note.reason
    assert note.code == "model.encoder.requires_grad_(False)"


def test_without_names_of_parts(by_hand):
    note = by_hand(TEXT, "freeze-untrained", modules=[""])
    assert note.code == "for parameter in part.parameters(): parameter.requires_grad_(False)"
