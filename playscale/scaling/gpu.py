"""GPU hours and energy of training FLOPs on a named GPU, and its memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """Peak: dense 16-bit tensor FLOP/s; watts: board power; memory: bytes, of the smallest such board that is sold."""

    name: str
    peak: float
    watts: float
    memory: float


# The makers' data sheets: dense (no sparsity) bf16, fp16 where there is no bf16; SXM or OAM boards where there are.
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("v100", 125e12, 300, 16e9), Gpu("t4", 65e12, 70, 16e9), Gpu("a10", 125e12, 150, 24e9),
        Gpu("l4", 121e12, 72, 24e9), Gpu("l40s", 362e12, 350, 48e9), Gpu("a100", 312e12, 400, 40e9),
        Gpu("h100", 989e12, 700, 80e9), Gpu("h200", 989e12, 700, 141e9), Gpu("b200", 2250e12, 1000, 180e9),
        Gpu("mi300x", 1307e12, 750, 192e9), Gpu("rtx4090", 165e12, 450, 24e9),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Hardware:
    """A GPU at a model FLOP/s utilisation (MFU) in (0, 1]."""

    gpu: Gpu
    utilisation: float

    def hours(self, flops: float) -> float:
        """Return GPU hours: flops / (peak x utilisation) / 3600."""
        return flops / (self.gpu.peak * self.utilisation) / 3600

    def energy(self, flops: float) -> float:
        """Return the energy in kWh of the boards at their full power; host, network and cooling come on top."""
        return self.hours(flops) * self.gpu.watts / 1000


def hardware(name: str, utilisation: float) -> Hardware:
    """Return a GPU by name. Raises ValueError for a GPU that is not listed or a utilisation outside (0, 1]."""
    gpu = GPUS.get(name.strip().lower())
    if gpu is None:
        raise ValueError(f'no GPU "{name}"; known are {", ".join(GPUS)}')
    if not 0 < utilisation <= 1:
        raise ValueError(
            f"utilisation {utilisation:g} is not a share of the peak FLOP/s; give one in (0, 1], such as 0.3"
        )
    return Hardware(gpu, utilisation)
