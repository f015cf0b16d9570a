"""The points table: what is written is read, and what is not a table is refused in one line."""

from __future__ import annotations

import operator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resources import PUBLISHED

from playscale.points import (
    COLUMNS,
    EXTRA_COLUMNS,
    Point,
    as_points,
    distinct,
    from_row,
    in_order,
    read_points,
    to_row,
    write_points,
)

positive = st.floats(1e-99, 1e99)
not_negative = st.just(0.0) | positive
count = st.integers(1, 10**18)
text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
text = text | text.map("#".__add__)
label = text.map(str.strip)  # as tables are read
extras = st.dictionaries(label.filter(lambda name: name not in ("", *COLUMNS, *EXTRA_COLUMNS)), text, max_size=3)
points = st.builds(
    Point,
    game=label, method=label, run=label, size=label, seed=st.none() | st.integers(-(2**31), 2**63),
    flops=positive, params=positive | count, samples=st.none() | positive | count,
    dev_loss=st.none() | positive, dev_loss_se=st.none() | not_negative,
    return_mean=st.none() | not_negative | positive.map(operator.neg), return_se=st.none() | not_negative,
    episodes=st.none() | st.integers(0, 10**9), split=st.sampled_from(["fit", "held-out"]), extra=extras,
)  # fmt: skip


@given(points)
def test_a_row_reads_back_as_the_same_point(point: Point) -> None:
    assert from_row(to_row(point)) == point


@settings(max_examples=50, deadline=None)
@given(st.lists(points, min_size=1, max_size=3))
def test_a_table_reads_back_as_the_same_points(tmp_path_factory: pytest.TempPathFactory, table: list[Point]) -> None:
    path = tmp_path_factory.mktemp("points") / "points.csv"
    write_points(table, path)
    names = {name for point in table for name in point.extra}
    blank = dict.fromkeys(names, "")
    read = read_points(path)
    assert [dict(point.extra) for point in read] == [blank | dict(point.extra) for point in table]
    assert [Point(**{**p.__dict__, "extra": {}}) for p in read] == [Point(**{**p.__dict__, "extra": {}}) for p in table]


def test_from_row_takes_the_numbers_and_tags_of_a_tracking_run() -> None:
    row = {"flops": 3e11, "params": "120000", "samples": 4.0e5, "dev_loss": 1.25, "return_mean": None, "split": "fit"}
    point = from_row(row | {"mlflow.user": "anne"})
    assert (point.flops, point.params, point.samples, point.dev_loss) == (3e11, 120000, 400000, 1.25)
    assert point.return_mean is None
    assert isinstance(point.samples, int)
    assert point.extra == {"mlflow.user": "anne"}


