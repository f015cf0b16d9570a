"""One training run and its output directory.

run.json               what this is a run of (run_record.py)
checkpoints/<budget>/  a cell each; meta["point"] is its row of the table
points.csv             the rows of the cells reached so far
resume/<step>/         the state to go on from
resume-<budget>/<step>/  that of an unfinished cooldown branch
nonfinite.json         only after a loss that was not finite: the step and the data it saw
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from playscale.agents.checkpoint import load_checkpoint, load_policy, save_checkpoint
from playscale.agents.flops import params, training_flops_per_sample
from playscale.agents.policy import PolicyConfig, build_policy
from playscale.agents.sizing import config_for_size
from playscale.corpus.corpus import Corpus
from playscale.games.game import get_game
from playscale.points import COLUMNS, Point, from_row, write_points
from playscale.training.config import TrainConfig, budget_name
from playscale.training.loop import Setting, measure
from playscale.training.run_record import claim
from playscale.training.run_state import RunState, latest, load_state, new_state, saved_step
from playscale.training.schedule import Cell, constant_rate, plan_cells, recipe_learning_rate

METHOD = "bc"


@dataclass(frozen=True)
class Run:
    """One model size trained through its budgets. `params` and `flops_per_sample` count everything that is trained."""

    out: Path
    config: TrainConfig
    policy: PolicyConfig
    params: int
    flops_per_sample: int
    cells: list[Cell]

    @classmethod
    def claim(cls, out: Path, config: TrainConfig, corpus: Corpus) -> Run:
        """The run of this config in `out`. ValueError: a budget too small, or `out` holds another run."""
        policy = config_for_size(get_game(corpus.game), config.size, config.core)
        flops_per_sample = training_flops_per_sample(policy)
        cells = plan_cells(config, flops_per_sample)
        claim(out, config, corpus)
        return cls(out, config, policy, params(policy), flops_per_sample, cells)

    @property
    def name(self) -> str:
        return self.config.run_name

    @property
    def resume(self) -> Path:
        return self.out / "resume"

    def branch_resume(self, cell: Cell) -> Path:
        return self.out / f"resume-{budget_name(cell.budget)}"

    def checkpoint(self, budget: float) -> Path:
        return self.out / "checkpoints" / budget_name(budget)

    def rate(self, step: int) -> float:
        """The learning rate of the constant run at a step."""
        peak = self.config.learning_rate or recipe_learning_rate(self.params)
        return constant_rate(step, peak, self.config.warmup_steps)

    def state(self, device: torch.device) -> RunState:
        """The saved state, or the state before the first step (weights drawn from the config's seed)."""
        saved = latest(self.resume)
        if saved is not None:
            return load_state(saved, device)
        torch.manual_seed(self.config.seed)
        return new_state(build_policy(self.policy, device), self.config.batch)

    def check_ahead(self, cells: list[Cell]) -> None:
        """ValueError when the run has already gone past the step that one of these cells begins at."""
        saved = latest(self.resume)
        step = 0 if saved is None else saved_step(saved)
        for cell in cells:
            if cell.branch_step < step:
                raise ValueError(
                    f"{self.out} has gone past budget {cell.budget:g} (its step is {cell.branch_step:,}, the run is at "
                    f"{step:,}) and has no checkpoint of it: add larger budgets only, or use another output directory"
                )

    def reached(self) -> dict[float, Point]:
        """The points of the cells that have their checkpoint, by budget; relabelled where their split has changed."""
        points = {}
        for cell in self.cells:
            path = self.checkpoint(cell.budget)
            if not path.is_dir():
                continue
            point = from_row(load_checkpoint(path).meta["point"])
            split = self.config.split(cell.budget)
            if point.split != split:
                point = replace(point, split=split)
                policy, checkpoint = load_policy(path)
                save_checkpoint(path, policy, checkpoint.meta | {"point": _row(point)})
            points[cell.budget] = point
        return points

    def finish(self, cell: Cell, state: RunState, setting: Setting) -> Point:
        """Measure a cell at its budget and write its checkpoint."""
        assert state.step == cell.step
        cooled = cell.branch_step < cell.step
        found = measure(setting, state, "dev_loss_cooldown" if cooled else "dev_loss")
        samples = state.step * self.config.samples_per_step
        point = Point(
            game=self.policy.game,
            method=METHOD,
            run=self.name,
            seed=self.config.seed,
            size=self.config.size,
            flops=cell.budget,
            params=self.params,
            samples=samples,
            dev_loss=found.loss,
            dev_loss_se=found.se,
            split=self.config.split(cell.budget),
            extra={"flops_6nd": f"{6 * self.params * samples:.6g}"},
        )
        meta = {
            "kind": "cell",
            "point": _row(point),
            "step": state.step,
            "cooldown_steps": cell.step - cell.branch_step,
            "dev_samples": found.samples,
            "dev_games": found.games,
            "precision": setting.precision,
            "seconds": state.watch.seconds,
            "corpus": setting.corpus.digest,
        }
        if setting.group.first:
            save_checkpoint(self.checkpoint(cell.budget), state.policy, meta)
        return point

    def publish(self, points: Mapping[float, Point]) -> None:
        """Write OUT/points.csv: the cells reached so far, by budget."""
        write_points([points[budget] for budget in sorted(points)], self.out / "points.csv")


def _row(point: Point) -> dict[str, Any]:
    """The row as JSON: numbers as numbers, a missing one as null."""
    return {name: getattr(point, name) for name in COLUMNS} | dict(point.extra)
