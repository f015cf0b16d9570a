"""The optimizers, and their state as named tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from playscale.training.schedule import ADAM_BETAS, ADAM_EPS, RMSPROP_ALPHA, RMSPROP_EPS

PREFIX = "optimizer."


def make_optimizer(policy: nn.Module, name: str = "adam") -> torch.optim.Optimizer:
    """Adam, in one fused kernel, or RMSProp over every parameter. The rate is set at each step (set_rate)."""
    if name == "rmsprop":
        return torch.optim.RMSprop(policy.parameters(), lr=0.0, alpha=RMSPROP_ALPHA, eps=RMSPROP_EPS, foreach=True)
    return torch.optim.Adam(policy.parameters(), lr=0.0, betas=ADAM_BETAS, eps=ADAM_EPS, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_to_tensors(policy: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments and step counts by parameter name; nothing for a parameter that was not stepped yet."""
    return {
        f"{PREFIX}{key}.{name}": value
        for name, parameter in policy.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def optimizer_from_tensors(policy: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of optimizer_to_tensors, into an optimizer of the same kind over the same policy."""
    parameters = dict(policy.named_parameters())
    for full, saved in tensors.items():
        if full.startswith(PREFIX):
            key, _, name = full.removeprefix(PREFIX).partition(".")
            # On its parameter's device (the count too, as the fused kernel wants it) and in its memory format.
            like = parameters[name].detach() if key != "step" else saved.to(parameters[name].device)
            optimizer.state[parameters[name]][key] = torch.empty_like(like).copy_(saved)
