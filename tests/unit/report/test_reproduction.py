from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from report_study import make_points, with_returns_of_zero
from resources import PUBLISHED
from test_report import Page
from typer.testing import CliRunner

from playscale.cli.app import app
from playscale.cli.console import reproduction_table
from playscale.points import Point, write_points
from playscale.report.evidence import Evidence
from playscale.report.reproduction import Published, Reproduction, exponents_from, read_published, reproduce
from playscale.report.reproduction_page import PAPER, reproduction_page, write_reproductions
from playscale.scaling.fit import fit

HEADER = "table,from_flops,target,quantity,at,exponent\n"
BUDGETS = (3e9, 1e10, 3e10, 1e11, 3e11, 1e12, 3e12)


def planted() -> list[Point]:
    """The best model has 1e-2 C^0.5 parameters at a dev loss of 30 C^-0.1, up to 3e10 FLOPs; beyond, C^-0.05."""
    points = []
    for flops in BUDGETS:
        best, loss = 1e-2 * flops**0.5, 30 * 3e10**-0.1 * (flops / 3e10) ** (-0.1 if flops <= 3e10 else -0.05)
        for step in (-2, -1, 0, 1, 2):
            params = best * 2.0**step
            value = loss * 1.02 ** (step * step)
            given = {"dev_loss": value, "return_mean": 5 * value**-3}
            points.append(Point(flops=flops, params=params, samples=flops / (6 * params), **given))
    return points


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> list[Reproduction]:
    folder = tmp_path_factory.mktemp("tables")
    write_points(planted(), folder / "planted.csv")
    write_points(with_returns_of_zero(make_points(), 3), folder / "a study.csv")
    published = [
        Published("planted", None, "dev_loss", "params", "argmin", 0.49),
        Published("planted", 3e10, "dev_loss", "dev_loss", "vertex", -0.05),
        Published("planted", 1e13, "dev_loss", "samples", "argmin", 0.5),
        Published("another", None, "dev_loss", "params", "argmin", 9.0),
    ]
    return reproduce([folder / "planted.csv", folder / "a study.csv"], published, replicates=40)


def test_reproduction_shows_our_values_beside_the_published_ones(done: list[Reproduction]) -> None:
    rows = {(row.from_flops, row.target, row.quantity, row.at): row for row in done[0].compared}
    whole = rows[None, "dev_loss", "params", "argmin"]
    assert whole.exponent == pytest.approx(0.5, abs=1e-6)
    assert whole.difference == pytest.approx(0.01, abs=1e-6)
    assert rows[None, "dev_loss", "params", "vertex"].published is None
    assert rows[None, "return_mean", "return_mean of dev_loss", "argmin"].exponent == pytest.approx(-3, abs=1e-6)
    late = rows[3e10, "dev_loss", "dev_loss", "vertex"]
    assert late.exponent == pytest.approx(-0.05, abs=1e-6)
    assert late.n == 5
    assert late.boot_low is not None
    nothing = rows[1e13, "dev_loss", "samples", "argmin"]
    assert (nothing.exponent, nothing.difference, nothing.published) == (None, None, 0.5)
    assert len(rows) == 18 + 2
    assert all(row.published is None for row in done[1].compared)


