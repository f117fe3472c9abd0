"""No modules, no optimizer: raw tensors, `torch.func` or `requires_grad_`, new tensors each step.

`--style func` uses `torch.func.grad_and_value` on a dictionary of tensors, "autograd" uses
`torch.autograd.grad`, and "leaves" calls `backward` and replaces the leaves.
"""

import argparse
import json

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--style", choices=["func", "autograd", "leaves"], default="func")
style = parser.parse_args().style

torch.manual_seed(0)
torch.set_num_threads(1)
inputs, targets = torch.randn(64, 8), torch.randn(64, 1)
weights = {"w": torch.randn(8, 16), "b": torch.zeros(16), "v": torch.randn(16, 1)}


def loss_of(parameters, rows, wanted):
    hidden = (rows @ parameters["w"] + parameters["b"]).relu()
    return ((hidden @ parameters["v"] - wanted) ** 2).mean()


for _ in range(40):
    if style == "func":
        gradients, loss = torch.func.grad_and_value(loss_of)(weights, inputs, targets)
    else:
        weights = {name: tensor.detach().requires_grad_() for name, tensor in weights.items()}
        loss = loss_of(weights, inputs, targets)
        if style == "autograd":
            slopes = torch.autograd.grad(loss, list(weights.values()))
            gradients = dict(zip(weights, slopes, strict=True))
        else:
            loss.backward()
            gradients = {name: tensor.grad for name, tensor in weights.items()}
    weights = {name: weights[name] - 0.01 * gradients[name] for name in weights}
    print(repr(loss.item()))

print(json.dumps({"steps": 40, "training_length": None}))
