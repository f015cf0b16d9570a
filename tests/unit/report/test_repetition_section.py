"""Repeated data, sizes off the best and inference in the report and on the terminal; the page's examples run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_study import nulled
from resources import ROOT

from playscale.cli.console import fit_tables, show
from playscale.points import Point, write_points
from playscale.report.evidence import Evidence
from playscale.report.figures import write_figures
from playscale.report.report import write_report
from playscale.scaling.fit import fit
from playscale_benchmarks.repeated import LAWS, SIZES, sample

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8"), re.DOTALL)
OFF_SIZE, REPEATED = (next(text for text in EXAMPLES if word in text) for word in ("off_sizes", "corpus_samples"))


@pytest.fixture(scope="module")
def table() -> list[Point]:
    rows = sample(LAWS["soon worn out"], 0.003, np.random.default_rng(0), overfit=True)
    return [replace(row, game="pong") for row in rows if row.params in SIZES[::2] and row.extra["epochs"] != "8"]


@pytest.fixture(scope="module")
def whole(table: list[Point]) -> dict[str, Any]:
    return fit(table, [1e22], corpus_samples=[1e9], inference_samples=[1e11, 1e16], replicates=40).to_dict()


@pytest.fixture(autouse=True)
def _without_other_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time."""
    for module in ("report", "figures"):
        monkeypatch.setattr(f"playscale.report.{module}.make_plots", lambda *_: [])


def test_the_report_has_the_section_its_figures_and_tables(
    tmp_path: Path, table: list[Point], whole: dict[str, Any]
) -> None:
    names = {path.name for path in write_figures(tmp_path, whole, table)}
    assert names == {"repetition_dev_loss.png", "repetition_worth_dev_loss.png"}
    write_report(tmp_path / "report.html", whole, table, title="A table")
    page = re.sub(r"<[^>]+>", "", (tmp_path / "report.html").read_text(encoding="utf-8"))
    for text in (
        "Repeated data",
        "Dev loss: a further pass over the same data is worth half of the first after",
        "overfitted",
        "The best of a budget on a limited corpus",
        "What more passes buy",
        "If the size is off",
        "When inference counts",
        "inference alone costs more than the budget at every size trained",
    ):
        assert text in page, text
    assert "nan" not in page


def test_a_fit_of_nulls_is_not_measured(tmp_path: Path, table: list[Point], whole: dict[str, Any]) -> None:
    write_report(tmp_path / "report.html", nulled(whole), table, title="A table")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL))
    assert "Dev loss: the law of repeated data is not measured" in page
    assert not re.search(r"\b(nan|None|null|inf|NaN)\b", page)


def test_the_terminal_shows_the_same(whole: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    show(*fit_tables(whole))
    shown = capsys.readouterr().out
    for text in ("If the size is off", "When inference counts", "The law of repeated data", "limited corpus", "R_D"):
        assert text in shown
    assert re.search(r"half of the first after [\d.]+ \(.* to .*\) passes", shown)


def test_why_there_is_no_law_of_repeated_data_is_said(
    tmp_path: Path, table: list[Point], capsys: pytest.CaptureFixture[str]
) -> None:
    some = [point for point in table if point.extra["epochs"] in ("1", "2")]
    without = fit(some, replicates=20).to_dict()
    assert Evidence.of(without, some).fit["repetition"]["dev_loss"]["reason"]
    show(*fit_tables(without))
    assert "repeated data dev_loss: the law of repeated data needs 8 cells or more" in capsys.readouterr().out
    write_report(tmp_path / "report.html", without, some, title="A table")
    assert "Dev loss: the law of repeated data needs 8 cells or more" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("option", ["--corpus-samples", "--inference-samples"])
def test_samples_that_are_no_numbers_end_in_one_line(
    main_here: Any, tmp_path: Path, table: list[Point], option: str
) -> None:
    write_points(table, tmp_path / "points.csv")
    for bad, said in (("many", "'many' is not a number"), ("-1", "must be above zero"), ("1e9,1e9", "is given twice")):
        code, error = main_here("fit", "points.csv", "--out", "laws", option, bad)
        assert code == 2
        assert option in error
        assert said in error
        assert not (tmp_path / "laws").exists()


@pytest.mark.slow
def test_the_example_of_repeated_data_prints_what_it_plants(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(REPEATED, "docs/scaling.md", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    half = re.search(r"half of the first after ([\d.]+) passes", printed)
    assert half is not None
    assert float(half[1]) == pytest.approx(1 + 8 * np.log(2), rel=0.03)
    assert re.search(r"parameters, \d+ passes; twice the games gain \d+\.\d\d %", printed)


@pytest.mark.slow
def test_the_example_of_sizes_prints_losses_and_smaller_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    monkeypatch.chdir(tmp_path)
    exec(compile(OFF_SIZE, "docs/scaling.md", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert "0.5 times the best size" in printed
    for trained, plain in re.findall(r"train ([\d,]+) parameters, not ([\d,]+)", printed):
        assert int(trained.replace(",", "")) <= int(plain.replace(",", ""))
    assert "dev_loss: train" in printed
