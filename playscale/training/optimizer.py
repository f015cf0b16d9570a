"""Adam, and its state as named tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from playscale.training.schedule import ADAM_BETAS, ADAM_EPS

PREFIX = "adam."


def make_adam(policy: nn.Module) -> torch.optim.Adam:
    """Adam over every parameter, in one fused kernel. The rate is set at each step (set_rate)."""
    return torch.optim.Adam(policy.parameters(), lr=0.0, betas=ADAM_BETAS, eps=ADAM_EPS, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def adam_to_tensors(policy: nn.Module, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """The moments and step counts by parameter name; nothing for a parameter that was not stepped yet."""
    return {
        f"{PREFIX}{key}.{name}": value
        for name, parameter in policy.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def adam_from_tensors(policy: nn.Module, optimizer: torch.optim.Adam, tensors: dict[str, Tensor]) -> None:
    """The inverse of adam_to_tensors, into an optimizer over the same policy."""
    for name, parameter in policy.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            saved = tensors.get(f"{PREFIX}{key}.{name}")
            if saved is not None:
                # On its parameter's device (the count too, as the fused kernel wants it) and in its memory format.
                like = parameter.detach() if key != "step" else saved.to(parameter.device)
                optimizer.state[parameter][key] = torch.empty_like(like).copy_(saved)
