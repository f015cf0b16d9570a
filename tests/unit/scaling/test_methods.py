"""Tables of several methods and seeds: laws by method, seeds as means with their scatter, a report on the same axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from playscale.points import Point
from playscale.report.comparison import answer, comparison_plots, total
from playscale.report.evidence import Evidence, evidences_of
from playscale.report.figures import make_plots
from playscale.report.report import write_report
from playscale.report.seeds import spread_sentence
from playscale.scaling import numbers
from playscale.scaling.cells import FitError
from playscale.scaling.fit import fit
from playscale.scaling.methods import by_method, expert_bound, fit_methods, fits_of
from playscale.scaling.powerlaw import fit_power_law
from playscale.scaling.warning import Code

BUDGETS = (1e11, 2e11, 4e11, 8e11, 1.6e12)
SIZES = {"10k": 10_000, "30k": 30_000, "90k": 90_000}
GAIN = {"bc": (40.0, 0.2), "impala": (5.0, 0.8), "kickstart": (40.0, 0.4)}  # return at the first budget, exponent
TEACHER = 1.6e12
SCATTER = 0.3


def counted(method, flops):
    """Compute with the teacher's: what is played comes to a little more than its budget, by the frames of its ends."""
    return flops if method == "bc" else 1.005 * flops + TEACHER * (method == "kickstart")


def table(*methods: str, seeds: int = 3, scatter: float = SCATTER) -> list[Point]:
    """R = a (C / C0)^b, less by a parabola about 30k; each seed off by `scatter`. The last budget is held out."""
    rng, points = np.random.default_rng(0), []
    for method in methods:
        first, exponent = GAIN[method]
        for size, params in SIZES.items():
            for seed in range(seeds):
                for flops in BUDGETS:
                    true = first * (flops / BUDGETS[0]) ** exponent * np.exp(-0.2 * np.log(params / 30_000) ** 2)
                    extra = {} if method == "bc" else {"flops_total": f"{counted(method, flops):.9g}"}
                    extra |= {"flops_teacher": f"{TEACHER:g}"} if method == "kickstart" else {}
                    points.append(
                        Point(
                            game="nethack/score", method=method, run=f"{method}-{size}-s{seed}", seed=seed, size=size,
                            flops=flops, params=params, samples=round(flops / 6 / params),
                            dev_loss=2 * (flops / params) ** -0.05 if method == "bc" else None,
                            return_mean=float(true * (1 + scatter * rng.standard_normal())), return_se=0.05 * true,
                            episodes=24, split="held-out" if flops == BUDGETS[-1] else "fit", extra=extra,
                        )
                    )  # fmt: skip
    return [replace(point, return_mean=max(point.return_mean or 0, 0.5)) for point in points]


def quick(rows, **settings):
    return fit(rows, (4e12,), replicates=60, **settings)


def laws(points):
    return fit_methods(points, lambda _, rows: quick(rows)).to_dict()


@pytest.fixture(scope="module")
def points():
    return table("bc", "impala", "kickstart")


@pytest.fixture(scope="module")
def document(points):
    return laws(points)


def exponent(document, quantity, at="argmin"):
    rows = [r for r in document["power_laws"] if (r["target"], r["quantity"], r["at"]) == ("return_mean", quantity, at)]
    return rows[0]["exponent"]


def test_laws_are_of_one_method(points):
    with pytest.raises(FitError, match="bc, impala, kickstart: fit each apart"):
        fit(points)


def test_each_methods_laws_are_those_of_its_rows_alone(points, document):
    assert list(document["methods"]) == ["bc", "impala", "kickstart"]
    assert document["failed"] == {}
    for method, one in document["methods"].items():
        assert one == quick([point for point in points if point.method == method]).to_dict()


@pytest.mark.slow
def test_the_planted_exponents_come_back_from_seeds_that_scatter():
    exact = laws(table("bc", "impala", "kickstart", scatter=0.01))
    for method, (_, planted) in GAIN.items():
        assert exponent(exact["methods"][method], "return_mean") == pytest.approx(planted, abs=0.03)
        # at one best size samples are in proportion to compute, and so the exponents are the same
        assert exponent(exact["methods"][method], "return_mean of samples") == pytest.approx(planted, abs=0.03)


def test_a_table_of_one_method_has_the_fit_it_always_had():
    rows = table("impala")
    assert laws(rows) == quick(rows).to_dict()
    assert list(fits_of(laws(rows))) == ["impala"]


