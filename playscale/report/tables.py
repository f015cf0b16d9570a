"""The tables of what was measured: points, references, and the details of the study."""

from __future__ import annotations

from collections.abc import Mapping

from playscale.report import numbers
from playscale.report.evidence import Evidence
from playscale.report.html import Html, table, tag
from playscale.report.numbers import NOTHING

MANY_LINES = 3  # a detail longer than this is folded


def points(evidence: Evidence) -> Html:
    """Every measured point, budget by budget; the best of each budget in bold."""
    best = {id(point) for held in (False, True) for point, _ in evidence.best("dev_loss", held_out=held)}
    rows = []
    runs = evidence.runs
    several = [name for name in ("method", "seed") if len({getattr(point, name) for point in runs}) > 1]
    lossless = all(point.dev_loss is None for point in runs)
    for point in sorted(runs, key=lambda p: (evidence.budget_index(p.flops), p.method, p.params, p.seed or 0)):
        loss = numbers.with_error(point.dev_loss, point.dev_loss_se)
        reason = evidence.reason_excluded(point, "dev_loss") or evidence.reason_excluded(point, "return_mean")
        rows.append([
            *(str(getattr(point, name)) for name in several),
            numbers.budget(point.flops),
            point.size or NOTHING,
            numbers.count(point.params),
            numbers.count(point.samples),
            *([] if lossless else [tag("b", loss) if id(point) in best else loss]),
            numbers.with_error(point.return_mean, point.return_se),
            str(point.episodes) if point.episodes is not None else NOTHING,
            f"left out: {reason}" if reason else "held out" if point.held_out else "fitted",
        ])  # fmt: skip
    loss_head = [] if lossless else ["dev loss ± SE"]
    head = [*several, "FLOPs", "size", "parameters", evidence.noun, *loss_head, "return ± SE", "games", "use"]
    caption = f"{len(rows)} points" + ("" if lossless else "; the lowest dev loss of each budget in bold")
    text = [i for i, name in enumerate(head) if name in ("method", "size", "use")]
    return table(head, rows, caption=caption, text=text)


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
