"""Behavioural cloning: a policy learns to predict the expert's actions in recorded games.

T unroll, B batch, A actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing

from torch import Tensor

from playscale.agents.policy import Policy, build_policy
from playscale.agents.sizing import config_for_size
from playscale.config import TrainConfig
from playscale.corpus.corpus import Corpus
from playscale.corpus.manifest import SPLITS
from playscale.games.game import get_game
from playscale.rollout.episode import seed_ranges
from playscale.training.batches import Batch, batches
from playscale.training.dev_loss import DevLoss, dev_loss
from playscale.training.distributed import Group
from playscale.training.losses import bc_loss
from playscale.training.method import CellUsage, Method
from playscale.training.optimization import OptimizerStep
from playscale.training.run_state import RunState
from playscale.training.schedule import dev_looks


class BehaviouralCloning(Method):
    """Learns from a corpus, whose games are streamed; the recurrent state is carried from batch to batch.

    Raises:
        ValueError: There is no such corpus, or it lacks train or dev games.
    """

    reports = 100

    def __init__(self, config: TrainConfig, corpus: str, group: Group) -> None:
        super().__init__(config, group)
        self._corpus = Corpus.open(corpus)
        for split in SPLITS:
            self._corpus.require_games(split)
        self.policy_config = config_for_size(get_game(self._corpus.game), config.size, config.core)
        seeds = (game.metadata.get("seed") for game in self._corpus.games if game.split == "train")
        self.train_seeds = seed_ranges(seed for seed in seeds if isinstance(seed, int))

    def initial_policy(self) -> Policy:
        return build_policy(self.policy_config, self.device)

    def initial_recurrent(self, policy: Policy) -> dict[str, Tensor]:
        return policy.initial_state(self.config.batch)

    def batches(self) -> AbstractContextManager[Iterator[Batch]]:
        config = self.config
        stream = self._corpus.stream(
            batch=config.batch, unroll=config.unroll, split="train", seed=config.seed, start=self.state.step
        )
        return closing(batches(stream, self.device, self.group.columns(config.batch)))

    def update(self, batch: Batch, rate: float) -> OptimizerStep:
        output = self.optimizer.forward(batch.tensors, self.state.recurrent, batch.resets)
        self.state.recurrent = output.state
        loss = bc_loss(output.logits.float(), batch.tensors["action"], batch.tensors["valid"])
        return self.optimizer.step(loss, rate)

    def usage(self, state: RunState) -> CellUsage:
        return CellUsage(state.step * self.config.samples_per_step, {})

    def dev_steps(self, last_step: int) -> frozenset[int]:
        return dev_looks(last_step, self.config.samples_per_step, self.config.dev_samples)

    def dev_loss(self, policy: Policy) -> DevLoss:
        return dev_loss(policy, self._corpus, self.config.dev_samples, self.device, self.precision)

    def game_key(self, game_id: int) -> str:
        return self._corpus.games[game_id].key
