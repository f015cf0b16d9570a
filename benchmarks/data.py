"""Read a corpus as training batches, beside nle.dataset.TtyrecDataset on the same games; prepare it, beside the
converter that both decode with; and measure the limits of the hardware in the same rounds.

Rates are frames a second of processor time, thus per core. Both sides read the same games from their beginnings, and
resume in each round; a check before it compares their batches.
"""

from __future__ import annotations

import itertools
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from playscale.corpus.corpus import Corpus
from playscale.corpus.layout import BLOCK
from playscale.corpus.prepare import prepare
from playscale.games.game import get_game
from playscale.games.nethack.rules import key_to_action

from .bench import Options, Row
from .data_growth import growth
from .rounds import Side, alternate, compare, rate, row

SHAPES = ((8, 16), (32, 32), (64, 80))  # batch, unroll: the trainer's default to the order of the paper's 104 x 80
STEPS = 700  # of every column that are compared with the peer's: more than a block

Batch = Mapping[str, np.ndarray]


def run(options: Options) -> list[Row]:
    """Return the rows of `playscale bench data`. ValueError: no games given, or too few for a batch."""
    if options.games is None:
        raise ValueError("bench data: needs recorded games (--games)")
    with tempfile.TemporaryDirectory(prefix="playscale-bench-data-") as name:
        folder = Path(name)
        corpus = prepare(options.games, folder / "corpus")
        rows = [size(options.games, corpus), *streaming(options, corpus, folder), *limits(options, corpus)]
        rows += preparing(options, folder)
        return rows + growth(corpus, folder)


def size(games: Path, corpus: Corpus) -> Row:
    """Return the bytes of the corpus per byte of its recordings."""
    recordings, _ = get_game(corpus.game).find_recordings(games)
    raw = sum(path.stat().st_size for recording in recordings for path in recording.paths)
    stored = sum(file.stat().st_size for file in Path(corpus.uri).iterdir())
    frames = sum(game.transitions for game in corpus.games)
    note = (
        f"{stored / frames:.1f} against {raw / frames:.1f} bytes a frame; {frames:,} frames, {len(corpus.games)} games"
    )
    return Row("corpus size", "bytes", stored, raw, stored / raw, 0.0, {"note": note})


def streaming(options: Options, corpus: Corpus, folder: Path) -> list[Row]:
    """Measure frames a second of processor time: our stream, and the peer on the same games and shapes."""
    assert options.games is not None
    peer = TtyrecReader(options.games, folder / "ttyrecs.db")
    rows = []
    for batch, unroll in SHAPES:
        train = sum(game.split == "train" for game in corpus.games)
        if train < batch:
            continue
        games = first_games(corpus, batch)
        check_same(corpus, peer, games, batch, unroll)
        ours = reading(corpus.stream(batch=batch, unroll=unroll), batch * unroll, options.seconds)
        theirs = reading(itertools.chain.from_iterable(peer.rounds(games, unroll)), batch * unroll, options.seconds)
        ours(), theirs()  # past the opening of files and the first blocks
        name = f"stream, batch {batch} x unroll {unroll}"
        note = "TtyrecDataset; identical tensors"
        rows.append(compare(name, "frames/s per core", ours, theirs, options.rounds, note=note))
    return rows


def reading(batches: Iterator[Batch], size: int, seconds: float) -> Side:
    """Return a side that reads batches of `size` frames, each time the next ones."""

    def read() -> int:
        next(batches)
        return size

    return partial(rate, read, seconds, time.process_time)


def first_games(corpus: Corpus, batch: int) -> list[str]:
    """Return the keys of the games that the batch columns of a train stream begin with."""
    first = next(corpus.stream(batch=batch, unroll=1))
    return [corpus.games[index].key for index in first["game_id"][0]]


class TtyrecReader:
    """nle's own reader of recordings. Its batches are [B, T, ...]."""

    def __init__(self, games: Path, database: Path) -> None:
        from nle import dataset

        dataset.db.create(str(database))
        dataset.add_nledata_directory(str(games), "bench", str(database))
        self._dataset = partial(dataset.TtyrecDataset, "bench", dbfilename=str(database), shuffle=False)
        every = self._dataset(batch_size=1)
        self.numbers = {every.get_paths(i)[0].removesuffix(".ttyrec3.bz2"): i for i in every._games}  # noqa: SLF001

    def batches(self, games: list[str], unroll: int) -> Iterator[Batch]:
        """Return batches whose column b begins with game number b of `games`."""
        ids = [self.numbers[key] for key in games]
        rest = [i for i in self.numbers.values() if i not in set(ids)]
        return iter(self._dataset(batch_size=len(games), seq_length=unroll, gameids=ids + rest))

    def rounds(self, games: list[str], unroll: int) -> Iterator[Iterator[Batch]]:
        """Yield passes over all games without end."""
        while True:
            yield self.batches(games, unroll)


