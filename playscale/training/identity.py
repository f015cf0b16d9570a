"""The identity of a run: what decides its result, and nothing else.

A run has a name (method, core, size, seed) and a digest of its other settings and of its sources. What may differ when
a run is resumed (a budget added, another device, other workers) is not in it; neither are settings at their defaults,
so that a setting that a later version adds leaves the digest of a run without it as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from playscale.agents.checkpoint import WEIGHTS, load_checkpoint
from playscale.config import IMITATING_METHODS, MAY_DIFFER, TrainConfig
from playscale.corpus.corpus import Corpus
from playscale.games.game import get_game

FORMAT = 1
"""Raised with every change after which equal settings and sources give another result, such as of a default."""

Source = Mapping[str, Any]


def sources(config: TrainConfig, corpus: str | None) -> dict[str, Source]:
    """Return what a run learns from, each with its place (uri) and a digest of its content.

    ValueError: there is no such corpus, game or teacher.
    """
    if config.method in IMITATING_METHODS:
        assert corpus is not None
        opened = Corpus.open(corpus)
        return {"corpus": {"uri": str(opened.uri), "digest": opened.digest, "game": opened.game}}
    assert config.rl is not None
    game = get_game(config.rl.game).name
    found: dict[str, Source] = {"game": {"uri": game, "digest": game}}
    if config.rl.teacher:
        digest = load_checkpoint(config.rl.teacher).digests[WEIGHTS]
        found["teacher"] = {"uri": config.rl.teacher, "digest": digest}
    return found


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide a run's result, nested ones under names such as rl.discount."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return {name: value for name, value in flat.items() if name not in MAY_DIFFER}


def run_digest(config: TrainConfig, learned_from: Mapping[str, Source]) -> str:
    """Return the digest of everything that decides a run's result."""
    settings = deciding(config.model_dump(mode="json", exclude_defaults=True))
    digests = {kind: source["digest"] for kind, source in learned_from.items()}
    text = json.dumps([FORMAT, settings, digests], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
