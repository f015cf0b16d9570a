"""Published tables analysed anew on one page, and their fits and figures beside it."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from playscale.report import track_record
from playscale.report.evidence import NAMES, TARGETS, Evidence
from playscale.report.figures import FIGURE_FILES, file_names, make_plots, write_figures
from playscale.report.html import Content, anchors, asset, figures, join, readable, render, table, tag
from playscale.report.law_section import law_sentence
from playscale.report.palette import css_declarations, css_variables
from playscale.report.reproduction import Compared, Reproduction
from playscale.report.track_record import cell, track_sentence
from playscale.scaling import numbers
from playscale.storage.files import (
    atomic_file,
    atomic_files,
    path_below,
    read_document,
    write_document,
    write_json,
)

TITLE = "Published tables, analysed anew"
PAPER = (
    "isoflop_dev_loss", "isoflop_return_mean", "optimal_params", "optimal_samples",
    "dev_loss_against_compute", "return_mean_against_compute", "return_against_loss",
)  # fmt: skip
DECADE = 10.0  # times the largest budget fitted: how far ahead the forecasts of the track record are


def write_reproductions(out: Path, done: Sequence[Reproduction]) -> Path:
    """Write OUT/<table>/fit.json and figures of each, and OUT/reproduce.html, which is returned.

    OUT/reproduce.json names the folders, of which a later call into OUT removes what is not its own.

    Raises:
        ValueError: OUT/reproduce.json is damaged.
    """
    page, listed = reproduction_page(done), out / "reproduce.json"
    folders = file_names([one.name for one in done])
    earlier = read_document(listed, dict[Literal["folders"], list[str]]) if listed.exists() else {}
    theirs = [folder for folder in {*folders, *earlier.get("folders", [])} if path_below(out, folder)]
    with atomic_files(
        out, *(f"{glob.escape(folder)}/{files}" for folder in theirs for files in ("fit.json", *FIGURE_FILES))
    ) as aside:
        write_document(aside / listed.name, {"folders": folders})
        for one, name in zip(done, folders, strict=True):
            folder = aside / name
            write_json(folder / "fit.json", one.fit)
            write_figures(folder / "figures", one.fit, one.points)
        with atomic_file(aside / "reproduce.html") as file:
            file.write(page.encode(errors="replace"))
    return out / "reproduce.html"


def reproduction_page(done: Sequence[Reproduction]) -> str:
    """Make one self-contained HTML page, a section a table."""
    ids = [f"table-{anchor}" for anchor in anchors([one.name for one in done])]
    shades = css_declarations(css_variables(0))
    styles = [f":root {{ {shades} }}", asset("style.css")]
    tables: list[dict[str, object]] = []
    for anchor, one in zip(ids, done, strict=True):
        evidence = Evidence.of(one.fit, one.points)
        variables = css_variables(len(evidence.budgets))
        styles.append(f"#{anchor} {{ {css_declarations(variables)} }}")
        plots = {plot.name: plot for plot in make_plots(evidence)}
        shown = [plots[name] for name in PAPER if name in plots]
        tables.append({
            "anchor": anchor,
            "name": one.name,
            "subtitle": evidence.subtitle,
            "sentences": [readable(text) for text in sentences(one)],
            "exponents": _exponents(one),
            "figures": figures(shown, variables, prefix=f"{anchor}-", guide=not tables),
        })  # fmt: skip
    count = sum(len(one.points) for one in done)
    return render(
        "reproduction.html",
        title=TITLE,
        subtitle=f"{len(done)} table{'s' if len(done) != 1 else ''} · {count:,} points",
        summary=_summary(ids, done),
        tables=tables,
        styles=styles,
        scripts=[asset("theme.js")],
    )


def sentences(one: Reproduction) -> list[str]:
    """Write the chosen law of each target, and how well such a choice forecast a decade ahead."""
    evidence = Evidence.of(one.fit, one.points)
    laws = [f"Law of the {law_sentence(target, law or {})}." for target, law in (one.fit.get("laws") or {}).items()]
    record = track_sentence(evidence, (evidence.last_fitted_budget() or 0.0) * DECADE)
    return [*laws, record] if record else laws


def _summary(ids: Sequence[str], done: Sequence[Reproduction]) -> Markup:
    """Return a row a table, its name a link: how near to what was published, and how well its laws forecast."""
    rows: list[list[Content]] = []
    is_compared = any(row.published is not None for one in done for row in one.compared)
    near = {
        (i, target): track_record.by_reach(track_record.track(one.fit, target)).get(1.0, [])
        for i, one in enumerate(done) for target in TARGETS
    }  # fmt: skip
    targets = [target for target in TARGETS if any(near[i, target] for i in range(len(done)))]
    for i, (anchor, one) in enumerate(zip(ids, done, strict=True)):
        apart = [abs(row.difference) for row in one.compared if row.difference is not None]
        row: list[Content] = [tag("a", one.name, href=f"#{anchor}"), str(len(one.points))]
        if is_compared:
            nearest = join([f"{max(apart):.3f}", tag("small", f" of {len(apart)} exponents")]) if apart else None
            row.append(nearest or numbers.NOTHING)
        for target in targets:
            own = near[i, target]
            row += [cell(track_record.score(own), strong=True), cell(track_record.score(own, "power_"))]
        rows.append(row)
    head = ["table", "points", *["largest difference from what was published"] * is_compared]
    for target in targets:
        head += [f"{NAMES[target]} 0.5 to 1 decades ahead: missed by", "the plain power law"]
    return table(head, rows, caption="The tables, and how well their laws forecast", text=(0,))


def _exponents(one: Reproduction) -> Markup:
    head = [
        "best for", "what", "from", "budgets", "exponent a", "95% interval", "bootstrap 95%", "published", "difference",
    ]  # fmt: skip
    shown = len(head) if any(row.published is not None for row in one.compared) else head.index("published")
    rows = [_exponent(row)[:shown] for row in one.compared]
    return table(head[:shown], rows, caption=f"Exponents of {one.name}", text=(0, 1, 2))


def _exponent(row: Compared) -> list[Content]:
    quantity, of = row.quantity, "compute"
    if " of " in quantity:
        quantity, of = quantity.split(" of ")
    start = f" from {numbers.budget(row.from_flops)}" if row.from_flops else ""
    return [
        NAMES.get(row.target, row.target),
        tag("span", NAMES.get(quantity, quantity), f" ∝ {NAMES.get(of, of)}", tag("sup", "a"), class_="name"),
        tag("span", {"argmin": "best cells", "vertex": "vertices"}[row.at], class_="name"),
        join(["no" if row.n is None else str(row.n), tag("small", start)]),
        "not fitted" if row.exponent is None else _three(row.exponent),
        _span(row.low, row.high),
        _span(row.boot_low, row.boot_high),
        numbers.NOTHING if row.published is None else tag("b", _three(row.published)),
        numbers.NOTHING if row.difference is None else _three(row.difference, sign=True),
    ]


def _three(value: float, *, sign: bool = False) -> str:
    """Write three decimals, as exponents are published."""
    shown = f"{value:{'+' if sign else ''}.3f}".replace("-", numbers.MINUS)
    return shown[1:] if sign and float(f"{value:.3f}") == 0 else shown


def _span(low: float | None, high: float | None) -> str:
    return f"{_three(low)} to {_three(high)}" if numbers.known(low) and numbers.known(high) else numbers.NOTHING
