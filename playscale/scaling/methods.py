"""A table of several methods or games: each has laws of its own, fitted to its own rows.

A clone, an agent that learned by playing and one that did both spend compute on different things: one law through all
of them would hold for none, nor would one through two games.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playscale.config import IMITATING_METHODS, METHODS
from playscale.points import Point
from playscale.scaling.cells import FitError
from playscale.scaling.fit import Fit
from playscale.storage.files import write_json

EXPERT = "expert"


@dataclass(frozen=True, eq=False)
class MethodFits:
    """The fit of each method, by the names of `by_method`.

    failed: the methods that have none, and why; left_out: tracked runs that are no points of the table, and why.
    """

    fits: Mapping[str, Fit]
    failed: Mapping[str, str]
    left_out: Sequence[tuple[str, str]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return fit.json: of one method its fit; of several {methods: {method: its fit}, failed: {method: why}}."""
        runs = {"left_out": [{"run": run, "reason": reason} for run, reason in self.left_out]} if self.left_out else {}
        if len(self.fits) == 1 and not self.failed:
            return next(iter(self.fits.values())).to_dict() | runs
        return {"methods": {name: fit.to_dict() for name, fit in self.fits.items()}, "failed": dict(self.failed)} | runs

    def write(self, path: str | Path) -> None:
        """Write fit.json atomically."""
        write_json(Path(path), self.to_dict())


def by_method(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Return the rows of each method, of a method with rows in several games those of each game: "bc in pong".

    Known methods are in the registry's order, then others by name. A method without a name is called by its game.
    """
    order, groups = list(METHODS), dict[tuple[str, str], list[Point]]()
    for point in points:
        groups.setdefault((point.method, point.game), []).append(point)
    games = Counter(method for method, _ in groups)
    found: dict[str, list[Point]] = {}
    for method, game in sorted(groups, key=lambda key: (order.index(key[0]) if key[0] in METHODS else len(order), key)):
        name = method if games[method] == 1 else " in ".join(part for part in (method, game) if part)
        found.setdefault(name, []).extend(groups[method, game])
    return found


def fit_methods(points: Sequence[Point], fit_one: Callable[[str, Sequence[Point]], Fit]) -> MethodFits:
    """Call fit_one(method, rows) for each method and game of a table. Raises FitError when none can be fitted."""
    fits: dict[str, Fit] = {}
    failed: dict[str, str] = {}
    groups = by_method(points)
    for name, rows in groups.items():
        try:
            fits[name] = fit_one(rows[0].method, rows)
        except FitError as error:
            failed[name] = str(error)
    if not fits:
        texts = [f"{name}: {text}" if len(groups) > 1 else text for name, text in failed.items()]
        raise FitError("; ".join(texts) or "no point to fit")
    return MethodFits(fits, failed)


def expert_bound(method: str, experts: Mapping[str, float]) -> tuple[float | None, list[tuple[str, float]]]:
    """Return the return that bounds the laws of a method, or else the experts' returns as targets.

    An expert bounds those that imitate it (a table without methods is taken for theirs), in the game that it played.
    For all others its return is one more target.

    Args:
        method: bc, impala or kickstart; "" where a table names none.
        experts: mean returns by name: EXPERT in the game that the agents play, another name in another game.

    Returns:
        The bound and no targets, or None and the targets, (name, return) each.
    """
    if method in ("", *IMITATING_METHODS) and EXPERT in experts:
        return experts[EXPERT], []
    return None, [(f"the {name}", value) for name, value in experts.items()]


def fits_of(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the fit of each method in a fit.json; of one method that fit, under the method of its points."""
    if "methods" in document:
        return dict(document["methods"])
    names = {str(point.get("method") or "") for point in document.get("points") or []}
    return {names.pop() if len(names) == 1 else "": document}
