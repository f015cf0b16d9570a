"""playscale ledger: shows, scores and voids forecasts; a changed ledger is exit code 1, bad input one line and 2."""

from __future__ import annotations

import pytest
from ledger_entries import normal_entry

from playscale.scaling.numbers import MINUS
from playscale.tracking.ledger_table import LedgerTable


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Return the table of two forecasts in tmp_path/laws; MLflow is not installed."""
    monkeypatch.setattr("playscale.cli.ledger.find_spec", lambda name: None)
    table = LedgerTable.beside(tmp_path / "laws")
    table.register([normal_entry(flops=1e12), normal_entry(flops=1e13, retrospective=True)])
    return table


@pytest.fixture
def run(command_here):
    """Run `playscale ledger ...` in tmp_path; return exit code, stdout and stderr."""

    def call(*arguments):
        code, *texts = command_here("ledger", *arguments)
        return code or 0, *texts

    return call


def test_forecasts_are_scored_voided_and_shown_with_the_last_digest(table, run, tmp_path):
    assert run("score", "dev_loss@1e12", "--value", "2.8", "--value", "2.9", "--out", "laws")[0] == 0
    assert run("void", "dev_loss@1e13", "--reason", "the run diverged", "--out", "laws")[0] == 0
    code, shown, _ = run("laws", "--plot", "reliability.png")
    assert code == 0
    for text in ("scored", "void, retrospective: the run diverged", "1 of 1", table.read().last):
        assert text in shown
    assert (tmp_path / "reliability.png").stat().st_size > 10_000


def test_a_changed_ledger_is_shown_and_named_with_exit_code_1(table, run):
    table.path.write_text(table.path.read_text().replace('"game": "pong"', '"game": "chess"', 1))
    code, shown, errors = run("laws")
    assert code == 1
    assert "changed: event 1 (registered" in shown
    assert errors.count("\n") == 1


def test_export_and_import_give_the_same_ledger(table, run, tmp_path):
    assert run("export", "ledger.csv", "--out", "laws")[0] == 0
    assert run("import", "ledger.csv", "--out", "copy")[0] == 0
    assert LedgerTable.beside(tmp_path / "copy").read() == table.read()


def test_an_outcome_below_the_forecast_is_off_by_its_distance_from_the_forecast(table, run):
    code, shown, _ = run("score", "dev_loss@1e12", "--value", "2.0", "--out", "laws")  # of 2.718
    assert code == 0
    assert f"off by {MINUS}26%" in shown


def test_import_names_the_file_that_was_changed(table, run, tmp_path):
    assert run("export", "ledger.csv", "--out", "laws")[0] == 0
    changed = tmp_path / "changed.csv"
    changed.write_text((tmp_path / "ledger.csv").read_text().replace("pong", "chess", 1))
    code, _, errors = run("import", "changed.csv", "--out", "copy")
    assert code == 2
    assert "changed.csv: the ledger is not as it was written: event 1 " in errors
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "no ledger.jsonl there"),
        (["score", "dev_loss@1e12", "--value", "2.8"], "no ledger.jsonl there"),
        (["score", "nothing", "--value", "2.8", "--out", "laws"], "no such forecast"),
        (["score", "dev_loss@1e12", "--value", "-1", "--out", "laws"], "above zero"),
        (["score", "dev_loss@1e12", "--value", "nan", "--out", "laws"], "not a number"),
        (["score", "dev_loss@1e12", "--out", "laws"], "--value"),
        (["void", "dev_loss@1e12", "--reason", " ", "--out", "laws"], "empty"),
        (["import", "missing.csv", "--out", "copy"], "missing.csv"),
        (["laws", "--plot", "p.png"], "no forecast with a predictive distribution is scored"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(table, run, arguments, says):
    code, _, errors = run(*arguments)
    assert code == 2
    assert errors.count("\n") == 1
    assert says in errors


@pytest.mark.slow
def test_fit_registers_its_forecasts_once_and_scores_held_out_rows(command_here, tmp_path, monkeypatch):
    from report_study import make_points

    from playscale.points import write_points

    monkeypatch.setattr("playscale.cli.ledger.find_spec", lambda name: None)
    write_points(make_points(), tmp_path / "points.csv")
    for expected in ("registered: 4 forecasts", "4 were registered before"):
        _, shown, _ = command_here("fit", "points.csv", "--out", "laws", "--forecast", "1e13", "--register")
        assert expected in shown
    entries = LedgerTable.beside(tmp_path / "laws").read().entries.values()
    assert sorted((e.state, e.retrospective) for e in entries) == [("open", False)] * 2 + [("scored", True)] * 2
    assert "Track record of registered forecasts" in (tmp_path / "laws/report.html").read_text()
