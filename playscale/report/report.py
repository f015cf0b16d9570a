"""The report of a study: one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from playscale.points import Point, Reference
from playscale.report.comparison import compared, comparison_plots, drawn, not_drawn
from playscale.report.drawing import Plot
from playscale.report.evidence import Evidence, evidences_of
from playscale.report.figures import leading_plots, make_plots
from playscale.report.headline import headline
from playscale.report.html import anchors, asset, figures, join, render, table, tag
from playscale.report.law_section import allocation, backtest, forecasting_laws, left_out, power_laws, surfaces
from playscale.report.learning import Curves, sizes_of
from playscale.report.ledger_section import ledger_section
from playscale.report.palette import css_declarations, css_variables
from playscale.report.pool_section import pool_plots, pool_section, pooled_rows
from playscale.report.repetition_section import repetition_of, repetition_plots, repetition_section
from playscale.report.replay import Replay, players
from playscale.report.sensitivity_section import sensitivity, sensitivity_of, sensitivity_plots
from playscale.report.text import short_name
from playscale.scaling import numbers
from playscale.scaling.ledger import Entry, Ledger
from playscale.scaling.numbers import NOTHING
from playscale.storage.files import atomic_file

FEW_RUNS = 6  # left out for one reason, that are named
MANY_LINES = 3  # a detail longer than this is folded


class PageSection(NamedTuple):
    """A part of the page. id: unique in the page."""

    id: str
    title: str
    content: Markup


def write_report(
    path: Path,
    fit: Mapping[str, Any],
    points: Sequence[Point],
    *,
    title: str,
    replays: Sequence[Replay] = (),
    references: Sequence[Reference] = (),
    details: Mapping[str, str] | None = None,
    curves: Curves | None = None,
    ledger: Ledger | None = None,
) -> None:
    """Write the report of a study as one self-contained HTML file, atomically.

    Several methods are compared first, then each has its own sections.

    Args:
        path: the file to write.
        fit: the content of fit.json; missing parts are left out of the page.
        points: the points table.
        title: heading of the page.
        replays: games to watch, the best first.
        references: returns of other players, for comparison.
        details: more to say of the study, {name: text}.
        curves: learning curves, {run: rows}.
        ledger: forecasts that were registered, and what came of them.
    """
    evidences = evidences_of(fit, points, references)
    whole = next(iter(evidences.values())) if len(evidences) == 1 else Evidence.of({}, points, references)
    several = len(evidences) > 1
    prefixes = dict.fromkeys(evidences, "")
    if several:
        prefixes = {method: f"{anchor}-" for method, anchor in zip(evidences, anchors([*evidences]), strict=True)}
    colours = {method: _colours(evidence, prefixes[method]) for method, evidence in evidences.items()}
    entries = [] if ledger is None else list(ledger.entries.values())
    sections: list[PageSection] = []
    if several:
        plots = comparison_plots(evidences, curves or {})
        side_by_side = join([figures(plots, css_variables(0)) if plots else None, not_drawn(evidences)])
        sections = [PageSection("next", "The methods compared", compared(evidences, fit.get("failed") or {}))]
        sections += [PageSection("figures", "Side by side", side_by_side)] if side_by_side else []
    if pooled_rows(fit):
        forests = figures(pool_plots(fit), css_variables(0), prefix="pool-", guide=False)
        sections.append(PageSection("pool", "Exponents pooled over tables", pool_section(fit, forests)))
    shown = drawn(evidences)
    for method, evidence in evidences.items():
        own = make_plots(evidence, curves) if method in shown else None
        name = method if several else ""
        sections += _method_sections(name, prefixes[method], evidence, colours[method], own, entries)
    if ledger is not None and entries:
        sections.append(PageSection("ledger", "Track record of registered forecasts", ledger_section(ledger)))
    points_and_more = join([points_table(whole), runs_left_out(fit), references_table(whole)])
    sections += [
        PageSection("points", "The points", points_and_more),
        PageSection("replay", "A game to watch", players(replays)),
        PageSection("details", "The study", details_table(details or {})),
    ]
    declared = {name: pair for own in colours.values() for name, pair in own.items()} or css_variables(0)
    page = render(
        "study.html",
        title=title,
        subtitle=" · ".join([whole.subtitle, *_left_out_count(fit)]),
        contents=[(f"{prefixes[method]}next", method) for method in evidences] if several else [],
        sections=sections,
        styles=[f":root {{ {css_declarations(declared)} }}", asset("style.css")],
        scripts=[asset("theme.js"), asset("replay.js")],
    )
    with atomic_file(path) as file:
        file.write(page.encode(errors="replace"))


def _colours(evidence: Evidence, prefix: str) -> dict[str, tuple[str, str]]:
    return css_variables(len(evidence.budgets), len(sizes_of(evidence)), prefix)


def _method_sections(
    method: str,
    prefix: str,
    evidence: Evidence,
    colours: Mapping[str, tuple[str, str]],
    plots: Sequence[Plot] | None,
    entries: Sequence[Entry],
) -> Iterator[PageSection]:
    """Make the sections of one method, named where there are several: what to train next, the figures, the laws."""
    of = {(point.method, point.game) for point in evidence.points}
    own = [entry for entry in entries if (entry.method, entry.game) in of]
    leading = leading_plots(plots or [])
    first = figures(leading, colours, prefix=prefix, guide=False, leading=True) if leading else None
    yield PageSection(f"{prefix}next", _heading(method, "What to train next"), headline(evidence, own, first))
    if plots is not None:
        found = figures([plot for plot in plots if plot not in leading], colours, prefix=prefix, guide=not method)
        yield PageSection(f"{prefix}figures", _heading(method, "What was found"), found)
    parts = [
        forecasting_laws(evidence),
        backtest(evidence),
        power_laws(evidence),
        allocation(evidence),
        surfaces(evidence),
        left_out(evidence),
    ]
    yield PageSection(f"{prefix}laws", _heading(method, "The laws"), join(parts))
    if repetition_of(evidence):
        shown = figures(repetition_plots(evidence), colours, prefix=prefix, guide=False)
        yield PageSection(f"{prefix}repetition", _heading(method, "Repeated data"), repetition_section(evidence, shown))
    if sensitivity_of(evidence):
        shown = figures(sensitivity_plots(evidence), colours, prefix=prefix, guide=False)
        yield PageSection(f"{prefix}sensitivity", _heading(method, "Other settings"), sensitivity(evidence, shown))


def _heading(method: str, text: str) -> str:
    return f"{method}: {text[0].lower()}{text[1:]}" if method else text


def points_table(evidence: Evidence) -> Markup:
    """Return every measured point, budget by budget; the best of each budget (in a game) in bold."""
    games = {point.game for point in evidence.points}
    played = [replace(evidence, points=[p for p in evidence.points if p.game == game]) for game in games]
    best = {
        id(p)
        for one in played
        for held in (False, True)
        for p, _ in one.best("dev_loss", held_out=held)
        if not one.flat("dev_loss", p.flops)
    }
    rows = []
    runs = evidence.runs
    several = [name for name in ("game", "method", "seed") if len({getattr(point, name) for point in runs}) > 1]
    of_game = " and game" if len(games) > 1 else ""
    lossless = all(point.dev_loss is None for point in runs)
    returnless = all(point.return_mean is None for point in runs) and not lossless
    for point in sorted(runs, key=lambda p: (evidence.budget_index(p.flops), p.method, p.params, p.seed or 0)):
        loss = numbers.with_error(point.dev_loss, point.dev_loss_se, evidence.loss_digits)
        reason = evidence.reason_excluded(point, "dev_loss") or evidence.reason_excluded(point, "return_mean")
        rows.append([
            *(_shown(getattr(point, name)) for name in several),
            numbers.budget(point.flops),
            point.size or NOTHING,
            numbers.count(point.params),
            numbers.count(point.samples),
            *([] if lossless else [tag("b", loss) if id(point) in best else loss]),
            *([] if returnless else [numbers.with_error(point.return_mean, point.return_se)]),
            *([] if returnless else [str(point.episodes) if point.episodes is not None else NOTHING]),
            f"left out: {reason}" if reason else "held out" if point.held_out else "fitted",
        ])  # fmt: skip
    loss_head = [] if lossless else ["dev loss ± SE"]
    return_head = [] if returnless else ["return ± SE", "games"]
    head = [*several, "FLOPs", "size", "parameters", evidence.noun, *loss_head, *return_head, "use"]
    caption = f"{len(rows)} points" + ("" if lossless else f"; the lowest dev loss of each budget{of_game} in bold")
    text = [i for i, name in enumerate(head) if name in ("game", "method", "size", "use")]
    return table(head, rows, caption=caption, text=text)


def _shown(value: Any) -> str:
    return NOTHING if value in (None, "") else short_name(str(value))


def _left_out_count(fit: Mapping[str, Any]) -> list[str]:
    runs = fit.get("left_out") or []
    return [f"{numbers.counted(len(runs), 'run')} left out"] if runs else []


def runs_left_out(fit: Mapping[str, Any]) -> Markup:
    """List the tracked runs that are no points, a reason a row."""
    reasons: dict[str, list[str]] = {}
    for row in fit.get("left_out") or []:
        reasons.setdefault(str(row["reason"]), []).append(short_name(str(row["run"])))
    rows = [[reason, str(len(names)), _names(names)] for reason, names in reasons.items()]
    return table(["reason", "runs", "names"], rows, caption="Runs left out", text=(0, 2)) if rows else Markup("")


def _names(names: Sequence[str]) -> str:
    more = len(names) - FEW_RUNS
    return ", ".join(names[:FEW_RUNS]) + (f" and {more} more, listed in fit.json" if more > 0 else "")


def references_table(evidence: Evidence) -> Markup:
    if not evidence.references:
        return Markup("")
    rows = [
        [one.name, numbers.with_error(one.return_mean, one.return_se), str(one.episodes or NOTHING), one.note]
        for one in evidence.references
    ]
    return table(["player", "return ± SE", "games", "note"], rows, caption="For comparison", text=(0, 3))


def details_table(entries: Mapping[str, str]) -> Markup:
    """List the details of the study; long ones (a spec) are folded."""
    parts: list[Markup] = []
    for name, value in entries.items():
        long = value.count("\n") >= MANY_LINES
        shown = tag("details", tag("summary", "show"), tag("pre", value)) if long else tag("span", value)
        parts += [tag("dt", name), tag("dd", shown)]
    return tag("dl", *parts) if parts else tag("p", "No details were recorded.", class_="note")
