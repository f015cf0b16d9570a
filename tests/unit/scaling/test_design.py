"""What to run next: what measures the best of a budget, runs within the spend, and what is refused."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from playscale import design
from playscale.cli.app import app
from playscale.cli.console import plain_console, print_table
from playscale.cli.design import design_tables
from playscale.points import write_points
from playscale.scaling.cells import FitError
from playscale.scaling.design import next_runs
from playscale.scaling.exchange import Search, rounded_down
from playscale.scaling.fit import fit
from playscale.scaling.gpu import hardware
from playscale.scaling.outlook import make_outlook
from playscale.study.next_study import episode_flops, next_study
from playscale.study.spec import parse_spec
from playscale_benchmarks.next_runs import BUDGETS, NEXT, SPEND, TARGET, simulate, table
from playscale_benchmarks.planted import LAWS

ROOT = Path(__file__).parents[3]
LAST = float(BUDGETS[-1])


@pytest.fixture(scope="module")
def points():
    return table(LAWS["floor"], 0.02, np.random.default_rng(3))


@pytest.fixture(scope="module")
def fitted(points):
    return fit(points, [TARGET], replicates=60)


@pytest.fixture(scope="module")
def found(fitted):
    return next_runs(fitted, TARGET, SPEND)


def test_runs_cost_no_more_than_the_spend_and_bracket_the_best_size_beyond_the_budgets(fitted, found):
    assert 0 < found.spent == sum(run.cost for run in found.runs) <= SPEND * (1 + 1e-9)
    assert all(run.cost == pytest.approx(run.seeds * run.flops) for run in found.runs)  # no return, no play
    assert all(run.budgets[-1] == run.flops and list(run.budgets) == sorted(run.budgets) for run in found.runs)
    top = max(run.flops for run in found.runs)
    assert top > NEXT
    sizes = [run.params for run in found.runs if run.flops == top]
    best = fitted.targets["dev_loss"].forecaster.params.law.at(top)
    assert min(sizes) < best < max(sizes)
    assert len(sizes) >= 3
    (row,) = found.forecasts
    assert row.width < 0.8 * row.same_width < 0.8
    assert row.low < row.low_after < row.value < row.high_after < row.high
    assert all(run.wider > 0.01 for run in found.runs)
    assert all("the best size expected at" in run.purpose for run in found.runs)


def test_the_same_spend_on_todays_sizes_is_one_run_of_each_at_the_next_budget(points, found):
    sizes = sorted(point.params for point in points if point.flops == LAST)
    assert [(run.params, run.seeds) for run in found.same_sizes] == [(size, 1) for size in sizes]
    assert {run.flops for run in found.same_sizes} == {rounded_down(NEXT)}


def test_the_same_table_and_seed_give_the_same_runs(fitted, found):
    assert next_runs(fitted, TARGET, SPEND) == found


def test_columns_are_plain_arrays_and_the_document_is_json(found):
    runs = found.table("runs")
    assert runs["params"].dtype == runs["flops"].dtype == float
    assert all(samples is None for samples in runs["samples"])  # the table has none
    assert [list(budgets) for budgets in runs["budgets"]] == [list(run.budgets) for run in found.runs]
    assert json.loads(json.dumps(found.to_dict()))["runs"][0]["budgets"] == list(found.runs[0].budgets)
    with pytest.raises(ValueError, match="nothing: no list of rows; known: runs, same_sizes, forecasts, notes"):
        found.table("nothing")


def test_one_size_alone_measures_nothing_at_a_new_budget_and_three_about_the_best_do(fitted):
    result = fitted.targets["dev_loss"]
    outlook = make_outlook(result, fitted.forecasts[0], np.random.default_rng(0))
    sizes = outlook.params.at(10 * LAST) * np.array([0.5, 1, 2, 3, 3.4, 3.8])
    levels = outlook.levels(sizes, np.array([10 * LAST]))

    def width(*runs):
        return outlook.width(levels, np.array(runs)[:, None])

    assert width(0, 1, 0, 0, 0, 0) == width(0, 9, 0, 0, 0, 0) == width(1, 1, 0, 0, 0, 0) == 1
    assert width(0, 0, 0, 1, 1, 1) == 1  # the best is below all of them
    assert width(1, 1, 1, 0, 0, 0) < 0.9
    assert width(2, 2, 2, 0, 0, 0) < width(1, 1, 1, 0, 0, 0)


def test_linear_bayes_is_the_posterior_of_a_line_with_normal_noise(fitted):
    """Of a power law's draws: the variance at the target after one more budget is that of a regression by hand."""
    outlook = make_outlook(fitted.targets["dev_loss"], fitted.forecasts[0], np.random.default_rng(0))
    rng = np.random.default_rng(1)
    covariance = np.array([[0.04, 0.01], [0.01, 0.02]])
    draws = rng.multivariate_normal([0, 0], covariance, len(outlook.far))
    object.__setattr__(outlook, "far", draws @ [1, 3])
    seen = (draws @ [1, 1])[:, None]
    exact = np.cov(draws.T, bias=True)
    noise = outlook.noise**2
    gain = (np.array([1, 3]) @ exact @ [1, 1]) ** 2 / (np.array([1, 1]) @ exact @ [1, 1] + noise)
    left = np.array([1, 3]) @ exact @ [1, 3] - gain
    assert outlook._left(np.ones((1, 1)), seen, np.zeros_like(seen)) == pytest.approx(left)