def test_names_are_read_without_spaces_around_them(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("method,game,flops,params,samples,dev_loss\n bc,crafter ,1e9,1e4,1e4,2\nbc,crafter,2e9,1e4,1e4,1\n")
    assert {(point.method, point.game) for point in read_points(path)} == {("bc", "crafter")}


def test_unknown_columns_are_kept_in_order_and_missing_cells_stay_empty(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("zeta,flops,params,samples,dev_loss,alpha\n1,1e14,188793,,1.28,x\n\n2,2e14,188793,5,,y\n")
    first, second = read_points(path)
    assert (first.samples, first.dev_loss, second.dev_loss) == (None, 1.28, None)
    write_points([first, second], path)
    assert path.read_text().splitlines()[0].endswith(",split,zeta,alpha")
    assert read_points(path) == [first, second]


HEADER = "game,flops,params,samples,dev_loss,return_mean,seed,split\n"
GOOD = "nethack,1e11,1e4,5,1.5,3,0,fit\n"
BAD = {
    "": "no header row",
    "flops,params\n1,2\n": "missing column samples, dev_loss",
    HEADER: "has a header but no rows",
    HEADER.replace("game", "flops") + GOOD: "column flops appears twice",
    HEADER + GOOD + GOOD.replace("1e11", "many"): 'line 3: column flops: "many" is not a number',
    HEADER + GOOD.replace("1e11", "-1e11"): "column flops: -1e+11 must be greater than zero",
    HEADER + GOOD.replace("1e11", ""): "column flops: empty",
    HEADER + GOOD.replace("1e4", "0"): "column params: 0 must be greater than zero",
    HEADER + GOOD.replace(",5,", ",-5,"): "column samples: -5 must be greater than zero",
    HEADER + GOOD.replace("1.5", "-1.5"): "column dev_loss: -1.5 must be greater than zero",
    HEADER + GOOD.replace("1.5", "0"): "column dev_loss: 0 must be greater than zero",
    HEADER + GOOD.replace("1.5", "nan"): "column dev_loss: nan is not a finite number",
    HEADER + GOOD.replace("1.5", "inf"): "column dev_loss: inf is not a finite number",
    HEADER + GOOD.replace(",0,", ",0.5,"): "column seed: 0.5 is not a whole number",
    HEADER + GOOD.replace("fit", "test"): 'column split: "test" is neither "fit" nor "held-out"',
    HEADER + "1,2,3\n": "3 cells where the header names 8 columns",
}


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
def test_a_bad_table_is_refused_in_one_line_that_names_the_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=".") as error:
        read_points(path)
    assert BAD[content] in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_absent_or_a_directory_or_not_text_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\x89PNG\r\n\xff\xfe")
    for path, said in (
        (tmp_path / "none.csv", "no such file"),
        (tmp_path, "is a directory"),
        (binary, "not a text file"),
    ):
        with pytest.raises(ValueError, match=said):
            read_points(path)


def test_the_published_tables_are_read_whole() -> None:
    assert len(read_points(PUBLISHED / "nethack_isoflop.csv")) == 207
    zone = read_points(PUBLISHED / "atari_BattleZone.csv")
    assert len(zone) == 167
    assert sum(point.samples is None for point in zone) == 32


def test_table_is_sorted_whoever_measured_first():
    points = [
        Point(method=method, run=f"{method}-{params}", params=params, flops=flops, samples=1e3, dev_loss=1.0)
        for method in ("bc", "impala") for params in (9_000, 10_000) for flops in (1e9, 2e10)
    ]  # fmt: skip
    assert in_order(points[::-1]) == in_order([*points[3:], *points[:3]]) == points


@pytest.mark.parametrize(
    ("text", "reason"), [("", ""), ("0", ""), ("False", ""), ("dev loss above 4.8", "dev loss above 4.8")]
)
def test_point_diverged_says_why(text, reason):
    assert Point(flops=1e9, params=1e4, samples=1e3, extra={"diverged": text}).diverged == reason


ROWS = [
    {"flops": 1e13, "params": 1000, "samples": 100000, "dev_loss": 2.0, "lab": "a"},
    {"flops": 1e14, "params": 2000, "samples": None, "dev_loss": 1.6, "lab": "b"},
]


def test_a_table_of_rows_or_of_columns_becomes_the_same_points() -> None:
    points = as_points(ROWS)
    assert as_points(points) == points
    assert points[1] == Point(flops=1e14, params=2000, samples=None, dev_loss=1.6, extra={"lab": "b"})
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    assert as_points(columns) == points
    columns["samples"] = np.array([100000, np.nan])  # type: ignore[assignment]
    columns["flops"] = np.array([1e13, 1e14])  # type: ignore[assignment]
    assert as_points(columns) == points


def test_a_data_frame_becomes_points() -> None:
    pandas = pytest.importorskip("pandas")
    assert as_points(pandas.DataFrame(ROWS)) == as_points(ROWS)
    assert as_points(pandas.DataFrame(ROWS).convert_dtypes()) == as_points(ROWS)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("points.csv", "read a file with read_points"),
        ([{"flops": 1e13}], "missing column params, samples, dev_loss"),
        ([{**ROWS[0], "flops": "much"}], 'row 0: column flops: "much" is not a number'),
        ([1, 2], "give rows"),
        ({**ROWS[0], "flops": [1, 2]}, "points: the columns"),
        ({"flops": [1e13, 1e14], "params": [1000]}, "different lengths: flops 2, params 1"),
    ],
)
def test_what_is_no_table_of_columns_is_refused_in_one_line(table: object, said: str) -> None:
    with pytest.raises(ValueError, match="(?s).*") as error:
        as_points(table)  # type: ignore[arg-type]
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["flops_total", "flops_teacher"])
@pytest.mark.parametrize("value", ["n/a", "-1", "inf", "1e101"])
def test_compute_with_the_teachers_is_checked_where_it_is_read(name: str, value: str) -> None:
    row = {"flops": "1e12", "params": "1e4", "samples": "1e6", "dev_loss": "1.0"}
    with pytest.raises(ValueError, match=f"column {name}: "):
        from_row(row | {name: value})
    assert from_row(row | {name: " "}).number(name) is None
    assert from_row(row | {name: "2e12"}).number(name) == 2e12


