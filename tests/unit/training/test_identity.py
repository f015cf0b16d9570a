"""The identity of a run: it follows what decides the result, and nothing else."""

import pytest
import toy_game
import toy_run

from playscale.agents.checkpoint import save_checkpoint
from playscale.config import TrainConfig
from playscale.training.identity import run_digest, sources

GIVEN = {"size": "10k", "budgets": (1e9, 2e9), "batch": 8, "unroll": 16}
CORPUS = {"corpus": {"uri": "here", "digest": "c0ffee", "game": "recall"}}


def digest(learned_from=CORPUS, **values):
    return run_digest(TrainConfig(**GIVEN | values), learned_from)


def test_digest_stays_the_same_in_later_versions():
    """The golden value changes only with identity.FORMAT, whose docstring says when. Runs of before are then others."""
    assert digest() == "f899854c973c9959"


@pytest.mark.parametrize(
    "values",
    [
        {"budgets": (1e9, 2e9, 4e9)},
        {"held_out": (4e9,)},
        {"device": "cuda"},
        {"threads": 3},
        {"save_seconds": 5.0},
        {"compile": True},
        {"size": 10_000},
        {"learning_rate": None, "cooldown": 0.0},
        {"vary": ("learning_rate",)},
    ],
)
def test_digest_is_not_changed_by(values):
    assert digest(**values) == digest()


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 1e-3},
        {"seed": 1},
        {"size": "20k"},
        {"core": "transformer"},
        {"batch": 16},
        {"cooldown": 0.1},
        {"dev_samples": 100},
        {"precision": "bf16"},
    ],
)
def test_digest_is_changed_by(values):
    assert digest(**values) != digest()


def test_digest_follows_the_content_of_a_corpus_and_not_its_place():
    moved = {"corpus": CORPUS["corpus"] | {"uri": "elsewhere"}}
    assert digest(moved) == digest() != digest({"corpus": CORPUS["corpus"] | {"digest": "decaf"}})


def test_digest_follows_the_settings_of_playing_and_not_the_machine(monkeypatch):
    toy_game.register(monkeypatch)
    game = {"game": {"uri": "recall", "digest": "recall"}}
    own = run_digest(toy_run.config(6, rl={"actors": 2, "workers": 1}), game)
    assert run_digest(toy_run.config(9, rl={"actors": 5, "workers": 3}), game) == own
    assert run_digest(toy_run.config(6, rl={"actors": 2, "workers": 1, "discount": 0.99}), game) != own


def test_digest_follows_the_weights_of_a_teacher_and_not_its_place(monkeypatch, tmp_path):
    toy_game.register(monkeypatch)
    for name, seed in (("a", 0), ("copy", 0), ("b", 1)):
        save_checkpoint(tmp_path / name, toy_run.policy(seed, value_head=False), {})

    def taught(name):
        config = toy_run.config(6, method="kickstart", rl={"teacher": str(tmp_path / name)})
        return run_digest(config, sources(config, None))

    assert taught("a") == taught("copy") != taught("b")