def test_a_budget_below_the_next_one_adds_to_those_there_are(fitted):
    """The spend pays no three sizes beyond the largest budget; what it pays narrows less, or nothing is proposed."""
    try:
        found = next_runs(fitted, TARGET, 2 * LAST)
    except FitError as error:
        assert "no runs of" in str(error)
    else:
        assert max(run.flops for run in found.runs) <= LAST
        assert found.forecasts[0].width > 0.8


def test_a_spend_without_bounds_and_play_that_costs_more_than_there_is_are_no_error(fitted):
    outlook = make_outlook(fitted.targets["dev_loss"], fitted.forecasts[0], np.random.default_rng(0))
    many = Search([outlook], 1e30).as_before().runs
    assert many.min() > 1e12
    assert np.ptp(many) <= 1
    dear = Search([outlook], SPEND, episodes=10, usual=10, episode_flops=(SPEND, 0.0))
    assert list(dear._tops()) == []
    assert dear.as_before().runs.sum() == 0


def test_no_run_is_longer_than_the_target(fitted):
    outlook = make_outlook(fitted.targets["dev_loss"], fitted.forecasts[0], np.random.default_rng(0))
    assert list(Search([outlook], 6 * TARGET)._tops()) == [TARGET, 8.5e17, 7.5e17]


