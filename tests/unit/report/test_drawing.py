"""Axes, legends and defaults of a figure."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest

from playscale.points import Point
from playscale.report.axes import families, linear_axis, new_axes, quantity_axis, tick_labels
from playscale.report.drawing import legend_columns
from playscale.report.evidence import Evidence
from playscale.report.figures import make_plots, write_figures
from playscale.report.html import inline_svg
from playscale.report.palette import css_variables
from playscale.report.text import LONGEST, few, short_name, text_columns, wrapped

THEIRS = {
    "text.usetex": True, "path.sketch": (1, 100, 2), "font.family": ["no such font"], "font.size": 40,
    "savefig.dpi": 10, "savefig.bbox": "tight", "lines.linewidth": 9, "axes.grid": False, "axes.facecolor": "red",
    "figure.facecolor": "blue", "svg.fonttype": "path", "axes.prop_cycle": mpl.cycler(color=["y"]),
    "xtick.labelbottom": False, "mathtext.fontset": "cm", "legend.frameon": True,
}  # fmt: skip
LONG_NAME = "PPO, reward shaping, three layers of 512 units, no dropout, batch 1024, learning rate 0.0003"
POINTS = [Point(flops=c, params=n, samples=c / 6 / n, dev_loss=2.0) for c in (1e10, 1e11) for n in (1e4, 3e4)]


def test_figures_do_not_depend_on_a_users_settings_of_matplotlib(tmp_path: Path) -> None:
    def drawn(folder: Path) -> list[bytes | str]:
        plot = make_plots(Evidence.of({}, POINTS))[-1]
        svg = inline_svg(plot.figure, name="a", alt="", tips=plot.tips, variables=css_variables(2))
        return [svg, *(path.read_bytes() for path in write_figures(folder, {}, POINTS)[-1:])]

    own = drawn(tmp_path / "own")
    with mpl.rc_context(THEIRS):
        assert drawn(tmp_path / "theirs") == own


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([2.30, 2.54], ["2.3", "2.4", "2.5"]),
        ([0.6902, 0.6905], ["0.6902", "0.6903", "0.6904", "0.6905"]),
        ([0.6894, 0.6903], ["0.6894", "0.6896", "0.6898", "0.69", "0.6902"]),
        ([0.69021, 0.6902103], ["0.69021", "0.6902101", "0.6902102", "0.6902103"]),
        ([1e-5, 1.002e-5], ["10⁻⁵", "1.0005\u00d710⁻⁵", "1.001\u00d710⁻⁵", "1.0015\u00d710⁻⁵", "1.002\u00d710⁻⁵"]),
        ([5.0, 5.0], ["4", "5", "6"]),
    ],
)  # fmt: skip
def test_an_axis_of_losses_is_as_narrow_as_they_are(values: list[float], shown: list[str]) -> None:
    _, axes = new_axes()
    quantity_axis("y", axes, "dev_loss", values)
    low, high = axes.get_ylim()
    assert [tick.get_text() for tick in axes.get_yticklabels()] == shown
    assert low < values[0]
    assert values[0] == values[1] or high < values[1] + 0.2 * (values[1] - values[0])


def test_texts_of_a_figure_in_a_page_are_as_they_were_drawn() -> None:
    figure, axes = new_axes()
    quantity_axis("y", axes, "dev_loss", [0.6902, 0.6905])
    axes.set_title("rate 0.00010, #1d2129")
    svg = inline_svg(figure, name="a", alt="at 0.69031", tips={}, variables=css_variables(0))
    for text in (">0.6903</text>", ">rate 0.00010, #1d2129</text>", 'aria-label="at 0.69031"', "fill: var(--ink)"):
        assert text in svg


@pytest.mark.parametrize(
    ("quantity", "values"), [("dev_loss", [0.69021, 0.6902103]), ("flops", [1e12, 1e13]), ("flops", [2e9, 2e19])]
)
def test_labels_beside_each_other_do_not_touch(quantity: str, values: list[float]) -> None:
    figure, axes = new_axes()
    quantity_axis("x", axes, quantity, values)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert len(boxes) >= 2
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_an_axis_of_compute_does_not_stretch_the_few_per_cent_within_a_budget() -> None:
    _, axes = new_axes()
    quantity_axis("x", axes, "flops", [1e12, 1.02e12])
    assert axes.get_xlim()[1] > 1.3e12


def test_an_axis_of_returns_that_are_one_has_room_around_it() -> None:
    for value in (-7.0, 0.0, 1e6):
        _, axes = new_axes()
        linear_axis(axes, "return", [value, value * (1 + 1e-15)])
        low, high = axes.get_ylim()
        assert low < value < high
        labels = [tick.get_text() for tick in axes.get_yticklabels()]
        assert len(set(labels)) == len(labels) > 2


def test_ticks_that_look_alike_have_more_digits() -> None:
    assert tick_labels([123456.1, 123456.2]) == ["123,456.1", "123,456.2"]
    assert tick_labels([-0.00002, 0, 0.00002]) == ["\u22122\u00d710⁻⁵", "0", "2\u00d710⁻⁵"]


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["a", "b", "c", "d", "e"], 4), (["10¹¹"] * 9 + ["best size"], 4), (["x" * 40, "y"], 2), (["x" * 20] * 3, 2),
        ([short_name("名" * 95)], 1), ([short_name("z" * 95)] * 3, 1),
    ],
)  # fmt: skip
def test_a_legend_has_as_many_columns_as_fit(names: list[str], columns: int) -> None:
    assert legend_columns(names, 4) == columns


@pytest.mark.parametrize("letter", ["a", "名", "e\u0301"])
def test_a_long_name_is_cut_by_the_width_of_its_letters(letter: str) -> None:
    assert LONGEST <= text_columns(short_name(letter * 95)) <= LONGEST + 5
    assert short_name(letter * 20) == letter * 20


def test_a_long_name_keeps_both_its_ends() -> None:
    assert re.fullmatch("PPO, reward shaping, thr….*ing rate 0.0003~[0-9a-f]{4}", short_name(LONG_NAME))
    assert short_name(LONG_NAME) != short_name(LONG_NAME.replace("of", "with"))


def test_a_sentence_names_as_many_as_it_has_room_for() -> None:
    assert few({"a": "1", "b": "2"}) == "a 1, b 2"
    assert few({str(i): "0" for i in range(40)}).endswith("5 0 and 34 more")
    assert few({f"{i}" * 40: "0" for i in range(4)}).count("and 2 more") == 1


def test_a_number_stays_behind_a_name_from_right_to_left() -> None:
    assert few({"طريقة": "3", "bc": "4"}) == "طريقة\u200e 3, bc 4"


def test_titles_are_broken_by_the_width_of_their_letters() -> None:
    assert wrapped("学习 ab cd efgh", 7) == "学习 ab\ncd efgh"
    assert wrapped("ab طريقة 3", 4) == "ab\n\u200eطريقة\n3"


def test_text_has_the_default_font_where_that_can_write_it() -> None:
    assert families("PPO \u00d710⁻⁵ обучение μ") == ["DejaVu Sans"]
