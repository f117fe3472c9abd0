"""Accelerate: prepared objects, `accumulate`, clipping, evaluation with gathered metrics."""

import json

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
set_seed(0)
training = DataLoader(
    TensorDataset(torch.randn(320, 8), torch.randn(320, 1)), batch_size=8, shuffle=True
)
validation = DataLoader(TensorDataset(torch.randn(24, 8), torch.randn(24, 1)), batch_size=8)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
model, optimizer, training, validation, schedule = accelerator.prepare(
    model, optimizer, training, validation, schedule
)

for epoch in range(2):
    model.train()
    for rows, targets in training:
        with accelerator.accumulate(model):
            loss = nn.functional.mse_loss(model(rows), targets)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        print(repr(loss.item()))
    model.eval()
    total = 0.0
    for rows, targets in validation:
        with torch.no_grad():
            outputs = model(rows)
        outputs, targets = accelerator.gather_for_metrics((outputs, targets))
        total += nn.functional.mse_loss(outputs, targets).item()
    print("validation", epoch, repr(total))

expected = {
    "steps": 40,
    "micro_batches": 2,
    "training_length": 320,
    "validation_length": 24,
    "validation_before": [20],
}
print(json.dumps(expected))
