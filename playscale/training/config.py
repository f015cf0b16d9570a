"""How one model is trained. No torch here: the study's spec and the CLI read it too."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from playscale.training.reinforcement import Reinforcement
from playscale.training.unroll import recipe_batch


class Training(BaseModel):
    """How every model of a study is trained. A sample is one transition.

    `batch` and `unroll`, where not given, follow from the model's size: see training/unroll.py.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int | None = Field(default=None, ge=1, description="columns: games played side by side (None: by size)")
    unroll: int | None = Field(default=None, ge=1, description="transitions a column between two optimizer steps")
    learning_rate: float | None = Field(default=None, gt=0, description="None: the recipe of training/schedule.py")
    warmup_steps: int = Field(default=20, ge=0, description="optimizer steps of linear warm-up")
    clip_norm: float = Field(default=1.0, gt=0, description="largest global norm of a gradient")
    cooldown: float = Field(default=0.0, ge=0, lt=1, description="fraction of a budget's steps spent decaying to zero")
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="auto: bf16 on CUDA, else fp32")
    device: str = "auto"
    compile: bool = Field(default=False, description="compile what comes before the core (CUDA graphs on a GPU)")
    dev_samples: int = Field(default=8192, ge=1, description="transitions of the dev games that dev loss is taken on")
    save_seconds: float = Field(default=60.0, gt=0, description="longest time between two saves of the resume state")


MethodName = Literal["bc", "impala", "kickstart"]
OWN_CLONE = "bc"
"""The teacher that is a study's own clone of the same size; a path takes its place when that one is trained."""


class TrainConfig(Training):
    """One run: one model size, trained by one method, a checkpoint at each compute budget.

    Budgets are in training FLOPs (3 x the analytic forward count x samples).
    `held_out` budgets are trained like the others (whether or not `budgets` names them too) and marked in the points.
    `rl`: how a run learns that does not imitate; with a teacher it is a kickstarted one.
    """

    method: MethodName = "bc"
    rl: Reinforcement | None = None
    size: str
    batch: int = Field(ge=1)  # type: ignore[assignment] # a run's are known
    unroll: int = Field(ge=1)  # type: ignore[assignment]
    budgets: tuple[float, ...]
    held_out: tuple[float, ...] = ()
    core: Literal["lstm", "transformer"] = "lstm"
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="before")
    @classmethod
    def _batch_by_size(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = {name: value for name, value in values.items() if name not in ("batch", "unroll") or value is not None}
        if "size" not in given or {"batch", "unroll"} <= given.keys():
            return given
        batch, unroll = recipe_batch(str(given["size"]), str(given.get("method", "bc")))
        return {"batch": batch, "unroll": unroll} | given

    @model_validator(mode="after")
    def _budgets_are_budgets(self) -> Self:
        cells = (*self.budgets, *self.held_out)
        if not cells:
            raise ValueError("budgets: at least one compute budget is needed, for example 1e11,3e11")
        for budget in cells:
            if not (math.isfinite(budget) and budget > 0):
                raise ValueError(f"budgets: {budget:g} is not a compute budget; give positive FLOPs such as 3e11")
        return self

    @model_validator(mode="after")
    def _method_has_its_settings(self) -> Self:
        if (self.rl is None) != (self.method == "bc"):
            raise ValueError(f"rl: settings of reinforcement learning, and method {self.method}, do not go together")
        if self.rl is not None and (self.rl.teacher is None) != (self.method == "impala"):
            raise ValueError(f"rl.teacher: {self.rl.teacher}, but method {self.method}: kickstart has one, impala none")
        return self

    @property
    def taught_by_own_clone(self) -> bool:
        return self.rl is not None and self.rl.teacher == OWN_CLONE

    @property
    def run_name(self) -> str:
        """What the run is called in the points table, in MLflow and in a study's directory."""
        return f"{self.method}-{self.core}-{self.size}-s{self.seed}"

    @property
    def cells(self) -> tuple[float, ...]:
        """Every budget that gets a checkpoint, ascending, each once."""
        return tuple(sorted({*self.budgets, *self.held_out}))

    @property
    def samples_per_step(self) -> int:
        return self.batch * self.unroll

    def split(self, budget: float) -> Literal["fit", "held-out"]:
        return "held-out" if budget in self.held_out else "fit"


def budget_name(budget: float) -> str:
    """A budget as people write it (3e+11), in full where that would lose digits: the name of its checkpoint folder."""
    short = f"{budget:g}"
    return short if float(short) == budget else repr(budget)
