"""Logging at every eighth step: print, logging, tqdm or a SummaryWriter."""

import argparse
import json
import logging
import sys
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
channels = ["print", "logging", "tqdm", "tensorboard"]
parser.add_argument("--channel", choices=channels, default="print")
channel = parser.parse_args().channel

torch.manual_seed(0)
torch.set_num_threads(1)
data = TensorDataset(torch.randn(160, 8), torch.randn(160, 1))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
folder = tempfile.TemporaryDirectory()
loader = DataLoader(data, batch_size=8, shuffle=True)
losses = []

if channel == "logging":
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s %(message)s")
    log = logging.getLogger("loop")
elif channel == "tqdm":
    from tqdm import tqdm
elif channel == "tensorboard":
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder.name)


def record(step, loss):
    if channel == "print":
        print("step", step, repr(loss))
    elif channel == "logging":
        log.info("step %d %r", step, loss)
    elif channel == "tqdm":
        bar.set_postfix(loss=loss, refresh=True)
    else:
        writer.add_scalar("loss", loss, step)
        writer.add_histogram("weights", model[0].weight, step)


step = 0
for _ in range(2):
    bar = tqdm(loader, mininterval=1000, miniters=1000) if channel == "tqdm" else loader
    for inputs, targets in bar:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(repr(loss.item()))
        if step % 8 == 4:
            record(step, loss.item())
        step += 1

if channel == "tensorboard":
    writer.close()
folder.cleanup()
print("\n".join(losses))
expected = {"steps": 40, "training_length": 160, "logging_in": [4, 12, 20, 28, 36]}
if channel == "tqdm":
    expected["logging_maybe_in"] = [19, 20]  # a bar is drawn when it is made and when it ends
print(json.dumps(expected))
