"""Groups of a table: the names of methods and games, whatever the data, and rows that lack one of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playscale.points import Point
from playscale.report.evidence import evidences_of
from playscale.report.figures import file_names
from playscale.scaling.cells import FitError
from playscale.scaling.fit import Fit, fit
from playscale.scaling.methods import by_method, fit_methods
from playscale.scaling.warning import Code

WORDS = ["", "a", "A", "a in b", "b", "a in b (2)", "no method", "é", "e\u0301", "1 other methods", "single seeds"]
LAW = [
    Point(flops=c, params=n, samples=c / 6 / n, dev_loss=(c / n) ** -0.05)
    for c in (1e10, 1e11, 1e12)
    for n in (1e3, 1e4, 1e5)
]


def of(method: str, game: str) -> list[Point]:
    return [replace(point, method=method, game=game) for point in LAW]


def quick(_method: str, rows: list[Point]) -> Fit:
    return fit(rows, replicates=20)


def test_a_method_may_be_called_like_another_one_in_a_game() -> None:
    points = [*of("bc", "pong"), *of("bc", "breakout"), *of("bc in pong", "chess")]
    groups = by_method(points)
    assert list(groups) == ["bc in breakout", "bc in pong (2)", "bc in pong"]
    assert [{(p.method, p.game) for p in rows} for rows in groups.values()] == [
        {("bc", "breakout")}, {("bc", "pong")}, {("bc in pong", "chess")},
    ]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)), min_size=1, unique=True))
def test_names_of_groups_labels_and_files_are_never_the_same(pairs: list[tuple[str, str]]) -> None:
    points = [replace(LAW[0], method=method, game=game) for method, game in pairs]
    groups = by_method(points)
    assert sum(len(rows) for rows in groups.values()) == len(points)
    assert all(len({point.method for point in rows}) == 1 for rows in groups.values())
    assert all(len({point.game for point in rows if point.game}) <= 1 for rows in groups.values())
    shown = evidences_of({"methods": {name: {} for name in groups}}, points)
    assert len(shown) == len(groups)
    assert len({name.casefold() for name in file_names([*shown])}) == len(groups)


def test_rows_without_a_game_are_of_the_only_one_with_a_warning() -> None:
    points = [replace(point, game="pong" if i else "") for i, point in enumerate(of("bc", ""))]
    document = fit_methods(points, quick).to_dict()
    (text,) = [w["text"] for w in document["warnings"] if w["code"] == Code.NAME_MISSING]
    assert text.startswith("1 of 9 rows name no game, and are taken for rows of pong;")
    whole = fit_methods(of("bc", "pong"), quick).to_dict()
    assert document["power_laws"] == whole["power_laws"]
    assert Code.NAME_MISSING not in {w["code"] for w in whole["warnings"]}
    assert Code.NAME_MISSING not in {w["code"] for w in fit_methods(of("bc", ""), quick).to_dict()["warnings"]}


def test_rows_that_may_be_of_several_games_are_refused() -> None:
    points = [*of("bc", "pong"), *of("bc", ""), *of("impala", "chess")]
    with pytest.raises(FitError, match="column game: 9 of 18 rows of bc are empty, and the table has chess, pong;"):
        fit_methods(points, quick)


def test_rows_without_a_method_are_one_of_their_own_with_a_warning() -> None:
    document = fit_methods([*of("bc", "pong"), *of("", "pong")], quick).to_dict()["methods"]
    assert list(document) == ["bc", ""]
    (text,) = [w["text"] for w in document[""]["warnings"] if w["code"] == Code.NAME_MISSING]
    assert text.startswith("9 of 18 rows name no method, and are fitted as a method of their own;")
    assert Code.NAME_MISSING not in {w["code"] for w in document["bc"]["warnings"]}
