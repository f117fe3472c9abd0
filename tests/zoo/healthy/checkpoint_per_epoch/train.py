"""Train, keep the last and the best checkpoint, and go on from the last one if there is one."""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


def evaluate(model, loader):
    model.eval()
    with torch.inference_mode():
        hits = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return hits / len(loader.dataset)


def main(folder, epochs=3):
    torch.manual_seed(12)
    torch.set_num_threads(1)
    labels = torch.randint(0, 6, (8000,))
    rows = torch.randn(6, 80)[labels] + 1.5 * torch.randn(8000, 80)
    training, validation = random_split(TensorDataset(rows, labels), [7680, 320])
    loader = DataLoader(training, batch_size=64, shuffle=True)
    model = nn.Sequential(
        nn.Linear(80, 700), nn.Tanh(), nn.Linear(700, 700), nn.Tanh(), nn.Linear(700, 6)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    last, best_accuracy = folder / "last.pt", 0.0
    start = 0
    if last.exists():
        state = torch.load(last)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["epoch"] + 1
    for epoch in range(start, epochs):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        accuracy = evaluate(model, DataLoader(validation, batch_size=160))
        state = {
            "epoch": epoch,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state, last)
        if accuracy > best_accuracy:
            best_accuracy = accuracy
            torch.save(model.state_dict(), folder / "best.pt")
        print(f"epoch {epoch}: accuracy {accuracy:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    main(parser.parse_args().folder or Path(tempfile.mkdtemp()))
