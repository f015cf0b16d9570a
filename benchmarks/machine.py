"""Description of the machine that the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("playscale", "torch", "numpy", "nle", "zstandard", "scipy", "mlflow")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # what decides how fast a CPU multiplies, and in which dtype


def describe() -> dict[str, Any]:
    """Return CPU, cores, memory, accelerators, and the versions of what is measured."""
    import torch

    return {
        "cpu": _cpu_field("model name") or platform.processor() or platform.machine(),
        "cpu_flags": [flag for flag in FLAGS if flag in _cpu_field("flags").split()],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "torch_threads": torch.get_num_threads(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def sentence(machine: dict[str, Any]) -> str:
    """Return the machine in one line."""
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    flags = " ".join(machine["cpu_flags"]) or "no wide vectors"
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items() if number)
    return f"{machine['cpu']} ({flags}), {machine['cores']} cores, {machine['memory_gib']} GiB, {gpus}; {versions}"


def _cpu_field(name: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
