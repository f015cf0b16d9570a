"""Dev loss: mean cross-entropy per action on games that no run trains on, the same transitions for every cell.

T unroll, B columns (one game each), A actions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from playscale.agents.device import autocast
from playscale.agents.policy import Policy
from playscale.corpus.corpus import Corpus
from playscale.training.batches import batches

COLUMNS = 16
UNROLL = 32  # on a CPU, rows beyond a few hundred fall out of its caches: 64 took half as long again


@dataclass(frozen=True)
class DevLoss:
    """Mean cross-entropy per action in nats, its standard error (None: a single game), and its samples and games."""

    loss: float
    se: float | None
    samples: int
    games: int

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss)


def dev_loss(policy: Policy, corpus: Corpus, samples: int, device: torch.device, precision: str) -> DevLoss:
    """Return the dev loss over the first `samples` transitions of the corpus' dev stream (all it has, if fewer).

    The stream plays min(16, dev games) games side by side from their first step in unrolls of 32, whatever the run's
    batch, unroll and seed, so that every cell of a study is measured on the same transitions. The recurrent state is
    carried through each game.
    The standard error takes whole games as the clusters: see mean_over_games. ValueError: the corpus has no dev games.
    """
    corpus.require_games("dev")
    columns = min(COLUMNS, sum(game.split == "dev" for game in corpus.games))
    stream = corpus.stream(batch=columns, unroll=UNROLL, split="dev")
    sums: dict[int, float] = defaultdict(float)
    counts: dict[int, int] = defaultdict(int)
    left = samples
    state = policy.initial_state(columns)
    policy.eval()
    with torch.inference_mode(), closing(batches(stream, device)) as unrolls:
        for batch in unrolls:
            with autocast(device, precision):
                logits, _, state = policy(batch.tensors, state)
            loss = F.cross_entropy(logits.float().flatten(0, 1), batch.tensors["action"].flatten(), reduction="none")
            games = batch.tensors["game_id"].flatten().cpu().numpy()
            taken = np.flatnonzero(batch.tensors["valid"].flatten().cpu().numpy())[:left]
            left -= len(taken)
            for game, total, count in _by_game(games[taken], loss.double().cpu().numpy()[taken]):
                sums[game] += total
                counts[game] += count
            if not left:
                break
    policy.train()
    mean, se = mean_over_games(np.array(list(sums.values())), np.array(list(counts.values())))
    return DevLoss(mean, se, sum(counts.values()), len(counts))


def _by_game(games: np.ndarray, losses: np.ndarray) -> list[tuple[int, float, int]]:
    ids, inverse, counts = np.unique(games, return_inverse=True, return_counts=True)
    return list(zip(ids.tolist(), np.bincount(inverse, losses).tolist(), counts.tolist(), strict=True))


def mean_over_games(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float | None]:
    """Return the mean per transition of losses summed by game [G], with `counts` transitions each [G], and its SE.

    Transitions of a game are far from independent, games nearly so: the standard error is that of a ratio over clusters
    (Cochran, Sampling Techniques, 6.4): sqrt(G / (G - 1) * sum_g (sums_g - mean * counts_g)^2) / sum_g counts_g.
    It says how far another choice of games could move the loss; differences between cells are surer than it, since all
    share the games.
    """
    G = len(sums)
    mean = float(sums.sum() / counts.sum())
    if G < 2:
        return mean, None
    return mean, math.sqrt(G / (G - 1) * float(((sums - mean * counts) ** 2).sum())) / float(counts.sum())
