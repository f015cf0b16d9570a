"""The protocol of a training method: what the training loop (trainer.py) asks of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import ClassVar, NamedTuple

from torch import Tensor

from playscale.agents.device import resolve_device, resolve_precision
from playscale.agents.policy import Policy, PolicyConfig
from playscale.config import TrainConfig
from playscale.rollout.episode import SeedRanges
from playscale.training.batches import Batch
from playscale.training.dev_loss import DevLoss
from playscale.training.distributed import Group
from playscale.training.optimization import (
    OptimizerStep,
    PolicyOptimizer,
    compile_features,
)
from playscale.training.run_state import RunState


class CellUsage(NamedTuple):
    """The samples that a state has learned from, and further columns of the points table."""

    samples: int
    extra: dict[str, float]


class Method(ABC):
    """The learning of one run, on one process of its group.

    The loop calls begin() with the state that is trained from now on (of the run, of a cooldown branch, of the run
    again), then takes batches() and calls update() with each.

    Attributes:
        policy_config: The policy that is trained.
        reports: Reports in a run.
        optimizer_name: `adam` or `rmsprop`.
        train_seeds: Seeds of the games that the run may learn from, as far as they are known.
    """

    policy_config: PolicyConfig
    reports: ClassVar[int]
    optimizer_name = "adam"
    train_seeds: SeedRanges = ()

    def __init__(self, config: TrainConfig, group: Group) -> None:
        """Raises ValueError when the config's device is not here."""
        self.config, self.group = config, group
        self.device = group.device(resolve_device(config.device))
        self.precision = resolve_precision(config.precision, self.device)

    @abstractmethod
    def initial_policy(self) -> Policy:
        """Return the policy before the first step, on the device."""

    def initial_recurrent(self, policy: Policy) -> dict[str, Tensor]:
        """Return the recurrent state [B, ...] that is carried from batch to batch; none where batches bring theirs."""
        del policy
        return {}

    def begin(self, state: RunState) -> None:
        """Train this state from now on."""
        self.state = state
        if self.config.compile:
            compile_features(state.policy, self.device)
        self.optimizer = PolicyOptimizer(
            state.policy, state.optimizer, self.config.clip_norm, self.device, self.precision, self.group
        )

    @abstractmethod
    def batches(self) -> AbstractContextManager[Iterator[Batch]]:
        """Return the batches to train the state on, from its step on."""

    @abstractmethod
    def update(self, batch: Batch, rate: float) -> OptimizerStep:
        """Take one optimizer step on a batch at this learning rate; updates the state's policy, never its `step`."""

    def report(self) -> dict[str, float]:
        """Return the method's own metrics over the steps since the last report."""
        return {}

    @abstractmethod
    def usage(self, state: RunState) -> CellUsage:
        """Return what the state has learned from."""

    def dev_steps(self, last_step: int) -> frozenset[int]:
        """Return the steps, up to the last of the run, at which the dev loss is measured between the cells."""
        del last_step
        return frozenset()

    def dev_loss(self, policy: Policy) -> DevLoss | None:
        """Return the dev loss of a policy; None for a method without one."""
        del policy
        return None

    def game_key(self, game_id: int) -> str:
        """Return the name of a batch's game by its id, for the text of an error."""
        return str(game_id)

    def close(self) -> None:  # noqa: B027 - most methods hold nothing
        """Release what the method holds, such as actors."""