@pytest.mark.parametrize(
    ("target", "spend", "says"),
    [
        (LAST, SPEND, "target: 1e[+]16 is not beyond the largest budget that is fitted, 1e[+]16"),
        (1e12, SPEND, "target: 1e[+]12 is not beyond"),
        (TARGET, 0, "spend: 0 is no number of FLOPs above zero"),
        (float("nan"), SPEND, "target: nan is no number"),
        (TARGET, "1e18", "spend: '1e18' is no number"),
        (TARGET, 1e30, "spend: 1e[+]30 FLOPs pay more than 8 runs at the target, 1e[+]18: train there, or give a"),
        (TARGET, 1e6, "spend: no runs of 1e[+]06 FLOPs in all narrow the forecast at 1e[+]18 by 1 %; three sizes"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(points, target, spend, says):
    with pytest.raises(FitError, match=f"^{says}[^\n]*$"):
        design(points, target, spend, replicates=20)


def test_a_table_without_laws_that_carry_a_forecast_is_refused(points):
    two = [point for point in points if point.flops in BUDGETS[:2]]
    with pytest.raises(
        FitError, match="^dev_loss: the laws cannot carry a forecast, which new runs could narrow: [^\n]*$"
    ):
        design(two, TARGET, SPEND, replicates=20)
    with pytest.raises(FitError, match="^return_mean: [^\n]*$"):
        design(points, TARGET, SPEND, targets=["return_mean"], replicates=20)


@pytest.mark.slow  # five searches
def test_more_episodes_are_proposed_where_they_are_worth_their_flops():
    rng = np.random.default_rng(0)
    rows = [
        vars(p) | {"return_se": 0.05 * p.return_mean, "episodes": 40} for p in table(LAWS["bounded return"], 0.05, rng)
    ]
    fitted = fit([{k: v for k, v in row.items() if k != "extra"} for row in rows], [TARGET], replicates=60)
    free = next_runs(fitted, TARGET, SPEND)
    assert {run.episodes for run in free.runs} == {40}
    assert "cost nothing" in free.notes[-1]
    rate = 1e10
    cheap = next_runs(fitted, TARGET, SPEND, episode_flops=(rate, 0.0))
    assert {run.episodes for run in cheap.runs} == {160}
    play = sum(run.seeds * run.episodes * rate * len(run.budgets) for run in cheap.runs)
    assert cheap.spent == pytest.approx(sum(run.seeds * run.flops for run in cheap.runs) + play)


def test_spec_has_the_runs_as_cells_and_goes_on_with_its_own(found, points):
    text = "name: s\nsource: {corpus: c}\nsizes: [10k, 30k]\nbudgets: [1e15, 1e16]\nseeds: [0, 1]\n# a comment\n"
    spec = parse_spec(text)
    again = parse_spec(next_study(spec, text, points, found))
    assert (again.sizes, again.budgets, again.forecast) == (spec.sizes, spec.budgets, (TARGET,))
    assert len(again.cells) == len(found.runs)
    for run, cells in zip(found.runs, again.cells, strict=True):
        assert cells.budgets == run.budgets
        assert len(cells.seeds) == run.seeds
    assert spec.runs().keys() < again.runs().keys()


def test_episodes_count_as_the_forward_passes_of_agents():
    rows = table(LAWS["floor"], 0.02, np.random.default_rng(0))[:3]
    assert episode_flops(100.0, rows) == (0.0, 0.0)  # no samples
    timed = [replace(p, samples=p.flops / 6 / p.params) for p in rows]
    assert episode_flops(100.0, timed) == (0.0, pytest.approx(200.0))
    assert episode_flops(None, timed) == (0.0, 0.0)


def test_tables_say_what_each_run_is_for_and_what_it_takes(found):
    document = found.to_dict() | {"hardware": {"name": "h100", "utilisation": 0.3}}
    document["runs"] = [row | {"gpu_hours": 1.5} for row in document["runs"]]
    console = plain_console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    for one in design_tables(document):
        print_table(one, console)
    shown = console.file.getvalue()
    for part in ("Runs to make", "without it", "1: ", "The same spend on today's sizes", "expected after"):
        assert part in shown


def test_command_writes_the_proposal_and_bad_input_leaves_nothing(points, tmp_path, monkeypatch):
    monkeypatch.setattr("playscale.scaling.design.fit", lambda *a, **k: fit(*a, **(k | {"replicates": 20})))
    monkeypatch.chdir(tmp_path)
    write_points(points, tmp_path / "points.csv")
    asked = ["design", "points.csv", "--target", "1e18", "--spend", f"{SPEND:g}", "--out", "made"]
    for wrong, says in (
        (["--target", "1e12"], "is not beyond the largest budget"),
        (["--spend", "0"], "--spend: 0 must be above zero"),
        (["--for", "score"], "--for: 'score' is neither loss nor return"),
        (["--like", "none.yaml"], "no such study spec"),
        (["--utilisation", "0.5"], "--utilisation: it is that of a GPU"),
    ):
        result = CliRunner().invoke(app, [*asked, *wrong])
        assert says in str(result.exception), result.output
        assert not (tmp_path / "made").exists()
    result = CliRunner().invoke(app, [*asked, "--json", "--gpu", "h100"])
    assert result.exception is None
    printed = json.loads(result.stdout)
    assert printed == json.loads((tmp_path / "made" / "design.json").read_text())
    hours = hardware("h100", 0.3).hours(printed["runs"][0]["flops"] * printed["runs"][0]["seeds"])
    assert printed["runs"][0]["gpu_hours"] == pytest.approx(hours)


def test_rounded_down():
    assert [rounded_down(v) for v in (1.2e16, 1.29e16, 9.99e3, 1e18)] == [1.2e16, 1.2e16, 9.9e3, 1e18]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["floor", "bounded return"])
def test_intervals_of_planted_laws_narrow_and_hold(name):
    rows = [simulate(name, 0.02, seed) for seed in range(10)]
    assert np.median([row.after / row.same for row in rows]) < 0.75
    assert np.mean([row.held_after for row in rows]) >= 0.8
