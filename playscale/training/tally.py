"""What a run by reinforcement learning has been through, over all its restarts."""

from __future__ import annotations

from collections import deque
from typing import Any

from playscale.rollout.episode import Episode
from playscale.training.reward_scale import Moments

RECENT = 100  # episodes that the mean return of training is taken over


class Tally:
    """Counts, the returns of the last episodes, the spread of rewards. `to_dict()` is JSON, from which it is made."""

    def __init__(self, saved: dict[str, Any] | None = None) -> None:
        saved = saved or {}
        self.interactions = int(saved.get("interactions", 0))
        self.episodes = int(saved.get("episodes", 0))
        self.returns: deque[float] = deque(saved.get("returns", []), RECENT)
        self.rewards = Moments(**saved.get("rewards", {}))

    def add(self, interactions: int, episodes: list[Episode]) -> None:
        self.interactions += interactions
        self.episodes += len(episodes)
        self.returns += [episode.score for episode in episodes]

    def to_dict(self) -> dict[str, Any]:
        return {
            "interactions": self.interactions,
            "episodes": self.episodes,
            "returns": list(self.returns),
            "rewards": vars(self.rewards).copy(),
        }

    @property
    def return_mean(self) -> float | None:
        """Over the last episodes; None before the first has ended."""
        return sum(self.returns) / len(self.returns) if self.returns else None
