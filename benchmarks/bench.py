"""`playscale bench`: measurements beside peers and physical limits, as one command.

Each part is a module of this package with a function `run(options) -> list[Row]`. A part measures both sides itself,
in one process tree, in alternating rounds (rounds.py).
"""

from __future__ import annotations

import importlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from playscale.storage.files import write_json

from . import machine

log = logging.getLogger(__name__)

PARTS = {"data": "data", "train": "train", "rollout": "rollout", "fit": "fitting", "impala": "impala_speed"}  # modules
PLAYS = {"data", "train"}  # parts that read recorded games
PEERS = {"train"}  # parts whose peer is not a package that is installed, but is given with --peer
GAMES, STEPS = 64, 1000  # what is collected where no games are given: about 60,000 frames in a minute on 2 cores


@dataclass(frozen=True)
class Options:
    """Recorded games (NLD-AA layout), the peer's code, the number of rounds, and the seconds of a side in each."""

    games: Path | None = None
    peer: Path | None = None
    rounds: int = 5
    seconds: float = 2.0


@dataclass(frozen=True)
class Row:
    """One figure: ours, the peer's (None: there is none, or it was not given), in `unit`; ratio ours / peer.

    `spread` is (largest - smallest) / median over the rounds, of the ratio, or of ours where there is no peer.
    `detail` holds further figures, JSON values; `dtype` and `note` in it are printed.
    """

    name: str
    unit: str
    ours: float
    peer: float | None = None
    ratio: float | None = None
    spread: float = 0.0
    detail: dict[str, Any] = field(default_factory=dict)


def bench(parts: Sequence[str], options: Options, json_path: Path | None, show: Callable[..., None]) -> None:
    """Measure the parts one after the other; show each one's table when it is done, and keep all of them in a JSON.

    The JSON is written anew after each part, so that a later part that fails costs nothing measured before it.
    ValueError: a part that does not exist, options out of range.
    """
    _check(parts, options)
    measured: dict[str, list[dict[str, Any]]] = {}
    place = machine.describe()
    show(machine.sentence(place))
    with _games(parts, options) as given:
        for part in parts:
            if part in PEERS and given.peer is None:
                show(f"{part}: measured without its peer; --peer DIR says where the peer's code lies")
            rows: list[Row] = importlib.import_module(f"playscale_benchmarks.{PARTS[part]}").run(given)
            show(table(part, rows))
            measured[part] = [asdict(row) for row in rows]
            if json_path:
                about = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(options).items()}
                write_json(json_path, {"machine": place, "options": about, "parts": measured})


def _check(parts: Sequence[str], options: Options) -> None:
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"unknown benchmark {part!r}: {', '.join(PARTS)} or all")
    if options.rounds < 1 or not options.seconds > 0:
        raise ValueError(f"rounds must be at least 1 and seconds above 0, not {options.rounds} and {options.seconds}")
    for name, folder in (("games", options.games), ("peer", options.peer)):
        if folder is not None and not folder.is_dir():
            raise ValueError(f"--{name} {folder}: no such directory")


@contextmanager
def _games(parts: Sequence[str], options: Options) -> Iterator[Options]:
    """Yield the options with games: where a part reads games and none are given, our expert plays some."""
    if options.games is not None or not PLAYS & set(parts):
        yield options
        return
    from playscale.rollout.collect import collect

    with tempfile.TemporaryDirectory(prefix="playscale-bench-") as folder:
        games = Path(folder) / "games"
        log.info("no --games: collecting %d games of at most %d steps", GAMES, STEPS)
        collect("nethack", GAMES, games, seed=0, max_steps=STEPS)
        yield replace(options, games=games)


def table(part: str, rows: Sequence[Row]) -> Table:
    """Return the rows of a part as a table for a terminal."""
    out = Table(title=f"bench {part}", title_justify="left", header_style="bold")
    for name in ("what", "unit", "dtype"):
        out.add_column(name)
    for name in ("ours", "peer", "ratio", "spread"):
        out.add_column(name, justify="right", no_wrap=True)
    out.add_column("note")
    for row in rows:
        ours, peer = number(row.ours), "" if row.peer is None else number(row.peer)
        ratio = "" if row.ratio is None else f"{number(row.ratio)} x"
        dtype, note = str(row.detail.get("dtype", "")), str(row.detail.get("note", ""))
        out.add_row(row.name, row.unit, dtype, ours, peer, ratio, f"{100 * row.spread:.0f} %", note)
    return out


def number(value: float) -> str:
    """Format with three significant digits, thousands grouped."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
