"""The best size before a study is trained: of an earlier fit, or of the published law, where it serves."""

import math

import pytest
from resources import ROOT

from playscale.points import read_points
from playscale.scaling.fit import fit
from playscale.scaling.prior import NETHACK, REFERENCE, prior_of

POINTS = [
    {"method": "bc", "flops": c, "return_mean": 10.0, "return_se": 2.0, "episodes": 100, "split": split}
    for c, split in ((1e10, "fit"), (1e12, "fit"), (1e14, "held-out"))
]


def law(target, exponent, *, used=True, at="argmin"):
    row = {"target": target, "quantity": "params", "at": at, "exponent": exponent, "log_coefficient": math.log(2)}
    return row | {"used": used}


FIT = {
    "points": POINTS,
    "power_laws": [law("dev_loss", 0.3, used=False), law("return_mean", 0.4), law("dev_loss", 0.5)],
}


def test_an_earlier_fit_gives_the_law_that_recommends_sizes_and_the_scatter_of_returns():
    prior = prior_of(FIT, "bc", "fit.json", "dev_loss")
    assert prior.best(1e12) == pytest.approx(2e6)
    assert (prior.first, prior.last) == (1e10, 1e12)
    assert prior.scatter == pytest.approx(2.0)
    assert prior_of(FIT, "bc", "fit.json", "return_mean").best(1e10) == pytest.approx(2e4)


def test_a_fit_of_several_methods_has_a_prior_for_each_of_them_alone():
    several = {"methods": {"bc": FIT, "impala": FIT | {"power_laws": [law("return_mean", 0.4)]}}, "failed": {}}
    assert prior_of(several, "impala", "fit.json", "dev_loss").exponent == 0.4
    assert prior_of(several, "kickstart", "fit.json", "dev_loss") is None
    assert prior_of(FIT | {"power_laws": []}, "bc", "fit.json", "dev_loss") is None


def test_the_published_law_serves_within_a_decade_of_its_budgets():
    assert [NETHACK.serves(c) for c in (9e12, 1e13, 1e20, 2e20)] == [False, True, True, False]


def test_the_published_law_counts_six_flops_a_parameter_and_sample():
    honest = NETHACK.best(1e18, [(1e6, 6e6), (1e8, 6e8)])
    assert honest == pytest.approx(math.exp(-8.2406) * 1e18**0.6048, rel=1e-4)
    dearer = NETHACK.best(1e18, [(1e6, 24e6), (1e8, 24e8)])  # a quarter of the compute in 6 N D
    assert dearer == pytest.approx(math.exp(-8.2406) * 2.5e17**0.6048, rel=1e-4)


def test_the_reference_study_is_the_prior_that_its_points_give():
    fitted = fit(read_points(ROOT / "studies" / "reference" / "points.csv"), replicates=20).to_dict()
    prior = prior_of(fitted, "bc", REFERENCE.source, "dev_loss")
    for flops in (1e11, 3.2e12):
        assert REFERENCE.best(flops) == pytest.approx(prior.best(flops), rel=2e-3)
    assert (REFERENCE.first, REFERENCE.last) == (prior.first, prior.last)
    assert REFERENCE.scatter == pytest.approx(prior.scatter, rel=2e-3)
