"""A table of several methods or games: each has laws of its own, fitted to its own rows.

A clone, an agent that learned by playing and one that did both spend compute on different things: one law through all
of them would hold for none, nor would one through two games.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playscale.config import IMITATING_METHODS, METHODS
from playscale.points import Point
from playscale.scaling.cells import FitError
from playscale.scaling.fit import Fit
from playscale.scaling.warning import unnamed_warning
from playscale.storage.files import write_json

if TYPE_CHECKING:
    from playscale.scaling.pooling import Pool

EXPERT = "expert"
UNNAMED = "no method"  # rows of a table that names a method elsewhere


@dataclass(frozen=True, eq=False)
class MethodFits:
    """The fit of each method, by the names of `by_method`.

    failed: the methods that have none, and why; left_out: tracked runs that are no points of the table, and why; pool:
    their exponents pooled, where that was wanted.
    """

    fits: Mapping[str, Fit]
    failed: Mapping[str, str]
    left_out: Sequence[tuple[str, str]] = ()
    pool: Pool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return fit.json: of one method its fit; of several {methods: {method: its fit}, failed: {method: why}}."""
        runs = {"left_out": [{"run": run, "reason": reason} for run, reason in self.left_out]} if self.left_out else {}
        if len(self.fits) == 1 and not self.failed:
            return next(iter(self.fits.values())).to_dict() | runs
        pooled = {} if self.pool is None else {"pool": self.pool.to_dict()}
        methods = {name: fit.to_dict() for name, fit in self.fits.items()}
        return {"methods": methods, "failed": dict(self.failed)} | pooled | runs

    def write(self, path: str | Path) -> None:
        """Write fit.json atomically."""
        write_json(Path(path), self.to_dict())


def by_method(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Return the rows of each method, of a method with rows in several games those of each game: "bc in pong".

    Known methods are in the registry's order, then others by name. A method without a name is called by its game.
    Where the table names one game, rows without a game are of that one. No two names are the same.
    """
    order, groups = list(METHODS), dict[tuple[str, str], list[Point]]()
    named = named_games(points)
    for point in points:
        game = point.game or (named[0] if len(named) == 1 else "")
        groups.setdefault((point.method, game), []).append(point)
    games = Counter(method for method, _ in groups)
    keys = sorted(groups, key=lambda key: (order.index(key[0]) if key[0] in METHODS else len(order), key))
    names: dict[tuple[str, str], str] = {}
    for key in sorted(keys, key=lambda key: games[key[0]]):  # a method's own name first: it may be "bc in pong"
        name = key[0] if games[key[0]] == 1 else " in ".join(part for part in key if part)
        names[key] = unused(name, names.values())
    return {names[key]: groups[key] for key in keys}


def joined(tables: Sequence[tuple[str, Sequence[Point]]]) -> list[Point]:
    """Return the rows of several tables, (name, rows) each, as one whose games are fitted apart.

    Rows of a method and a game (or of no game) that two tables have are of different games by the table's name: cores
    in one game, for instance, become "NetHack (lstm)" and "NetHack (transformer)".
    """
    if len(tables) == 1:
        return list(tables[0][1])
    groups = Counter(key for _, rows in tables for key in {(point.method, point.game) for point in rows})
    joint: list[Point] = []
    taken: list[str] = []
    for name, rows in tables:
        taken.append(unused(name, taken))
        for point in rows:
            alone = point.game and groups[point.method, point.game] == 1
            game = f"{point.game} ({taken[-1]})" if point.game else taken[-1]
            joint.append(point if alone else replace(point, game=game))
    return joint


def named_games(points: Sequence[Point]) -> list[str]:
    """Return the games that a table names."""
    return sorted({point.game for point in points if point.game})


def unused(name: str, taken: Collection[str], form: str = "{} ({})") -> str:
    """Return a name that is not taken yet: itself, or with the first number from 2 on that makes it another."""
    return next(each for i in count(1) if (each := name if i == 1 else form.format(name, i)) not in taken)


def fit_methods(points: Sequence[Point], fit_one: Callable[[str, Sequence[Point]], Fit]) -> MethodFits:
    """Call fit_one(method, rows) for each method and game of a table.

    Raises:
        FitError: none can be fitted, or rows of a method name no game and may be of several.
    """
    fits: dict[str, Fit] = {}
    failed: dict[str, str] = {}
    _check_games(points)
    groups = by_method(points)
    unnamed = sum(not point.method for point in points)
    for name, rows in groups.items():
        try:
            fitted = fit_one(rows[0].method, rows)
        except FitError as error:
            failed[name] = str(error)
            continue
        if not rows[0].method and unnamed < len(points):
            warned = unnamed_warning("method", unnamed, len(points), "are fitted as a method of their own")
            fitted = replace(fitted, warnings=(*warned, *fitted.warnings))
        fits[name] = fitted
    if not fits:
        texts = [f"{name or UNNAMED}: {text}" if len(groups) > 1 else text for name, text in failed.items()]
        raise FitError("; ".join(texts) or "no point to fit")
    return MethodFits(fits, failed)


def _check_games(points: Sequence[Point]) -> None:
    """Refuse rows that may be of any of several games: a method with other rows that name theirs."""
    games = named_games(points)
    if len(games) < 2:
        return
    for method in dict.fromkeys(point.method for point in points):
        own = [point for point in points if point.method == method]
        unnamed = sum(not point.game for point in own)
        if 0 < unnamed < len(own):
            whose = f"{len(own)} rows" + (f" of {method}" if method else "")
            raise FitError(
                f"column game: {unnamed} of {whose} are empty, and the table has {', '.join(games)}; fill it in"
            )


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
