"""The device a policy runs on, its threads, and the precision of its forward pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from playscale.processes.cores import usable_cores


def resolve_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA if there is a CUDA device, else the CPU.

    Raises:
        ValueError: torch does not know such a device, or this machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is not one torch knows; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"device {name!r} is not here ({torch.cuda.device_count()} CUDA devices); use auto or cpu")
        return device  # not tried out: that would take memory of the device
    try:
        torch.empty(0, device=device)
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {name!r} is not here ({reason}); use auto or cpu") from error
    return device


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return `fp32` or `bf16`; `auto` is bf16 on a CUDA device that computes in it, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Run the forward pass in `precision` (fp32 or bf16). Weights, gradients and optimizer state stay fp32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


MATMUL = 2048
"""Rows and columns of the matrix product that stands for what the hardware can do."""


def clock(device: torch.device) -> float:
    """Return the time in seconds, after everything queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def matmul_rate(device: torch.device, precision: str, seconds: float = 0.5, size: int = MATMUL) -> float:
    """Return the FLOP/s of a square matrix product in a precision, measured for at least so many seconds."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    a @ b
    done, start = 0, clock(device)
    while (spent := clock(device) - start) < seconds:
        for _ in range(4):
            a @ b
        done += 4
    return done * 2 * size**3 / spent


SMALL = 1_000_000
"""Parameters below which a policy trains on one thread. A step of 100k parameters is some hundred operations of about a
megaflop each: what threads gain there, meeting after each operation costs. Where another process has the core, each
meeting waits for it: two runs of 10k parameters side by side on two cores took 15 to 99 s each with two threads, and
3.2 s each with one."""


def default_threads(params: int, processes: int = 1) -> int:
    """Return torch's threads in each of `processes` that train a policy on this machine.

    One for a small policy, else the process's share of the usable cores, at most OMP_NUM_THREADS.
    """
    return 1 if params < SMALL else max(1, min(torch.get_num_threads(), usable_cores() // processes))


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Compute with so many threads of torch inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
