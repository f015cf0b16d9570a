"""What a model that sees no frame can do: the cross-entropies that any agent has to beat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from playscale.corpus.corpus import Corpus


def bigram_cross_entropy(corpus: Corpus, smoothing: float = 1.0) -> float:
    """Nats an action on the dev split of p(action | previous action), counted on the train split.

    `smoothing` is added to the count of every pair. The previous action of a game's first transition is "none".
    """
    train, dev = _pairs(corpus, "train"), _pairs(corpus, "dev")
    return _cross_entropy(train + smoothing, dev)


def unigram_cross_entropy(corpus: Corpus, smoothing: float = 1.0) -> float:
    """Nats an action on the dev split of p(action), counted on the train split; `smoothing` is added to every count."""
    train, dev = _pairs(corpus, "train").sum(axis=0), _pairs(corpus, "dev").sum(axis=0)
    return _cross_entropy(train + smoothing, dev)


def _cross_entropy(weights: np.ndarray, counts: np.ndarray) -> float:
    """Mean of -ln p over `counts` [..., A], where p [..., A] is `weights` normalised over its last axis."""
    log_p = np.log(weights) - np.log(weights.sum(axis=-1, keepdims=True))
    return float(-(counts * log_p).sum() / counts.sum())


def _pairs(corpus: Corpus, split: str) -> np.ndarray:
    """How often each action follows each previous one, [A + 1, A]; row A: at a game's first transition."""
    A = corpus.num_actions
    counts = np.zeros((A + 1) * A, np.int64)
    for actions in _actions(corpus, split):
        counts += np.bincount(actions[:-1].astype(np.int64) * A + actions[1:], minlength=len(counts))
    return counts.reshape(A + 1, A)


def _actions(corpus: Corpus, split: str) -> Iterator[np.ndarray]:
    """The actions of each block of a split, the one before it first; ValueError when the split has no game."""
    if not corpus.transitions(split):
        raise ValueError(f"{corpus.uri}: no game in its {split} split")
    reader = corpus.reader()
    for index, game in enumerate(corpus.games):
        if game.split == split:
            corpus.turn(reader, index)
            for block in range(reader.blocks):
                yield reader.read(block)["actions"]
