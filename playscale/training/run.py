"""One training run and its output directory.

run.json               the settings and sources of the run, with which alone it is resumed, and its number of threads
checkpoints/<budget>/  one per cell; meta["point"] is its row of the points table
points.csv             a row for each of them
curve.csv              the learning curve (LearningCurve in playscale/points.py)
resume/<step>/         the state to resume from
resume-<budget>/<step>/  the same of an unfinished cooldown branch
nonfinite.json         only after a loss that was not finite: the step and its data
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from playscale.agents.checkpoint import is_checkpoint, load_checkpoint, load_policy, save_checkpoint
from playscale.agents.flops import params, training_flops_per_sample
from playscale.agents.policy import PolicyConfig
from playscale.config import Reinforcement, TrainConfig, budget_name, normal_size, setting_text
from playscale.points import Point, from_row, to_row, write_points
from playscale.storage.files import read_document, write_json
from playscale.training.identity import Source, deciding, run_digest
from playscale.training.run_state import latest, saved_step
from playscale.training.schedule import Cell, constant_rate, plan_cells, recipe_learning_rate


@dataclass(frozen=True)
class Run:
    """One model size trained through its budgets, in the directory `out`.

    Attributes:
        policy: The policy that is trained.
        source: What the run learns from: see identity.py.
    """

    out: Path
    config: TrainConfig
    policy: PolicyConfig
    source: Mapping[str, Source]

    @cached_property
    def digest(self) -> str:
        return run_digest(self.config, self.source)

    @cached_property
    def params(self) -> int:
        """Parameters of everything that is trained."""
        return params(self.policy)

    @cached_property
    def flops_per_sample(self) -> int:
        """Training FLOPs per sample of everything that is trained."""
        return training_flops_per_sample(self.policy)

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells in the order of their steps. ValueError: a budget is too small."""
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
        """Return the learning rate of the constant run at a step."""
        peak = self.config.learning_rate or recipe_learning_rate(self.params, self.config.method)
        return constant_rate(step, peak, self.config.warmup_steps)

    def claim(self, threads: int) -> None:
        """Write run.json. ValueError: a budget is too small, or `out` holds a run of other settings or sources.

        `threads`: torch's threads in each process from now on, on which the last digits of the results depend.
        """
        assert self.cells
        path = self.out / "run.json"
        record = {"schema": SCHEMA, "config": self.config.model_dump(mode="json"), "source": self.source}
        record["threads"] = threads
        existing = read_document(path, _Record) if path.is_file() else None
        if existing is not None and (differences := _differences(existing, record)):
            raise ValueError(f"{self.out} holds another run ({'; '.join(differences)}): use another output directory")
        if existing != record:
            write_json(path, record)

    def check_ahead(self, cells: list[Cell]) -> None:
        """Raise ValueError when the run has already passed the step that one of these cells begins at."""
        saved = latest(self.resume)
        step = 0 if saved is None else saved_step(saved)
        for cell in cells:
            if cell.branch_step < step:
                raise ValueError(
                    f"{self.out} has gone past budget {cell.budget:g} (its step is {cell.branch_step:,}, the run is at "
                    f"{step:,}) and has no checkpoint of it: add larger budgets only, or use another output directory"
                )

    def reached(self) -> dict[float, Point]:
        """Return the points of the checkpoints in `out`, by budget.

        They are written anew where their split has changed, or an earlier version did not label them.
        """
        points = {}
        for path in sorted((self.out / "checkpoints").glob("*")):
            if path.name.startswith(".") or not is_checkpoint(path):
                continue  # being written, or left so by a kill
            written = from_row(load_checkpoint(path).meta["point"])
            point = self.labelled(written)
            if point != written:
                policy, checkpoint = load_policy(path)
                save_checkpoint(path, policy, checkpoint.meta | {"point": to_row(point)})
            points[point.flops] = point
        return points

    def labelled(self, point: Point) -> Point:
        """Return a point with its split, the run's digest, and the reason if it diverged."""
        split = self.config.split(point.flops) if point.flops in self.config.cells else point.split
        reason = point.diverged or divergence(point.dev_loss, self.policy.num_actions)
        labels = {"digest": self.digest} | ({"diverged": reason} if reason else {}) | self._settings()
        return replace(point, split=split, extra={**point.extra, **labels})

    def _settings(self) -> dict[str, str]:
        """Return the columns of a study that varies settings: the value of each of them, and which of them differ."""
        values = {name: self.config.setting(name) for name in self.config.vary}
        if "learning_rate" in values and values["learning_rate"] is None:
            values["learning_rate"] = float(f"{recipe_learning_rate(self.params, self.config.method):.4g}")
        columns = {name: setting_text(value) for name, value in values.items() if value is not None}
        return columns | ({"varied": self.config.varied} if self.config.varied else {})

    def publish(self, points: Mapping[float, Point]) -> None:
        """Write points.csv: the checkpoints in `out`, by budget."""
        write_points([points[budget] for budget in sorted(points)], self.out / "points.csv")


COLLAPSE = 0.5  # of the way from the lowest dev loss of a run to that of uniform actions


def divergence(dev_loss: float | None, num_actions: int, lowest: float = math.inf) -> str:
    """Return why a cell counts as diverged; "": it does not.

    It predicts the expert worse than uniform actions do, or its run has lost most of what it had learned: a policy that
    knows no more than how often the expert takes each action lies far below uniform actions.

    Args:
        dev_loss: Of the cell, in nats.
        num_actions: That the policy chooses from.
        lowest: Lowest dev loss that was measured in the run so far.
    """
    uniform = math.log(num_actions)
    if dev_loss is None:
        return ""
    if dev_loss > uniform:
        return f"dev loss above {uniform:.3f} (uniform actions)"
    if dev_loss - lowest > COLLAPSE * (uniform - lowest):
        return f"dev loss rose from {lowest:.3f} to {dev_loss:.3f}, near to the {uniform:.3f} of uniform actions"
    return ""


SCHEMA = 2


class _Record(BaseModel):
    """The content of run.json, for a check of it."""

    config: dict[str, Any]
    source: dict[str, dict[str, Any]]


def _default(name: str) -> Any:
    """Return the default of a setting by its name, such as cooldown or rl.discount; None where it has none."""
    section, _, key = name.rpartition(".")
    field = (Reinforcement if section else TrainConfig).model_fields[key]
    return None if field.is_required() else field.get_default()


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    if old.get("schema") != SCHEMA:
        return [f"schema {old.get('schema')}, not {SCHEMA}"]
    now = deciding(new["config"])
    before = {name: _default(name) for name in now} | deciding(old["config"])  # a later version may have more settings
    before["size"] = normal_size(before.get("size", ""))  # version 0.1 kept it as it was given
    different = [
        f"{name} {before.get(name)}, not {now.get(name)}"
        for name in {**now, **before}
        if before.get(name) != now.get(name)
    ]
    for kind in {**new["source"], **old["source"]}:
        was, is_ = (record["source"].get(kind, {}) for record in (old, new))
        if was.get("digest") != is_.get("digest"):
            different.append(f"{kind} {was.get('uri')}, not {is_.get('uri')}, or changed since")
    return different
