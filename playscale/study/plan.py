"""The plan of a grid: the cells that are trained, with their samples, and those that cannot be, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from playscale.agents.checkpoint import load_checkpoint
from playscale.agents.flops import training_flops_per_sample
from playscale.agents.policy import PolicyConfig, restrict_config
from playscale.agents.sizing import config_for_size
from playscale.config import CLONE_OF_STUDY, IMITATING_METHODS, Reinforcement, TrainConfig, normal_size
from playscale.games.game import get_game
from playscale.study.spec import StudySpec
from playscale.training.schedule import MIN_STEPS

TOO_FEW_STEPS = "too few optimizer steps"
ABOVE_LIMIT = "above the size's max_budget"
NO_TEACHER = "no cloned agent of that size to teach it"


class ExpertPlay(Protocol):
    """The games that clones learn from: a Corpus, or what one is expected to be."""

    @property
    def uri(self) -> str: ...
    @property
    def game(self) -> str: ...
    def transitions(self, split: str) -> float: ...


@dataclass(frozen=True)
class PlannedCell:
    """One model at one budget.

    Attributes:
        run: Name of the training run.
        size: Model size.
        flops: The compute budget in training FLOPs.
        samples: Transitions that the budget pays for.
        epochs: Passes over the corpus; None for a method that plays.
        reason: Why the cell is not trained; None if it is.
    """

    run: str
    size: str
    flops: float
    samples: float
    epochs: float | None
    reason: str | None


@dataclass(frozen=True)
class Plan:
    """The runs that are trained, by name, each with the budgets that it can reach; and every cell of the grid."""

    runs: Mapping[str, TrainConfig]
    cells: tuple[PlannedCell, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "runs": {name: run.model_dump(mode="json") for name, run in self.runs.items()},
            "cells": [vars(cell) for cell in self.cells],
        }

    def summary(self) -> str:
        trained = [cell for cell in self.cells if cell.reason is None]
        parts = [f"{len(self.runs)} runs, {len(trained)} of {len(self.cells)} cells"]
        if epochs := [cell.epochs for cell in trained if cell.epochs is not None]:
            parts.append(f"at most {max(epochs):.1f} epochs")
        if played := [cell.samples for cell in trained if cell.epochs is None]:
            parts.append(f"at most {max(played):,.0f} interactions")
        return ", ".join(parts)


def plan_study(spec: StudySpec, corpus: ExpertPlay | None) -> Plan:
    """Plan the grid of a study: what is trained, and what `playscale study plan` shows. See plan_grid."""
    return plan_grid(spec.game, spec.runs(), corpus, spec.is_above_limit)


def plan_grid(
    game_name: str,
    runs: Mapping[str, TrainConfig],
    corpus: ExpertPlay | None,
    is_above_limit: Callable[[TrainConfig, float], bool] = lambda run, budget: False,  # noqa: ARG005
) -> Plan:
    """Plan a grid.

    Left out are cells above their size's largest budget, cells of fewer than MIN_STEPS optimizer steps, and runs whose
    teacher is not trained.

    Args:
        game_name: The game that clones learn.
        runs: The training runs of the grid, by name.
        corpus: The expert play that clones learn from; None in a study without clones, or while it is not known.
        is_above_limit: Returns whether a budget is above the largest one of the run's size.

    Raises:
        ValueError: No cell is left, the corpus is one of another game, or a teacher has another size or core.
    """
    if corpus is not None and corpus.game != game_name:
        raise ValueError(f"{corpus.uri}: a corpus of {corpus.game!r}, not of {game_name!r}")
    cells = []
    for name, run in runs.items():
        per_sample = training_flops_per_sample(trained_policy(run.size, run.core, run.rl, game_name))
        for budget in run.cells:
            samples = budget / per_sample
            reason = TOO_FEW_STEPS if round(samples / run.samples_per_step) < MIN_STEPS else None
            if is_above_limit(run, budget):
                reason = ABOVE_LIMIT
            epochs = (
                samples / corpus.transitions("train")
                if corpus is not None and run.method in IMITATING_METHODS
                else None
            )
            cells.append(PlannedCell(name, run.size, budget, samples, epochs, reason))
    clones = {name for name, run in runs.items() if run.method in IMITATING_METHODS and not run.varied}
    cloned = {runs[cell.run].size for cell in cells if cell.run in clones and cell.reason is None}
    cells = [_without_teacher(cell, runs[cell.run], cloned) for cell in cells]
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


def _without_teacher(cell: PlannedCell, run: TrainConfig, cloned: set[str]) -> PlannedCell:
    """Return the cell, left out if its teacher would be a clone of a size that is not among those `cloned`."""
    missing = run.teacher_is_clone_of_study and run.size not in cloned and cell.reason is None
    return replace(cell, reason=NO_TEACHER) if missing else cell


def trained_policy(size: str, core: str, rl: Reinforcement | None, clones_game: str = "") -> PolicyConfig:
    """Return the policy that a run trains.

    Without `rl` that is a policy of `clones_game`. With it, a policy of the task, with a value head; in a run that
    starts from its teacher, the teacher's policy limited to the task's actions: that of a checkpoint, or of a clone
    that the study has yet to train.

    Raises:
        ValueError: The teacher is no checkpoint, or has another size or core.
    """
    if rl is None:
        return config_for_size(get_game(clones_game), size, core)
    task = get_game(rl.game)
    if rl.teacher is None or rl.start == "scratch":
        return replace(config_for_size(task, size, core), value_head=True)
    if rl.teacher == CLONE_OF_STUDY:
        return restrict_config(config_for_size(get_game(clones_game), size, core), task, value_head=True)
    teacher = load_checkpoint(rl.teacher).config
    if (normal_size(teacher.size), teacher.core) != (normal_size(size), core):
        raise ValueError(
            f"{rl.teacher}: a teacher of size {teacher.size} ({teacher.core}), not {size} ({core}): a run that starts "
            "from its teacher has that size and core; or start from scratch"
        )
    return restrict_config(teacher, task, value_head=True)
