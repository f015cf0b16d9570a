"""The state of a run between two optimizer steps, and its saves, from which training resumes with the same results."""

from __future__ import annotations

import copy
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from playscale.agents.checkpoint import Checkpoint, is_checkpoint, load_checkpoint, load_policy, save_checkpoint
from playscale.agents.policy import Policy
from playscale.training.metrics import LossMeter, PhaseTimer, PlayStatistics
from playscale.training.optimization import make_optimizer, optimizer_from_tensors, optimizer_to_tensors

STATE = "state."
RNG = "rng."
AVERAGE = "average."


@dataclass
class RunState:
    """A policy in training after `step` optimizer steps. The next batch is number `step` of the train stream.

    `recurrent`: state of the core [B, ...] by name, carried from batch to batch; empty where batches bring theirs.
    `average`: a policy with the mean of the weights of the steps so far; None where none is kept.
    `lowest_dev_loss`: of those measured at steps before it; infinite before the first.
    """

    policy: Policy
    optimizer: torch.optim.Optimizer
    recurrent: dict[str, Tensor]
    step: int
    losses: LossMeter
    timer: PhaseTimer
    play: PlayStatistics = field(default_factory=PlayStatistics)
    average: Policy | None = None
    lowest_dev_loss: float = math.inf

    @property
    def measured(self) -> Policy:
        """The policy whose dev loss is measured, and which checkpoints hold."""
        return self.policy if self.average is None else self.average

    def add_to_average(self, part: float) -> None:
        """Count the weights after `step` steps, at least one, into the average, where one is kept.

        The weights after step s count s ** p - (s - 1) ** p, p = 2 / part - 1, so that their mean age is that of the
        last `part` of the steps whenever one looks: a power function average (Karras et al., arXiv 2312.02696).
        """
        if self.average is not None:
            kept = (1 - 1 / self.step) ** (2 / part - 1)
            parameters = [list(policy.parameters()) for policy in (self.average, self.policy)]
            get_ema_multi_avg_fn(kept)(*parameters, self.step)


def new_state(
    policy: Policy, recurrent: dict[str, Tensor], optimizer: str = "adam", *, averaged: bool = False
) -> RunState:
    """Return the state before the first step; `averaged`: with an average of the weights."""
    state = RunState(policy, make_optimizer(policy, optimizer), recurrent, 0, LossMeter(), PhaseTimer())
    if averaged:
        state.average = copy.deepcopy(policy)
    return state


def save_state(folder: Path, state: RunState) -> None:
    """Save as `folder`/<step>, then remove the older saves: there always is a complete one. No loss may be pending."""
    assert not state.losses.pending
    extra = optimizer_to_tensors(state.policy, state.optimizer)
    extra |= {STATE + name: tensor for name, tensor in state.recurrent.items()}
    extra |= {RNG + name: tensor for name, tensor in _rng_tensors(state.policy.head.weight.device).items()}
    if state.average is not None:
        extra |= {AVERAGE + name: tensor for name, tensor in state.average.state_dict().items()}
    meter = {"loss": state.losses.loss, "grad_norm": state.losses.grad_norm, "steps": state.losses.steps}
    meta = {
        "kind": "resume",
        "step": state.step,
        "meter": meter,
        "seconds": state.timer.seconds,
        "tally": state.play.to_dict(),
        "lowest_dev_loss": state.lowest_dev_loss if math.isfinite(state.lowest_dev_loss) else None,
    }
    path = folder / f"{state.step:09d}"
    # A save of the same step holds the same state; replacing it would leave a moment without a complete one.
    if not is_checkpoint(path):
        save_checkpoint(path, state.policy, meta, {name: value.contiguous() for name, value in extra.items()})
    for other in folder.iterdir():
        if other != path:
            shutil.rmtree(other, ignore_errors=True)


def latest(folder: Path) -> Path | None:
    """Return the newest save below `folder`, None when there is none."""
    entries = folder.iterdir() if folder.is_dir() else ()
    saves = [path for path in entries if path.name.isdigit() and is_checkpoint(path)]
    return max(saves, default=None, key=lambda path: int(path.name))


def load_state(path: Path, device: torch.device, optimizer_name: str = "adam") -> RunState:
    """Return the state saved at `path`, on `device`, and set the global random generators. ValueError: damaged."""
    policy, checkpoint = load_policy(path, device)
    policy.train()
    meta, extra = checkpoint.meta, checkpoint.extra
    optimizer = make_optimizer(policy, optimizer_name)
    optimizer_from_tensors(policy, optimizer, extra)
    recurrent = {name: tensor.to(device) for name, tensor in _named(extra, STATE).items()}
    _set_rng(_named(extra, RNG), device)
    losses, timer = LossMeter(**meta["meter"]), PhaseTimer(meta["seconds"])
    tally = PlayStatistics(meta["tally"])
    average = None
    if averaged := _named(extra, AVERAGE):
        average = copy.deepcopy(policy)
        average.load_state_dict(averaged)
    lowest = meta.get("lowest_dev_loss")  # saves of 0.2 have none
    lowest = math.inf if lowest is None else lowest
    return RunState(policy, optimizer, recurrent, _step(checkpoint), losses, timer, tally, average, lowest)


def _named(extra: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of a save whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in extra.items() if name.startswith(prefix)}


def saved_step(path: Path) -> int:
    """Return the step of a save, without reading its tensors."""
    return _step(load_checkpoint(path))


def _step(save: Checkpoint) -> int:
    """Return the step of a save; ValueError unless it is that of its directory's name, of which 0.1 had no checksum."""
    step = save.meta.get("step")
    if step != int(save.path.name):
        raise ValueError(f"{save.path}: damaged save (it says that it is of step {step})")
    return int(step)


def _rng_tensors(device: torch.device) -> dict[str, Tensor]:
    cuda = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **cuda}


def _set_rng(tensors: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(tensors["cpu"].cpu())
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"].cpu(), device)
