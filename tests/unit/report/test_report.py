from __future__ import annotations

import dataclasses
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from report_study import MANY_BUDGETS, REFERENCES, make_fit, make_points, make_replay, nulled, with_returns_of_zero
from resources import PUBLISHED

from playscale.points import Point, Reference, read_points
from playscale.report.evidence import Evidence
from playscale.report.law_section import method_name
from playscale.report.report import points_table, write_report
from playscale.scaling import numbers
from playscale.scaling.fit import fit as fit_points
from playscale.scaling.gpu import hardware
from playscale.scaling.optimum import NAME as OPTIMUM

VOID = {"meta", "input", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """Text by section, every attribute, and whether tags are closed as they were opened."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def points() -> list[Point]:
    return make_points()


@pytest.fixture(scope="module")
def fit(points: list[Point]) -> dict[str, Any]:
    return make_fit(points)


def page(path: Path, fit: dict[str, Any], points: list[Point], *, drawn: bool = False, **more: Any) -> Page:
    """Write a report and read it; drawn: with its figures, which take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        if not drawn:
            patch.setattr("playscale.report.report.make_plots", lambda *_: {})
        write_report(path / "report.html", fit, points, **({"title": "A study"} | more))
    return Page((path / "report.html").read_text())


def test_the_headline_is_the_next_budget(tmp_path: Path, fit: dict[str, Any], points: list[Point]) -> None:
    text = page(tmp_path, fit, points).text
    assert "With 10¹³ FLOPs, train " in text  # 3e12 is forecast too, but held out: it has been trained
    assert re.search(
        r"Expect a dev loss of \d\.\d\d \(.* to .*\)( and a return of |\. For the best return, train )", text
    )
    assert "Tested on the held-out budget of 3\u00d710¹² FLOPs: 2 of 2 results within" in text
    assert "25 points (20 fitted) · 5 model sizes · 5 compute budgets (4 fitted)" in text
    assert "Before you rely on it" in text


def test_a_return_stands_beside_the_size_it_is_forecast_for(
    tmp_path: Path, fit: dict[str, Any], points: list[Point]
) -> None:
    ends = {"params_low": 5e5, "params_high": 4e6, "samples_low": 2e7, "samples_high": 2e8}

    def said(size: float) -> str:
        rows = [
            row | ({"params": 1e6, "samples": 1e8} if row["target"] == "dev_loss" else {"params": size, "samples": 5e7})
            | {"value": 2.5, "low": 2.0, "high": 3.0, "params_note": None} | ends
            for row in fit["forecasts"]
        ]  # fmt: skip
        return page(tmp_path, {**fit, "forecasts": rows}, points).text

    both = "train 1M parameters (500k to 4M) on 100M samples (20M to 200M). Expect a dev loss of 2.50 (2.00 to 3.00)"
    assert f"{both} and a return of 2.50 (2.00 to 3.00)." in said(1e6)
    text = said(2e6)
    assert f"{both}. For the best return, train 2M parameters (500k to 4M) on 50M samples (" in text
    assert "1M 500k to 4M" in text
    assert "2.50 2.00 to 3.00 with 2M on 50M" in text


def test_an_interval_of_sizes_that_says_nothing_is_not_written(
    tmp_path: Path, fit: dict[str, Any], points: list[Point]
) -> None:
    rows = [row | {"params_low": 1.0, "params_high": 1e9, "samples_low": None} for row in fit["forecasts"]]
    text = page(tmp_path, {**fit, "forecasts": rows}, points).text
    assert re.search(r"parameters \(not known within a factor 1,000\) on [\d.]+[kMB] samples\. Expect", text)


def test_without_a_forecast_ten_times_the_largest_budget_is_recommended(
    tmp_path: Path, fit: dict[str, Any], points: list[Point]
) -> None:
    found = fit_points(points, replicates=20).to_dict()
    assert found["forecasts"] == []
    text = page(tmp_path, found, points).text
    assert re.search(r"With 10¹³ FLOPs, train [\d.]+[kMB] parameters \(.* to .*\) on ", text)


def test_budgets_are_counted_and_divided_by_as_the_fit_does(
    tmp_path: Path, fit: dict[str, Any], points: list[Point]
) -> None:
    # the gaps of held-out runs move no fitted budget
    between = [
        dataclasses.replace(p, flops=3e11 * x, split="held-out") for p, x in zip(points, (1.15, 1.3), strict=False)
    ]
    evidence = Evidence.of(fit, points + between)
    assert evidence.last_fitted_budget() == max(law["to_flops"] for law in fit["laws"].values())
    assert "5 model sizes · 6 compute budgets (4 fitted)" in evidence.subtitle
    text = page(tmp_path, fit, points).text
    times = numbers.number(1e14 / fit["laws"]["dev_loss"]["to_flops"])
    assert f"{times}\u00d7" in text
    assert f"reach up to {times} times the largest fitted budget" in text


def test_a_budget_that_is_trained_is_said_to_be_and_the_next_is_recommended(
    tmp_path: Path, fit: dict[str, Any], points: list[Point]
) -> None:
    rows = [row for row in fit["forecasts"] if row["flops"] == 3e12]
    curves = {target: [*rows[:-1], dict(rows[-1], flops=1e13)] for target, rows in fit["curves"].items()}
    text = page(tmp_path, {**fit, "forecasts": rows, "curves": curves}, points).text
    assert "3\u00d710¹² FLOPs is already trained. With 10¹³ FLOPs, train " in text
    assert "3\u00d710¹² already trained" in text
    assert (
        "With 3\u00d710¹² FLOPs (already trained), "
        in page(tmp_path, {**fit, "forecasts": rows, "curves": {}}, points).text
    )


def test_a_table_without_isoflop_budgets_is_told_why_nothing_was_tested(
    tmp_path: Path, fit: dict[str, Any], points: list[Point]
) -> None:
    budgets = dict(fit["budgets"], isoflop=False, source="steps of 5 %")
    laws = {"dev_loss": dict(fit["laws"]["dev_loss"], form=OPTIMUM, widening=2.2)}
    scored = {
        "dev_loss": {"why": "parametric: the best of 3 laws in a rolling backtest; median error of 9 cells 1.0 %"}
    }
    none: dict[str, Any] = {"held_out": [], "power_laws": [], "track_record": []}
    text = page(tmp_path, fit | none | {"budgets": budgets, "laws": laws, "parametric": scored}, points).text
    assert "has not been tested" not in text
    assert "The law of N and D was backtested: for dev loss, median error of 9 cells 1.0%." in text
    assert "No power law of best cells is fitted: this is no isoFLOP table." in text
    assert "widened 2.2 times: intervals of its backtest on cells of larger budgets were too narrow" in text
    assert "5 steps of compute" in text


def test_held_out_budgets_are_listed(tmp_path: Path, fit: dict[str, Any], points: list[Point]) -> None:
    (row, *_) = fit["held_out"]
    text = page(tmp_path, {**fit, "held_out": [dict(row, flops=c) for c in (1e13, 1e14, 1e15)]}, points).text
    assert "Tested on the held-out budgets of 10¹³, 10¹⁴ and 10¹⁵ FLOPs" in text


def test_a_failed_forecast_is_reported(tmp_path: Path, fit: dict[str, Any], points: list[Point]) -> None:
    rows = [dict(row, measured=9.9, inside=False) for row in fit["held_out"]]
    text = page(tmp_path, {**fit, "held_out": rows}, points).text
    assert "0 of 2 results within" in text
    assert text.count("✗ outside") == 2
    text = page(tmp_path, {**fit, "held_out": []}, points).text
    assert "has not been tested" in text


@pytest.fixture(scope="module")
def long_study() -> tuple[list[Point], dict[str, Any]]:
    """A study with a track record, two target returns, a GPU and a known expert; its first points score 0 or less."""
    points = with_returns_of_zero(make_points(budgets=MANY_BUDGETS), 3)
    settings = {"target_returns": [("a start", 20.0)], "expert_return": 700.0}
    return points, make_fit(points, forecast_at=[(2e5, 3e7)], hardware=hardware("h100", 0.4), **settings)


@pytest.mark.slow
def test_the_track_record_replaces_untested(tmp_path: Path, long_study: tuple[list[Point], dict[str, Any]]) -> None:
    points, fit = long_study
    text = page(tmp_path, fit, points).text
    assert "has not been tested" not in text
    rows = [row for row in fit["track_record"] if row["target"] == "dev_loss"]
    ahead = [row for row in rows if 0.5 < math.log10(row["flops"] / row["from_flops"]) < 1 + 1e-6]
    missed = median(abs(math.log(row["value"] / row["measured"])) for row in ahead)
    inside = f"{sum(row['inside'] for row in ahead) / len(ahead):.0%} inside"
    # the first forecast ahead, for 10^13, reaches 0.52 decades beyond what was fitted
    said = "Past forecasts, each from the budgets known then, 0.5 to 1 decades ahead: missed by"
    counted = f"{sum(row['inside'] for row in ahead)} of {len(ahead)} inside"
    assert f"{said} {numbers.off(missed)} for dev loss ({counted} the 95% interval)" in text
    assert "; the plain power law by " in text
    assert "Track record of the law that was the choice at each earlier budget: median miss, share inside the" in text
    assert f"0.5 to 1 decades{len(ahead)}{numbers.off(missed, short=True)} {inside}" in text


def test_target_returns_and_gpu_hours(tmp_path: Path, long_study: tuple[list[Point], dict[str, Any]]) -> None:
    points, fit = long_study
    nowhere = dict.fromkeys(("flops", "high", "params", "samples", "gpu_hours", "energy_kwh"))
    moon = {"name": "the moon", "value": 123456.0, "low": 1e15, "text": "a return of 123,456 is not reached"} | nowhere
    text = page(tmp_path, {**fit, "target_returns": [*fit["target_returns"], moon]}, points).text
    hours = 1e13 / (989e12 * 0.4) / 3600
    assert re.search(rf"With 10¹³ FLOPs, train .* samples.*: about {numbers.number(hours, 2)} H100 hours\.", text)
    assert "H100 hourskWh" in text
    reached = next(row for row in fit["target_returns"] if row["name"] == "a start")
    assert f"a start20{numbers.budget(reached['flops'])} " in text
    assert "the moon123,456not reached interval reaches it from 10¹⁵" + 4 * numbers.NOTHING in text
    assert "A return of 123,456 is not reached." in text
    assert "the expert700" in text
    assert "at 40% of its 989 TFLOP/s" in text


def test_a_given_pair_is_not_recommended(tmp_path: Path, long_study: tuple[list[Point], dict[str, Any]]) -> None:
    points, fit = long_study
    text = page(tmp_path, fit, points).text
    recommended = text[text.index("Recommended by budget") : text.index("When a return is reached")]
    assert "200k" not in recommended
    assert re.search(r"For the parameters and samples given.*200k30M", text)


def test_every_law_is_shown_with_its_split_and_its_backtest(
    tmp_path: Path, long_study: tuple[list[Point], dict[str, Any]]
) -> None:
    points, fit = long_study
    text = page(tmp_path, fit, points).text
    split = text[text.index("How each law splits a budget") : text.index("The laws of parameters and samples")]
    for row in fit["optimal_exponents"]:
        span = numbers.between(row["low"], row["high"])
        assert f"{numbers.number(row['exponent'])} {span}" in split
    best = next(row for row in fit["optima"] if row["method"] == "vertex" and row["flops"] == 1e13)
    assert f"{numbers.count(best['params'])} on {numbers.count(best['samples'])}" in split
    tables = text[text.index("Backtest of the dev loss, each law alone") : text.index("Power laws of what is best")]
    for form in {row["form"] for row in fit["backtest"]}:
        assert method_name(form) in tables
    assert f"{fit['laws']['dev_loss']['form']} (chosen)" in tables
    terms = fit["parametric"]["dev_loss"]["translog"]["terms"]
    assert f"ln N{numbers.number(terms['n']['value'])} ± {numbers.number(terms['n']['se'], 2)}" in text
    assert (
        f"\N{GREEK SMALL LETTER ALPHA}{numbers.number(fit['parametric']['dev_loss']['parameters']['alpha']['value'])}"
        in text
    )


@pytest.mark.slow
def test_report_says_from_what_returns_of_zero_or_less_are_counted(
    tmp_path: Path, long_study: tuple[list[Point], dict[str, Any]], fit: dict[str, Any], points: list[Point]
) -> None:
    counted = numbers.number(long_study[1]["laws"]["return_mean"]["offset"])
    text = page(tmp_path, long_study[1], long_study[0]).text
    assert f"counted from {counted}" in text
    assert "returns are counted from" in text
    assert "counted from" not in page(tmp_path, fit, points).text


def test_points_that_diverged_are_listed_with_their_reason_and_not_drawn(points: list[Point]) -> None:
    bad = dataclasses.replace(points[0], dev_loss=2681.0, extra={"diverged": "dev loss above 4.796 (uniform actions)"})
    assert max(value for _, value in Evidence({}, [bad, *points[1:]]).measured("dev_loss")) < 10
    page = str(points_table(Evidence({}, [bad, *points[1:]])))
    assert page.count("left out: training diverged: dev loss above 4.796 (uniform actions)") == 1


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path, fit: dict[str, Any], points: list[Point]) -> None:
    found = page(tmp_path, fit, points, drawn=True, replays=[make_replay()], references=REFERENCES)
    for tag, name, value in found.attributes:
        assert name not in ("src", "srcset"), (tag, name, value)
        assert tag not in ("link", "iframe", "img"), (tag, name, value)
        assert not (name.endswith("href") and not value.startswith("#")), (tag, name, value)
    source = (tmp_path / "report.html").read_text()
    assert not re.findall(r"@import|url\((?!#)", source)
    outside = {found for found in re.findall(r"https?://[^\s\"'<]+", source) if "www.w3.org/" not in found}
    assert outside == set()
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_all_text_is_escaped(tmp_path: Path, fit: dict[str, Any], points: list[Point]) -> None:
    evil = "<img src=x onerror=alert(1)> & \"quoted\" 'text' $title"
    bad = [dataclasses.replace(point, size=evil) for point in points]
    replay = dataclasses.replace(make_replay(3), title=evil, caption=evil)
    more = {
        "title": evil,
        "replays": [replay],
        "references": [Reference(evil, 3.0, None, None, evil)],
        "details": {evil: evil},
    }
    found = page(tmp_path, {**fit, "warnings": [{"code": "x", "text": evil}]}, bad, drawn=True, **more)
    assert not [one for one in found.attributes if one[0] == "img" or one[1] == "onerror"]
    assert found.text.count("<img src=x onerror=alert") > 30


