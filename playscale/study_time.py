"""Where a study's seconds went: what its tasks worked on, and what it cost to run them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from playscale.progress import TaskProgress

OVERHEAD = {
    "between tasks": "the pipeline: from the end of a task to the first line of the next",
    "starting": "what a task does not account for: imports, helper processes",
    "saves": "resume states and checkpoints",
    "tracking": "MLflow",
}
"""Every other part is work: it would take as long without a study around it."""


@dataclass(frozen=True)
class StudyTime:
    """Seconds of tasks, by task and part. Tasks that run side by side count each; idle processors do not count."""

    tasks: dict[str, dict[str, float]]

    @classmethod
    def of(cls, tasks: Sequence[TaskProgress], began: float) -> StudyTime:
        """Of finished tasks in the order they started, in a study that began at that unix time.

        A task waited for whichever task before it ended last.
        """
        seconds = {}
        for task in tasks:
            ends = [other.updated for other in tasks if other.updated <= task.started]
            between = task.started - max([began, *ends])
            parts = {part: value for part, value in task.parts.items() if part != "starting"}
            starting = task.seconds - sum(parts.values())
            seconds[task.task] = {"between tasks": max(0.0, between), "starting": max(0.0, starting), **parts}
        return cls(seconds)

    @property
    def parts(self) -> dict[str, float]:
        """Over all tasks, the largest first."""
        total: dict[str, float] = defaultdict(float)
        for parts in self.tasks.values():
            for part, seconds in parts.items():
                total[part] += seconds
        return dict(sorted(total.items(), key=lambda item: -item[1]))

    @property
    def overhead(self) -> float:
        """The share of all seconds that is overhead, 0..1."""
        parts = self.parts
        return sum(seconds for part, seconds in parts.items() if part in OVERHEAD) / max(sum(parts.values()), 1e-9)

    def to_dict(self) -> dict[str, Any]:
        return {"overhead": self.overhead, "parts": self.parts, "tasks": self.tasks}
