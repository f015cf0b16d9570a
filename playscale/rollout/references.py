"""References for the returns of agents: a uniformly random policy, and the expert on the same seeds or in a corpus."""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from playscale.corpus.corpus import Corpus
from playscale.games.game import Game
from playscale.points import Reference
from playscale.rollout.evaluate import EvalCandidate, Progress, evaluate_candidates
from playscale.rollout.evaluation import EvalSettings, Evaluation, standard_error
from playscale.tracking.tracker import Spent, not_timed


class UniformOutput(NamedTuple):
    logits: Tensor  # [T, B, A]
    state: dict[str, Tensor]


class UniformAgent:
    """An agent that takes every action with the same probability."""

    def __init__(self, num_actions: int) -> None:
        self._num_actions = num_actions

    def initial_state(self, batch: int, device: str | None = None) -> dict[str, Tensor]:
        del batch, device
        return {}

    def __call__(self, batch: dict[str, Tensor], state: dict[str, Tensor]) -> UniformOutput:
        done = batch["done"]
        return UniformOutput(torch.zeros(*done.shape, self._num_actions, device=done.device), state)


def _uniform(num_actions: int, device: str) -> UniformAgent:
    del device
    return UniformAgent(num_actions)


def evaluate_random(
    game: Game,
    episodes: int,
    out: Path,
    *,
    max_steps: int,
    workers: int,
    seed: int = 0,
    progress: Progress | None = None,
    spent: Spent = not_timed,
) -> Evaluation:
    """Evaluate a uniformly random policy on the episodes that agents play; the result goes to OUT/random."""
    random = EvalCandidate("random", partial(_uniform, game.num_actions), game.name)
    return _evaluate(game, random, EvalSettings(episodes, max_steps, seed, 1.0), out, workers, progress, spent)


def evaluate_expert(
    game: Game,
    episodes: int,
    out: Path,
    *,
    max_steps: int,
    workers: int,
    seed: int = 0,
    progress: Progress | None = None,
    spent: Spent = not_timed,
) -> Evaluation:
    """Evaluate the game's scripted expert on the episodes that agents play; the result goes to OUT/expert."""
    return _evaluate(
        game,
        EvalCandidate("expert", None, game.name),
        EvalSettings(episodes, max_steps, seed, 0.0),
        out,
        workers,
        progress,
        spent,
    )


def expert_reference(corpus: Corpus, played: str | None = None) -> Reference:
    """Return the mean final score of all games of a corpus.

    Args:
        corpus: Its games; ValueError when it has none.
        played: Game of the agents compared with it; where that is not the game of the corpus, the name of the reference
            says in which game the expert played.
    """
    scores = [float(game.score) for game in corpus.games]
    if not scores:
        raise ValueError(f"{corpus.uri}: holds no games")
    name = "expert" if played in (None, corpus.game) else f"expert in {corpus.game}"
    return Reference(name, statistics.fmean(scores), standard_error(scores), len(scores))


def _evaluate(
    game: Game,
    candidate: EvalCandidate,
    settings: EvalSettings,
    out: Path,
    workers: int,
    progress: Progress | None,
    spent: Spent,
) -> Evaluation:
    [evaluation] = evaluate_candidates(
        game, [candidate], settings, out, workers=workers, device="cpu", progress=progress, spent=spent
    )
    return evaluation
