"""How one model is trained. No torch here: the study's spec and the CLI read it too."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainConfig(BaseModel):
    """One behavioural-cloning run: one model size, a checkpoint at each compute budget.

    Budgets are in training FLOPs (3 x the analytic forward count x samples). A sample is one transition.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: str
    budgets: tuple[float, ...]
    held_out: tuple[float, ...] = ()
    core: Literal["lstm", "transformer"] = "lstm"
    batch: int = Field(default=8, ge=1)
    unroll: int = Field(default=32, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    cooldown: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 0
    device: str = "auto"
    dev_samples: int = Field(default=8192, ge=1)
    save_seconds: float = Field(default=60.0, gt=0)
