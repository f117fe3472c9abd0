"""Saving at every tenth step: torch.save, safetensors or `save_pretrained`."""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
kinds = ["torch", "state_to_buffer", "safetensors", "save_pretrained"]
parser.add_argument("--kind", choices=kinds, default="torch")
kind = parser.parse_args().kind

torch.manual_seed(0)
torch.set_num_threads(1)
data = TensorDataset(torch.randint(0, 50, (160, 6)), torch.randint(0, 2, (160,)))
folder = tempfile.TemporaryDirectory()
path = Path(folder.name)

if kind == "save_pretrained":
    from transformers import BertConfig, BertForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForSequenceClassification(
        BertConfig(vocab_size=50, intermediate_size=32, max_position_embeddings=8, **sizes)
    )
else:
    model = nn.Sequential(nn.EmbeddingBag(50, 256), nn.Linear(256, 512), nn.Linear(512, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


def save():
    if kind == "torch":
        torch.save(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path / "a.pt"
        )
    elif kind == "state_to_buffer":
        with (path / "b.pt").open("wb") as file:
            torch.save(model.state_dict(), file)
    elif kind == "safetensors":
        from safetensors.torch import save_file

        save_file(model.state_dict(), path / "c.safetensors")
    else:
        model.save_pretrained(path / "d")


step = 0
for _ in range(2):
    for tokens, labels in DataLoader(data, batch_size=8, shuffle=True):
        optimizer.zero_grad()
        scores = model(tokens)
        loss = nn.functional.cross_entropy(getattr(scores, "logits", scores), labels)
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))
        if step % 10 == 5:
            save()
        step += 1

folder.cleanup()
print(json.dumps({"steps": 40, "training_length": 160, "checkpoint_in": [5, 15, 25, 35]}))
