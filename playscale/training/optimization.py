"""Optimizer steps on a policy: optimizers and their state as named tensors, compilation."""

from __future__ import annotations

import ctypes
import inspect
import logging
import shutil
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor, nn

from playscale.agents.device import autocast
from playscale.agents.policy import Policy, PolicyOutput
from playscale.training.distributed import Group
from playscale.training.schedule import ADAM_BETAS, ADAM_EPS, RMSPROP_ALPHA, RMSPROP_EPS

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # numbers of the parameters in glibc's malloc.h
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep freed memory for the next training step; return whether it could be told.

    glibc hands every freed block of tens of megabytes back to the kernel, which clears it again page by page at the
    next step: 15 to 20 % of a training step on a CPU. Kept, the process stays at the size of its largest step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(MMAP_THRESHOLD, 2**30) and mallopt(TRIM_THRESHOLD, LARGEST))


PREFIX = "optimizer."


# torch's optimizers wrap their methods so that its compiler (torch._dynamo, sympy) leaves them alone, and import it for
# that: 2.5 s of processor time, in each process that trains, for optimizers that are never compiled. These are the same
# methods without the wrapper.
for _method in (torch.optim.Optimizer.add_param_group, torch.optim.Optimizer.zero_grad):
    _plain = inspect.unwrap(_method)
    setattr(_plain, "__dynamo_disable", _plain)


class _Adam(torch.optim.Adam):
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class _RMSprop(torch.optim.RMSprop):
    step = torch.no_grad()(inspect.unwrap(torch.optim.RMSprop.step))


def make_optimizer(policy: nn.Module, name: str = "adam") -> torch.optim.Optimizer:
    """Return Adam (in one fused kernel) or RMSProp over every parameter. The rate is set at each step (set_rate)."""
    if name == "rmsprop":
        return _RMSprop(policy.parameters(), lr=0.0, alpha=RMSPROP_ALPHA, eps=RMSPROP_EPS, foreach=True)
    return _Adam(policy.parameters(), lr=0.0, betas=ADAM_BETAS, eps=ADAM_EPS, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_to_tensors(policy: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return moments and step counts by parameter name; nothing for a parameter without a step."""
    return {
        f"{PREFIX}{key}.{name}": value
        for name, parameter in policy.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def optimizer_from_tensors(policy: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load what optimizer_to_tensors returned into an optimizer of the same kind over the same policy."""
    parameters = dict(policy.named_parameters())
    for full, saved in tensors.items():
        if full.startswith(PREFIX):
            key, _, name = full.removeprefix(PREFIX).partition(".")
            # On its parameter's device (the count too, as the fused kernel wants it) and in its memory format.
            like = parameters[name].detach() if key != "step" else saved.to(parameters[name].device)
            optimizer.state[parameters[name]][key] = torch.empty_like(like).copy_(saved)


log = logging.getLogger(__name__)


class OptimizerStep(NamedTuple):
    """The loss and the norm of its gradient before clipping, of one step: scalars on the device."""

    loss: Tensor
    grad_norm: Tensor


class PolicyOptimizer:
    """Takes optimizer steps on a policy. Nothing in a step waits for the device.

    The policy's forward has the signature of agents.policy.Policy's.
    """

    def __init__(
        self,
        policy: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
        device: torch.device,
        precision: str,
        group: Group | None = None,
    ) -> None:
        self._optimizer, self._clip_norm = optimizer, clip_norm
        self._device, self._precision, self._group = device, precision, group or Group()
        self.parameters = list(policy.parameters())
        self._forward = self._group.wrap(policy)

    def forward(self, tensors: dict[str, Tensor], recurrent: dict[str, Tensor], resets: list[int]) -> PolicyOutput:
        """Return the policy's output for a batch, in the run's precision."""
        with autocast(self._device, self._precision):
            return self._forward(tensors, recurrent, resets)

    def step(self, loss: Tensor, rate: float) -> OptimizerStep:
        """Backward, clip, update at learning rate `rate`. The returned loss is the mean over the group."""
        mean_loss = self._group.mean(loss.detach())
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(self.parameters, self._clip_norm)
        set_rate(self._optimizer, rate)
        self._optimizer.step()
        return OptimizerStep(mean_loss, grad_norm)


def compile_features(policy: Policy, device: torch.device) -> bool:
    """Compile what precedes the core (Policy.features), with CUDA graphs on a GPU; return whether that is possible.

    The core is left alone: it is a fused kernel between two resets already, and resets differ from batch to batch.
    """
    if not can_compile(device):
        log.info("compile: no C++ compiler%s here, training goes on without", " or Triton" * (device.type == "cuda"))
        return False
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    policy.features = torch.compile(policy.features, mode=mode, dynamic=False)  # type: ignore[method-assign]
    return True


def can_compile(device: torch.device) -> bool:
    """Return whether torch.compile has the C++ compiler that it needs, and Triton for a GPU."""
    compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    return compiler and (device.type != "cuda" or find_spec("triton") is not None)
