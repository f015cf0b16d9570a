"""Behavioural cloning: one model trained through its compute budgets, each one's checkpoint an isoFLOP cell.

T unroll, B batch (columns), A actions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.config import TrainConfig
from playscale.corpus.corpus import Corpus
from playscale.games.game import get_game
from playscale.points import Point
from playscale.tracking.tracker import Tracker
from playscale.training.batches import Batch, batches
from playscale.training.cells import train_run
from playscale.training.dev_loss import dev_loss
from playscale.training.distributed import Group, process_group
from playscale.training.optimization import (
    Learner,
    compile_features,
    keep_freed_memory,
    resolve_device,
    resolve_precision,
)
from playscale.training.run import CellUsage, Run
from playscale.training.run_state import RunState
from playscale.training.schedule import dev_looks
from playscale.training.trainer import Method

REPORTS = 100
"""Reports a run, so that one stands for 1 % of it."""


def bc_loss(logits: Tensor, action: Tensor, valid: Tensor) -> Tensor:
    """Mean cross-entropy (nats) of logits [T, B, A] on the expert's action [T, B] over the valid [T, B] transitions."""
    loss = F.cross_entropy(logits.flatten(0, 1), action.flatten(), reduction="none")
    weight = valid.flatten().to(loss.dtype)
    return (loss * weight).sum() / weight.sum()


def train_bc(
    corpus_uri: str,
    out: Path,
    config: TrainConfig,
    tracker: Tracker | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[Point]:
    """Train one model through the config's budgets; the points, by budget, as also written to OUT/points.csv.

    Run again with the same OUT, it goes on where it was, to the same losses as if never stopped (on a CPU, bit by bit);
    a finished run answers at once. Budgets may be added as long as they lie ahead of the run. ValueError: a budget too
    small or already passed, OUT holding another run, a corpus or device that is not there, a damaged save.
    NonFiniteError: the loss ran away; the last good save stays, and OUT/nonfinite.json describes the step and its data.
    Under torchrun the processes share each batch's columns, and the first one writes what the run leaves.
    """
    corpus = Corpus.open(corpus_uri)
    with process_group() as group:
        group.columns(config.batch)
        device = group.device(resolve_device(config.device))
        if device.type == "cpu":
            keep_freed_memory()
        run = _run(Path(out), config, corpus)
        return train_run(
            run,
            group,
            device,
            lambda: _method(config, corpus, device, group),
            reports=REPORTS,
            dev_steps=dev_looks(run.cells[-1].branch_step, config.samples_per_step, config.dev_samples),
            tracker=tracker,
            progress=progress,
        )


def _run(out: Path, config: TrainConfig, corpus: Corpus) -> Run:
    policy = config_for_size(get_game(corpus.game), config.size, config.core)
    return Run(
        out,
        config,
        policy,
        source={"corpus": {"uri": str(corpus.uri), "digest": corpus.digest, "game": corpus.game}},
        seen=lambda state: CellUsage(state.step * config.samples_per_step, {}),
        start=lambda device: build_policy(policy, device),
        recurrent=lambda policy: policy.initial_state(config.batch),
    )


def _method(config: TrainConfig, corpus: Corpus, device: torch.device, group: Group) -> Method:
    precision = resolve_precision(config.precision, device)

    def unrolls(state: RunState) -> AbstractContextManager[Iterator[Batch]]:
        stream = corpus.stream(
            batch=config.batch, unroll=config.unroll, split="train", seed=config.seed, start=state.step
        )
        return closing(batches(stream, device, group.columns(config.batch)))

    def learner(state: RunState) -> Learner:
        if config.compile:
            compile_features(state.policy, device)
        return Learner(state.policy, state.optimizer, bc_loss, config.clip_norm, device, precision, group)

    return Method(
        unrolls,
        learner,
        lambda state: dev_loss(state.policy, corpus, config.dev_samples, device, precision),
        lambda index: corpus.games[index].key,
    )
