"""The teachers of runs that the study's own clones teach: chosen when these are trained, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playscale.config import CLONE_OF_STUDY, IMITATING_METHODS, budget_name
from playscale.study.context import measured, planned_budgets


def choose_teachers(runs: Mapping[str, dict[str, Any]], trained: Path, uri: str) -> list[str]:
    """Set the teachers of the planned runs that the study's own clones teach.

    The teacher is the clone of the same size, by the study's recipe, with the lowest dev loss at the largest budget
    that clones reached. A run has none before all clones of its size are trained: another could be the better teacher.

    Args:
        runs: The planned runs as JSON, changed in place.
        trained: Directory of the runs' directories.
        uri: URI of the same directory, for other steps.

    Returns:
        The names of the runs whose teachers were set.
    """
    clones = {
        name: measured(trained / name / "points.csv", run)
        for name, run in runs.items()
        if run["method"] in IMITATING_METHODS and not run.get("varied")
    }
    untrained = {
        runs[name]["size"] for name, points in clones.items() if len(points) < len(planned_budgets(runs[name]))
    }
    kickstarted = [
        name
        for name, run in runs.items()
        if run["rl"] and run["rl"]["teacher"] == CLONE_OF_STUDY and run["size"] not in untrained
    ]
    for name in kickstarted:
        own = [
            (point, clone)
            for clone, points in clones.items()
            for point in points.values()
            if point.size == runs[name]["size"]
        ]
        point, clone = min(own, key=lambda one: (-one[0].flops, one[0].dev_loss))
        runs[name]["rl"]["teacher"] = f"{uri}/{clone}/checkpoints/{budget_name(point.flops)}"
    return kickstarted
