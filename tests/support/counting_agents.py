"""Agents that play the counting game of counting_game.py."""

from typing import NamedTuple

import torch
from counting_game import ACTIONS
from torch import nn


class Output(NamedTuple):
    logits: torch.Tensor
    state: dict[str, torch.Tensor]


class Always:
    """Always the same action. It checks what it is shown."""

    def __init__(self, action: int) -> None:
        self.action = action

    def initial_state(self, batch, device=None):
        return {"steps": torch.zeros(batch, dtype=torch.int64)}

    def __call__(self, batch, state):
        where = batch["where"][0]
        assert torch.equal(where[:, 1].long(), state["steps"])  # a row of the state stays with its episode
        assert torch.equal(batch["done"][0], state["steps"] == 0)
        assert torch.equal(batch["prev_action"][0], torch.where(state["steps"] == 0, ACTIONS, self.action))
        logits = torch.full((1, len(where), ACTIONS), -1e9)
        logits[..., self.action] = 0
        return Output(logits, {"steps": state["steps"] + 1})


class Diverged(Always):
    def __call__(self, batch, state):
        output = super().__call__(batch, state)
        return output._replace(logits=output.logits * torch.nan)


class Network(nn.Module):
    """A recurrent network with random weights, wide enough for its matrix products to be split up by a BLAS."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.core, self.leave = nn.Linear(2, 96), nn.GRUCell(96, 96), nn.Linear(96, ACTIONS)

    def initial_state(self, batch, device=None):
        return {"h": torch.zeros(batch, 96)}

    def forward(self, batch, state):
        h = self.core(self.enter(batch["where"][0].float()).sin(), state["h"])
        return Output(self.leave(h)[None], {"h": h})


def diverged(device):
    return Diverged(0)


def network(device):
    return Network().eval()
