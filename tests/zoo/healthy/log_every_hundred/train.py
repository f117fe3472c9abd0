"""Train a matrix factorisation and log every hundredth step."""

import logging
import tempfile

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
logger = logging.getLogger("ratings")


class Factors(nn.Module):
    """A taste for every user and a flavour for every film, compared by a small network."""

    def __init__(self, users, films, width):
        super().__init__()
        self.users = nn.Embedding(users, width)
        self.films = nn.Embedding(films, width)
        self.compare = nn.Sequential(nn.Linear(2 * width, 512), nn.ReLU(), nn.Linear(512, 1))

    def forward(self, user, film):
        return self.compare(torch.cat([self.users(user), self.films(film)], dim=1)).squeeze(1)


def batches(steps, size, users, films):
    generator = torch.Generator().manual_seed(4)
    for _ in range(steps):
        user = torch.randint(0, users, (size,), generator=generator)
        film = torch.randint(0, films, (size,), generator=generator)
        yield user, film, ((user * 31 + film * 17) % 5).float()


def train(steps=500, users=400, films=300):
    model = Factors(users, films, width=96)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    with tempfile.TemporaryDirectory() as folder, SummaryWriter(folder) as writer:
        for step, (user, film, rating) in enumerate(batches(steps, 256, users, films)):
            loss = nn.functional.mse_loss(model(user, film), rating)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 100 == 0:
                logger.info("step %d: loss %.4f", step, loss.item())
                writer.add_scalar("loss", loss.item(), step)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train()
