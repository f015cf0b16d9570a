"""The ledger in the report: registered forecasts, their scores, how reliable their intervals were."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from scipy import stats

from playscale.report.axes import TEXT, new_axes, own_defaults
from playscale.report.drawing import DASHED, Plot
from playscale.report.evidence import NAMES
from playscale.report.html import Content, figures, join, table, tag
from playscale.report.palette import FAINT, INK, LOSS, RETURN, SOFT, css_variables
from playscale.report.series import Number
from playscale.report.track_record import registered
from playscale.scaling import numbers
from playscale.scaling.ledger import Entry, Ledger, check
from playscale.scaling.ledger_scores import LedgerScore, groups, ranks, reliability, score_of
from playscale.scaling.powerlaw import LEVEL

SORTS = ((False, "registered before the outcome", LOSS), (True, "retrospective", RETURN))
PERCENT = (0, 20, 40, 60, 80, 100)
SCORE_HEAD = ("law", "game", "target", "scored", "open", "void", "inside 95%", "missed by", "CRPS")
PLAIN_HEAD = ("compared", "power law: inside 95%", "power law: missed by", "power law: CRPS", "ours there")
ENTRY_HEAD = ("id", "state", "game", "method", "target", "for", "forecast (95%)", "outcome", "off by", "rank", "inside")


def ledger_section(ledger: Ledger) -> Markup:
    """Return the section of a ledger; "" of one without forecasts."""
    entries = list(ledger.entries.values())
    if not entries:
        return Markup("")
    plots = reliability_plots(entries)
    drawn = figures(plots, css_variables(0), prefix="ledger-", guide=False) if plots else Markup("")
    return join([*map(sentence, registered(entries)), _problems(ledger), drawn, _scores(entries), _entries(entries),
                 _anchor(ledger)])  # fmt: skip


def sentence(text: str) -> Markup:
    return tag("p", text, class_="note")


def score_rows(entries: Sequence[Entry]) -> list[list[str]]:
    """Return the scores of each group as text: SCORE_HEAD, then PLAIN_HEAD for the power law on the same forecasts."""
    rows = []
    for group, own in groups(entries).items():
        score = score_of(own)
        name = "all, retrospective" if group.retrospective else "all, registered before"
        named = [group.kind, group.game or numbers.NOTHING, NAMES.get(group.target, group.target)]
        rows.append([*(named if group.kind else [name, "", ""]), *_own(score), *_plain(score)])
    return rows


def _own(score: LedgerScore) -> list[str]:
    counts = [str(score.scored), str(score.open), str(score.void)]
    return [*counts, _share(score.inside, score.judged), _off(score.error), _crps(score.crps)]


def _plain(score: LedgerScore) -> list[str]:
    if not score.compared:
        return ["0", *[numbers.NOTHING] * 4]
    ours = f"{_off(score.own_error)}, {_crps(score.own_crps)}"
    share = _share(score.plain_inside, score.plain_judged)
    return [str(score.compared), share, _off(score.plain_error), _crps(score.plain_crps), ours]


def _share(inside: int, judged: int) -> str:
    return f"{inside} of {judged}" if judged else numbers.NOTHING


def _off(error: float | None) -> str:
    return numbers.NOTHING if error is None else numbers.off(error, short=True)


def _crps(score: float | None) -> str:
    return numbers.NOTHING if score is None else numbers.number(score, 2)


def entry_row(entry: Entry) -> list[str]:
    """Return an entry as text, the columns of ENTRY_HEAD."""
    state = f"{entry.state}, retrospective" if entry.retrospective else entry.state
    state += f": {entry.reason}" if entry.reason else ""
    where = f"{numbers.budget(entry.flops)} FLOPs"
    if entry.at == "cell":
        where = f"N {numbers.count(entry.params)}, D {numbers.count(entry.samples)}"
    elif entry.params is not None:
        where += f" (N {numbers.count(entry.params)}, D {numbers.count(entry.samples)})"
    return [
        entry.id, state, entry.game or numbers.NOTHING, entry.method or numbers.NOTHING,
        NAMES.get(entry.target, entry.target), where, numbers.with_interval(entry.__dict__, digits=4),
        numbers.NOTHING if entry.outcome is None else numbers.with_error(entry.outcome, entry.outcome_se),
        _signed(entry), numbers.NOTHING if entry.rank is None else numbers.percent(entry.rank),
        {None: numbers.NOTHING, True: "yes", False: "no"}[entry.inside],
    ]  # fmt: skip


def _signed(entry: Entry) -> str:
    """Write how far the outcome lies from the forecast, and what of it the seeds' scatter explains."""
    if entry.error is None:
        return numbers.NOTHING
    size, sign = abs(entry.error), numbers.MINUS if entry.error < 0 else "+"
    if -math.log(2) < entry.error < 0:  # the percentage below the forecast: -36 % where it is 57 % above the outcome
        size = math.log1p(-math.expm1(entry.error))
    of_seeds = f" (seeds: ±{numbers.percent(entry.seed_error, '.1%')})" if entry.seed_error is not None else ""
    return f"{sign}{numbers.off(size, short=True)}{of_seeds}"


