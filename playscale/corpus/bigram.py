"""Baselines that see no frame: the cross-entropies of action frequencies, which any agent has to beat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from playscale.corpus.corpus import Corpus


def bigram_cross_entropy(corpus: Corpus, smoothing: float = 1.0) -> float:
    """Return the dev cross-entropy (nats per action) of p(action | previous action), counted on the train split.

    `smoothing` is added to the count of every pair. The previous action of a game's first transition is "none".
    """
    train, dev = _pair_counts(corpus, "train"), _pair_counts(corpus, "dev")
    return _cross_entropy(train + smoothing, dev)


def unigram_cross_entropy(corpus: Corpus, smoothing: float = 1.0) -> float:
    """Return the dev cross-entropy (nats per action) of p(action), counted on the train split.

    `smoothing` is added to every count.
    """
    train, dev = _pair_counts(corpus, "train").sum(axis=0), _pair_counts(corpus, "dev").sum(axis=0)
    return _cross_entropy(train + smoothing, dev)


def _cross_entropy(weights: np.ndarray, counts: np.ndarray) -> float:
    """Return the mean of -ln p over `counts` [..., A]; p is `weights` [..., A] normalised over the last axis."""
    log_p = np.log(weights) - np.log(weights.sum(axis=-1, keepdims=True))
    return float(-(counts * log_p).sum() / counts.sum())


def _pair_counts(corpus: Corpus, split: str) -> np.ndarray:
    """Count how often each action follows each previous one, [A + 1, A]; row A counts the first actions of games."""
    A = corpus.num_actions
    counts = np.zeros((A + 1) * A, np.int64)
    for actions in _actions(corpus, split):
        counts += np.bincount(actions[:-1].astype(np.int64) * A + actions[1:], minlength=len(counts))
    return counts.reshape(A + 1, A)


def _actions(corpus: Corpus, split: str) -> Iterator[np.ndarray]:
    """Yield the actions [t + 1] of each block of a split, the one before the block first; ValueError without games."""
    corpus.require_games(split)
    decoder = corpus.decoder()
    for index, game in enumerate(corpus.games):
        if game.split == split:
            reader = corpus.reader(index, decoder)
            for block in range(reader.blocks):
                yield reader.read(block)["actions"]
