"""The study to run next: the spec of an earlier one with the runs of a design as cells beside its grid."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count, islice
from typing import Any

import numpy as np
import yaml

from playscale.config import budget_name
from playscale.points import Point
from playscale.scaling.cells import SAME_COMPUTE
from playscale.scaling.design import Design
from playscale.study.forecast_plan import near_size, trained_size
from playscale.study.plan import trained_policy
from playscale.study.spec import StudySpec, parse_spec


def next_study(spec: StudySpec, text: str, table: Sequence[Point], found: Design) -> str:
    """Return the YAML of a study with the runs of a design as cells. Comments of `text` are not kept.

    Args:
        spec: The study that made the points.
        text: Its YAML.
        table: Its points.
        found: The runs to add.

    Raises:
        ValueError: The study would be none, or there is no agent of about a size.
    """
    (first, *_) = spec.runs().values()
    taken = {(run.size, run.seed): set(run.cells) for run in spec.runs().values() if not run.varied}
    known = {budget for budgets in taken.values() for budget in budgets}
    cells: list[dict[str, Any]] = []
    for run in found.runs:
        size = trained_size(table, run.params) or near_size(
            run.params, lambda name: trained_policy(name, spec.core, first.rl, spec.game)
        )
        budgets = [next((own for own in known if _same(own, budget)), budget) for budget in run.budgets]
        seeds = _free_seeds(spec, taken, size, budgets, run.seeds)
        for seed in seeds:
            taken.setdefault((size, seed), set()).update(budgets)
        cells.append({"size": size, "budgets": [budget_name(budget) for budget in budgets], "seeds": seeds})
    data = yaml.safe_load(text)
    data["cells"] = [*data.get("cells", []), *cells]
    if found.target_flops not in spec.forecast:
        data["forecast"] = [*data.get("forecast", []), budget_name(found.target_flops)]
    episodes = found.runs[0].episodes
    if episodes and episodes != found.usual_episodes:
        data["evaluate"] = data.get("evaluate", {}) | {"episodes": episodes}
    head = (
        f"# The runs that narrow the forecast at {budget_name(found.target_flops)} FLOPs most, by playscale design.\n"
    )
    whole = head + yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=110)
    parse_spec(whole)
    return whole


def _same(one: float, other: float) -> bool:
    return max(one / other, other / one) <= SAME_COMPUTE


def _free_seeds(
    spec: StudySpec, taken: dict[tuple[str, int], set[float]], size: str, budgets: Sequence[float], number: int
) -> list[int]:
    """Return seeds whose runs of a size can take budgets: there is no run yet, or it goes on to larger ones alone."""

    def is_free(seed: int) -> bool:
        own = taken.get((size, seed), set())
        new = set(budgets) - own
        return bool(new) and min(new) > max(own, default=0.0)

    every = chain(spec.seeds, (seed for seed in count() if seed not in spec.seeds))
    return list(islice(filter(is_free, every), number))


def episode_flops(length: float | None, table: Sequence[Point]) -> tuple[float, float]:
    """Return the FLOPs of an episode, and those a parameter: of the forward passes of agents, a third of training's.

    Args:
        length: Mean actions of an episode; None where it is not known.
        table: Points, whose FLOPs a sample and parameter are those of others.
    """
    each = [point.flops / point.samples / point.params for point in table if point.samples]
    return (0.0, length * float(np.median(each)) / 3) if length and each else (0.0, 0.0)