@pytest.mark.slow
def test_games_of_a_method_are_fitted_apart_and_named_by_both():
    bc, impala = table("bc", seeds=1), table("impala", seeds=1)
    pong = [replace(point, game="pong", return_mean=2 * point.return_mean) for point in bc]
    assert list(by_method([*bc, *impala, *pong])) == ["bc in nethack/score", "bc in pong", "impala"]
    assert list(by_method([replace(p, method="") for p in (*bc, *pong)])) == ["nethack/score", "pong"]
    # a clone of the whole game beside an agent of one task: as always, one game a method
    assert list(by_method([*(replace(point, game="nethack") for point in bc), *impala])) == ["bc", "impala"]
    document = laws([*pong, *bc])
    assert document["methods"]["bc in pong"] == quick(pong).to_dict()
    assert document["methods"]["bc in nethack/score"] == quick(bc).to_dict()
    with pytest.raises(FitError, match="a law is of one game; this table has nethack/score, pong: fit each apart"):
        fit([*bc, *pong])
    evidences = evidences_of(document, [*bc, *pong])
    assert {name: {p.game for p in one.points} for name, one in evidences.items()} == {
        "bc in nethack/score": {"nethack/score"},
        "bc in pong": {"pong"},
    }
    assert evidences["bc in pong"].fit == document["methods"]["bc in pong"]


def test_runs_left_out_of_a_table_are_in_the_document():
    fits = fit_methods(table("bc"), lambda _, rows: quick(rows))
    assert replace(fits, left_out=[("a", "failed")]).to_dict() == fits.to_dict() | {
        "left_out": [{"run": "a", "reason": "failed"}]
    }


def test_a_method_that_plays_needs_no_dev_loss(document):
    for method in ("impala", "kickstart"):
        assert set(document["methods"][method]["laws"]) == {"return_mean"}
        assert Code.TARGET_ABSENT not in {w["code"] for w in document["methods"][method]["warnings"]}
    bc = quick([replace(point, dev_loss=None) for point in table("bc")]).to_dict()
    assert Code.TARGET_ABSENT in {w["code"] for w in bc["warnings"]}


def test_a_method_without_laws_leaves_the_others_theirs(points):
    bare = [p if p.method != "kickstart" else replace(p, return_mean=None, return_se=None) for p in points]
    document = laws(bare)
    assert list(document["methods"]) == ["bc", "impala"]
    assert document["failed"] == {"kickstart": "return_mean is not fitted: no point to fit has a return_mean"}
    with pytest.raises(FitError, match="no point to fit has a return_mean"):
        laws([point for point in bare if point.method == "kickstart"])


def test_an_expert_bounds_those_that_imitate_it_in_the_game_that_it_played():
    assert expert_bound("bc", {"expert": 640.0}) == (640.0, [])
    assert expert_bound("", {"expert": 640.0}) == (640.0, [])
    assert expert_bound("impala", {"expert": 640.0}) == (None, [("the expert", 640.0)])
    assert expert_bound("bc", {"expert in nethack": 640.0}) == (None, [("the expert in nethack", 640.0)])
    assert expert_bound("kickstart", {}) == (None, [])


def test_the_scatter_between_seeds_is_measured_reported_and_widens_the_intervals(document):
    repeats = document["methods"]["impala"]["repeats"]["return_mean"]
    assert repeats["sd"] == pytest.approx(SCATTER, rel=0.35)
    assert (repeats["cells"], repeats["points"]) == (12, 36)
    said = spread_sentence(document["methods"])
    assert f"impala {repeats['sd']:.0%} of the return (36 runs in 12 cells)" in said
    calm = quick(table("impala", scatter=0.02)).to_dict()
    (wide,), (narrow,) = (one["forecasts"] for one in (document["methods"]["impala"], calm))
    assert wide["high"] / wide["low"] > 1.5 * narrow["high"] / narrow["low"]
    assert spread_sentence({"": quick(table("impala", seeds=1)).to_dict()}) == ""


def test_seeds_of_a_cell_are_one_point_and_are_kept(points, document):
    evidence = evidences_of(document, points)["impala"]
    own = [point for point in points if point.method == "impala"]
    assert len(evidence.points) == len(own) / 3
    assert sorted(map(id, evidence.repeats)) == sorted(map(id, own)) == sorted(map(id, evidence.runs))
    mean = evidence.points[0]
    seeds = [p.return_mean for p in own if (p.flops, p.params) == (mean.flops, mean.params)]
    assert mean.return_mean == pytest.approx(np.mean(seeds))
    among = document["methods"]["impala"]["repeats"]["return_mean"]["sd"] * mean.return_mean / 3**0.5
    assert mean.return_se == pytest.approx(among)
    assert mean.episodes == 72


@pytest.mark.slow
def test_a_column_of_a_table_may_be_called_seeds(tmp_path):
    rows = [replace(point, seed=None, extra={"seeds": "7"}) for point in table("bc")]
    write_report(tmp_path / "r.html", laws(rows), rows, title="published")
    assert len(Evidence.of({}, rows).runs) == len(rows)


def test_points_without_seeds_stay_as_they_are():
    rows = [replace(point, seed=None) for point in table("bc")]
    evidence = Evidence.of({}, rows)
    assert [id(point) for point in evidence.points] == [id(point) for point in rows]
    assert not evidence.repeats


