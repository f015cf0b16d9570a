"""The plan of a grid: which cells are trained, with how much data, and which cannot be and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from playscale.agents.flops import training_flops_per_sample
from playscale.agents.sizing import config_for_size
from playscale.corpus.corpus import Corpus
from playscale.games.game import get_game
from playscale.training.config import TrainConfig
from playscale.training.schedule import MIN_STEPS

TOO_FEW_STEPS = "too few optimizer steps"


@dataclass(frozen=True)
class Cell:
    """One model at one budget: samples (transitions) it sees, in epochs too, and why it is not trained if it is not."""

    run: str
    size: str
    flops: float
    samples: float
    epochs: float
    reason: str | None


@dataclass(frozen=True)
class Plan:
    """The runs that are trained, by name, with the budgets they can reach; and every cell of the grid."""

    runs: Mapping[str, TrainConfig]
    cells: tuple[Cell, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "runs": {name: run.model_dump(mode="json") for name, run in self.runs.items()},
            "cells": [vars(cell) for cell in self.cells],
        }

    def summary(self) -> str:
        trained = [cell for cell in self.cells if cell.reason is None]
        epochs = max(cell.epochs for cell in trained)
        return f"{len(self.runs)} runs, {len(trained)} of {len(self.cells)} cells, at most {epochs:.1f} epochs"


def plan_grid(game_name: str, runs: Mapping[str, TrainConfig], corpus: Corpus) -> Plan:
    """The plan of these runs over a corpus.

    A cell with fewer than MIN_STEPS optimizer steps is left out. ValueError when nothing is left, or when the corpus is
    another game's.
    """
    if corpus.game != game_name:
        raise ValueError(f"{corpus.uri}: a corpus of {corpus.game!r}, not of {game_name!r}")
    game = get_game(game_name)
    cells = []
    for name, run in runs.items():
        per_sample = training_flops_per_sample(config_for_size(game, run.size, run.core))
        for budget in run.cells:
            samples = budget / per_sample
            reason = TOO_FEW_STEPS if round(samples / run.samples_per_step) < MIN_STEPS else None
            epochs = samples / corpus.transitions("train")
            cells.append(Cell(name, run.size, budget, samples, epochs, reason))
    kept = {name: [cell.flops for cell in cells if cell.run == name and cell.reason is None] for name in runs}
    if not any(kept.values()):
        raise ValueError(
            f"every budget gives {TOO_FEW_STEPS} at every size (fewer than {MIN_STEPS}); raise the budgets"
        )
    trained = {
        name: run.model_copy(
            update={"budgets": tuple(kept[name]), "held_out": tuple(b for b in run.held_out if b in kept[name])}
        )
        for name, run in runs.items()
        if kept[name]
    }
    return Plan(trained, tuple(cells))