def test_reference_values_of_tables_that_are_not_given_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: list[Reproduction]
) -> None:
    (tmp_path / "published.csv").write_text(
        HEADER + "".join(f"{name},,dev_loss,params,argmin,0.5\n" for name in ("planted", "b", "a"))
    )
    monkeypatch.setattr("playscale.report.reproduction.reproduce", lambda *_, **__: done[:1])
    monkeypatch.setattr("playscale.report.reproduction_page.write_reproductions", lambda *_: tmp_path)
    options = ["--reference", str(tmp_path / "published.csv"), "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, ["reproduce", "planted.csv", *options]).output
    assert "its values of a, b are left out: no table given has such a name" in " ".join(shown.split())


def test_a_start_at_the_smallest_budget_is_the_whole_table(tmp_path: Path) -> None:
    write_points(planted(), tmp_path / "t.csv")
    (one,) = reproduce([tmp_path / "t.csv"], [Published("t", 3e9, "dev_loss", "params", "argmin", 0.5)], replicates=20)
    assert {row.from_flops for row in one.compared} == {None}
    assert sum(row.published == 0.5 for row in one.compared) == 1


def test_without_published_values_there_are_no_columns_of_them(done: list[Reproduction]) -> None:
    own = [dataclasses.replace(row, published=None) for row in done[0].compared if row.exponent is not None]
    one = dataclasses.replace(done[0], points=done[0].points[:2], fit={}, compared=own)
    text = Page(reproduction_page([one])).text
    assert "0.500 to 0.500" in text
    assert not re.search("published|difference|missed by", text.split("Exponents of planted")[1])
    assert "largest difference" not in text
    assert not {"published", "differs"} & {column.header for column in reproduction_table(one).columns}


@pytest.mark.slow
def test_the_summary_has_no_column_without_a_value(done: list[Reproduction]) -> None:
    row = {"target": "dev_loss", "from_flops": 1e12, "measured": 1.0, "value": 1.1, "inside": True}
    for flops, shown in ((1.1e12, False), (1e13, True)):
        one = dataclasses.replace(done[0], fit={"track_record": [row | {"flops": flops}]}, compared=[])
        assert ("0.5 to 1 decades ahead: missed by" in Page(reproduction_page([one])).text) == shown


def test_the_console_shows_theirs_beside_ours(done: list[Reproduction]) -> None:
    table = reproduction_table(done[0])
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns["published"][0] == "+0.490"
    assert columns["differs"][0] == "+0.010"
    assert columns["from"][-2:] == ["3e+10", "1e+13"]
    assert columns["exponent"][-1] == "not fitted"


@pytest.mark.slow
def test_one_page_holds_every_table(done: list[Reproduction]) -> None:
    source = reproduction_page(done)
    page = Page(source)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for anchor in ("table-planted", "table-a-study"):
        assert ("a", "href", f"#{anchor}") in page.attributes
        for name in PAPER:
            assert f"{anchor}-{name}" in ids
    links = [value for _, name, value in page.attributes if name.endswith("href")]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", source)) <= set(ids)
    for anchor, one in zip(("table-planted", "table-a-study"), done, strict=True):
        (own,) = re.findall(rf"^#{anchor} {{ (.*) }}$", source, re.MULTILINE)
        drawn = source[source.index(f'id="{anchor}"') :].split("<section ")[0]
        assert set(re.findall(r"var\((--budget-\d+)\)", drawn)) <= set(re.findall(r"(--budget-\d+):", own))
        assert len(re.findall(r"--budget-\d+:", own)) == len(Evidence(one.fit, one.points).budgets)
    for tag, name, value in page.attributes:
        assert name not in ("src", "srcset"), (tag, name, value)
        assert tag not in ("link", "iframe", "img"), (tag, name, value)
    assert "0.500 to 0.500" in page.text
    assert "+0.010" in page.text
    assert "not fitted" in page.text
    assert "Law of the dev loss: " in page.text
    assert not re.search(r"\b(nan|None|inf)\b", page.text)


@pytest.mark.slow
def test_anchors_are_unique_and_safe(done: list[Reproduction]) -> None:
    names = ["a b", "a-b", "a(b)", "\N{GREEK SMALL LETTER ALPHA}", "a-b-2"]
    same = [dataclasses.replace(done[0], name=name) for name in names]
    ids = [value for _, name, value in Page(reproduction_page(same)).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[\w-]+", one) for one in ids)


@pytest.mark.slow
def test_reproduction_writes_a_page_and_one_directory_a_table(tmp_path: Path, done: list[Reproduction]) -> None:
    old, other = (tmp_path / "out" / "planted" / "figures" / name for name in ("a_isoflop_dev_loss.png", "mine.png"))
    for file in (old, other):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("of an earlier time")
    path = write_reproductions(tmp_path / "out", done)
    assert not old.exists()
    assert other.exists()
    assert path == tmp_path / "out" / "reproduce.html"
    for one in done:
        folder = tmp_path / "out" / one.name
        assert json.loads((folder / "fit.json").read_text())["power_laws"] == one.fit["power_laws"]
        assert {f"{name}.png" for name in PAPER} <= {path.name for path in (folder / "figures").iterdir()}


def test_a_second_reproduction_leaves_nothing_of_tables_that_are_not_given_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: list[Reproduction]
) -> None:
    def draw(folder: Path, *_: object) -> None:
        folder.mkdir()
        (folder / "isoflop_dev_loss.png").touch()

    monkeypatch.setattr("playscale.report.reproduction_page.write_figures", draw)
    monkeypatch.setattr("playscale.report.reproduction_page.reproduction_page", lambda _: "")
    one, two, three = (dataclasses.replace(done[0], name=name) for name in ("one", "two", "three"))
    write_reproductions(tmp_path, [one, two, three])
    theirs = [
        tmp_path / name for name in ("two/figures/mine.png", "laws/fit.json", "laws/figures/isoflop_dev_loss.png")
    ]
    for file in theirs:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    write_reproductions(tmp_path, [one])
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    own = {"reproduce.html", "reproduce.json", "one/fit.json", "one/figures/isoflop_dev_loss.png"}
    assert files == own | {path.relative_to(tmp_path).as_posix() for path in theirs}
    assert not (tmp_path / "three").exists()
    (tmp_path / "reproduce.json").write_text('{"folders": ["../up"]}')
    with pytest.raises(ValueError, match="no name of a file below a folder"):
        write_reproductions(tmp_path, [one])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("table,target,quantity\n", "line 1: missing column exponent"),
        (HEADER, "a header but no reference values"),
        (HEADER + "t,,loss,params,,0.5\n", 'line 2: column target: "loss" is not one of dev_loss, return_mean'),
        (HEADER + "t,,dev_loss,return_mean,,0.5\n", 'line 2: column quantity: "return_mean" is not one of'),
        (HEADER + "t,,dev_loss,params,middle,0.5\n", 'line 2: column at: "middle"'),
        (HEADER + "t,,dev_loss,params,,half\n", 'line 2: column exponent: "half" is not a number'),
        (HEADER + "t,,dev_loss,params,,nan\n", 'line 2: column exponent: "nan"'),
        (HEADER + "t,-1,dev_loss,params,,1\n", "line 2: column from_flops: -1 must be greater than zero"),
        (HEADER + ",,dev_loss,params,,1\n", "line 2: column table: empty"),
        (HEADER + "t,,dev_loss,params,,1\nt,,dev_loss,params,argmin,2\n", "line 3: the same table"),
        (HEADER + "t\n", "line 2: 1 cells where the header names 6 columns"),
        (HEADER + "t,,dev_loss,params,,0,677\n", "line 2: 7 cells where the header names 6 columns"),
        (HEADER + "t,,dev_loss,params,\n", "line 2: 5 cells where the header names 6 columns"),
    ],
)
def test_a_bad_reference_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(ValueError, match="r.csv") as raised:
        read_published(tmp_path / "r.csv")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_reference_values_may_have_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(HEADER.replace(",", ";") + "t;;dev_loss;params;;0,677\n")
    assert [one.exponent for one in read_published(tmp_path / "r.csv")] == [0.677]


