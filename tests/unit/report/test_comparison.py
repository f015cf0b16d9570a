"""Methods compared: how they are named, which are named, and by what they are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.text import Text

from playscale.points import Point
from playscale.report.comparison import (
    MANY_METHODS,
    MOST_DRAWN,
    NO_PAIR,
    OF_GAMES,
    answer,
    compared,
    comparison_plots,
    drawn,
    not_drawn,
)
from playscale.report.drawing import Plot
from playscale.report.evidence import Evidence, evidences_of
from playscale.report.figures import write_figures
from playscale.report.html import inline_svg
from playscale.report.palette import FAINT, css_variables
from playscale.report.report import points_table, write_report
from playscale.scaling.methods import by_method

ODD = ["ppo_$SEED", "$lr$", "PPO v2", "PPO/LSTM", "_nolegend_", "a^2 & <b>", "强化学习", ""]


def evidences(names: list[str], returns: bool = True, slope: float = -0.01) -> dict[str, Evidence]:
    points = [
        Point(
            method=name, flops=flops * (1 + i / 1000), params=1e4, samples=1e6, dev_loss=2.0 + slope * i,
            return_mean=10.0 + i if returns else None, return_se=1.0 if returns else None,
        )
        for i, name in enumerate(names)
        for flops in (1e10, 1e11)
    ]  # fmt: skip
    return evidences_of({"methods": {name: {} for name in names}}, points)


def named(plot: Plot) -> list[Text]:
    """Return the names of series, in the legend and beside them."""
    return [
        *(text for legend in plot.figure.legends for text in legend.get_texts()), *plot.figure.axes[0].texts
    ]  # fmt: skip


def test_names_of_methods_are_shown_as_they_are() -> None:
    plots = {plot.name: plot for plot in comparison_plots(evidences(ODD), {})}
    plot = plots["methods_against_flops"]
    assert sorted(text.get_text() for text in named(plot)) == sorted(["no method", *ODD[:-1]])
    assert not any(text.get_parse_math() for text in named(plot))
    svg = inline_svg(plot.figure, name="a", alt=plot.alt, tips=plot.tips, variables=css_variables(0))
    for shown in ("ppo_$SEED", "$lr$", "PPO v2", "a^2 &amp; &lt;b&gt;", "强化学习"):
        assert f">{shown}</text>" in svg


def test_of_many_methods_the_best_are_named_and_the_others_grey() -> None:
    many = evidences([f"method {i}" for i in range(40)])
    for plot in comparison_plots(many, {}):
        names = [text.get_text() for text in named(plot)]
        assert set(names) == {*(f"method {i}" for i in range(31, 40)), "31 other methods"}
        assert len(names) == MANY_METHODS
        assert "method 39 49.0, method 38 48.0" in plot.title or "dev loss" in plot.title.lower()
        assert plot.title.endswith(" and 34 more")
        assert "Of 40 methods the 9 best have a colour" in plot.caption
        grey = [line for line in plot.figure.axes[0].lines if line.get_color() == FAINT]
        assert len([line for line in grey if line.get_gid()]) == 31 * 2
    assert " and 35 more." in answer(many)


def test_the_figure_of_losses_names_the_methods_with_the_best_losses() -> None:
    many = evidences([f"method {i}" for i in range(40)], slope=0.01)  # the best returns have the worst losses
    returns, losses = comparison_plots(many, {})
    assert "method 0 2.000, method 1 2.010" in losses.title
    for plot, best in ((losses, range(9)), (returns, range(31, 40))):
        assert {text.get_text() for text in named(plot)} == {*(f"method {i}" for i in best), "31 other methods"}


def in_games(pairs: list[tuple[str, str]]) -> dict[str, Evidence]:
    """Return evidence of methods in games; a later one has a lower loss and return, on another scale."""
    points = [
        Point(method=m, game=g, flops=c, params=1e4, samples=1e6, dev_loss=5.0 - i, return_mean=10.0**i)
        for i, (m, g) in enumerate(pairs)
        for c in (1e10, 1e11)
    ]
    return evidences_of({"methods": {name: {} for name in by_method(points)}}, points)


def test_methods_are_compared_within_a_game() -> None:
    found = in_games([("bc", "pong"), ("impala", "pong"), ("bc", "chess"), ("impala", "chess")])
    page = compared(found, {})
    assert OF_GAMES in page
    assert (
        "pong: with 10\u00b9\u00b9 FLOPs of its own, each method&#39;s best agent scores: impala 10.0, bc 1.00." in page
    )
    assert (
        "chess: with 10\u00b9\u00b9 FLOPs of its own, each method&#39;s best agent scores: impala 1,000, bc 100."
        in page
    )
    assert page.count("The best agent of each method, by budget</h3>") == 2
    plots = comparison_plots(found, {})
    assert {plot.name.rpartition("_in_")[2] for plot in plots} == {"pong", "chess"}
    assert len({plot.name for plot in plots}) == len(plots) == 4
    assert all({text.get_text() for text in named(plot)} == {"bc", "impala"} for plot in plots)
    assert all(plot.title.startswith(("pong: ", "chess: ")) for plot in plots)


def test_the_best_points_are_those_of_a_game() -> None:
    rows = [
        Point(method="bc", game=game, flops=1e10, params=n, samples=1e6, dev_loss=loss + n / 1e6, seed=0)
        for game, loss in (("pong", 2.0), ("chess", 5.0))
        for n in (1e4, 2e4)
    ]
    table = points_table(Evidence.of({}, rows))
    assert table.count("<b>") == 2
    assert "<b>2.01" in table
    assert "<b>5.01" in table


def test_games_of_one_method_each_are_not_compared() -> None:
    found = in_games([("bc", "pong"), ("bc", "chess")])
    page = compared(found, {})
    assert NO_PAIR in page
    assert "each method" not in page
    assert comparison_plots(found, {}) == []


def test_rows_without_a_game_are_compared_as_of_the_only_one() -> None:
    found = in_games([("bc", "pong"), ("impala", "")])
    assert OF_GAMES not in compared(found, {})
    assert len(comparison_plots(found, {})) == 2


@pytest.mark.slow
def test_of_many_methods_a_few_have_figures_of_their_own(tmp_path: Path) -> None:
    found = evidences([f"method {i}" for i in range(7)])
    assert drawn(found) == [f"method {i}" for i in range(3, 7)]
    assert "drawn for method 3, method 4, method 5 and method 6, of 7." in str(not_drawn(found))
    assert not_drawn(evidences(["a", "b"])) is None
    points = [point for evidence in found.values() for point in evidence.points]
    fit = {"methods": {name: {} for name in found}}
    names = {path.name.partition("_")[0] for path in write_figures(tmp_path, fit, points)}
    assert names == {"methods", *drawn(found)}
    write_report(tmp_path / "r.html", fit, points, title="x")
    page = (tmp_path / "r.html").read_text()
    assert page.count(": what was found</h2>") == MOST_DRAWN
    assert page.count(": the laws</h2>") == 7


def test_a_method_is_only_shown_at_budgets_of_its_own() -> None:
    first = Point(method="a", flops=1e10, params=1e4, samples=1e6, return_mean=7.0)
    other = replace(first, method="b", return_mean=8.0)
    found = evidences_of({"methods": {"a": {}, "b": {}}}, [first, other, replace(other, flops=1e11, return_mean=9.0)])
    assert answer(found).startswith("With 10\u00b9\u2070 FLOPs of its own")
    assert answer(found).endswith("scores: b 8.00, a 7.00.")
    assert compared(found, {}).count("<tr>") == 1 + 3


def test_without_returns_methods_are_compared_by_their_losses() -> None:
    found = evidences(["A2C", "PPO", "DQN"], returns=False)
    (plot,) = comparison_plots(found, {})
    assert plot.title == "Dev loss with 10\u00b9\u00b9 FLOPs of its own: DQN 1.980, PPO 1.990, A2C 2.000"
    assert answer(found).endswith("has a dev loss of: DQN 1.980, PPO 1.990, A2C 2.000.")
    page = compared(found, {})
    assert page.count("<tr>") == 1 + 2 * 3
    assert "interactions" not in page
    assert "teacher" not in page
