"""The baselines that see no frame."""

import numpy as np
import pytest
from counting_game import ACTIONS, plant, transitions

from playscale.corpus.bigram import bigram_cross_entropy, unigram_cross_entropy
from playscale.corpus.corpus import Corpus

LENGTHS = [1500, 641, 3, 900]


def literal_cross_entropy(dev, smoothing, context):
    """The slow twin: one game and one action at a time. `context` says what an action is predicted from."""
    counts = {}

    def pairs(game):
        actions = transitions(game, LENGTHS[game])["action"].tolist()
        return [(context(before), action) for before, action in zip([ACTIONS, *actions], actions, strict=False)]

    for game in set(range(len(LENGTHS))) - dev:
        for before, action in pairs(game):
            counts[before, action] = counts.get((before, action), 0) + 1
    losses = []
    for game in dev:
        for before, action in pairs(game):
            row = [counts.get((before, a), 0) + smoothing for a in range(ACTIONS)]
            losses.append(-np.log(row[action] / sum(row)))
    return np.mean(losses)


@pytest.mark.parametrize("smoothing", [1.0, 0.1])
def test_equal_their_slow_twins(tmp_path, smoothing):
    corpus = Corpus.open(plant(tmp_path / "c", LENGTHS, dev={1, 2}))
    twin = literal_cross_entropy({1, 2}, smoothing, lambda before: before)
    assert bigram_cross_entropy(corpus, smoothing) == pytest.approx(twin, rel=1e-12)
    twin = literal_cross_entropy({1, 2}, smoothing, lambda before: None)
    assert unigram_cross_entropy(corpus, smoothing) == pytest.approx(twin, rel=1e-12)


def test_a_known_chain_has_its_entropy_rate(tmp_path, monkeypatch):
    """Stay with probability 0.9, else go on by one: 0.325 nats; all actions equally likely: ln 7."""

    def chain(number, length):
        return np.cumsum(np.random.default_rng(number).random(length) > 0.9) % ACTIONS

    monkeypatch.setattr("counting_game.actions", chain)
    corpus = Corpus.open(plant(tmp_path / "c", [30_000] * 4, dev={3}))
    rate = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert bigram_cross_entropy(corpus) == pytest.approx(rate, rel=0.03)
    assert unigram_cross_entropy(corpus) == pytest.approx(np.log(ACTIONS), rel=0.02)


def test_both_splits_are_needed(tmp_path):
    corpus = Corpus.open(plant(tmp_path / "c", LENGTHS))
    with pytest.raises(ValueError, match="no game in its dev split"):
        bigram_cross_entropy(corpus)