def test_methods_are_compared_at_the_largest_budget_that_all_reached(points, document):
    short = [p for p in points if p.method != "kickstart" or p.flops < 8e11]
    said = answer(evidences_of(document, short))
    assert said.startswith(f"With {numbers.budget(4e11)} FLOPs of its own")
    assert all(method in said for method in GAIN)


def test_a_taught_runs_total_holds_its_teachers_compute(points):
    for point in points:
        assert total(point) == pytest.approx(counted(point.method, point.flops))


def curves_of(points):
    runs = {point.run for point in points if point.method != "bc"}
    rows = [{"step": i, "interactions": 1e4 * i, "train_return": 3.0 * i**0.5} for i in range(1, 30)]
    return dict.fromkeys(runs, rows)


@pytest.mark.slow
def test_the_report_compares_first_and_then_has_every_methods_own_sections(points, document, tmp_path):
    curves = curves_of(points)
    write_report(tmp_path / "r.html", document, points, title="all <three>", curves=curves)
    page = (tmp_path / "r.html").read_text()
    ids = ["next", "figures", *(f"{m}-{part}" for m in GAIN for part in ("next", "figures", "laws")), "points"]
    places = [page.index(f'<section id="{name}"') for name in ids]
    assert places == sorted(places)
    assert page.count('id="impala-learning_curves"') == page.count('id="learning_compared"') == 1
    assert "interactions (95%)" in page or "interactions" in page
    plots = {plot.name: plot for plot in comparison_plots(evidences_of(document, points), curves)}
    assert set(plots) == {
        "methods_against_flops", "methods_against_flops_total", "methods_against_interactions", "learning_compared",
    }  # fmt: skip
    assert "2.0 times as much" in plots["methods_against_flops_total"].title


@pytest.mark.slow
def test_one_method_that_plays_has_its_curves_and_speaks_of_interactions(tmp_path):
    rows = table("impala")
    document = laws(rows)
    evidence = Evidence.of(document, rows)
    names = {plot.name for plot in make_plots(evidence, curves_of(rows))}
    assert {"learning_curves", "isoflop_return_mean", "optimal_samples"} <= names
    write_report(tmp_path / "r.html", document, rows, title="one", curves=curves_of(rows))
    page = (tmp_path / "r.html").read_text()
    assert '<section id="next"' in page
    assert "impala-next" not in page
    assert "interactions</b>" in page  # what to train next
    assert "dev loss" not in page.split('<section id="points"')[1].split("</table>")[0]


@pytest.mark.slow
def test_a_goals_parameters_and_interactions_have_intervals_that_hold_the_planted_ones():
    rng = np.random.default_rng(1)
    rows = []
    for flops in np.geomspace(1e11, 1e13, 8):
        for away in (-1.0, -0.5, 0.0, 0.5, 1.0):
            params = 3e-2 * flops**0.5 * np.exp(away)
            value = 10 * (flops / 1e11) ** 0.5 * np.exp(-0.3 * away**2 + 0.02 * rng.standard_normal())
            rows.append(
                Point(method="impala", flops=flops, params=params, samples=flops / 6 / params, return_mean=value)
            )
    (goal,) = fit(rows, replicates=100, target_returns=[("human", 1000.0)]).target_returns
    truth = 1e11 * 100**2
    assert goal.low <= truth <= (goal.high or np.inf)
    assert goal.params_low <= 3e-2 * truth**0.5 <= (goal.params_high or np.inf)
    assert goal.samples_low <= truth / 6 / (3e-2 * truth**0.5) <= (goal.samples_high or np.inf)
    warned = [w.text for w in fit(rows, replicates=60, target_returns=[("human", 1000.0)]).warnings]
    assert any("human at" in text and "beyond the largest fitted budget" in text for text in warned)


def test_the_interval_of_a_line_is_the_textbooks():
    """Against the prediction band's formula for a simple regression, written out."""
    rng = np.random.default_rng(2)
    x, at = np.log(np.geomspace(1e3, 1e6, 7)), 1e8
    y = 0.5 + 0.3 * x + 0.1 * rng.standard_normal(7)
    law = fit_power_law(x, y)
    s2 = np.sum((y - law.log_coefficient - law.exponent * x) ** 2) / 5
    se = np.sqrt(s2 * (1 / 7 + (np.log(at) - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2)))
    t = 2.5705818366147395  # 97.5 % of Student's t with 5 degrees of freedom
    assert law.interval_at(at) == pytest.approx((law.at(at) * np.exp(-t * se), law.at(at) * np.exp(t * se)))
    assert fit_power_law(x[:2], y[:2]).interval_at(at) is None


def test_sizes_that_seeds_drown_are_recommended_with_a_warning():
    noisy, calm = quick(table("impala", scatter=0.8)), quick(table("impala", scatter=0.01))
    law = noisy.targets["return_mean"].forecaster.params.law
    assert (Code.SIZE_UNKNOWN in {w.code for w in noisy.warnings}) == (law.high - law.low > 1)
    assert law.high - law.low > 1
    assert Code.SIZE_UNKNOWN not in {w.code for w in calm.warnings}