def check_same(corpus: Corpus, peer: TtyrecReader, games: list[str], batch: int, unroll: int) -> None:
    """Raise RuntimeError unless our first batches and the peer's are equal, until a first game ends."""
    lengths = {game.key: game.transitions for game in corpus.games}
    steps = min(lengths[key] for key in games)
    count = min(-(-STEPS // unroll), steps // unroll)
    pairs = zip(corpus.stream(batch=batch, unroll=unroll), peer.batches(games, unroll), strict=False)
    for ours, theirs in itertools.islice(pairs, count):
        expected = {
            "tty_chars": theirs["tty_chars"],
            "tty_colors": theirs["tty_colors"],
            "tty_cursor": theirs["tty_cursor"],
            "action": key_to_action[theirs["keypresses"]],
            "score": theirs["scores"],
        }
        for name, array in expected.items():
            if not np.array_equal(ours[name], array.swapaxes(0, 1)):
                raise RuntimeError(f"{name} differs from the peer's at batch {batch} and unroll {unroll}")


def limits(options: Options, corpus: Corpus) -> list[Row]:
    """Measure the limits of any reader of this format: decoding alone, and moving decoded frames alone.

    A batch larger than the caches has to be written to main memory after it was decoded: no reader is faster than
    both one after the other.
    """
    decoder, games = corpus.decoder(), itertools.cycle(range(len(corpus.games)))

    def decode() -> int:
        """Decode a tenth of a game's whole blocks, from its beginning to its end: late screens decode slower."""
        reader = corpus.reader(next(games), decoder)
        blocks = range(0, reader.blocks - 1, 10)
        for block in blocks:
            reader.read(block)
        return len(blocks) * BLOCK

    width = sum(int(np.prod(c.shape)) * np.dtype(c.dtype).itemsize for c in corpus.columns.values())
    source, target = np.ones((BLOCK, width), np.uint8), np.ones((100, BLOCK, width), np.uint8)

    def move() -> int:
        for piece in target:
            np.copyto(piece, source)
        return len(target) * BLOCK

    sides = {"decode": partial(rate, decode, options.seconds / 2, time.process_time)}
    sides["move"] = partial(rate, move, options.seconds / 2, time.process_time)
    rates = alternate(sides, options.rounds)
    both = [1 / (1 / d + 1 / m) for d, m in zip(rates["decode"], rates["move"], strict=True)]
    unit = "frames/s per core"
    return [
        row("limit: zstd decoding, in cache", unit, rates["decode"]),
        row("limit: moving decoded frames to memory", unit, rates["move"], note=f"{width} bytes a frame"),
        row("limit: both", unit, both, note="decoded, then moved once"),
    ]


def preparing(options: Options, folder: Path) -> list[Row]:
    """Measure `prepare` on a part of the games, with one and with more workers, beside the converter alone."""
    assert options.games is not None
    game = get_game("nethack")
    recordings, _ = game.find_recordings(options.games)
    part = folder / "part"
    # Few and short games: a round should last seconds, but many times the workers' start. Their lines in the xlogfile
    # come along.
    chosen = sorted(recordings, key=lambda r: r.paths[0].stat().st_size)[len(recordings) // 3 :][:16]
    for recording in chosen:
        home = part / recording.paths[0].parent.name
        home.mkdir(parents=True, exist_ok=True)
        (home / recording.paths[0].name).symlink_to(recording.paths[0].resolve())
        for log in recording.paths[0].parent.glob("*xlogfile*"):
            if not (home / log.name).exists():
                (home / log.name).symlink_to(log.resolve())
    number = itertools.count()

    def ours(workers: int) -> dict[str, float]:
        before, start = cpu_of_children(), time.perf_counter()
        corpus = prepare(part, folder / f"prepared-{next(number)}", workers=workers)
        frames = sum(g.transitions for g in corpus.games)
        return {"cpu": frames / (cpu_of_children() - before), "wall": frames / (time.perf_counter() - start)}

    def converter() -> float:
        start = time.process_time()
        return sum(convert(r.paths[0]) for r in chosen) / (time.process_time() - start)

    cores = len(os.sched_getaffinity(0))
    one, many, alone = [], [], []
    for _ in range(options.rounds):
        one.append(ours(1))
        alone.append(converter())
        many.append(ours(cores))
    note = "the peer is nle's converter alone; processor time, the workers' start included"
    unit = "frames/s"
    return [
        row("prepare", f"{unit} per core", [o["cpu"] for o in one], alone, note=note),
        row(
            f"prepare, {cores} workers",
            unit,
            [m["wall"] for m in many],
            [o["wall"] for o in one],
            note="wall clock; the peer is ours with 1 worker",
        ),
    ]


def convert(path: Path) -> int:
    """Decode a recording with nle's converter, as TtyrecDataset does, into reused arrays; return its frames."""
    from nle import _pyconverter

    arrays: list[Any] = [np.empty((BLOCK, 24, 80), np.uint8), np.empty((BLOCK, 24, 80), np.int8)]
    arrays += [np.empty((BLOCK, 2), np.int16), np.empty(BLOCK, np.int64), np.empty(BLOCK, np.uint8)]
    arrays += [np.empty(BLOCK, np.int32)]
    converter = _pyconverter.Converter(24, 80, 3)
    converter.load_ttyrec(str(path), 1, 0)
    frames = 0
    while True:
        remaining = converter.convert(*arrays)
        frames += BLOCK - remaining
        if remaining:
            return frames


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