def test_reference_values_of_no_table_given_are_refused(tmp_path: Path) -> None:
    write_points(planted(), tmp_path / "t.csv")
    with pytest.raises(ValueError, match="the reference values are of other; no table given has such a name"):
        reproduce([tmp_path / "t.csv"], [Published("other", None, "dev_loss", "params", "argmin", 0.5)])


def test_two_tables_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_points(planted(), tmp_path / folder / "t.csv")
    with pytest.raises(ValueError, match="has the same name as"):
        reproduce([tmp_path / "a" / "t.csv", tmp_path / "b" / "t.csv"], [])


def test_the_published_exponents_are_found_again() -> None:
    from playscale.points import read_points

    published = read_published(PUBLISHED / "exponents.csv")
    assert len(published) == 30
    found = {}
    for table in {one.table for one in published}:
        points = read_points(PUBLISHED / f"{table}.csv")
        for start in {one.from_flops for one in published if one.table == table}:
            for row in exponents_from(points, start or 0.0, seed=0, replicates=20):
                found[table, start, row.target, row.quantity, row.at] = row.law.exponent
    for one in published:
        ours = found[one.table, one.from_flops, one.target, one.quantity, one.at]
        assert ours == pytest.approx(one.exponent, abs=0.001), one


def test_the_window_gives_what_a_fit_of_its_points_gives() -> None:
    points = planted()
    rows = exponents_from(points, 1e11, seed=0, replicates=20)
    whole = fit([point for point in points if point.flops > 0.9e11], replicates=20).power_laws
    assert [(r.target, r.quantity, r.at, r.law.exponent) for r in rows] == [
        (r.target, r.quantity, r.at, r.law.exponent) for r in whole
    ]
