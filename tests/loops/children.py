"""Two trainings in child processes, one after the other, forked or spawned."""

import argparse
import json
import multiprocessing

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train(seed):
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    data = TensorDataset(torch.randn(160, 8), torch.randn(160, 1))
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for inputs, targets in DataLoader(data, batch_size=8, shuffle=True):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        print(seed, repr(loss.item()), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=["fork", "spawn"], default="fork")
    context = multiprocessing.get_context(parser.parse_args().method)
    for seed in range(2):
        child = context.Process(target=train, args=(seed,))
        child.start()
        child.join()
        print("exit status", child.exitcode, flush=True)
    print(json.dumps({"steps": 20, "trainers": 2, "training_length": 160}))


if __name__ == "__main__":
    main()
