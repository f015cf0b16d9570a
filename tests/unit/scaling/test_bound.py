import numpy as np
import pytest

from playscale.scaling.bound import UNBOUNDED, Bound, bound
from playscale.scaling.frontier import SATURATING, fit_law, parameters


@pytest.mark.parametrize(
    ("values", "least", "most", "expected"),
    [
        ([0.5, 0.4, 0.6], 0, 1, Bound(0.5, 0.4, 0.6)),
        ([0.5, 0.0, 0.9], 0, 1, Bound(0.5, None, 0.9, "below 0.900")),
        ([0.5, 0.1, np.inf], 0, 1, Bound(0.5, 0.1, None, "above 0.100")),
        ([0.5, 0.0, 1.0], 0, 1, Bound(0.5, None, None, UNBOUNDED)),
        ([1.0, 0.2, 1.0], 0, 1, Bound(None, 0.2, None, "above 0.200")),
        ([0.5], 0, 1, Bound(0.5, None, None)),
        ([np.inf], 0, 1, Bound(None, None, None, UNBOUNDED)),
    ],
)
def test_an_end_that_the_data_do_not_bound_is_none_with_a_reason(
    values: list[float], least: float, most: float, expected: Bound
) -> None:
    assert bound(np.array(values), least, most) == expected


def test_a_law_through_noise_gives_no_end_that_is_the_optimisers_clip() -> None:
    flops = 1e12 * 4.0 ** np.arange(5)
    cost = np.log(np.array([2.0, 1.7, 1.9, 1.6, 1.8]))
    law = fit_law(SATURATING, flops, cost, np.zeros(5), np.random.default_rng(0), 200)
    found = parameters(law, "dev_loss")
    assert found["gamma"].reason is not None
    assert found["A"].low is found["A"].high is None
    for given in found.values():
        for value in given[:3]:
            assert value is None or value == 0 or 1e-6 < abs(value) < 1e300
    assert all(given.high is None or given.high < 7 for name, given in found.items() if name == "gamma")
