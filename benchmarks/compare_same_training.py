"""A training of a few seconds on one thread, for runs that are compared.

python compare_same_training.py [--steps 600] [--slower 0.15]
"""

import argparse
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--slower", type=float, default=0.0, help="Part that is added to each step.")
options = parser.parse_args()

torch.set_num_threads(1)
torch.manual_seed(0)
rows = TensorDataset(torch.randn(4096, 256), torch.randint(10, (4096,)))
loader = DataLoader(rows, batch_size=64, shuffle=True)
model = torch.nn.Sequential(
    torch.nn.Linear(256, 512),
    torch.nn.ReLU(),
    torch.nn.Linear(512, 512),
    torch.nn.ReLU(),
    torch.nn.Linear(512, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

done = 0
while done < options.steps:
    for batch, target in loader:
        started = time.perf_counter()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch), target)
        loss.backward()
        optimizer.step()
        if options.slower:  # as a synchronous write to a slow disk would
            time.sleep(options.slower * (time.perf_counter() - started))
        done += 1
        if done == options.steps:
            break
