"""Reinforcement learning as in PPO: collect under no_grad, then several updates on the rollout."""

import json

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
policy = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
value = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.Adam([*policy.parameters(), *value.parameters()], lr=3e-3)


def environment(state, action):
    drift = torch.tensor([0.1, -0.1, 0.05, 0.0]) * (1.0 if action else -1.0)
    state = 0.9 * state + drift + 0.05 * torch.randn(4)
    return state, 1.0 - state.abs().sum().item()


state = torch.zeros(4)
for _ in range(5):
    states, actions, rewards, chances = [], [], [], []
    for _ in range(32):
        with torch.no_grad():
            choice = torch.distributions.Categorical(logits=policy(state))
            action = choice.sample()
            chances.append(choice.log_prob(action))
        states.append(state)
        actions.append(action)
        state, reward = environment(state, action.item())
        rewards.append(reward)
    inputs, taken, before = torch.stack(states), torch.stack(actions), torch.stack(chances)
    returns = torch.tensor(rewards).flip(0).cumsum(0).flip(0) / 32
    for _ in range(2):
        for chosen in torch.randperm(32).split(8):
            guess = value(inputs[chosen]).squeeze(1)
            advantage = returns[chosen] - guess.detach()
            now = torch.distributions.Categorical(logits=policy(inputs[chosen]))
            ratio = (now.log_prob(taken[chosen]) - before[chosen]).exp()
            clipped = ratio.clamp(0.8, 1.2)
            gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
            loss = nn.functional.mse_loss(guess, returns[chosen]) - gain
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
            optimizer.step()
            print(repr(loss.item()))

print(json.dumps({"steps": 40, "training_length": None}))
