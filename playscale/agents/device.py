"""The device a policy runs on, and the precision of its forward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


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
        raise ValueError(f"device {name!r} is not here ({str(error).splitlines()[0]}); use auto or cpu") from error
    return device


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return `fp32` or `bf16`; `auto` is bf16 on a CUDA device that computes in it, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Run the forward pass in `precision` (fp32 or bf16). Weights, gradients and optimizer state stay fp32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
