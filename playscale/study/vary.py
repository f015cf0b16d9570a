"""Settings that a study varies: the training runs that differ from its own settings, the recipe, in a few values.

    vary:
      training.learning_rate: [3e-4, 1e-3, 3e-3]
      training.batch: [8, 32]
      design: one-at-a-time

A key with a dot is a setting, as the spec nests it; a key without one says how settings are varied.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from playscale.config import (
    MAY_DIFFER,
    Budget,
    FrozenModel,
    Reinforcement,
    Size,
    TrainConfig,
    Training,
    budget_name,
    explain,
    setting_text,
)

if TYPE_CHECKING:
    from playscale.study.spec import StudySpec

MOST_COMBINATIONS = 1000
LONGEST_NAME = 150  # of a run, in bytes: its files have a little more, and a file system takes 255
CHANGES_THE_MEASURE = ("dev_samples",)
OTHER_TASK = ("game", "max_steps")
MODELS: dict[str, tuple[type[FrozenModel], tuple[str, ...]]] = {
    "training": (Training, CHANGES_THE_MEASURE),
    "rl": (Reinforcement, OTHER_TASK),
    "rl.training": (Training, CHANGES_THE_MEASURE),
}
"""The parts of a spec whose settings can be varied, each with those that change more than the training."""


def _models() -> dict[str, type[FrozenModel]]:
    """Return every setting that can be varied, with the model of the part of the spec that it stands in."""
    return {
        f"{part}.{name}": model
        for part, (model, fixed) in MODELS.items()
        for name in model.model_fields
        if name not in fixed and _in_run(f"{part}.{name}") not in MAY_DIFFER
    }


def _in_run(setting: str) -> str:
    """Return the name of a setting in a run, which is also its column: learning_rate, rl.discount."""
    return setting.removeprefix("rl.training.").removeprefix("training.")


class VarySpec(FrozenModel):
    """Settings to vary, by name, each with its values. The runs of the recipe are trained beside them."""

    model_config = ConfigDict(extra="allow")

    design: Literal["grid", "one-at-a-time"] = Field(
        default="grid", description="grid: every combination; one-at-a-time: the other settings stay as they are."
    )
    sizes: tuple[Size, ...] | None = Field(default=None, description="Sizes that are trained so. Default: all.")
    budgets: tuple[Budget, ...] | None = Field(
        default=None, description="Budgets that are trained so. Default: those that are fitted."
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        """Read every value as the setting's type. ValueError: an unknown setting, or a value that it cannot have."""
        if not isinstance(values, dict):
            return values
        models = _models()
        settings = {str(name): given for name, given in values.items() if name not in cls.model_fields}
        for name, given in settings.items():
            if name not in models:
                known = [*models, *cls.model_fields]
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
                raise ValueError(f"unknown setting {name!r}; did you mean {near!r}? known: {', '.join(known)}")
            if not isinstance(given, list | tuple) or not given:
                raise ValueError(f"{name}: give a list of at least one value, not {given!r}")
        if not settings:
            raise ValueError("names no setting; give one with its values, such as training.learning_rate: [1e-3, 3e-3]")
        return values | {name: _read(name, models[name], given) for name, given in settings.items()}

    @property
    def settings(self) -> dict[str, tuple[Any, ...]]:
        """The values of each setting, in the order of the names."""
        return dict(sorted((self.model_extra or {}).items()))

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Return the settings that are changed together, with their values."""
        if self.design == "grid":
            yield from (dict(zip(self.settings, values, strict=True)) for values in product(*self.settings.values()))
        else:
            yield from ({name: value} for name, values in self.settings.items() for value in values)

    def check(self, spec: StudySpec) -> None:
        """Raise ValueError when the study has no such size, budget or setting, or nothing that differs."""
        known = {"sizes": spec.sizes, "budgets": tuple(map(budget_name, spec.budgets + spec.held_out))}
        given = {"sizes": self.sizes or (), "budgets": tuple(map(budget_name, self.budgets or ()))}
        for name, values in given.items():
            if other := [value for value in values if value not in known[name]]:
                raise ValueError(f"vary.{name}: {other[0]} is none of the study's, which are {', '.join(known[name])}")
        if (count := self.count()) > MOST_COMBINATIONS:
            raise ValueError(f"vary: {count:,} combinations of settings; at most {MOST_COMBINATIONS:,} can be trained")
        if spec.rl is None and (played := [name for name in self.settings if name.startswith("rl.")]):
            raise ValueError(f"vary.{played[0]}: no run of this study learns by playing; add impala to method")
        try:
            runs = varied_runs(spec, self)
        except ValidationError as error:
            raise ValueError(f"vary: {explain(error)}") from error
        if len(runs) == len(spec.recipe_runs()):
            raise ValueError("vary: every value is the one that the study has anyway, at each of its sizes")
        if longest := next((name for name in runs if len(name.encode()) > LONGEST_NAME), None):
            raise ValueError(f"vary: the name of a run would be {longest}: too long for a file; vary fewer settings")

    def count(self) -> int:
        """Return the number of combinations."""
        each = [len(values) for values in self.settings.values()]
        return math.prod(each) if self.design == "grid" else sum(each)


def _read(name: str, model: type[FrozenModel], given: list[Any]) -> tuple[Any, ...]:
    """Return the values of a setting as its type. ValueError: one that it cannot have, or one given twice."""
    part, _, key = name.rpartition(".")
    try:
        values = [getattr(model.model_validate({key: value}), key) for value in given]
    except ValidationError as error:
        raise ValueError(f"{part}.{explain(error, model)}") from error
    if len(set(values)) != len(values):
        raise ValueError(f"{name}: a value is given twice")
    return tuple(values)


def varied_runs(spec: StudySpec, vary: VarySpec) -> dict[str, TrainConfig]:
    """Return the runs of a study by name: those of the recipe, then those whose settings differ from it.

    A combination that is the recipe's own at a size, such as the batch that the size has anyway, is the recipe's run.
    """
    columns = tuple(sorted({_in_run(name) for name in vary.settings}))
    recipe = {name: run.model_copy(update={"vary": columns}) for name, run in spec.recipe_runs().items()}
    found = []
    for changes in vary.combinations():
        for name, run in _changed(spec, changes).recipe_runs().items():
            own = recipe[name]
            differ = [column for column in columns if run.setting(column) != own.setting(column)]
            if differ and (vary.sizes is None or own.size in vary.sizes):
                varied = " ".join(f"{column}={setting_text(run.setting(column))}" for column in differ)
                found.append(run.model_copy(update={"vary": columns, "varied": varied, **_budgets(run, vary)}))
    order = {size: i for i, size in enumerate(dict.fromkeys(run.size for run in recipe.values()))}
    return recipe | {run.run_name: run for run in sorted(found, key=lambda run: order[run.size])}


def _budgets(run: TrainConfig, vary: VarySpec) -> dict[str, tuple[float, ...]]:
    """Return the budgets of a run that differs from the recipe's run: those chosen, else those that are fitted."""
    fitted = [budget for budget in run.cells if budget not in run.held_out]
    chosen = fitted if vary.budgets is None else [budget for budget in run.cells if budget in vary.budgets]
    return {"budgets": tuple(chosen), "held_out": tuple(budget for budget in chosen if budget in run.held_out)}


def _changed(spec: StudySpec, changes: Mapping[str, Any]) -> StudySpec:
    """Return the grid of the study with other values of some settings, and nothing varied."""
    values: dict[str, dict[str, Any]] = {part: {} for part in MODELS}
    for name, value in changes.items():
        part, _, key = name.rpartition(".")
        values[part][key] = value
    update: dict[str, Any] = {
        "vary": None,
        "cells": (),
        "training": spec.training.model_copy(update=values["training"]),
    }
    if spec.rl is not None:
        training = spec.rl.training.model_copy(update=values["rl.training"])
        update["rl"] = spec.rl.model_copy(update=values["rl"] | {"training": training})
    return spec.model_copy(update=update)
