"""A group of processes that train one model together, as torchrun starts them: each takes some of a batch's columns.

`torchrun --nproc-per-node N -m playscale.cli train bc ...` starts N of them. Started without it, a process is a group
of its own, and everything here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_KEPT: list[dist.ProcessGroup | None] = []
"""Groups that have been made. A wrapped policy must not be the last to hold one: it would join gloo's threads while it
holds the interpreter's lock, for which such a thread may wait (torch 2.13)."""


@dataclass(frozen=True)
class Group:
    """One process of `size`. The first (rank 0) writes the outputs: saves, checkpoints, points, curves."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def local_size(self) -> int:
        """Processes of the group on this machine."""
        return 1 if self.size == 1 else int(os.environ.get("LOCAL_WORLD_SIZE", self.size))

    def columns(self, batch: int) -> slice:
        """Return this process's columns of a global batch; ValueError when they cannot be divided evenly."""
        if batch % self.size:
            raise ValueError(f"a batch of {batch} columns cannot be dealt out evenly to {self.size} processes")
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def device(self, device: torch.device) -> torch.device:
        """Return this process's device: of several CUDA devices that of its local rank."""
        if self.size == 1 or device.type != "cuda":
            return device
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
        return own

    def wrap(self, policy: nn.Module) -> nn.Module:
        """Return the policy to call forward on; its gradients become means over the group as they are computed."""
        if self.size == 1:
            return policy
        return nn.parallel.DistributedDataParallel(policy, forward_sync_buffers=False, gradient_as_bucket_view=True)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over the group of a tensor that each process holds. Nothing waits for a device."""
        if self.size > 1:
            value = value / self.size
            dist.all_reduce(value)
        return value

    def all(self, value: Any) -> list[Any]:
        """Return every process's value, by rank (any object, on the host)."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share(self, value: Any) -> Any:
        """Return the first process's value, whatever the others pass (any object, on the host)."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def gather(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the recurrent state of all columns [B, ...], gathered from the processes."""
        if self.size == 1:
            return state
        whole = {}
        for name, value in state.items():
            parts = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(self.size)]
            dist.all_gather(parts, value.contiguous())
            whole[name] = torch.cat(parts)
        return whole

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Run the body in the first process, then in the others."""
        if self.size > 1 and not self.first:
            dist.barrier()
        yield
        if self.size > 1 and self.first:
            dist.barrier()


def first_process() -> bool:
    """Return whether this is torchrun's first process, or runs without torchrun; works before the group is made."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def process_group() -> Iterator[Group]:
    """Yield the group that torchrun's environment variables describe; a group of one without them."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        yield Group(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Group()
        return
    dist.init_process_group()  # gloo for tensors of the CPU, NCCL for those of CUDA
    _KEPT.append(dist.group.WORLD)
    try:
        yield Group(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
