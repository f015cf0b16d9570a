"""The forecast of one run: planted curves are found, intervals hold, and each reason to say nothing is given."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from playscale import forecast_curve
from playscale.scaling.run_curve import FEWEST, FURTHEST, LEFT_OUT, MOST, Untold
from playscale.scaling.run_posterior import NOISE_AT_FIRST, RHO, _weigh, rise

C = np.linspace(1e10, 1e12, 100)
TURNED = np.clip((C - 3e11) / 1e11, 0, 1)


def s_curve(c, middle, steepness=2.0, start=1.0, end=21.0):
    return start + (end - start) / (1 + (middle / c) ** steepness)


def noise(scale, rho=0.6, seed=0, n=100):
    rng = np.random.default_rng(seed)
    residuals = [rng.standard_normal()]
    for _ in range(n - 1):
        residuals.append(rho * residuals[-1] + np.sqrt(1 - rho**2) * rng.standard_normal())
    return scale * np.array(residuals)


def test_the_end_and_the_parameters_of_a_planted_s_curve_are_found():
    values = s_curve(C, 2e11) + noise(0.1)
    found = forecast_curve(C[:50], values[:50], C[-1])
    truth = s_curve(C[-1], 2e11)
    assert found.value == pytest.approx(truth, rel=0.03)
    assert found.low < truth < found.high
    for name, true in {"R0": 1.0, "A": 21.0, "C_mid": 2e11, "B": 2.0}.items():
        low, high = found.parameters[name].low, found.parameters[name].high
        assert low < true < high, name
    assert found.band[0]["flops"] == pytest.approx(found.first_flops)
    assert found.band[-1] == pytest.approx({"flops": C[-1], "value": found.value, "low": found.low, "high": found.high})


def test_the_end_and_the_floor_of_a_planted_loss_are_found():
    values = 1.5 + 0.8 * (C / 1e11) ** -0.6 + noise(0.01)
    found = forecast_curve(C[:50], values[:50], C[-1], kind="loss")
    truth = 1.5 + 0.8 * 10**-0.6
    assert found.value == pytest.approx(truth, rel=0.02)
    assert found.low < truth < found.high
    assert found.parameters["E"].low < 1.5 < found.parameters["E"].high
    assert found.parameters["gamma"].low < 0.6 < found.parameters["gamma"].high


def test_the_example_of_the_page_runs(capsys):
    page = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text()
    section = page.split("## One run's own future\n")[1].split("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(compile(example, "docs/scaling.md", "exec"), {})  # noqa: S102
    first, second = capsys.readouterr().out.splitlines()
    value, low, high = map(float, first.split()[:3])
    assert low < 20 / 1.0225 < high
    assert value == pytest.approx(20 / 1.0225, rel=0.02)
    assert second.startswith("cannot be told yet: most of the gain lies ahead")
    assert {f"`{reason}`" for reason in Untold} <= set(re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE))


def test_more_correlated_noise_gives_wider_intervals():
    widths = []
    for rho in (0.0, 0.95):
        values = s_curve(C, 1e11) + noise(0.3, rho)
        found = forecast_curve(C[:50], values[:50], C[-1])
        widths.append(found.high - found.low)
    assert widths[1] > 1.5 * widths[0]
    assert found.correlation > 0.8


UNTOLD = {
    "a few points": (Untold.FEW, C[: FEWEST - 1], s_curve(C, 2e11)[: FEWEST - 1], "return"),
    "one value": (Untold.FLAT, C[:50], np.zeros(50), "return"),
    "noise alone": (Untold.FLAT, C[:50], noise(1.0, 0.9, 1)[:50], "return"),
    "a return that falls": (Untold.WORSE, C[:50], (s_curve(C, 1e11) - 12 * TURNED + noise(0.2))[:50], "return"),
    "a loss that rises": (Untold.WORSE, C[:50], (3 - s_curve(C, 1e11) / 20 + TURNED + noise(0.01))[:50], "loss"),
    "a second wave": (
        Untold.LEAVES, C[:50], (s_curve(C, 6e10, 4) + s_curve(C, 5e11, 6) + noise(0.1))[:50], "return",
    ),
    "far from its end": (Untold.WIDE, C[:25], (s_curve(C, 1e12) + noise(0.05))[:25], "return"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNTOLD)
def test_why_it_cannot_be_told_yet(case):
    reason, flops, values, kind = UNTOLD[case]
    found = forecast_curve(flops, values, C[-1], kind=kind)
    assert found.untold == reason, found.text
    assert found.value is found.low is found.high is None
    assert found.text.startswith(f"cannot be told yet: {reason}")


def test_too_far_ahead_is_not_told():
    values = s_curve(C, 1e11) + noise(0.1)
    assert forecast_curve(C, values, 1.01 * FURTHEST * C[-1]).untold == Untold.FAR
    assert forecast_curve(C, values, 0.99 * FURTHEST * C[-1]).untold is None


@pytest.mark.parametrize("kind", ["return", "loss"])
def test_the_start_is_left_out_but_not_of_few_points(kind):
    values = s_curve(C, 1e11) if kind == "return" else -s_curve(C, 1e11)
    found = forecast_curve(C, values, 2 * C[-1], kind=kind)
    assert found.left_out == round(100 * LEFT_OUT[kind]) - 1
    assert found.points + found.left_out == len(C)
    c = np.geomspace(1e6, 1e12, FEWEST)
    assert forecast_curve(c, s_curve(c, 1e9), 2e12).points == FEWEST


def test_of_many_points_some_count_and_the_last_does():
    c = np.linspace(1e9, 1e12, 3000)
    values = s_curve(c, 1e11) + noise(0.2, 0.9, n=3000)
    found = forecast_curve(c, values, 2e12)
    assert MOST / 2 < found.points <= MOST
    assert found.value == pytest.approx(s_curve(2e12, 1e11), rel=0.05)


def test_units_do_not_matter_and_a_seed_gives_one_result():
    values = s_curve(C, 1e11) + noise(0.2)
    one, again = (forecast_curve(C[:50], values[:50], C[-1]) for _ in range(2))
    assert one == again
    other = forecast_curve(1e-6 * C[:50], 1000 * values[:50] - 70, 1e-6 * C[-1])
    for name in ("value", "low", "high"):
        assert getattr(other, name) == pytest.approx(1000 * getattr(one, name) - 70, rel=0.01)


def test_a_curve_without_noise_is_continued():
    assert forecast_curve(C[:50], s_curve(C[:50], 1e11), C[-1]).value == pytest.approx(s_curve(C[-1], 1e11), rel=1e-3)


def test_it_can_be_written_as_json():
    values = s_curve(C, 1e11) + noise(0.2)
    for n in (5, 50):
        found = forecast_curve(C[:n], values[:n], C[-1])
        read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert set(read) == {one.name for one in dataclasses.fields(found)}


BAD = {
    "one point": ([1e9], [1.0], 2e9, "return", "needs 2 points"),
    "two lengths": ([1e9, 2e9], [1.0], 3e9, "return", "one length"),
    "a table": ([[1e9, 2e9]], [[1.0, 2.0]], 3e9, "return", "one length"),
    "not a number": ([1e9, 2e9], [1.0, np.nan], 3e9, "return", r"values\[1\] is nan"),
    "endless compute": ([1e9, np.inf], [1.0, 2.0], 3e9, "return", r"flops\[1\] is inf"),
    "no compute": ([0.0, 1e9], [1.0, 2.0], 3e9, "return", r"flops\[0\] is 0"),
    "decreasing compute": ([1e9, 3e9, 2e9], [1.0, 2.0, 3.0], 4e9, "return", r"flops\[2\] is 2e\+09 after 3e\+09"),
    "compute twice": ([1e9, 1e9], [1.0, 2.0], 3e9, "return", "increasing compute"),
    "before the last point": ([1e9, 2e9], [1.0, 2.0], 2e9, "return", "not beyond the last point, at 2e"),
    "to nowhere": ([1e9, 2e9], [1.0, 2.0], np.nan, "return", "not beyond the last point"),
    "another kind": ([1e9, 2e9], [1.0, 2.0], 3e9, "score", "neither 'return' nor 'loss'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_curves_are_refused(case):
    flops, values, to, kind, says = BAD[case]
    with pytest.raises(ValueError, match=says):
        forecast_curve(flops, values, to, kind=kind)


def test_shapes_go_from_0_to_1_wherever_they_bend():
    x = np.linspace(0, 5, 12)
    middles, steepness = np.meshgrid(np.linspace(-1.1, 9, 7), np.log([0.3, 2, 8]))
    for kind, shapes in (
        ("return", np.stack([middles.ravel(), steepness.ravel()], axis=1)),
        ("loss", np.log([[0.02], [1.0], [5.0]])),
    ):
        u = rise(kind, x, x, shapes)
        np.testing.assert_allclose(u[:, [0, -1]], [[0, 1]] * len(u), atol=1e-12)
        assert np.all(np.diff(u) >= -1e-12)


def test_weights_are_those_of_generalised_least_squares_with_the_whole_covariance():
    """A slow twin: the marginal likelihood with the n x n covariance of the residuals."""
    x, rng = np.linspace(0, 2, 10), np.random.default_rng(1)
    shapes = np.array([[0.5, 0.3], [2.5, 0.9]])
    u = rise("return", x, x, shapes)
    y = u[0] + 0.1 * rng.standard_normal(len(x))
    found = _weigh("return", x, y, shapes, np.stack([np.ones_like(u), u], axis=1))
    log_weight, beta, spread = np.empty(found.weight.shape), np.empty_like(found.beta), np.empty_like(found.spread)
    apart = np.abs(np.subtract.outer(np.arange(len(x)), np.arange(len(x))))
    for f, first in enumerate(NOISE_AT_FIRST):
        for s, own in enumerate(u):
            for p, rho in enumerate(RHO):
                sd = first + (1 - first) * own
                covariance = np.outer(sd, sd) * rho**apart / (1 - rho**2)
                terms, inverse = np.stack([np.ones_like(own), own], axis=1), np.linalg.inv(covariance)
                spread[f, s, p] = np.linalg.inv(terms.T @ inverse @ terms)
                beta[f, s, p] = spread[f, s, p] @ terms.T @ inverse @ y
                residuals = y - terms @ beta[f, s, p]
                rss = residuals @ inverse @ residuals
                determinants = np.linalg.slogdet(spread[f, s, p])[1] - np.linalg.slogdet(covariance)[1]
                log_weight[f, s, p] = 0.5 * (determinants - (len(y) - 2) * np.log(rss))
                assert found.variance[f, s, p] == pytest.approx(rss / (len(y) - 2), rel=1e-5)
    weight = np.exp(log_weight - log_weight.max())
    np.testing.assert_allclose(found.weight, weight / weight.sum(), rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(found.beta, beta, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.spread, spread, rtol=1e-5, atol=1e-7)