@pytest.mark.parametrize("broken", ["nulls", "empty", "no points", "no numbers"])
def test_report_names_missing_parts(tmp_path: Path, fit: dict[str, Any], points: list[Point], broken: str) -> None:
    given = fit
    if broken == "nulls":
        given = nulled(fit)
    elif broken in ("empty", "no points"):
        given = {}
    if broken == "no points":
        points = []
    if broken == "no numbers":
        nothing: dict[str, Any] = dict.fromkeys(("dev_loss", "dev_loss_se", "return_mean", "return_se", "episodes"))
        points = [dataclasses.replace(point, **nothing) for point in points]
    text = page(tmp_path, given, points, drawn=True, references=[Reference("expert")]).text
    assert not re.search(r"\b(nan|None|null|inf|NaN)\b", text)
    assert "not measured" in text
    assert "No game was recorded" in text


def test_report_of_one_point_is_written(tmp_path: Path) -> None:
    alone = [Point(flops=1e12, params=1e5, samples=1e6, dev_loss=1.5)]
    assert "1 point · 1 model size · 1 compute budget" in page(tmp_path, {}, alone, drawn=True).text


def test_a_report_replaces_the_old_one_whole(tmp_path: Path, fit: dict[str, Any], points: list[Point]) -> None:
    page(tmp_path, fit, points, title="first")
    assert "second" in page(tmp_path, fit, points, title="second").text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.slow
