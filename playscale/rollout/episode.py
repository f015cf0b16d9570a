"""An episode to be played, and an episode that was played."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from playscale.games.game import Metadata, Outcome


@dataclass(frozen=True)
class EpisodeSpec:
    """An episode to be played: its number among those of one evaluation, its seed, where its recording goes."""

    index: int
    seed: int
    record_dir: Path | None = None


@dataclass(frozen=True)
class Episode:
    """A played episode. `score` is the game's final score, which is the episode's return; `length` counts actions.

    `terminated`: the game itself ended; otherwise the episode was truncated at the step limit.
    """

    index: int
    seed: int
    score: float
    length: int
    terminated: bool
    metadata: Metadata

    @classmethod
    def of(cls, spec: EpisodeSpec, outcome: Outcome) -> Episode:
        return cls(spec.index, spec.seed, outcome.score, outcome.steps, outcome.terminated, dict(outcome.metadata))

    def to_dict(self) -> dict[str, Any]:
        return {
            "episode": self.index,
            "seed": self.seed,
            "return": self.score,
            "length": self.length,
            "terminated": self.terminated,
            "truncated": not self.terminated,
            "metadata": dict(self.metadata),
        }

    @classmethod
    def to_fields(cls, row: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of an episode, of any type, from what to_dict() wrote."""
        return {**row, "index": row["episode"], "score": row["return"]}


class Advance(NamedTuple):
    """Progress of a batch: steps made in all its running episodes together, and the episodes that ended with them."""

    steps: int
    ended: list[Episode]


SeedRanges = tuple[tuple[int, int], ...]
"""Seeds as (first, last) of each row of them, ascending."""


def seed_ranges(seeds: Iterable[int]) -> SeedRanges:
    """Return these seeds as ranges."""
    ranges: list[tuple[int, int]] = []
    for seed in sorted(seeds):
        if ranges and seed <= ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], seed
        else:
            ranges.append((seed, seed))
    return tuple(ranges)


def common_seeds(ranges: SeedRanges, first: int, count: int) -> SeedRanges:
    """Return those of the `count` seeds from `first` on that are in the ranges."""
    both = ((max(low, first), min(high, first + count - 1)) for low, high in ranges)
    return tuple((low, high) for low, high in both if low <= high)
