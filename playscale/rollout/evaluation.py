"""The result of an evaluation: every episode, their mean return, where the recordings lie; evaluation.json."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from playscale.config import explain
from playscale.points import Reference
from playscale.rollout.episode import Episode, SeedRanges
from playscale.storage.files import is_whole, read_json, write_document

SCHEMA = 1


class EvalSettings(NamedTuple):
    """Settings that, beside the agent, determine an evaluation. Episode i has seed `seed` + i."""

    episodes: int
    max_steps: int
    seed: int
    temperature: float


@dataclass(frozen=True)
class Evaluation:
    """The episodes of one agent, every started one counted to its end.

    checkpoint, digest: path of the agent's checkpoint and hash of its contents; empty when it is no checkpoint
    point: the row of the points table that belongs to the checkpoint, returns not yet filled in
    train_seeds: those of its episodes whose games the agent may have learned from
    recordings: best, median, worst -> the recording's directory, relative to the evaluation's own
    seconds: wall time of its batches of episodes, summed over the batches (several may run at once)
    """

    name: str
    game: str
    settings: EvalSettings
    episodes: tuple[Episode, ...]
    seconds: float
    checkpoint: str = ""
    digest: str = ""
    point: Mapping[str, Any] | None = None
    train_seeds: SeedRanges = ()
    recordings: Mapping[str, str] = field(default_factory=dict)

    @property
    def returns(self) -> list[float]:
        return [episode.score for episode in self.episodes]

    @property
    def return_mean(self) -> float:
        return statistics.fmean(self.returns)

    @property
    def return_se(self) -> float | None:
        """Standard error of the mean; None with a single episode."""
        return standard_error(self.returns)

    @property
    def return_median(self) -> float:
        return statistics.median(self.returns)

    @property
    def episode_count(self) -> int:
        return len(self.episodes)

    @property
    def steps(self) -> int:
        return sum(episode.length for episode in self.episodes)

    def reference(self) -> Reference:
        return Reference(self.name, self.return_mean, self.return_se, len(self.episodes))

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "name": self.name,
            "game": self.game,
            "checkpoint": self.checkpoint,
            "digest": self.digest,
            "settings": self.settings._asdict(),
            "return_mean": self.return_mean,
            "return_se": self.return_se,
            "return_median": self.return_median,
            "steps": self.steps,
            "seconds": self.seconds,
            "point": None if self.point is None else dict(self.point),
            "train_seeds": [list(seeds) for seeds in self.train_seeds],
            "recordings": dict(self.recordings),
            "episodes": [episode.to_dict() for episode in self.episodes],
        }


def standard_error(values: list[float]) -> float | None:
    """Return the standard error of the mean of independent values; None with fewer than two."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write an evaluation.json, with a checksum of all of it."""
    write_document(path, evaluation.to_dict())


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation.json; ValueError when it is none, or damaged. Version 0.1 wrote no checksum."""
    data = read_json(path)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"{path}: not an evaluation of schema {SCHEMA}: evaluate again")
    if not is_whole(data):
        raise ValueError(f"{path}: damaged (not what was written): evaluate again")
    try:
        episodes = [Episode.to_fields(row) for row in data["episodes"]]
        evaluation = TypeAdapter(Evaluation).validate_python({**data, "episodes": episodes})
        if not (episodes and math.isfinite(evaluation.return_mean)):
            raise ValueError("episodes: none, or with a return that is not finite")
    except ValidationError as error:
        raise ValueError(f"{path}: not an evaluation ({explain(error)})") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not an evaluation ({error})") from error
    return evaluation
