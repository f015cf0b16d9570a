"""Tables sampled from planted laws: exponents unbiased, intervals that cover, the right form chosen in most draws.

`python -m benchmarks.planted` is the same at 200 draws; its figures are in docs/scaling.md.
"""

from __future__ import annotations

from collections import Counter

import pytest

from playscale_benchmarks.planted import LAWS, analyse, expected, summarise

DRAWS = 20
NOISE = 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_planted_exponents_are_found_and_their_intervals_cover(name: str) -> None:
    found = [analyse(LAWS[name], NOISE, seed) for seed in range(DRAWS)]
    rows = list(summarise(name, NOISE, found))
    assert {row.name for row in rows} == set(LAWS[name].truth)
    for row in rows:
        assert row.draws >= 0.9 * DRAWS, row
        assert row.bias < 0.2, row  # a tenth, and the scatter of a mean of 20 draws
        assert row.coverage >= 0.85, row
    if expected(name):
        assert Counter(one.form for one in found)[expected(name)] > DRAWS / 2
