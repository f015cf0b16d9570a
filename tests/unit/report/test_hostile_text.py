"""Text of a table that is markup, a path, mathematics, a control sequence or long is shown, and does nothing."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_study import make_points

from playscale.points import TEXT_COLUMNS, Point, Reference
from playscale.report.figures import write_figures
from playscale.report.html import anchors
from playscale.report.report import write_report
from playscale.report.reproduction import Reproduction
from playscale.report.reproduction_page import write_reproductions
from playscale.report.text import LONGEST, printable, short_name
from playscale.storage.files import file_name

HOSTILE = {
    "path": "../../../X",
    "script": "</style></script><script>alert(1)</script>",
    "attribute": '"><img src=x onerror="alert(1)">',
    "css": "x: red} body {display: none",
    "mathematics": r"$\frac{1",
    "template": "{{ 7 * 7 }}{% raw %}",
    "control": "\x1b]0;title\x07\x00\u202e",
    "long": "a" * 300,
    "long too": "a" * 299 + "b",
    "not UTF-8": "\udcff",
    "Rich": "[red]x[/b]",
}
NAMES = list(HOSTILE.values())
COLUMNS = [column for column in TEXT_COLUMNS if column != "split"]  # that is checked: fit or held-out


def pages_of(folder: Path, points: list[Point], fit: dict[str, Any], text: str) -> str:
    write_figures(folder / "figures", fit, points, [Reference(text, 3.0, 1.0, 4, text)])
    write_report(
        folder / "report.html",
        fit,
        points,
        title=text,
        references=[Reference(text, 3.0, 1.0, 4, text)],
        details={text: text},
    )
    return (folder / "report.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Every element of a page, with the names of its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def test_text_of_every_column_is_shown_and_does_nothing(tmp_path: Path) -> None:
    points = [point for point in make_points() if point.size == "10k"][:1] * len(NAMES)
    hostile = [
        replace(p, **dict.fromkeys(COLUMNS, text), extra={text: text}) for p, text in zip(points, NAMES, strict=True)
    ]
    plain = [replace(p, **dict.fromkeys(COLUMNS, f"x{i}")) for i, p in enumerate(points)]
    page = pages_of(tmp_path / "out", hostile, {}, "".join(NAMES))
    harmless = pages_of(tmp_path / "plain", plain, {}, "x")
    assert Counter(Elements(page).found) == Counter(Elements(harmless).found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "plain"]


@pytest.mark.slow
def test_methods_with_hostile_names_are_compared_each_with_its_own_figures(tmp_path: Path) -> None:
    names = [HOSTILE["path"], HOSTILE["script"], HOSTILE["long"]]  # and bc: so many have figures of their own
    points = [replace(make_points()[0], method=name) for name in [*names, "bc"]]
    fit = {"methods": {name: {} for name in names}, "failed": {"bc": "<b>too few</b>"}}
    page = pages_of(tmp_path / "out", points, fit, "x")
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", each) for each in ids)
    variables = re.findall(r"(--[^:;]+): light-dark", page)
    assert all(re.fullmatch(r"--[A-Za-z0-9-]+", name) for name in variables)
    assert sum(tag == "script" for tag, _ in Elements(page).found) == 1
    figures = [path.name for path in (tmp_path / "out" / "figures").iterdir()]
    end = "_dev_loss_against_compute.png"
    own = {name.removesuffix(end) for name in figures if name.endswith(end)}
    assert len(own) == len(names) + 1
    assert "bc" in own
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_published_tables_with_hostile_names_stay_in_their_directories(tmp_path: Path) -> None:
    names = [HOSTILE["path"], HOSTILE["script"], ".."]
    done = [Reproduction(name, make_points()[:1], {}, []) for name in names]
    page = write_reproductions(tmp_path / "out", done).read_text(encoding="utf-8")
    assert sum(tag == "script" for tag, _ in Elements(page).found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len([path for path in (tmp_path / "out").iterdir() if path.is_dir()]) == len(names)


@pytest.mark.parametrize("text", [*NAMES, "..", ".", "...", "", ".hidden", "a/b", "a\\b", "CON:"])
def test_a_text_as_a_file_name_is_one_part_of_a_path(text: str) -> None:
    name = file_name(text)
    assert Path("x", name).parent == Path("x") or name == text == ""
    assert len(name.encode()) < 200
    assert not name.startswith(".")
    assert printable(name) == name


@pytest.mark.parametrize("text", ["bc", "published table", "impala-lstm-1.5M-s0", "Größe_2"])
def test_a_harmless_text_is_its_own_file_name(text: str) -> None:
    assert file_name(text) == text


def test_different_texts_have_different_file_names_labels_and_anchors() -> None:
    for made in (list(map(file_name, NAMES)), list(map(short_name, NAMES)), anchors(NAMES)):
        assert len(set(made)) == len(NAMES)
    assert all(len(short_name(text)) <= LONGEST + 5 for text in NAMES)
    assert short_name("bc") == "bc"
