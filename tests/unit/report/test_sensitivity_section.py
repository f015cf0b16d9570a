"""The section on varied settings: its sentences, its figures, and that no other part of the page mixes settings."""

import html
import re
from dataclasses import replace

import pytest
from report_study import nulled
from varied_study import make_points

from playscale.report.evidence import Evidence
from playscale.report.figures import write_figures
from playscale.report.report import write_report
from playscale.report.sensitivity_section import sensitivity, sensitivity_plots
from playscale.scaling.fit import fit


@pytest.fixture(scope="module")
def points():
    return make_points()


@pytest.fixture(scope="module")
def document(points):
    return fit(points, replicates=20, has_returns=False).to_dict()


def page(tmp_path, document, points):
    write_report(tmp_path / "report.html", document, points, title="Varied")
    return (tmp_path / "report.html").read_text()


def test_page_says_the_law_the_loss_and_the_exponents(document, points):
    text = html.unescape(re.sub(r"<[^>]+>", "", sensitivity(Evidence.of(document, points), "")))
    assert "learning_rate: at equal compute the best value goes as N\N{MINUS SIGN}0.3" in text
    assert "the recipe's as N\N{MINUS SIGN}0.60" in text
    assert "batch: no law of its best value: 12 of 12 minima lie at an end of the values" in text
    assert "No value that was trained does better than the recipe's." in text
    assert "At the best size of a budget, the best settings gain against the recipe" in text
    assert "by the recipe" in text
    assert "One seed a run" in text


@pytest.mark.slow
def test_figures_are_of_each_setting_and_of_the_exponents(document, points, tmp_path):
    names = {path.stem for path in write_figures(tmp_path, document, points) if "sensitivity" in path.stem}
    assert names == {
        "sensitivity_batch", "sensitivity_learning-rate", "sensitivity_learning-rate_best",
        "sensitivity_exponent_params", "sensitivity_exponent_dev_loss",
    }  # fmt: skip


def test_figure_of_a_setting_marks_the_best_and_the_recipes_value(document, points):
    plot = next(
        plot for plot in sensitivity_plots(Evidence.of(document, points)) if plot.name.endswith("learning-rate")
    )
    tips = list(plot.tips.values())
    assert sum("the best value trained is" in tip for tip in tips) == 4
    assert sum("the recipe's value" in tip for tip in tips) == 4
    labels = [text.get_text() for legend in plot.figure.legends for text in legend.get_texts()]
    labels += [text.get_text() for text in plot.figure.axes[0].texts]
    assert sorted(labels) == sorted(["10k", "30k", "100k", "300k", "best value", "recipe"])


@pytest.mark.slow
def test_other_parts_of_the_page_have_the_recipes_rows_alone(document, points, tmp_path):
    text = page(tmp_path, document, points)
    own = [point for point in points if not point.varied]
    assert f"{len(own)} points; the lowest dev loss" in text
    assert "Other settings" in text
    assert "return ± SE" not in text
    plain = {key: value for key, value in document.items() if key != "sensitivity"}
    assert "Other settings" not in page(tmp_path, plain, own)


def test_section_of_a_fit_without_numbers_is_a_page(document, points, tmp_path):
    assert "Other settings" in page(tmp_path, nulled(document), points)


@pytest.mark.slow
def test_hostile_names_and_values_are_shown_as_text(points, tmp_path):
    evil = "../<b>\u202e" + "x" * 300
    other, own = {evil: "a</script>", "varied": f"{evil}=a</script>"}, {evil: "b"}
    rows = [replace(p, extra=other if p.varied else own) for p in points if p.varied in ("", "batch=32")]
    document = fit(rows, replicates=20).to_dict()
    assert "<b>" not in page(tmp_path, document, rows).split("Other settings")[1].split("The points")[0]
    assert all(path.parent == tmp_path / "figures" for path in write_figures(tmp_path / "figures", document, rows))
