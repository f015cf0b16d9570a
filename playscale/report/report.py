"""One HTML file that holds a whole study: nothing in it is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from playscale.points import Point
from playscale.report import laws, tables
from playscale.report.allocation import allocation, surfaces
from playscale.report.evidence import Evidence, Reference
from playscale.report.figures import make_plots
from playscale.report.headline import headline
from playscale.report.markup import escaped, join
from playscale.report.page import asset, figures, make_page, subtitle
from playscale.report.palette import css_declarations, css_variables
from playscale.report.player import players
from playscale.report.replay import Replay
from playscale.storage import atomic_file


def write_report(
    path: Path,
    fit: Mapping[str, Any],
    points: Sequence[Point],
    *,
    title: str,
    replays: Sequence[Replay] = (),
    references: Sequence[Reference] = (),
    details: Mapping[str, str] | None = None,
) -> None:
    """Write the report of a study as one self-contained HTML file, atomically.

    fit: the content of fit.json, with `profiles` and `curves` for the figures; missing parts are left out of the page.
    replays: games to watch, the best first. details: what else to keep of the study, name and text.
    """
    evidence = Evidence.of(fit, points, references)
    variables = css_variables(len(evidence.budgets))
    texts = {
        "title": escaped(title),
        "subtitle": escaped(subtitle(evidence)),
        "headline": headline(evidence),
        "figures": figures(make_plots(evidence), variables),
        "laws": join(
            [
                laws.forecasting_laws(evidence),
                laws.backtest(evidence),
                laws.power_laws(evidence),
                allocation(evidence),
                surfaces(evidence),
                laws.left_out(evidence),
            ]
        ),
        "points": join([tables.points(evidence), tables.references(evidence)]),
        "replays": players(replays),
        "details": tables.details(details or {}),
    }
    styles = f":root {{ {css_declarations(variables)} }}\n{asset('style.css')}"
    scripts = f"{asset('theme.js')}\n{asset('replay.js')}"
    page = make_page("study", texts, styles=styles, scripts=scripts)
    with atomic_file(path) as file:
        file.write(page.encode())
