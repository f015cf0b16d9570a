"""Runs of reinforcement learning in the toy game, small enough for a test."""

from dataclasses import replace

import torch
import toy_game

from playscale.agents.flops import training_flops_per_sample
from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.config import Reinforcement, TrainConfig

BATCH, UNROLL = 4, 8


def per_sample(size="10k", core="lstm"):
    """Training FLOPs of the toy game's policy with its value head."""
    return training_flops_per_sample(replace(config_for_size(toy_game.Recall(), size, core), value_head=True))


def config(*steps, rl=None, **values):
    """A run of so many optimizer steps, a budget each. `rl` and the others are settings that differ from those here."""
    given = {"method": "impala", "size": "10k", "batch": BATCH, "unroll": UNROLL, "core": "lstm"} | values
    of_a_step = given["batch"] * given["unroll"] * per_sample(given["size"], given["core"])
    asked = {"game": "recall", "max_steps": 80, "actors": 2, "discount": 0.9} | (rl or {})
    given = {"budgets": tuple(float(step * of_a_step) for step in steps)} | given
    return TrainConfig(**given, rl=Reinforcement(**asked))


def policy(seed=0, *, value_head=True):
    """An untrained policy of the toy game."""
    torch.manual_seed(seed)
    return build_policy(replace(config_for_size(toy_game.Recall(), "10k", "lstm"), value_head=value_head))


class Curves:
    """Keeps what is logged: metrics by samples."""

    def __init__(self):
        self.logged = {}

    def log_metrics(self, metrics, samples):
        self.logged.setdefault(samples, {}).update(metrics)

    def of(self, name):
        """Its values in order."""
        return [metrics[name] for _, metrics in sorted(self.logged.items()) if name in metrics]
