"""The tables of what was measured: points, references, and the details of the study."""

from __future__ import annotations

from collections.abc import Mapping

from playscale.report import numbers
from playscale.report.evidence import Evidence
from playscale.report.markup import Html, table, tag
from playscale.report.numbers import NOTHING

MANY_LINES = 3  # a detail longer than this is folded


def points(evidence: Evidence) -> Html:
    """Every measured point, budget by budget; the best of each budget in bold."""
    best = {id(point) for held in (False, True) for point, _ in evidence.best("dev_loss", held_out=held)}
    rows = []
    for point in sorted(evidence.points, key=lambda point: (evidence.budget_index(point.flops), point.params)):
        loss = numbers.with_error(point.dev_loss, point.dev_loss_se)
        reason = evidence.reason_excluded(point, "dev_loss") or evidence.reason_excluded(point, "return_mean")
        rows.append([
            numbers.budget(point.flops),
            point.size or NOTHING,
            numbers.count(point.params),
            numbers.count(point.samples),
            tag("b", loss) if id(point) in best else loss,
            numbers.with_error(point.return_mean, point.return_se),
            str(point.episodes) if point.episodes is not None else NOTHING,
            f"left out: {reason}" if reason else "held out" if point.held_out else "fitted",
        ])  # fmt: skip
    head = ["FLOPs", "size", "parameters", "samples", "dev loss ± SE", "return ± SE", "games", "use"]
    caption = f"{len(rows)} points; the lowest dev loss of each budget in bold"
    return table(head, rows, caption=caption, text=(1, 7))


def references(evidence: Evidence) -> Html:
    if not evidence.references:
        return Html("")
    rows = [
        [one.name, numbers.with_error(one.return_mean, one.return_se), str(one.episodes or NOTHING), one.note]
        for one in evidence.references
    ]
    return table(["player", "return ± SE", "games", "note"], rows, caption="For comparison", text=(0, 3))


def details(entries: Mapping[str, str]) -> Html:
    """What the study was: name and value; long values (a spec) are folded."""
    parts: list[Html] = []
    for name, value in entries.items():
        long = value.count("\n") >= MANY_LINES
        shown = tag("details", tag("summary", "show"), tag("pre", value)) if long else tag("span", value)
        parts += [tag("dt", name), tag("dd", shown)]
    return tag("dl", *parts) if parts else tag("p", "No details were recorded.", class_="note")
