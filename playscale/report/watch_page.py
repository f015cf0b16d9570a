"""One HTML page of recorded games, which loads nothing from elsewhere; a game is decoded when it is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from playscale.report.html import asset, render
from playscale.report.palette import css_declarations, css_variables
from playscale.report.replay import ICONS, SPEEDS, Replay, encode, encode_decisions
from playscale.scaling.numbers import counted
from playscale.storage.files import atomic_file

PAGE_BYTES = 50_000_000
OTHER_BYTES = 200_000  # at most, of the page without games
GAME_BYTES = 2_000  # at most, of what the page says of a game, beside its title and caption


class EncodedReplay(NamedTuple):
    """A game as the page holds it. decisions: empty if they are not known, or left out."""

    title: str
    caption: str
    frames: str
    decisions: str

    @classmethod
    def of(cls, replay: Replay) -> EncodedReplay:
        decisions = "" if replay.decisions is None else encode_decisions(replay.decisions)
        return cls(replay.title, replay.caption, encode(replay), decisions)


class PageEntry(NamedTuple):
    """A place in the lists of the page: the agent, the game among its games, and which of them it is (best, ...)."""

    agent: str
    label: str
    role: str


def fitted(
    games: Iterable[EncodedReplay], asked: int, most: int = PAGE_BYTES - OTHER_BYTES
) -> tuple[list[EncodedReplay], str]:
    """Return the first games that fit in a page, the decisions of as many of them as then fit, and a note of the rest.

    Args:
        games: The games; those after the first that does not fit are not taken.
        asked: Their number.
        most: Bytes that there are for them.
    """
    kept: list[EncodedReplay] = []
    for game in games:
        room = most - len(game.frames) - GAME_BYTES - len((game.title + game.caption).encode())
        if room < 0:
            break
        most = room
        kept.append(game)
    dropped = 0
    for index, game in enumerate(kept):
        most -= len(game.decisions)
        if most < 0:
            dropped = sum(bool(one.decisions) for one in kept[index:])
            kept[index:] = [one._replace(decisions="") for one in kept[index:]]
            break
    gone = asked - len(kept)
    parts = [counted(gone, "game")] * bool(gone) + [f"the agent's decisions in {counted(dropped, 'game')}"] * bool(
        dropped
    )
    limit = f"the page holds at most {PAGE_BYTES // 10**6} MB"
    return kept, f"Left out, since {limit}: {' and '.join(parts)}." if parts else ""


def write_watch_page(
    path: Path, entries: Sequence[PageEntry], games: Sequence[EncodedReplay], *, title: str, subtitle: str, note: str
) -> None:
    """Write the page of these games, atomically.

    Args:
        path: The file.
        entries: Where each game stands in the lists, in the order in which they are listed.
        games: The games themselves.
        title: Heading of the page.
        subtitle: Line below it.
        note: What was left out; empty if nothing was.
    """
    agents = list(dict.fromkeys(entry.agent for entry in entries))
    listed = [
        {
            **entry._asdict(),
            "agent": str(agents.index(entry.agent)),
            "id": i,
            "title": one.title,
            "caption": one.caption,
        }
        for i, (entry, one) in enumerate(zip(entries, games, strict=True))
    ]
    page = render(
        "watch.html",
        title=title,
        subtitle=subtitle,
        note=note,
        agents=agents,
        games=listed,
        data=games,
        icons=ICONS,
        speeds=SPEEDS,
        styles=[f":root {{ {css_declarations(css_variables(0))} }}", asset("style.css")],
        scripts=[asset("theme.js"), asset("replay.js"), asset("watch.js")],
    )
    with atomic_file(path) as file:
        file.write(page.encode(errors="replace"))
