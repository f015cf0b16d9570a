"""Tables as people have them: each file of tests/data/tables is read, refused, warned about or fitted apart as said."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resources import ROOT

from playscale.points import Point, read_points
from playscale.scaling.fit import fit
from playscale.scaling.methods import by_method
from playscale.table_file import read_table, table_name

TABLES = ROOT / "tests" / "data" / "tables"
with (TABLES / "index.csv").open(encoding="utf-8", newline="") as file:
    INDEX = list(csv.DictReader(file))


def values(points: list[Point]) -> list[tuple[float | None, ...]]:
    return [(point.flops, point.params, point.samples, point.dev_loss) for point in points]


@pytest.mark.parametrize("row", INDEX, ids=[f"{row['file']}: {row['description']}" for row in INDEX])
def test_a_table_is_read_refused_warned_about_or_fitted_apart_as_the_index_says(row: dict[str, str]) -> None:
    if row["file"].endswith("parquet"):
        pytest.importorskip("pyarrow")
    columns = dict(pair.split("=") for pair in row["columns"].split(";") if pair)
    try:
        points = read_points(TABLES / row["file"], columns)
    except ValueError as error:
        assert row["outcome"] == "refused"
        assert row["says"] in str(error)
        assert str(TABLES / row["file"]) in str(error)
        assert "\n" not in str(error)
        return
    plain = read_points(TABLES / "plain.csv")
    if row["outcome"] == "same":
        assert values(points) == values(plain)
        assert not any(point.diverged for point in points)
    elif row["outcome"] == "warned":
        result = fit(points, replicates=20)
        assert row["says"] in [warned.code for warned in result.warnings]
    else:
        assert row["outcome"] == "apart"
        groups = by_method(points)
        assert ", ".join(groups) == row["says"]
        assert all(values(own) == values(plain) for own in groups.values())


def test_lines_left_out_as_comments_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    read_points(TABLES / "comment_rows.csv")
    assert "lines that begin with # are left out: 4" in caplog.text


rows = st.fixed_dictionaries(
    {
        "flops": st.floats(1e9, 1e20),
        "params": st.integers(1, 10**7),
        "samples": st.none() | st.integers(1, 10**9),
        "dev_loss": st.none() | st.floats(0.1, 10) | st.integers(1000, 9999).map(lambda value: value / 1000),
    }
)


@settings(max_examples=30, deadline=None)
@given(st.lists(rows, min_size=1, max_size=4), st.sampled_from(",;\t|"), st.sampled_from(".,"), st.booleans())
def test_a_table_in_any_dialect_is_read_as_it_was_measured_or_refused(
    tmp_path_factory: pytest.TempPathFactory, table: list[dict[str, float]], separator: str, mark: str, packed: bool
) -> None:
    path, out = tmp_path_factory.getbasetemp() / "any.csv", io.StringIO()
    writer = csv.DictWriter(out, [*table[0]], delimiter=separator)
    writer.writeheader()
    out.write('# "a remark\n')
    writer.writerows(
        {name: "" if v is None else repr(v).replace(".", mark) for name, v in row.items()} for row in table
    )
    path.write_bytes(gzip.compress(out.getvalue().encode()) if packed else out.getvalue().encode())
    try:
        points = read_points(path)
    except ValueError as error:
        assert mark == ","
        assert "may be a decimal one or of thousands" in str(error)
        return
    assert values(points) == [tuple(row[name] for name in ("flops", "params", "samples", "dev_loss")) for row in table]


def test_every_table_is_in_the_index() -> None:
    assert {row["file"] for row in INDEX} == {path.name for path in TABLES.iterdir()} - {"index.csv"}


@pytest.mark.parametrize("column", ["budget", "group"])
def test_decimal_commas_of_budgets_are_read(tmp_path: Path, column: str) -> None:
    table = TABLES / "budget_decimal_commas.csv"
    (tmp_path / "t.csv").write_text(table.read_text().replace(";budget", f";{column}"))
    points = read_points(tmp_path / "t.csv", budget_column=column)
    assert {point.extra[column] for point in points} == {"1.0e9", "2.0e9", "4.0e9", "8.0e9"}
    assert not any(point.diverged for point in points)
    assert {point.extra["budget"] for point in read_points(table)} == {"1.0e9", "2.0e9", "4.0e9", "8.0e9"}


def test_parquet_without_pyarrow_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match="table.parquet: Parquet, which pyarrow reads: pip install pyarrow"):
        read_points(TABLES / "table.parquet")


@pytest.mark.parametrize(
    ("name", "table"), [("a.csv", "a"), ("a.b.csv", "a.b"), ("a.csv.gz", "a"), ("a.parquet", "a"), ("a", "a")]
)
def test_a_table_is_named_by_its_file(name: str, table: str) -> None:
    assert table_name(TABLES / name) == table


def test_numbers_of_other_columns_keep_their_commas() -> None:
    rows = read_table(TABLES / "other_columns.csv", ["flops"], ["flops", "params"])
    assert {row.values["seeds"] for row in rows} == {"0,1,2"}
