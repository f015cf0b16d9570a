"""The HTML of the games to watch; replay.js brings it to life."""

from __future__ import annotations

from collections.abc import Sequence

from playscale.report.html import Html, join, tag
from playscale.report.numbers import TIMES
from playscale.report.replay import Replay, encode

SPEEDS = (1, 2, 5, 10, 20, 50, 100)  # times 10 screens a second
ICONS = {"start": "M3 2h2v12H3zM14 2v12L6 8z", "back": "M12 2v12L4 8z", "forward": "M4 2v12l8-6z"}


def players(replays: Sequence[Replay]) -> Html:
    """The first game open, the others folded."""
    if not replays:
        return tag("p", "No game was recorded for this report.", class_="note")
    others = [tag("details", tag("summary", replay.title), _player(replay)) for replay in replays[1:]]
    return join([_player(replays[0]), *others])


def _player(replay: Replay) -> Html:
    return tag(
        "figure",
        tag("h3", replay.title),
        tag("div", tag("pre", class_="terminal", role="img", aria_label="The game's terminal"), class_="stage"),
        _controls(),
        tag("figcaption", replay.caption),
        tag("noscript", tag("p", "The replay needs JavaScript.")),
        tag("script", Html(encode(replay)), type="text/plain", class_="frames"),
        class_="replay",
    )


def _controls() -> Html:
    speeds = [
        tag("option", f"{speed}{TIMES}", value=str(speed), selected="" if speed == 1 else None) for speed in SPEEDS
    ]
    return tag(
        "div",
        tag("button", "Play", class_="play", title="Space", type="button", disabled=""),
        _button("start", "To the start", "Home"),
        _button("back", "One step back", "Left arrow; with Shift 100 steps"),
        _button("forward", "One step forward", "Right arrow; with Shift 100 steps"),
        Html('<input type="range" class="seek" min="0" value="0" aria-label="Step of the game" disabled>'),
        tag("label", "speed ", tag("select", *speeds, class_="speed", disabled="", title="Up and down arrows")),
        tag("output", "loading the game…", class_="counter"),
        class_="controls",
    )


def _button(name: str, label: str, key: str) -> Html:
    path = tag("path", fill="currentColor", d=ICONS[name])
    icon = tag("svg", path, viewBox="0 0 16 16", width="14", height="14", aria_hidden="true")
    return tag("button", icon, class_=name, aria_label=label, title=f"{label} ({key})", type="button", disabled="")
