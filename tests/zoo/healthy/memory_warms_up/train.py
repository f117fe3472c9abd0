"""Learn values from a replay buffer that fills up first."""

import collections

import torch
from torch import nn

STATE, ACTIONS, BATCH = 64, 6, 64


class Replay:
    """The last so many chunks of experience."""

    def __init__(self, chunks):
        self.chunks = collections.deque(maxlen=chunks)

    def add(self, chunk):
        self.chunks.append(chunk)

    def sample(self):
        states, actions, rewards = self.chunks[torch.randint(len(self.chunks), ()).item()]
        rows = torch.randint(0, len(states), (BATCH,))
        return states[rows], actions[rows], rewards[rows]


def play(generator):
    """A chunk of experience: a megabyte."""
    states = torch.randn(4000, STATE, generator=generator)
    actions = torch.randint(0, ACTIONS, (4000,), generator=generator)
    return states, actions, states[:, 0] * (actions - 2)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(3)
    replay = Replay(chunks=50)
    values = nn.Sequential(
        nn.Linear(STATE, 896), nn.ReLU(), nn.Linear(896, 896), nn.ReLU(), nn.Linear(896, ACTIONS)
    )
    optimizer = torch.optim.SGD(values.parameters(), lr=0.01, momentum=0.9)
    for step in range(400):
        if step < 50 or step % 20 == 0:
            replay.add(play(generator))
        states, actions, rewards = replay.sample()
        predicted = values(states).gather(1, actions[:, None]).squeeze(1)
        loss = nn.functional.huber_loss(predicted, rewards)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item())


if __name__ == "__main__":
    main()