def test_the_same_study_gives_the_same_page(tmp_path: Path, fit: dict[str, Any], points: list[Point]) -> None:
    page(tmp_path / "a", fit, points, drawn=True, replays=[make_replay()])
    page(tmp_path / "b", fit, points, drawn=True, replays=[make_replay()])
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()


@pytest.mark.slow
def test_a_published_study(tmp_path: Path) -> None:
    points = read_points(PUBLISHED / "nethack_isoflop.csv")
    points = [point for point in points if f"{point.flops:.0e}".startswith("1e")]  # a budget a decade keeps this short
    points = [dataclasses.replace(point, split="held-out") if point.flops >= 1e19 else point for point in points]
    result = fit_points(points, forecast_flops=[1e20], replicates=20).to_dict()
    text = page(tmp_path, result, points, title="NetHack").text
    assert "With 10²⁰ FLOPs, train " in text
    assert f"{len(points)} points; the lowest dev loss of each budget in bold" in text
    assert (tmp_path / "report.html").stat().st_size < 1_500_000


@pytest.mark.slow
def test_the_report_of_a_hundred_cells_is_below_two_megabytes(tmp_path: Path) -> None:
    sizes = {f"{n}k": 1000 * n for n in (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)}
    points = make_points(budgets=MANY_BUDGETS, sizes=sizes)
    assert len(points) == 100
    found = page(tmp_path, make_fit(points), points, drawn=True, references=REFERENCES)
    assert "100 points" in found.text
    assert (tmp_path / "report.html").stat().st_size < 2_000_000


