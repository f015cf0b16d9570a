"""The law of params and samples: the batched optimiser against scipy's, planted laws, coverage, its optimum."""

from __future__ import annotations

import numpy as np
import pytest
from resources import PUBLISHED
from scipy.optimize import approx_fprime, minimize

from playscale.points import Point, read_points
from playscale.scaling.cells import Cells, FitError, make_cells
from playscale.scaling.fit import fit
from playscale.scaling.levenberg import minimise, objective
from playscale.scaling.parametric import DELTA, curve, fit_parametric

# Chinchilla's published law.
E, A, ALPHA, B, BETA = 1.69, 406.4, 0.34, 410.7, 0.28


def planted(noise: float, rng: np.random.Generator, budgets: int = 6, sizes: int = 6) -> list[Point]:
    table = []
    for flops in np.geomspace(1e18, 1e21, budgets):
        for params in np.geomspace(1e8, 1e10, sizes):
            samples = flops / (6 * params)
            loss = (E + A / params**ALPHA + B / samples**BETA) * np.exp(noise * rng.standard_normal())
            table.append(Point(flops=float(flops), params=float(params), samples=float(samples), dev_loss=float(loss)))
    return table


def cells_of(table: list[Point]) -> Cells:
    return make_cells(table, "dev_loss")[0]


def test_a_planted_law_without_noise_is_recovered() -> None:
    law = fit_parametric(cells_of(planted(0, np.random.default_rng(0))), np.random.default_rng(0), 20)
    found = {name: found.value for name, found in law.parameters().items()}
    assert found == pytest.approx({"E": E, "A": A, "alpha": ALPHA, "B": B, "beta": BETA}, rel=0.02)


def test_the_optimum_of_a_planted_law_is_its_closed_form() -> None:
    law = fit_parametric(cells_of(planted(0, np.random.default_rng(0))), np.random.default_rng(0), 20)
    params, samples = law.optimum(6e20)
    # Hoffmann et al., equation 4
    g = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    assert params == pytest.approx(g * (6e20 / 6) ** (BETA / (ALPHA + BETA)), rel=0.02)
    assert 6 * params * samples == pytest.approx(6e20, rel=1e-6)
    assert law.flops(1e9, 1e10) == pytest.approx(6e19)


@pytest.mark.slow
def test_the_intervals_cover_the_planted_parameters_and_new_cells() -> None:
    truth = {"E": E, "alpha": ALPHA, "beta": BETA}
    covered: dict[str, list[bool]] = {name: [] for name in (*truth, "cell")}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        law = fit_parametric(cells_of(planted(0.01, rng)), rng, 100)
        for name, value in truth.items():
            _, low, high, _ = law.parameters()[name]
            covered[name].append(low <= value <= high)
        cost, low, high = np.quantile(law.draw(np.array([3e9]), np.array([1e11]), rng), [0.5, 0.025, 0.975], axis=0)
        measured = np.log(E + A / 3e9**ALPHA + B / 1e11**BETA) + 0.01 * rng.standard_normal()
        covered["cell"].append(bool(low[0] <= measured <= high[0]))
        assert low[0] <= cost[0] <= high[0]
    for name, inside in covered.items():
        assert np.mean(inside) >= 0.85, name


def test_the_derivatives_are_those_of_the_curve() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2, 7))
    theta = rng.standard_normal(5) * 0.5
    for i in range(7):
        numeric = approx_fprime(theta, lambda t, i=i: float(curve(t[None], x, y)[0][0, i]), 1e-7)
        assert curve(theta[None], x, y)[1][0, i] == pytest.approx(numeric, abs=1e-5)


