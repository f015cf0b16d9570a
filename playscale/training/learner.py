"""One optimizer step: forward, loss, backward, clipping, Adam. Nothing in it waits for the device.

T unroll, B batch (columns), A actions.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor, nn

from playscale.agents.policy import Policy
from playscale.training.batches import Batch
from playscale.training.device import autocast
from playscale.training.distributed import Group
from playscale.training.optimization import set_rate

log = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of logits [T, B, A], action [T, B], valid [T, B]."""


class Step(NamedTuple):
    """Of one step: the loss and the gradient's norm before clipping (scalars on the device), the state after it."""

    loss: Tensor
    grad_norm: Tensor
    recurrent: dict[str, Tensor]


class Updates:
    """What every learner does with its loss. The policy's forward has the signature of agents.policy.Policy's."""

    def __init__(
        self,
        policy: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
        device: torch.device,
        precision: str,
        group: Group | None = None,
    ) -> None:
        self.optimizer, self.clip_norm = optimizer, clip_norm
        self.device, self.precision, self.group = device, precision, group or Group()
        self.parameters = list(policy.parameters())
        self.forward = self.group.wrap(policy)

    def step(self, batch: Batch, recurrent: dict[str, Tensor], rate: float) -> Step:
        """One step at learning rate `rate` on this process's unroll [T, B]; the loss is the group's mean."""
        raise NotImplementedError

    def update(self, loss: Tensor, rate: float) -> Tensor:
        """Backward, clipping, the optimizer's step; the gradient's norm before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        return grad_norm

    def report(self) -> dict[str, float]:
        """What else there is to say of the steps since the last report."""
        return {}


class Learner(Updates):
    """Steps a policy towards what somebody else did."""

    def __init__(
        self,
        policy: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        clip_norm: float,
        device: torch.device,
        precision: str,
        group: Group | None = None,
    ) -> None:
        super().__init__(policy, optimizer, clip_norm, device, precision, group)
        self.loss = loss

    def step(self, batch: Batch, recurrent: dict[str, Tensor], rate: float) -> Step:
        with autocast(self.device, self.precision):
            logits, _, recurrent = self.forward(batch.tensors, recurrent, batch.resets)
        loss = self.loss(logits.float(), batch.tensors["action"], batch.tensors["valid"])
        return Step(self.group.mean(loss.detach()), self.update(loss, rate), recurrent)


def compile_features(policy: Policy, device: torch.device) -> bool:
    """Compile what comes before the core (Policy.features), with CUDA graphs on a GPU; whether that can be done here.

    The core is left alone: it is one fused kernel a segment already, and its segments differ from batch to batch.
    """
    if not can_compile(device):
        log.info("compile: no C++ compiler%s here, training goes on without", " or Triton" * (device.type == "cuda"))
        return False
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    policy.features = torch.compile(policy.features, mode=mode, dynamic=False)  # type: ignore[method-assign]
    return True


def can_compile(device: torch.device) -> bool:
    """torch.compile needs a C++ compiler, and Triton for a GPU."""
    compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    return compiler and (device.type != "cuda" or find_spec("triton") is not None)
