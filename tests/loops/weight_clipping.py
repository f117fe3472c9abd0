"""No loader; the weights are clipped in place after each step, and averaged ones swapped in."""

import copy
import json

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
inputs, targets = torch.randn(160, 8), torch.randn(160, 1)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
average = copy.deepcopy(model)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for number in range(40):
    rows = slice(8 * (number % 20), 8 * (number % 20) + 8)
    loss = nn.functional.mse_loss(model(inputs[rows]), targets[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
            fast.clamp_(-0.5, 0.5)
            slow.lerp_(fast, 0.1)
    print(repr(loss.item()))
    if number == 19:
        kept = copy.deepcopy(model.state_dict())
        model.load_state_dict(average.state_dict())
        model.eval()
        with torch.no_grad():
            print("validation", repr(nn.functional.mse_loss(model(inputs), targets).item()))
        model.train()
        model.load_state_dict(kept)

print(json.dumps({"steps": 40, "training_length": None, "validation_before": [20]}))
