"""Train with Accelerate; the head learns faster than the body."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    labels = torch.randint(0, 7, (9600,))
    rows = torch.randn(7, 64)[labels] + 1.2 * torch.randn(9600, 64)
    loader = DataLoader(TensorDataset(rows, labels), batch_size=64, shuffle=True)
    body = nn.Sequential(nn.Linear(64, 640), nn.ReLU(), nn.Linear(640, 640), nn.ReLU())
    head = nn.Linear(640, 7)
    model = nn.Sequential(body, head)
    optimizer = torch.optim.SGD(
        [{"params": body.parameters(), "lr": 0.01}, {"params": head.parameters(), "lr": 0.05}],
        momentum=0.9,
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 150, gamma=0.5)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    for epoch in range(2):
        for rows, labels in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(model(rows), labels)
                accelerator.backward(loss)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        accelerator.print(f"epoch {epoch}: {loss.item():.4f}")


if __name__ == "__main__":
    main()
