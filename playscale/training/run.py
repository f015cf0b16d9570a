"""One training run and its output directory.

run.json               what this is a run of (run_record.py)
checkpoints/<budget>/  a cell each; meta["point"] is its row of the table
points.csv             the rows of the cells reached so far
curve.csv              what was reported on the way (playscale/points.py)
resume/<step>/         the state to go on from
resume-<budget>/<step>/  that of an unfinished cooldown branch
nonfinite.json         only after a loss that was not finite: the step and the data it saw

What an output directory is a run of: OUT/run.json. It goes on only with the settings and sources it began with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from playscale.agents.checkpoint import is_checkpoint, load_checkpoint, load_policy, save_checkpoint
from playscale.agents.flops import params, training_flops_per_sample
from playscale.agents.policy import Policy, PolicyConfig
from playscale.config import TrainConfig, budget_name
from playscale.points import Point, from_row, to_row, write_points
from playscale.storage.files import read_json, write_json
from playscale.training.run_state import RunState, latest, load_state, new_state, saved_step
from playscale.training.schedule import Cell, constant_rate, plan_cells, recipe_learning_rate
from playscale.training.trainer import TrainContext, measure


class CellUsage(NamedTuple):
    """What a method says of a cell beside its losses: samples it learned from, and more columns of the points table."""

    samples: int
    extra: dict[str, float]


@dataclass(frozen=True)
class Run:
    """One model size trained through its budgets, by a method that says how it begins and what it has seen.

    start: the policy before the first step, on a device; recurrent: the state its unrolls carry, [B, ...] each
    source: what it learns from, JSON; a run goes on only with the same
    """

    out: Path
    config: TrainConfig
    policy: PolicyConfig
    source: Mapping[str, Any]
    seen: Callable[[RunState], CellUsage]
    start: Callable[[torch.device], Policy]
    recurrent: Callable[[Policy], dict[str, Tensor]]
    optimizer: str = "adam"

    def claim(self) -> None:
        """Make `out` this run's. ValueError: a budget too small, or `out` holds another run."""
        assert self.cells
        claim(self.out, self.config, self.source)

    @cached_property
    def params(self) -> int:
        """Of everything that is trained."""
        return params(self.policy)

    @cached_property
    def flops_per_sample(self) -> int:
        """Training FLOPs of everything that is trained."""
        return training_flops_per_sample(self.policy)

    @cached_property
    def cells(self) -> list[Cell]:
        """In the order of their steps. ValueError: a budget too small."""
        return plan_cells(self.config, self.flops_per_sample)

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
        peak = self.config.learning_rate or recipe_learning_rate(self.params, self.config.method)
        return constant_rate(step, peak, self.config.warmup_steps)

    def state(self, device: torch.device) -> RunState:
        """The saved state, or the state before the first step (weights drawn from the config's seed)."""
        saved = latest(self.resume)
        if saved is not None:
            return self.load(saved, device)
        torch.manual_seed(self.config.seed)
        policy = self.start(device)
        return new_state(policy, self.recurrent(policy), self.optimizer)

    def load(self, saved: Path, device: torch.device) -> RunState:
        """The state of a save."""
        return load_state(saved, device, self.optimizer)

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
            if not is_checkpoint(path):
                continue
            point = from_row(load_checkpoint(path).meta["point"])
            split = self.config.split(cell.budget)
            if point.split != split:
                point = replace(point, split=split)
                policy, checkpoint = load_policy(path)
                save_checkpoint(path, policy, checkpoint.meta | {"point": to_row(point)})
            points[cell.budget] = point
        return points

    def finish(self, cell: Cell, state: RunState, setting: TrainContext) -> Point:
        """Measure a cell at its budget and write its checkpoint."""
        assert state.step == cell.step
        cooled = cell.branch_step < cell.step
        dev = {}
        if setting.method.dev_loss is not None:
            found = measure(setting, state, "dev_loss_cooldown" if cooled else "dev_loss")
            dev = {"dev_samples": found.samples, "dev_games": found.games}
        samples, extra = self.seen(state)
        extra["flops_6nd"] = 6 * self.params * samples
        point = Point(
            game=self.policy.game,
            method=self.config.method,
            run=self.name,
            seed=self.config.seed,
            size=self.config.size,
            flops=cell.budget,
            params=self.params,
            samples=samples,
            dev_loss=found.loss if dev else None,
            dev_loss_se=found.se if dev else None,
            split=self.config.split(cell.budget),
            extra={name: f"{value:.6g}" for name, value in extra.items()},
        )
        meta = {
            "kind": "cell",
            "point": to_row(point),
            "step": state.step,
            "cooldown_steps": cell.step - cell.branch_step,
            "precision": setting.precision,
            "seconds": state.watch.seconds,
            "source": self.source,
            **dev,
        }
        if setting.group.first:
            save_checkpoint(self.checkpoint(cell.budget), state.policy, meta)
        return point

    def publish(self, points: Mapping[float, Point]) -> None:
        """Write OUT/points.csv: the cells reached so far, by budget."""
        write_points([points[budget] for budget in sorted(points)], self.out / "points.csv")


SCHEMA = 2
FREE = ("budgets", "held_out", "device", "save_seconds", "compile", "rl.actors", "rl.workers", "rl.teacher")
"""What may differ when a run goes on: cells can be added and relabelled, the machine can be another."""


def claim(out: Path, config: TrainConfig, source: Mapping[str, Any]) -> None:
    """Write OUT/run.json; ValueError saying what differs when OUT holds a run with other settings or other sources.

    `source`: by kind (corpus, teacher) what is learned from; by its digest it is the same, wherever it lies.
    """
    path = out / "run.json"
    record = {"schema": SCHEMA, "config": config.model_dump(mode="json"), "source": source}
    found = read_json(path) if path.is_file() else None
    if found is not None and (differences := _differences(found, record)):
        raise ValueError(f"{out} holds another run ({'; '.join(differences)}): use another output directory")
    if found != record:
        write_json(path, record)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    if old.get("schema") != SCHEMA:
        return [f"schema {old.get('schema')}, not {SCHEMA}"]
    before, now = _flat(old["config"]), _flat(new["config"])
    found = [
        f"{name} {before.get(name)}, not {now.get(name)}"
        for name in {**now, **before}
        if name not in FREE and before.get(name) != now.get(name)
    ]
    for kind in {**new["source"], **old["source"]}:
        was, is_ = (record["source"].get(kind, {}) for record in (old, new))
        if was.get("digest") != is_.get("digest"):
            found.append(f"{kind} {was.get('uri')}, not {is_.get('uri')}, or made anew since")
    return found


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """Settings within settings under names such as rl.discount."""
    inner = {
        f"{name}.{key}": v for name, value in config.items() if isinstance(value, dict) for key, v in value.items()
    }
    return {name: value for name, value in config.items() if not isinstance(value, dict)} | inner
