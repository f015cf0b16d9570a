from __future__ import annotations

import csv
import math
import re
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from report_study import (
    BUDGETS,
    HELD_OUT,
    MANY_BUDGETS,
    NEXT,
    REFERENCES,
    SIZES,
    make_fit,
    make_points,
    nulled,
    with_returns_of_zero,
)

from playscale.points import Point
from playscale.report.axes import log_ticks, plain
from playscale.report.drawing import EDGE, Drawing, Plot
from playscale.report.evidence import RETURN_OF_LOSS, Evidence, law_at
from playscale.report.figures import ENDINGS, FIGURE_FILES, make_plots, write_figures
from playscale.report.html import inline_svg, with_powers
from playscale.report.palette import ROLES, css_variables
from playscale.report.performance import against_compute, return_against_loss
from playscale.report.profile_figures import isoflop
from playscale.report.report import points_table
from playscale.scaling import numbers

ALL = [
    "dev_loss_against_compute", "return_mean_against_compute", "isoflop_dev_loss", "isoflop_return_mean",
    "optimal_params", "optimal_samples", "return_against_loss",
]  # fmt: skip


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    points = make_points()
    return Evidence(make_fit(points), points, REFERENCES)


@pytest.fixture(scope="module")
def plots(evidence: Evidence) -> dict[str, Plot]:
    return {plot.name: plot for plot in make_plots(evidence)}


def texts(plot: Plot) -> list[str]:
    """What is written in a figure: legend, annotations."""
    axes = plot.figure.axes[0]
    legend = [text.get_text() for legend in plot.figure.legends for text in legend.get_texts()]
    return legend + [text.get_text() for text in axes.texts]


def test_titles_say_what_is_to_be_learned(plots: dict[str, Plot], evidence: Evidence) -> None:
    assert list(plots) == ALL
    law = evidence.power_law("dev_loss", "params")
    assert law is not None
    assert plots["optimal_params"].title.startswith(f"The best model size grows as C^{law['exponent']:.2f} (")
    first, *_, last = evidence.rows("profiles", target="dev_loss")
    best = [f"{numbers.count(row['vertex_params'])} " for row in (first, last)]
    assert plots["isoflop_dev_loss"].title.startswith(f"Lowest dev loss: {best[0]}parameters at")
    assert f", {best[1]}at" in plots["isoflop_dev_loss"].title  # where the crosses are
    forecast = evidence.rows("forecasts", target="dev_loss")[-1]
    assert numbers.number(forecast["value"]) in plots["dev_loss_against_compute"].title


def test_the_line_of_the_best_size_goes_through_the_sizes_recommended() -> None:
    """Samples are known at two budgets, too few for a law of vertices: sizes are then recommended by the best cells."""
    known = (1e8, 3e12)
    points = [
        point if any(budget <= point.flops < 1.02 * budget for budget in known) else replace(point, samples=None)
        for point in make_points(seed=2, budgets=MANY_BUDGETS)
    ]
    evidence = Evidence.of(make_fit(points), points)
    laws = evidence.rows("power_laws", target="dev_loss", quantity="params")
    assert {law["at"]: law["n"] >= 5 for law in laws} == {"argmin": True, "vertex": True}
    law = evidence.power_law("dev_loss", "params")
    assert law is not None
    assert law["at"] == "argmin"
    for forecast in evidence.forecasts("dev_loss"):
        assert law_at(law, forecast["flops"]) == pytest.approx(forecast["params"])


def test_a_title_names_budgets_as_the_legend_does() -> None:
    points = [
        Point(flops=c * off, params=n, samples=1e6, dev_loss=3 * c**-0.05 * (1 + (i - 1) ** 2 / 50))
        for c in (1e13, 1e14, 1e15)
        for i, (n, off) in enumerate(((1e4, 0.92), (3e4, 1.08), (1e5, 0.95)))
    ]
    plot = isoflop(Evidence.of({}, points), "dev_loss")
    assert plot is not None
    assert plot.title.startswith(
        f"Lowest dev loss: 30k parameters at {numbers.budget(1e13 * (0.92 * 1.08 * 0.95) ** (1 / 3))}"
    )
    assert plot.figure.axes[0].get_ylabel() == "dev loss (nats)"  # of no game
    first = plot.title.split(" at ")[1].removesuffix(" FLOPs, 30k")
    assert any(first == text for text in texts(plot))