def test_the_batched_optimiser_reaches_the_minima_of_one_lbfgs_per_start() -> None:
    """The slow twin: the paper's way, scipy's L-BFGS from each start in turn."""
    cells = cells_of(planted(0.02, np.random.default_rng(5)))
    law = fit_parametric(cells, np.random.default_rng(0), 10)
    x, y = np.log(cells.params) - law.centre[0], np.log(cells.samples) - law.centre[1]

    def huber(theta: np.ndarray) -> tuple[float, np.ndarray]:
        fitted, jacobian = curve(theta[None], x, y)
        r = fitted[0] - cells.cost
        return 1e3 * float(objective(r, DELTA)), 1e3 * jacobian[0].T @ np.clip(r, -DELTA, DELTA)

    rng = np.random.default_rng(1)
    starts = [law.theta + rng.normal(0, 0.5, 5) for _ in range(12)]
    theirs = min(minimize(huber, start, jac=True, method="L-BFGS-B", options={"maxiter": 3000}).fun for start in starts)
    assert huber(law.theta)[0] <= theirs * (1 + 1e-5)


def test_many_problems_at_once_are_the_same_as_one_at_a_time() -> None:
    rng = np.random.default_rng(2)
    x, truth = np.linspace(0, 2, 15), rng.uniform(0.5, 2, (8, 2))
    data = truth[:, :1] * np.exp(-truth[:, 1:] * x) + 0.01 * rng.standard_normal((8, 15))

    def residuals(theta: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        decay = np.exp(-theta[:, 1:] * x)
        return theta[:, :1] * decay - of, np.stack([decay, -theta[:, :1] * x * decay], axis=2)

    together, values = minimise(lambda t, rows: residuals(t, data[rows]), np.ones((8, 2)))
    for i in range(8):
        alone, value = minimise(lambda t, _, i=i: residuals(t, data[i : i + 1]), np.ones((1, 2)))
        assert together[i] == pytest.approx(alone[0], rel=1e-4)
        assert values[i] == pytest.approx(value[0], rel=1e-6)


def test_too_little_of_anything_is_refused_in_one_line() -> None:
    table = planted(0.01, np.random.default_rng(0))
    for few in (
        table[:6],
        [p for p in table if p.params < 3e8],
        [Point(**{**p.__dict__, "samples": None}) for p in table],
    ):
        with pytest.raises(FitError, match="at least 7 cells, 3 sizes and 3 amounts of data") as error:
            fit_parametric(cells_of(few), np.random.default_rng(0), 10)
        assert "\n" not in str(error.value)


def test_a_bounded_return_finds_the_ceiling_of_boxing() -> None:
    cells, _ = make_cells(read_points(PUBLISHED / "atari_Boxing.csv"), "return_mean", offset=0.0)
    ceiling, low, high, _ = fit_parametric(cells, np.random.default_rng(0), 100).parameters()["R_max"]
    assert low < ceiling < high
    assert ceiling == pytest.approx(53, abs=3)  # the best measured returns lie between 51.5 and 53.5


@pytest.mark.slow
def test_the_interval_of_a_recommended_size_holds_that_of_a_planted_law() -> None:
    """Little noise, so that the bias of parabolas is larger than their scatter."""
    inside = []
    at = 3e22
    for seed in range(12):
        table = planted(0.002, np.random.default_rng(seed), sizes=7)
        (forecast,) = fit(table, forecast_flops=[at], replicates=20, seed=seed).forecasts
        size = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * (at / 6) ** (BETA / (ALPHA + BETA))
        assert forecast.params_low is not None
        assert forecast.params_high is not None
        assert forecast.samples_low is not None
        assert forecast.samples_high is not None
        assert forecast.params_low <= (forecast.params or 0) <= forecast.params_high
        inside += [
            forecast.params_low <= size <= forecast.params_high,
            forecast.samples_low <= at / 6 / size <= forecast.samples_high,
        ]
    assert np.mean(inside) >= 0.8


def test_an_optimum_has_the_interval_of_its_draws() -> None:
    law = fit_parametric(cells_of(planted(0.01, np.random.default_rng(1))), np.random.default_rng(0), 40)
    spans, best = law.optimum_intervals(1e21), law.optimum(1e21)
    assert spans is not None
    assert best is not None
    assert all(low < value < high for (low, high), value in zip(spans, best, strict=True))
