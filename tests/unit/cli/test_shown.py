"""Results of the Python API show themselves: HTML that is well-formed, escaped, and says what their text says."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from playscale import design, fit, forecast_curve, pool, read_points
from playscale.cli.shown import MOST_POINTS

BOLD, REPLICATES = "<b>x</b> & co", 20
BOX = re.compile(r"[\s\N{BOX DRAWINGS LIGHT HORIZONTAL}-\N{BOX DRAWINGS LIGHT DIAGONAL CROSS}]+")


def rows(exponent=0.34):
    budgets, factors = [1e15, 4e15, 1.6e16, 6.4e16], [0.2, 0.5, 1, 2, 5]
    made = [{"flops": c, "params": f * 0.7 * c**0.46, "run": BOLD} for c in budgets for f in factors]
    for row in made:
        row["samples"] = row["flops"] / (6 * row["params"])
        row["dev_loss"] = 1.7 + 400 / row["params"] ** exponent + 400 / row["samples"] ** 0.3
    return made


@pytest.fixture(scope="module")
def fits():
    names = zip([BOLD, "second", "third"], [0.34, 0.36, 0.31], strict=True)
    return {name: fit(rows(exponent), forecast_flops=[1e18], replicates=REPLICATES) for name, exponent in names}


@pytest.fixture(scope="module")
def results(fits, tmp_path_factory):
    """Every class of results, by name, and what is to be found in it."""
    path = tmp_path_factory.mktemp("table") / "points.csv"
    names = ("run", "flops", "params", "samples", "dev_loss")
    path.write_text("\n".join(",".join(map(str, line)) for line in [names, *([r[n] for n in names] for r in rows())]))
    flops = np.linspace(1e9, 1e11, 40)
    curve = forecast_curve(flops, 2 + 3 * (flops / 1e9) ** -0.3 + 0.01 * np.sin(9e7 * flops), 2e11, kind="loss")
    whole = fits[BOLD]
    return {
        "points": (read_points(path), BOLD),
        "fit": (whole, "Can this table carry a forecast?"),
        "columns": (whole.table("forecasts"), "dev_loss"),
        "pool": (pool(fits, [1e18]), BOLD),
        "curve": (curve, "loss at 2"),
        "design": (design(rows(), 1e18, 1e17, replicates=REPLICATES), "Runs to make"),
    }


def parsed(shown):
    return ET.fromstring(f"<div>{shown._repr_html_()}</div>")  # noqa: S314 - of our own making


@pytest.mark.parametrize("name", ["points", "fit", "columns", "pool", "curve", "design"])
def test_html_is_well_formed_and_says_what_the_text_says(results, name):
    shown, part = results[name]
    tree = parsed(shown)
    text = str(shown)
    assert part in text
    assert BOX.sub("", "".join(tree.itertext())) == BOX.sub("", text)
    assert {element.tag for element in tree.iter()} <= {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert "x" not in [title.text for title in tree.iter("b")]  # a name of the table is text, not an element


def test_points_of_a_long_table_are_those_of_its_ends(results):
    points = results["points"][0]
    long = type(points)(points * 3)
    assert len(parsed(long).findall(".//tbody/tr")) == MOST_POINTS
    assert f"{len(long)} points, of which the first" in str(long)


def test_ipython_takes_html_and_text(results):
    from IPython.core.formatters import DisplayFormatter

    for shown, _ in results.values():
        data, _ = DisplayFormatter().format(shown)
        assert data == {"text/html": shown._repr_html_(), "text/plain": str(shown)}
