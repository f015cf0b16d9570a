"""How a model is trained by reinforcement. No torch here: the study's spec and the CLI read it too."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Reinforcement(BaseModel):
    """IMPALA (Espeholt et al., arXiv 1802.01561), and kickstarting (Schmitt et al., arXiv 1803.03835) with a teacher.

    A batch is one unroll of the `batch` environments of one actor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    game: str = Field(default="nethack/score", description="the game, or a task of one, that is played")
    max_steps: int = Field(default=5000, ge=1, description="actions after which an episode of training is truncated")
    actors: int | None = Field(default=None, ge=1, description="actor processes (None: 2, or more on a large machine)")
    workers: int | None = Field(default=None, ge=1, description="environment processes of all actors (None: by cores)")
    discount: float = Field(default=0.999, ge=0, le=1)
    rho_bar: float = Field(default=1.0, gt=0, description="largest importance weight of a temporal difference")
    c_bar: float = Field(default=1.0, gt=0, description="largest trace weight")
    baseline_cost: float = Field(default=0.5, ge=0)
    entropy_cost: float = Field(default=0.0005, ge=0)
    reward_scale: Literal["running", "none"] = Field(
        default="running", description="running: rewards are divided by the spread of the discounted returns so far"
    )
    reward_clip: float | None = Field(default=3.0, gt=0, description="largest reward, after scaling (None: any)")
    optimizer: Literal["adam", "rmsprop"] = "adam"
    teacher: str | None = Field(default=None, description="checkpoint of the teacher: makes this a kickstarted run")
    start: Literal["scratch", "teacher"] = Field(default="teacher", description="whose weights a kickstarted run has")
    teacher_cost: float = Field(default=1.0, ge=0, description="of the divergence from the teacher, at first")
    teacher_half_life: float = Field(default=1e6, gt=0, description="interactions in which teacher_cost halves")
    value_warmup: int = Field(default=0, ge=0, description="interactions before the policy gradient sets in")
