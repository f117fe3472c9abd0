"""Keeps the loss and the accuracy of every step in lists, for a plot later."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.randn(9600, 200)
    y = (x[:, :5].sum(1) > 0).long()
    loader = DataLoader(TensorDataset(x, y), batch_size=48, shuffle=True)
    model = nn.Sequential(
        nn.Linear(200, 600), nn.ReLU(), nn.Linear(600, 600), nn.ReLU(), nn.Linear(600, 2)
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03)
    losses, accuracies, norms = [], [], []
    for epoch in range(2):
        bar = tqdm(loader, desc=f"epoch {epoch}", mininterval=0.5)
        for inputs, targets in bar:
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = criterion(outputs, targets)
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(model.parameters(), 10.0).item())
            optimizer.step()
            losses.append(loss.item())
            accuracies.append((outputs.argmax(1) == targets).float().mean().item())
            bar.set_postfix(loss=losses[-1], refresh=False)
    print(f"last loss {losses[-1]:.4f} accuracy {accuracies[-1]:.3f} norm {norms[-1]:.3f}")


if __name__ == "__main__":
    main()
