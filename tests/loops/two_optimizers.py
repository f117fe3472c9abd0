"""One backward, two optimizers, a scheduler and weight averaging; no loader."""

import json

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

torch.manual_seed(0)
torch.set_num_threads(1)
inputs, targets = torch.randn(160, 8), torch.randn(160, 1)
body, head = nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 1)
body_optimizer = torch.optim.Adam(body.parameters(), lr=1e-3)
head_optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
schedule = torch.optim.lr_scheduler.ExponentialLR(head_optimizer, 0.99)
averaged = AveragedModel(body)

for number in range(40):
    rows = slice(8 * (number % 20), 8 * (number % 20) + 8)
    loss = nn.functional.mse_loss(head(body(inputs[rows])), targets[rows])
    body_optimizer.zero_grad()
    head_optimizer.zero_grad()
    loss.backward()
    body_optimizer.step()
    head_optimizer.step()
    schedule.step()
    averaged.update_parameters(body)
    print(repr(loss.item()))

print(json.dumps({"steps": 40, "training_length": None}))
