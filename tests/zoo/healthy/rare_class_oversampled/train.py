"""Detect a rare defect: the few faulty parts are drawn more often."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler


def parts(count):
    generator = torch.Generator().manual_seed(9)
    faulty = torch.rand(count, generator=generator) < 0.03
    readings = torch.randn(count, 128, generator=generator)
    readings[faulty, :16] += 1.0
    return TensorDataset(readings, faulty.float()), faulty


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dataset, faulty = parts(12800)
    weights = torch.where(faulty, 1 / faulty.sum(), 1 / (~faulty).sum())
    sampler = WeightedRandomSampler(weights, num_samples=len(dataset), replacement=True)
    loader = DataLoader(dataset, batch_size=64, sampler=sampler)
    model = nn.Sequential(
        nn.Linear(128, 768),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(768, 768),
        nn.ReLU(),
        nn.Linear(768, 1),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(2):
        caught = wrong = 0
        for readings, targets in loader:
            logits = model(readings).squeeze(1)
            loss = criterion(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            said = logits > 0
            caught += (said & targets.bool()).sum().item()
            wrong += (said & ~targets.bool()).sum().item()
        print(f"epoch {epoch}: caught {caught}, wrong {wrong}")


if __name__ == "__main__":
    main()