def test_nothing_is_called_best_where_all_sizes_are_equally_good() -> None:
    points = [
        Point(flops=c, params=n, samples=1e6, dev_loss=2.0 if c == 1e13 else 1.5 + i / 10)
        for c in (1e13, 1e14)
        for i, n in enumerate((1e4, 3e4, 1e5))
    ]
    row = {"target": "dev_loss", "edge": "below", "cells": 3, "argmin_params": 1e4, "excluded": None}
    profiles = [{**row, "flops": c, "argmin_value": value} for c, value in ((1e13, 2.0), (1e14, 1.5))]
    evidence = Evidence.of({"profiles": profiles}, points)
    plot = isoflop(evidence, "dev_loss")
    assert plot is not None
    assert plot.title == "Lowest dev loss: 10k parameters at 10¹⁴ FLOPs"
    assert [tuple(line.get_xydata()[0]) for line in plot.figure.axes[0].lines if line.get_marker() == "<"] == [
        (1e4, 1.5)
    ]
    assert re.findall("<b>(.*?)</b>", points_table(evidence)) == ["1.50"]


def test_the_title_of_returns_says_what_they_are_counted_from() -> None:
    points = [Point(flops=c, params=1e4, samples=1e6, return_mean=value) for c, value in ((1e13, -20.0), (1e14, 3.0))]
    law = {"target": "return_mean", "quantity": "return_mean", "exponent": 0.5, "used": True}
    fit = {"laws": {"return_mean": {"offset": -21.0}}, "power_laws": [law]}
    plot = against_compute(Evidence.of(fit, points), "return_mean")
    assert plot is not None
    assert plot.title.startswith(f"Return above {numbers.number(-21.0)} grows as C^0.5")


def test_size_that_is_best_at_every_budget_is_reported_not_to_change() -> None:
    """The same size won at each budget: an exponent of 0, with no interval around it."""
    points = [
        replace(p, dev_loss=2 * p.flops**-0.01 * (1 + 0.1 * math.log(p.params / 3e4) ** 2), return_mean=None)
        for p in make_points()
    ]
    evidence = Evidence(make_fit(points), points, REFERENCES)
    title = {plot.name: plot for plot in make_plots(evidence)}["optimal_params"].title
    assert title.startswith("The best model size does not change with compute: C^")


def test_one_size_at_each_budget_is_no_best_size() -> None:
    points = [point for point in make_points() if point.size == "30k"]
    evidence = Evidence(make_fit(points), points, REFERENCES)
    title = {plot.name: plot for plot in make_plots(evidence)}["optimal_params"].title
    assert title == "The best model size at each budget: too few optima for a law"


def test_every_point_has_its_values(plots: dict[str, Plot], evidence: Evidence) -> None:
    for name in ("isoflop_dev_loss", "dev_loss_against_compute", "return_against_loss"):
        tips = plots[name].tips.values()
        for point in evidence.points:
            loss = numbers.with_error(point.dev_loss, point.dev_loss_se, evidence.loss_digits)
            assert any(f"{numbers.count(point.samples)} samples\ndev loss {loss}" in tip for tip in tips)
    assert sum("held out" in tip for tip in plots["isoflop_dev_loss"].tips.values()) == len(SIZES)


def test_held_out_points_have_a_marker_of_their_own(plots: dict[str, Plot]) -> None:
    for plot in plots.values():
        assert any("held out" in text for text in texts(plot)), plot.name
    axes = plots["isoflop_dev_loss"].figure.axes[0]
    diamonds = [line for line in axes.lines if line.get_marker() == "D"]
    assert len(diamonds) == len(SIZES)


def test_a_parabola_goes_through_its_points(plots: dict[str, Plot], evidence: Evidence) -> None:
    curves = [line for line in plots["isoflop_dev_loss"].figure.axes[0].lines if len(line.get_xdata()) == 60]
    assert len(curves) == len(BUDGETS)
    for profile, curve in zip(evidence.rows("profiles", target="dev_loss"), curves, strict=True):
        at = np.interp(np.log(profile["argmin_params"]), np.log(curve.get_xdata()), np.log(curve.get_ydata()))
        assert np.exp(at) == pytest.approx(profile["argmin_value"], rel=0.03)


