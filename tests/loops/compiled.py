"""A compiled model: prints what dynamo compiled, so that any trace of a profiler would show.

`--style wrapper` is `torch.compile(model)`, "in_place" is `model.compile()`, "function" compiles
the forward with its loss.
"""

import argparse
import json

import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """A user's own module: dynamo does not compile the frames of torch.nn by themselves."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.norm = nn.LayerNorm(16)
        self.last = nn.Linear(16, 1)

    def forward(self, rows):
        return self.last(self.norm(self.first(rows)).relu())


parser = argparse.ArgumentParser()
parser.add_argument("--style", choices=["wrapper", "in_place", "function"], default="wrapper")
parser.add_argument("--backend", choices=["eager", "aot_eager"], default="aot_eager")
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
training = TensorDataset(torch.randn(160, 8), torch.randn(160, 1))
validation = DataLoader(TensorDataset(torch.randn(24, 8), torch.randn(24, 1)), batch_size=8)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


def forward_and_loss(rows, targets):
    return nn.functional.mse_loss(model(rows), targets)


if args.style == "wrapper":
    model = torch.compile(model, backend=args.backend)
elif args.style == "in_place":
    model.compile(backend=args.backend)
else:
    forward_and_loss = torch.compile(forward_and_loss, backend=args.backend)

for _ in range(2):
    for rows, targets in DataLoader(training, batch_size=8):
        optimizer.zero_grad()
        loss = forward_and_loss(rows, targets)
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))
    model.eval()
    with torch.no_grad():
        print("validation", repr(sum(forward_and_loss(*batch).item() for batch in validation)))
    model.train()

print("graphs", counters["stats"]["unique_graphs"], "calls", counters["stats"]["calls_captured"])
print(
    "breaks", sorted(counters["graph_break"].items()), "frames", sorted(counters["frames"].items())
)
print("recompiles", sorted(counters["recompiles"].items()))
expected = {
    "steps": 40,
    "training_length": 160,
    "validation_length": 24,
    "validation_before": [20],
    "compiled": True,
}
print(json.dumps(expected))
