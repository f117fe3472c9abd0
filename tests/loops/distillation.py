"""A teacher under no_grad in evaluation mode, and a student: no validation anywhere."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
data = TensorDataset(torch.randn(160, 8), torch.randint(0, 4, (160,)))
teacher = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4)).eval()
student = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.Adam(student.parameters(), lr=0.01)

for _ in range(2):
    for inputs, labels in DataLoader(data, batch_size=8, shuffle=True):
        with torch.no_grad():
            wanted = teacher(inputs).softmax(dim=1)
        scores = student(inputs)
        soft = nn.functional.kl_div(scores.log_softmax(dim=1), wanted, reduction="batchmean")
        loss = soft + nn.functional.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))

print(json.dumps({"steps": 40, "training_length": 160}))
