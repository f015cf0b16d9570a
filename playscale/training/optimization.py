"""The optimizers, and their state as named tensors.

The C library's allocator, told to keep the memory that a training step frees for the next step.

Where a model trains and in which precision.

One optimizer step: forward, loss, backward, clipping, Adam. Nothing in it waits for the device.

T unroll, B batch (columns), A actions.
"""

from __future__ import annotations

import ctypes
import logging
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from playscale.agents.policy import Policy
from playscale.training.batches import Batch
from playscale.training.distributed import Group
from playscale.training.schedule import ADAM_BETAS, ADAM_EPS, RMSPROP_ALPHA, RMSPROP_EPS

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # the parameters' numbers in glibc's malloc.h
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Whether the allocator was told; where it is not glibc's, nothing is done.

    glibc hands every freed block of tens of megabytes back to the kernel, which clears it again page by page at the
    next step: 15 to 20 % of a training step on a CPU. Kept, the process stays at the size of its largest step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(MMAP_THRESHOLD, 2**30) and mallopt(TRIM_THRESHOLD, LARGEST))


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. ValueError for a device that is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is not one torch knows; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not here ({torch.cuda.device_count()} CUDA devices); use auto or cpu")
    return device


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 on a CUDA device that computes in it, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Run the forward pass in `precision` (fp32 or bf16). Weights, gradients and optimizer state stay fp32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


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


log = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of logits [T, B, A], action [T, B], valid [T, B]."""


class OptimizerStep(NamedTuple):
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

    def step(self, batch: Batch, recurrent: dict[str, Tensor], rate: float) -> OptimizerStep:
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

    def step(self, batch: Batch, recurrent: dict[str, Tensor], rate: float) -> OptimizerStep:
        with autocast(self.device, self.precision):
            logits, _, recurrent = self.forward(batch.tensors, recurrent, batch.resets)
        loss = self.loss(logits.float(), batch.tensors["action"], batch.tensors["valid"])
        return OptimizerStep(self.group.mean(loss.detach()), self.update(loss, rate), recurrent)


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