@pytest.mark.parametrize("name", ["flops", "dev_loss", "dev_loss_se", "return_mean", "return_se"])
@pytest.mark.parametrize("value", ["1e-320", "1e-101", "1e101"])
def test_numbers_that_no_logarithmic_axis_can_show_are_refused(name: str, value: str) -> None:
    row = {"flops": "1e12", "params": "1e4", "samples": "1e6", "dev_loss": "1.0"}
    with pytest.raises(ValueError, match=f"column {name}: .* is beyond what can be analysed"):
        from_row(row | {name: value})


def test_zero_is_a_return_and_a_standard_error() -> None:
    row = {"flops": "1e12", "params": "1e4", "samples": "1e6", "dev_loss": "1.0", "return_mean": "0", "return_se": "0"}
    assert (from_row(row).return_mean, from_row(row).return_se) == (0, 0)


def test_seeds_are_a_number_only_where_a_deviation_is_divided_by_them() -> None:
    row = {"flops": "1e12", "params": "1e4", "samples": "1e6", "dev_loss": "1.0", "seeds": "0,1,2,3"}
    assert from_row(row).return_se is None
    assert from_row(row | {"seeds": "4", "return_sd": "3"}).return_se == 1.5
    with pytest.raises(ValueError, match="column seeds"):
        from_row(row | {"return_sd": "3"})
    with pytest.raises(ValueError, match=r"column seeds: 1.2 is not a whole number"):
        from_row(row | {"return_sd": "3", "seeds": "1.2"})
    with pytest.raises(ValueError, match="column return_sd: -3 must not be negative"):
        from_row(row | {"return_sd": "-3", "seeds": "4"})


def test_rows_that_are_the_same_in_every_column_are_one() -> None:
    one, other = (Point(flops=1e9, params=1e3, samples=1e5, dev_loss=2.0, extra={"lab": lab}) for lab in "ab")
    assert distinct([one, other, replace(one), other]) == [one, other]
    copy, apart = replace(one, split="held-out"), replace(other, dev_loss=1.9, split="held-out")
    assert distinct([copy, one, apart, other, apart]) == [one, apart, other]


@pytest.mark.parametrize("value", ["abc", "0", "-3", "inf", "nan", "1e400", "1,5", "1e7"])
def test_passes_over_the_data_are_numbers_that_can_be(value: str) -> None:
    row = {"flops": "1e12", "params": "1e4", "samples": "1e6", "dev_loss": "1.0"}
    with pytest.raises(ValueError, match="column epochs"):
        from_row(row | {"epochs": value})
    if value != "1e7":
        with pytest.raises(ValueError, match="column corpus_samples"):
            from_row(row | {"corpus_samples": value})
    assert from_row(row | {"epochs": "", "corpus_samples": "2e5"}).extra["corpus_samples"] == "2e5"


def test_names_that_are_the_number_0_are_names() -> None:
    point = from_row({"game": 0, "method": 0, "run": 0, "flops": 1, "params": 1})
    assert (point.game, point.method, point.run) == ("0", "0", "0")