def test_of_very_many_points_the_best_of_each_budget_and_some_others_are_shown() -> None:
    points = [
        Point(flops=1e11 * 2 ** (i % 4), params=1e4 + i, samples=1e6, dev_loss=2 - (i == 7001) - 1e-6 * (i % 97))
        for i in range(20_000)
    ]
    shown = Evidence.of({}, points)
    assert len(shown.points) <= 5000 + 4
    assert points[7001] in shown.points
    assert "20,000 points" in shown.subtitle
    assert f"{len(shown.points):,} of the points are shown" in shown.subtitle
    assert Evidence.of({}, points[:100]).points == points[:100]


@pytest.mark.slow
def test_runs_left_out_are_in_the_report_by_reason(tmp_path: Path) -> None:
    points = make_points()
    runs = [{"run": f"r{i}", "reason": "failed"} for i in range(8)] + [{"run": "<b>", "reason": "has no flops"}]
    write_report(tmp_path / "r.html", {"left_out": runs}, points, title="x")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "9 runs left out</p>" in page
    assert "r0, r1, r2, r3, r4, r5 and 2 more, listed in fit.json" in page
    assert "has no flops" in page
    assert "&lt;b&gt;" in page
    write_report(tmp_path / "r.html", {}, points, title="x")
    assert "left out</p>" not in (tmp_path / "r.html").read_text(encoding="utf-8")