def anchor(ledger: Ledger) -> str:
    """Name the last digest, which fixes everything before it."""
    return f"last digest of ledger {ledger.id}: {ledger.last} ({numbers.counted(len(ledger.events), 'event')})"


def _anchor(ledger: Ledger) -> Markup:
    text = f"{anchor(ledger).capitalize()}. Who keeps it elsewhere can tell later that nothing before it was changed."
    return sentence(text)


def _problems(ledger: Ledger) -> Markup:
    found = check(ledger)
    return tag("ul", *(tag("li", text) for text in found), class_="warnings") if found else Markup("")


def _scores(entries: Sequence[Entry]) -> Markup:
    rows: list[list[Content]] = [list(row) for row in score_rows(entries)]
    caption = (
        "Scores of registered forecasts by law, game and target: median miss, and mean CRPS of the logarithm (lower is"
        " better); beside them a plain power law on the same forecasts"
    )
    return table([*SCORE_HEAD, *PLAIN_HEAD], rows, caption=caption, text=(0, 1, 2))


def _entries(entries: Sequence[Entry]) -> Markup:
    rows: list[list[Content]] = [list(entry_row(entry)) for entry in entries]
    return table(ENTRY_HEAD, rows, caption="Every registered forecast", text=(0, 1, 2, 3, 4, 5, 10))


@own_defaults()
def reliability_plots(entries: Sequence[Entry]) -> list[Plot]:
    """Draw nominal against actual coverage: of forecasts registered ahead, and of retrospective ones."""
    return [
        _reliability(ranks(entries, retrospective=retrospective), name, colour)
        for retrospective, name, colour in SORTS
        if ranks(entries, retrospective=retrospective)
    ]


def _reliability(of: Sequence[float], name: str, colour: str) -> Plot:
    rows, count = reliability(of), len(of)
    figure, axes = new_axes()
    share = np.linspace(0, 1, 201)
    low, high = (stats.binom.ppf(q, count, share) / count for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    band = f"where 95% of {count} such forecasts lie"
    ends = 100 * np.nan_to_num(low), 100 * high
    axes.fill_between(100 * share, *ends, color=FAINT, alpha=0.3, linewidth=0, label=band)
    axes.plot([0, 100], [0, 100], color=SOFT, linewidth=1.2, linestyle=DASHED, label="right intervals")
    key = name.partition(" ")[0]
    tips: dict[str, str] = {}
    x, y = ([100 * getattr(row, which) for row in rows] for which in ("nominal", "actual"))
    axes.plot(x, y, color=colour, linewidth=1.6)
    for row in rows:
        gid = f"reliability-{key}-tip-{len(tips)}"
        inside = round(row.actual * count)
        tips[gid] = (
            f"{row.nominal:.0%} intervals: {inside} of {count} inside\nif right: {row.low:.0%} to {row.high:.0%}"
        )
        axes.plot([100 * row.nominal], [100 * row.actual], marker="o", markersize=6, color=colour, gid=gid)
    for axis, label in ((axes.xaxis, "nominal coverage of the interval, %"), (axes.yaxis, "outcomes inside, %")):
        axis.set_ticks(PERCENT)
        axis.set_label_text(label, color=INK, fontsize=TEXT)
    figure.legend(loc="outside lower center", ncols=2, fontsize=TEXT, frameon=False, labelcolor=INK)
    axes.set_xlim(0, 100)
    axes.set_ylim(-2, 102)
    at = next(row for row in rows if row.nominal == LEVEL)
    title = f"{round(at.actual * count)} of {count} outcomes inside the 95% interval ({name})"
    outside = sum(not row.low <= row.actual <= row.high for row in rows)
    caption = (
        f"Central prediction intervals of {count} scored forecasts, {name}. Grey: where 95% of {count} independent "
        f"forecasts with right intervals would lie (binomial); {outside} of {len(rows)} marks lie outside it. Above"
        " the dashed line intervals are too wide, below it too narrow."
    )
    alt = "; ".join(f"{row.nominal:.0%} intervals held {row.actual:.0%}" for row in rows)
    drawn = [
        Number(name, 100 * row.nominal, 100 * row.actual, 100 * row.low, 100 * row.high, tip)
        for row, tip in zip(rows, tips.values(), strict=True)
    ]
    return Plot(f"reliability_{key}", title, caption, f"{title}. {alt}", figure, tips, tuple(drawn))
