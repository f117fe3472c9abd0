"""Train a recommender and keep its latest state on disk."""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Recommender(nn.Module):
    """Predicts a rating from what is known of a user and of an item."""

    def __init__(self, columns, hidden):
        super().__init__()
        self.user_tower = nn.Sequential(nn.Linear(columns, hidden), nn.ReLU())
        self.item_tower = nn.Sequential(nn.Linear(columns, hidden), nn.ReLU())
        self.rating = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, users, items):
        both = torch.cat([self.user_tower(users), self.item_tower(items)], dim=1)
        return self.rating(both).squeeze(1)


def make_ratings(ratings, columns):
    """Ratings are the scalar product of user and item."""
    generator = torch.Generator().manual_seed(1)
    users = torch.randn(ratings, columns, generator=generator)
    items = torch.randn(ratings, columns, generator=generator)
    return TensorDataset(users, items, (users * items).sum(dim=1) / columns**0.5)


def save(path, model, optimizer, step):
    """Writes everything that is needed to go on from here."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--ratings", type=int, default=9600)
    parser.add_argument("--save-every", type=int, default=1, help="steps between two checkpoints")
    parser.add_argument("--checkpoint", type=Path)
    args = parser.parse_args()

    checkpoint = args.checkpoint or Path(tempfile.mkdtemp()) / "latest.pt"
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(make_ratings(args.ratings, 64), batch_size=128, shuffle=True)
    model = Recommender(64, hidden=832)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    criterion = nn.MSELoss()

    started = time.perf_counter()
    steps = 0
    for epoch in range(args.epochs):
        for users, items, ratings in loader:
            optimizer.zero_grad()
            loss = criterion(model(users, items), ratings)
            loss.backward()
            optimizer.step()
            steps += 1
            if steps % args.save_every == 0:
                save(checkpoint, model, optimizer, steps)
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
