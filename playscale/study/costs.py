"""The cost of training a run: optimizer steps, FLOPs, seconds and memory of each of its cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from playscale.agents.flops import params, training_flops_per_sample
from playscale.agents.policy import Policy, PolicyConfig
from playscale.config import IMITATING_METHODS, TrainConfig
from playscale.games.game import get_game
from playscale.scaling.gpu import Hardware
from playscale.study.plan import trained_policy
from playscale.training.batches import READ_AHEAD
from playscale.training.schedule import dev_looks, plan_cells

WEIGHT_BYTES = 4
STATE_BYTES = 4 * WEIGHT_BYTES
"""Bytes a parameter: its weight, its gradient and Adam's two moments, all fp32."""


@dataclass(frozen=True)
class ModelCost:
    """The model of a run.

    Attributes:
        params: Trained parameters.
        width: Width of the core.
        layers: Layers of the core.
        flops_per_sample: Training FLOPs of one sample.
        memory: Bytes of its weights, optimizer state, activations and batches in training; those of the program, and
            of CUDA's libraries, come on top.
    """

    params: int
    width: int
    layers: int
    flops_per_sample: int
    memory: float


@dataclass(frozen=True)
class CellCost:
    """One cell of a run: what it takes beyond the cell before it, so that the cells of a run add up to the run.

    Attributes:
        budget: The cell's compute budget in training FLOPs.
        samples: Samples that the cell has seen in all, those of earlier cells among them.
        steps: Optimizer steps that the cell has taken in all.
        own_steps: Steps beyond the cell before it, those of a cooldown branch among them.
        flops: Training FLOPs of the own steps.
        dev_losses: Measurements of the dev loss, at the cell and on the way there.
        seconds: Seconds of training; None where no pace is known.
    """

    budget: float
    samples: float
    steps: int
    own_steps: int
    flops: float
    dev_losses: float
    seconds: float | None = None

    @property
    def hours(self) -> float | None:
        return None if self.seconds is None else self.seconds / 3600


class Pace(Protocol):
    """The speed of training on some machine."""

    def seconds(self, run: TrainConfig, cell: CellCost) -> float | None:
        """Return the seconds of a cell's own steps and dev losses; None where this machine's pace is not known."""
        ...


@dataclass(frozen=True)
class GpuPace:
    """Training at a share of a GPU's peak FLOP/s; the forward passes of actors and of a teacher count, too."""

    hardware: Hardware

    def seconds(self, run: TrainConfig, cell: CellCost) -> float:
        forwards = 0 if run.rl is None else 1 + (run.rl.teacher is not None)  # beside the three of a training step
        return 3600 * self.hardware.hours(cell.flops * (3 + forwards) / 3)


def pace_settings(run: TrainConfig) -> TrainConfig:
    """Return a run with those settings alone that its speed and its memory depend on."""
    same = {"budgets": (1.0,), "held_out": (), "seed": 0, "learning_rate": None, "warmup_steps": 0, "cooldown": 0.0}
    return run.model_copy(update=same | {"clip_norm": 1.0, "save_seconds": 60.0, "vary": (), "varied": ""})


def cell_costs(run: TrainConfig, game: str, pace: Pace | None = None) -> list[CellCost]:
    """Return the cost of each cell of a run, in the order in which they are trained.

    The cost of one agent, such as of a forecast, is that of a run with one budget.

    Args:
        run: The run.
        game: The game that clones learn.
        pace: The speed of training; without one there are no seconds.

    Raises:
        ValueError: A budget pays for too few optimizer steps.
    """
    per_sample = training_flops_per_sample(trained_policy(run.size, run.core, run.rl, game))
    cells = plan_cells(run, per_sample)
    last, looks = cells[-1].branch_step, 0
    if run.method in IMITATING_METHODS:
        looks = len(dev_looks(last, run.samples_per_step, run.dev_samples))
    costs, before = [], 0
    for cell in cells:
        along, own = cell.branch_step - before, cell.step - before
        before = cell.branch_step
        cost = CellCost(
            budget=cell.budget,
            samples=cell.step * run.samples_per_step,
            steps=cell.step,
            own_steps=own,
            flops=own * run.samples_per_step * per_sample,
            dev_losses=float(run.method in IMITATING_METHODS) + (looks * along / last if last else 0.0),
        )
        costs.append(replace(cost, seconds=None if pace is None else pace.seconds(run, cost)))
    return costs


def model_cost(run: TrainConfig, game: str, precision: str = "fp32") -> ModelCost:
    """Return the size of a run's model, and the memory that training it takes in a precision, fp32 or bf16."""
    policy = trained_policy(run.size, run.core, run.rl, game)
    count = params(policy)
    saved, batch = activation_bytes(policy, run.unroll, run.batch)
    state = STATE_BYTES + (WEIGHT_BYTES if run.average else 0)
    memory = state * count + saved / (2 if precision == "bf16" else 1) + (1 + READ_AHEAD) * batch
    return ModelCost(count, policy.width, policy.layers, training_flops_per_sample(policy), memory)


def activation_bytes(config: PolicyConfig, unroll: int, batch: int) -> tuple[int, int]:
    """Return the bytes that the backward pass of a batch needs of the forward pass in fp32, and those of the batch.

    The forward pass is run on the meta device, where nothing is computed or allocated.
    """
    saved: dict[int, torch.UntypedStorage] = {}  # kept, so that no storage takes the place of another

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[_identity(storage)] = storage
        return tensor

    columns = get_game(config.game).columns
    with torch.device("meta"):
        policy = Policy(config)
        tensors = {
            name: torch.empty((unroll, batch, *column.shape), dtype=getattr(torch, column.dtype))
            for name, column in columns.items()
        }
        tensors["prev_action"] = torch.empty((unroll, batch), dtype=torch.int64)
        tensors["done"] = torch.empty((unroll, batch), dtype=torch.bool)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            policy(tensors, policy.initial_state(batch), [])
    for own in (*policy.parameters(), *tensors.values()):
        saved.pop(_identity(own.untyped_storage()), None)
    in_batch = sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors.values())
    return sum(storage.nbytes() for storage in saved.values()), in_batch


def _identity(storage: torch.UntypedStorage) -> int:
    return int(storage._cdata)  # noqa: SLF001 - storages on the meta device have no address


def total(values: Sequence[float | None]) -> float | None:
    """Return the sum; None where a value is not known."""
    return None if any(value is None for value in values) else math.fsum(value for value in values if value is not None)
