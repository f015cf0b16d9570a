"""Tables show every number at any width, and text of data as it is."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from playscale.cli import console
from playscale.cli.app import app
from playscale.cli.options import echo
from playscale.points import Point

MARKUP = "[red]a[/b]\x1b[31m"
POINTS = [
    Point(
        run=MARKUP,
        flops=1.23e13,
        params=123_456_789,
        samples=987_654_321,
        dev_loss=1.234,
        dev_loss_se=0.021,
    )
]
NUMBERS = ("1.23e+13", "123,456,789", "987,654,321", "1.234 ± 0.021")


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_numbers_of_a_table_are_never_cropped(width, monkeypatch, capsys):
    monkeypatch.setattr(console, "plain_console", lambda **_: Console(width=width, force_terminal=True, markup=False))
    console.show(console.points_table(POINTS))
    shown = capsys.readouterr().out
    assert all(number in shown for number in NUMBERS)
    assert "…" not in shown


def test_losses_that_lie_close_have_the_digits_that_tell_them_apart(capsys):
    console.show(console.points_table([replace(POINTS[0], dev_loss=x, dev_loss_se=None) for x in (0.6902, 0.6905)]))
    shown = capsys.readouterr().out
    assert "0.6902" in shown
    assert "0.6905" in shown


def test_text_of_data_is_no_markup_and_no_control_sequence(capsys):
    console.show(console.points_table(POINTS), "a directory x[q] :smile:")
    shown = capsys.readouterr().out
    assert "[red]a[/b]?[31m" in shown
    assert "x[q] :smile:" in shown
    assert "\x1b" not in shown


def test_an_error_of_standard_output_names_it(monkeypatch):
    with suppress(OSError), Path("/dev/full").open("w") as full:  # what was not written is lost when it is closed
        monkeypatch.setattr("sys.stdout", full)
        for write in (console.show, echo):
            with pytest.raises(OSError, match="standard output"):
                write("a line\n" * 9999)
        monkeypatch.undo()


def test_a_target_return_without_a_name_is_refused(tmp_path):
    table = tmp_path / "points.csv"
    table.write_text("flops,params,samples,dev_loss\n1e10,1e3,1e6,2\n")
    result = CliRunner().invoke(app, ["fit", str(table), "--out", str(tmp_path / "out"), "--target-return", "=5"])
    assert isinstance(result.exception, ValueError)
    assert "has no name" in str(result.exception)


def test_console_names_laws_and_budgets_as_the_report_does():
    row = {"target": "dev_loss", "from_flops": 1e10, "decades_ahead": 1.0, "median_log_error": 0.1, "coverage": 1.0}
    laws = {"dev_loss": {"form": "power"}}
    table = console._backtest({"backtest": [row | {"form": "parametric, window"}], "laws": laws}, "dev_loss")
    assert [*table.columns[0].cells] == ["law of N and D, cells near the best"]
    said = [
        console._budgets({"budgets": {"count": count, "source": source, "spread": spread}})
        for count, source, spread in ((16, "gaps", 1.0), (85, "steps of 5 %", 1.02), (2, "gaps", 1.015))
    ]
    assert said == [
        "16 budgets, found by gaps; all runs are at theirs",
        "no separate budgets: runs are put together in steps of 5 %, 85 in all",
        "2 budgets, found by gaps; runs lie up to 1.5 % from theirs",
    ]