def test_left_out_points_are_hollow_and_say_why(evidence: Evidence) -> None:
    point = evidence.points[3]
    row = {"target": "dev_loss", "flops": point.flops, "params": point.params, "reason": "diverged"}
    plots = {plot.name: plot for plot in make_plots(Evidence({**evidence.fit, "excluded": [row]}, evidence.points))}
    loss, returns = plots["isoflop_dev_loss"], plots["isoflop_return_mean"]
    assert [tip for tip in loss.tips.values() if tip.endswith("left out: diverged")]
    assert "left out of the fit" in texts(loss)
    assert "left out of the fit" not in texts(returns)
    (hollow,) = [line for line in loss.figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert hollow.get_xdata()[0] == point.params


def test_returns_of_zero_or_less_are_at_the_lower_edge() -> None:
    points = with_returns_of_zero(make_points(), 7)
    fit = make_fit(points)
    shown = {plot.name: plot for plot in make_plots(Evidence(fit, points))}
    fit["laws"]["return_mean"]["offset"] = 0.0  # as in published analyses: these returns have no logarithm
    plots = {plot.name: plot for plot in make_plots(Evidence(fit, points))}
    for name in ("isoflop_return_mean", "return_mean_against_compute", "return_against_loss"):
        axes = shown[name].figure.axes[0]
        assert axes.get_yscale() == "linear"
        drawn = {float(y) for line in axes.lines for y in line.get_ydata()}
        assert all(point.return_mean in drawn for point in points[:7])
        plot = plots[name]
        assert plot.figure.axes[0].get_yscale() == "log"
        edge = [line for line in plot.figure.axes[0].lines if line.get_marker() == "v"]
        assert edge, name
        assert all(line.get_markerfacecolor() == "none" for line in edge)
        assert {float(line.get_ydata()[0]) for line in edge} == {EDGE}
        low, high = plot.figure.axes[0].get_xlim()
        assert all(min(low, high) < line.get_xdata()[0] < max(low, high) for line in edge)
        tips = "\n".join(plot.tips[line.get_gid()] for line in edge)
        assert "return not positive" not in tips, name
        for point in points[:7]:
            assert f"return {numbers.with_error(point.return_mean, point.return_se)}" in tips
        assert "return of 0 or less" in texts(plot)
    assert "At the lower edge" in plots["isoflop_return_mean"].caption
    assert not [line for line in plots["isoflop_dev_loss"].figure.axes[0].lines if line.get_marker() == "v"]


def test_a_budget_without_an_optimum_says_why(evidence: Evidence) -> None:
    reason = "minimum above the trained sizes"
    profiles = [dict(row) for row in evidence.fit["profiles"]]
    changed = next(row for row in profiles if row["target"] == "dev_loss")
    changed["excluded"] = reason
    plots = make_plots(Evidence({**evidence.fit, "profiles": profiles}, evidence.points))
    plot = next(plot for plot in plots if plot.name == "isoflop_dev_loss")
    said = f"no optimum at {numbers.budget(changed['flops'])} FLOPs:\n{reason}"
    lines = {line.get_gid(): line for line in plot.figure.axes[0].lines}
    curve, ring = (lines[gid] for gid, tip in plot.tips.items() if tip == said)
    assert len(curve.get_xdata()) == 60
    assert curve.get_alpha() == 0
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (changed["argmin_params"], changed["argmin_value"])


def test_the_line_of_the_best_sizes_goes_through_the_sizes_recommended(evidence: Evidence) -> None:
    (plot,) = (plot for plot in make_plots(evidence) if plot.name == "optimal_params")
    recommended = {(row["flops"], row["params"]) for row in evidence.forecasts("dev_loss")}
    law = evidence.recommends("dev_loss", "params")
    assert recommended
    assert law is not None
    for flops, params in recommended:
        assert law_at(law, flops) == pytest.approx(params)
    assert numbers.number(law["exponent"], 2) in plot.title


def test_a_best_cell_that_is_the_last_size_is_drawn_as_a_bound(evidence: Evidence) -> None:
    profiles = [{**row, "edge": "above"} for row in evidence.fit["profiles"]]
    plots = {plot.name: plot for plot in make_plots(Evidence({**evidence.fit, "profiles": profiles}, evidence.points))}
    plot = plots["isoflop_dev_loss"]
    triangles = [line for line in plot.figure.axes[0].lines if line.get_marker() == ">"]
    assert len(triangles) == sum(row["target"] == "dev_loss" for row in profiles)
    assert "the largest size trained" in plot.tips[str(triangles[0].get_gid())]
    assert "last size" in texts(plot)


@pytest.mark.slow
def test_forecasts_from_a_decade_before_stand_beside_the_truth() -> None:
    points = make_points(budgets=MANY_BUDGETS)
    evidence = Evidence(make_fit(points), points)
    plots = {plot.name: plot for plot in make_plots(evidence)}
    for target in ("dev_loss", "return_mean"):
        plot = plots[f"{target}_forecast_before"]
        marks = [line for line in plot.figure.axes[0].lines if line.get_gid()]
        best = {round(value, 9) for _, value in evidence.best(target, held_out=False)}
        assert len(marks) >= 2
        assert {round(float(line.get_ydata()[0]), 9) for line in marks} <= best
        for tip in plot.tips.values():
            assert re.search(r"measured\nforecast from .* FLOPs \(.*\): [\d.,]+ \(", tip)
            assert "the plain power law: " in tip
        assert set(texts(plot)) == {"power law, forecast", "chosen law, forecast", "measured"}
        assert re.match(r"Forecast (a|half a) decade ahead, .* was missed by .*; by a power law, ", plot.title)


def test_the_forecast_shown_is_the_one_made_nearest_to_a_decade_before() -> None:
    row = {"target": "dev_loss", "form": "saturating", "measured": 1.0, "value": 1.1, "low": 0.9, "high": 1.2}
    made = [row | {"from_flops": start, "flops": end} for start in (1e10, 2e10, 5e10) for end in (2e11, 5e11, 1e12)]
    points = [Point(flops=flops, params=1e5, samples=1e6, dev_loss=1.0) for flops in (1e10, 2e11, 5e11, 1e12)]
    (plot,) = [p for p in make_plots(Evidence({"track_record": made}, points)) if p.name == "dev_loss_forecast_before"]
    starts = [re.search(r"forecast from (\S+) FLOPs", tip) for tip in plot.tips.values()]
    assert [found[1] for found in starts if found] == [numbers.budget(start) for start in (2e10, 5e10, 5e10)]
    assert plot.title == "Forecast a decade ahead, dev loss was missed by 10%"


def test_references_are_lines_or_named_at_the_edge(plots: dict[str, Plot], evidence: Evidence) -> None:
    shown = texts(plots["return_mean_against_compute"])
    assert "random policy: 0.30" in shown
    assert "expert: 640" in shown
    far = [replace(REFERENCES[1], return_mean=1e6), replace(REFERENCES[0], return_mean=-3.0)]
    plots = {plot.name: plot for plot in make_plots(Evidence(evidence.fit, evidence.points, far))}
    shown = texts(plots["return_mean_against_compute"])
    assert any(text.startswith("↑ expert") for text in shown)
    assert any(text.startswith("↓ random policy") for text in shown)


def test_a_return_that_losses_hardly_differing_go_with_has_a_title() -> None:
    law = {"target": "return_mean", "quantity": RETURN_OF_LOSS, "exponent": -4900.0, "coefficient": 1.0, "used": True}
    points = [Point(flops=1e9, params=1e3, samples=1e5, dev_loss=x, return_mean=9.0) for x in (0.6902, 0.6903)]
    plot = return_against_loss(Evidence.of({"power_laws": [law]}, points))
    assert plot is not None
    said = "10% less dev loss goes with a return that is over a factor 1,000 higher (return \u221d L^\u22124,900)"
    assert plot.title == said
    assert "<sup>\u22124,900</sup>" in with_powers(said)
    assert law_at(law, 0.69) is None


def test_axes_reach_the_forecasts(plots: dict[str, Plot]) -> None:
    for name in ("optimal_params", "dev_loss_against_compute", "return_mean_against_compute"):
        low, high = plots[name].figure.axes[0].get_xlim()
        assert low < BUDGETS[0]
        assert high > NEXT[-1]
        assert high > HELD_OUT


@pytest.mark.parametrize(
    "lacking",
    [
        *("return_mean", "dev_loss_se", "all"),
        *(
            pytest.param(key, marks=pytest.mark.slow)
            for key in ("profiles", "curves", "power_laws", "forecasts", "laws")
        ),
    ],
)
def test_figures_leave_out_missing_parts(evidence: Evidence, lacking: str) -> None:
    points: list[Point] = list(evidence.points)
    if lacking in ("return_mean", "dev_loss_se"):
        points = [replace(point, **{lacking: None}) for point in points]
    fit = {} if lacking == "all" else {key: value for key, value in evidence.fit.items() if key != lacking}
    plots = make_plots(Evidence(fit, points))
    assert "isoflop_dev_loss" in [plot.name for plot in plots]
    for plot in plots:
        words = " ".join([plot.title, plot.caption, plot.alt, *plot.tips.values(), *texts(plot)])
        assert not re.search(r"\b(nan|None|inf)\b", words), words


def test_null_numbers_draw_nothing(evidence: Evidence) -> None:
    plots = make_plots(Evidence(nulled(evidence.fit), evidence.points, REFERENCES))
    assert "isoflop_dev_loss" in [plot.name for plot in plots]
    assert make_plots(Evidence({}, [])) == []


def test_an_svg_has_no_colour_of_its_own(plots: dict[str, Plot], evidence: Evidence) -> None:
    variables = css_variables(len(evidence.budgets))
    assert len({light for light, _ in variables.values()}) == len(variables)
    for name, plot in plots.items():
        svg = inline_svg(plot.figure, name=name, alt=plot.alt, tips=plot.tips, variables=variables)
        assert not re.findall(r"#[0-9a-fA-F]{6}\b", svg)
        assert set(re.findall(r"var\((--[\w-]+)\)", svg)) <= set(variables)
        assert svg.count("<title>") == len(plot.tips)
        assert all(found.startswith(name) for found in re.findall(r'\bid="([^"]+)"', svg))
    assert len(ROLES) + len(evidence.budgets) == len(variables)


def test_figures_are_written_as_png_and_svg_with_their_numbers(tmp_path: Path, evidence: Evidence) -> None:
    paths = write_figures(tmp_path / "new" / "figures", evidence.fit, evidence.points, REFERENCES)
    assert [path.stem for path in paths] == ALL
    for path in paths:
        assert any(fnmatch(f"figures/{path.name}", files) for files in FIGURE_FILES)  # which a later fit removes
        image = imread(path)
        assert image.shape[1] == 940
        assert image[0, 0, :3].tolist() == [1, 1, 1]
        svg = path.with_suffix(".svg").read_text(encoding="utf-8")
        assert "<svg" in svg
        with path.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        assert all(label in svg for label in head[1:3])
        assert head[0] == "series"
        assert head[3:] == ["low", "high", "note"]
        assert all(re.search(r"\(.+\)$", label) for label in head[1:3])  # units
        assert rows
        assert all(row[0] and row[1] for row in rows)
    files = [path.with_suffix(end) for path in paths for end in ENDINGS]
    assert all(any(fnmatch(f"figures/{path.name}", pattern) for pattern in FIGURE_FILES) for path in files)
    assert sorted(tmp_path.glob("**/*")) == sorted([tmp_path / "new", tmp_path / "new" / "figures", *files])


def test_the_numbers_of_a_figure_are_what_it_draws(plots: dict[str, Plot], evidence: Evidence) -> None:
    for plot in plots.values():
        drawn = {tuple(place) for line in plot.figure.axes[0].lines for place in line.get_xydata()}
        marked = [one for one in plot.numbers if one.y is not None]
        assert {(one.x, one.y) for one in marked} <= drawn
        bands = [place for area in plot.figure.axes[0].collections for place in area.get_paths()[0].vertices]
        for one in plot.numbers:
            if one.y is None:
                assert np.isclose(bands, [one.x, one.low]).all(axis=1).any()
                assert np.isclose(bands, [one.x, one.high]).all(axis=1).any()
    cells = [one for one in plots["isoflop_dev_loss"].numbers if one.note and "vertex" not in one.note]
    for point in evidence.points:
        (own,) = [one for one in cells if (one.x, one.y) == (point.params, point.dev_loss)]
        assert own.series == numbers.budget(evidence.budget_of(point))
        assert own.low == pytest.approx(point.dev_loss - 1.96 * point.dev_loss_se)
    forecast = evidence.rows("forecasts", target="dev_loss")[-1]
    (size,) = [one for one in plots["optimal_params"].numbers if one.series == "forecast for the dev loss"][-1:]
    assert (size.x, size.y, size.low, size.high) == tuple(
        forecast[name] for name in ("flops", "params", "params_low", "params_high")
    )


def test_every_axis_has_a_label_with_its_unit(plots: dict[str, Plot]) -> None:
    for plot in plots.values():
        (axes,) = plot.figure.axes
        assert all(re.search(r"\(.+\)$", label) for label in (axes.get_xlabel(), axes.get_ylabel())), plot.name
        assert plot.title


def test_labels_stand_beside_what_they_name_where_there_is_room() -> None:
    drawing = Drawing("a", Evidence.of({}, []))
    drawing.line([1e9, 1e10], [2.0, 1.0], label="falls")
    drawing.mark(1e10, 2.0, "alone", label="a point")
    for i in range(400):
        drawing.line([1e9, 1e10], [2.5 + i / 400, 2.5 + i / 400], label="hidden" if i == 200 else None)
    drawing.see(1e9, 3.5)
    drawing.scale("flops", "loss")
    plot = drawing.finish("a", "b", "c")
    direct = {text.get_text(): text for text in plot.figure.axes[0].texts}
    assert set(direct) == {"falls", "a point"}
    assert [text.get_text() for legend in plot.figure.legends for text in legend.get_texts()] == ["hidden"]
    assert direct["a point"].xy == (1e10, 2.0)


@pytest.mark.parametrize(
    ("low", "said"), [(-0.1, "Return: no trend is certain, C^0.07"), (0.01, "Return grows as C^0.07")]
)
def test_a_title_claims_no_trend_that_is_uncertain(low: float, said: str) -> None:
    points = [Point(flops=c, params=1e4, samples=1e6, dev_loss=c**-0.1, return_mean=5.0) for c in (1e9, 1e10)]
    law = {"target": "return_mean", "exponent": 0.07, "low": low, "high": 0.3, "used": True}
    rows = [law | {"quantity": quantity} for quantity in ("return_mean", RETURN_OF_LOSS)]
    evidence = Evidence.of({"power_laws": rows}, points)
    plots = {plot.name: plot for plot in make_plots(evidence)}
    assert plots["return_mean_against_compute"].title.startswith(said)
    relation = plots["return_against_loss"].title
    assert relation.startswith("No relation of return and dev loss is certain" if low < 0 else "10% less dev loss")


@given(st.floats(1e-4, 1e19), st.floats(0.02, 12))
def test_ticks_are_few_and_distinct(low: float, decades: float) -> None:
    high = low * 10**decades
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    assert ticks[0] >= low * 0.999
    assert ticks[-1] <= high * 1.001
    if low > 1e-3 and high < 1e5:
        assert len({plain(tick) for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (numbers.number(0.03214), "0.0321"), (numbers.number(0.099996), "0.100"), (numbers.number(999.6), "1,000"),
         (numbers.number(1234.5), "1,230"), (numbers.number(-0.1), "\u22120.100"),
        (numbers.number(float("nan")), "not measured"), (numbers.number(None), "not measured"),
        (numbers.number(0), "0"),
        (numbers.number(2e7), "2\u00d710⁷"), (numbers.count(10_150), "10.2k"), (numbers.count(999_999), "1M"),
        (numbers.count(3.95e-125), "3.95\u00d710⁻¹²⁵"), (numbers.count(1.2e130), "1.2\u00d710¹³⁰"),
        (numbers.count(3.2e9), "3.2B"), (numbers.count(350), "350"), (numbers.budget(3.004e11), "3\u00d710¹¹"),
        (numbers.budget(9.99e11), "10¹²"), (numbers.power_of_ten(1e-7), "10⁻⁷"),
        (numbers.between(0.41, 0.63), "0.410 to 0.630"), (numbers.between(0.41, None), "above 0.410"),
        (numbers.between(None, None), ""), (numbers.with_error(82.41, 3.14), "82.4 ± 3.1"),
        (numbers.percent(0.95), "95%"), (numbers.off(math.log(1.018)), "1.8%"), (numbers.off(math.log(1.45)), "45%"),
        (numbers.off(math.log(3.2)), "a factor 3.2"), (numbers.off(math.log(3.2), short=True), "3.2\u00d7"),
        (numbers.off(1e6), "over a factor 1,000"), (numbers.off(1e-4), "under 0.1%"),
        (numbers.counted(1, "cell"), "1 cell"), (numbers.counted(2, "step of compute"), "2 steps of compute"),
        (numbers.listed(["a", "b", "c"]), "a, b and c"), (numbers.listed(["a"]), "a"), (numbers.listed([]), ""),
        (numbers.in_text("bounded, last 2 decades, no bounds"), "bounded (last 2 decades, no bounds)"),
        (numbers.off(math.nan), "not measured"), (numbers.number(-3.8e-5), "\u22123.8\u00d710\u207b\u2075"),
        (numbers.power_of_ten(-3e11), "\u22123\u00d710\u00b9\u00b9"), (numbers.power_of_ten(0), "0"),
        (numbers.exponent(-3.8e-5), "0"), (numbers.exponent(-0.00312), "\u22120.0031"),
        (numbers.exponent(None), "not measured"),
    ],
)  # fmt: skip
def test_numbers_are_written_short(shown: str, wanted: str) -> None:
    assert shown == wanted
