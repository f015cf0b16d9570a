"""Recordings to corpus."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from playscale.corpus.corpus import Corpus
from playscale.corpus.layout import BLOCK, Layout
from playscale.corpus.manifest import NAME, SCHEMA, GameRecord, Manifest, Shard, write_manifest
from playscale.corpus.pool import Failed, unordered
from playscale.corpus.shards import Section, write_section
from playscale.corpus.writer import SHARD, SHARD_BYTES, ShardWriter, leave
from playscale.games.game import Game, Recording, Rejected, get_game
from playscale.processes import usable_cores
from playscale.storage.files import atomic_dir, local_path
from playscale.storage.storage import Storage, is_s3, open_place
from playscale.storage.sync import fetched
from playscale.tracking.monitor import count

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class _Task:
    game: Game
    recording: Recording
    path: Path


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    game: str = "nethack",
    workers: int | None = None,
    dev_fraction: float = 0.1,
    progress: Progress | None = None,
) -> Corpus:
    """Turn the recordings of `source` into a corpus at `out`, with `workers` processes (default: one a CPU).

    The corpus does not depend on the number of workers. Damaged recordings are left out and listed with their
    reasons (`Corpus.rejected`). `out` appears whole or not at all; when it is already the corpus of these
    recordings and settings, it is returned as it is.

    `out` may be s3://BUCKET/PREFIX: each shard is uploaded when it is full, the manifest last. Recordings in S3 are
    copied before they are decoded.

    ValueError: no such source, no recording or no readable one in it, `out` is something else, a nonsense
    setting. OSError: `out` cannot be written.
    """
    if not 0 < dev_fraction < 1:
        raise ValueError(f"dev_fraction must lie between 0 and 1, not {dev_fraction}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    played, place = get_game(game), open_place(out)
    folder = fetched(source)
    recordings, rejected = played.find_recordings(folder)
    _require(recordings, rejected, source)
    fingerprint = _fingerprint(played.name, recordings, dev_fraction)
    if _occupied(out, place):
        return _existing(out, fingerprint)
    report = progress or _silent
    with _aside(out) as (aside, finished):
        sections = _decode(played, recordings, aside, workers or usable_cores(), report)
        games, shards, damaged = _merge(recordings, sections, ShardWriter(aside, finished), folder)
        rejected = sorted(rejected + damaged, key=lambda r: r.path)
        _require(games, rejected, source)
        manifest = Manifest(
            game=played.name,
            num_actions=played.num_actions,
            columns=played.columns,
            shards=shards,
            games=_split(games, dev_fraction),
            rejected=tuple(rejected),
            source=str(source if is_s3(source) else folder.resolve()),
            fingerprint=fingerprint,
        )
        write_manifest(aside, manifest)
        finished(aside / NAME)
    report("corpus written", 1.0)
    return Corpus.open(out)


def _occupied(out: str | Path, place: Storage) -> bool:
    """Whether there is something that must not be overwritten. Shards in S3 without a manifest are no corpus yet: an
    upload that was broken off, which is done again.
    """
    if is_s3(out):
        return any(not name.startswith(SHARD) for name in place.sizes())
    folder = local_path(out)
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


@contextmanager
def _aside(out: str | Path) -> Iterator[tuple[Path, Callable[[Path], None]]]:
    """A local folder to work in, and what is done with a file that is whole. The manifest comes last: nothing is a
    corpus before it is there.
    """
    if is_s3(out):
        bucket = open_place(out)
        with tempfile.TemporaryDirectory(prefix="playscale-prepare-") as folder:
            yield Path(folder), lambda path: bucket.put(path, path.name)
    else:
        with atomic_dir(local_path(out)) as aside:
            yield aside, leave


def _silent(text: str, fraction: float) -> None:
    """Progress that nobody watches."""
    del text, fraction


def _require(games: Sequence[object], rejected: Sequence[Rejected], source: str | Path) -> None:
    if not games:
        first = rejected[0]
        raise ValueError(f"{source}: none of its {len(rejected)} recordings can be used; {first.path}: {first.reason}")


def _existing(out: str | Path, fingerprint: str) -> Corpus:
    try:
        corpus = Corpus.open(out)
    except ValueError as error:
        raise ValueError(
            f"{out}: there already and not a whole corpus: remove it or choose another place ({error})"
        ) from error
    if corpus.fingerprint != fingerprint:
        raise ValueError(f"{out}: a corpus of other recordings or settings: remove it or choose another place")
    return corpus


def _fingerprint(game: str, recordings: Sequence[Recording], dev_fraction: float) -> str:
    """Identifies recordings (by name, size and time of change) and settings: the same ones give the same corpus."""
    stats = [
        (r.key, [(s.st_size, s.st_mtime_ns) for s in (p.stat() for p in r.paths)], dict(r.metadata)) for r in recordings
    ]
    text = json.dumps([SCHEMA, game, BLOCK, SHARD_BYTES, dev_fraction, stats], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _decode(
    game: Game, recordings: Sequence[Recording], aside: Path, workers: int, report: Progress
) -> Iterator[tuple[Path, Section | Failed]]:
    """The recordings' sections in order, each with the file in `aside` that the process which decoded it left it in."""
    tasks = [_Task(game, recording, aside / f"game-{i}") for i, recording in enumerate(recordings)]
    sizes = [sum(path.stat().st_size for path in recording.paths) for recording in recordings]
    done: dict[int, Section | Failed] = {}
    next_one = count = size = 0
    for index, result in unordered(_write, tasks, min(workers, len(tasks))):
        done[index] = result
        count, size = count + 1, size + sizes[index]
        report(f"{count} of {len(tasks)} games decoded", size / max(1, sum(sizes)))
        while next_one in done:
            yield tasks[next_one].path, done.pop(next_one)
            next_one += 1


def _write(task: _Task) -> Section:
    """In a worker: decode one recording into a file beside the shards. Frames never go through a pipe."""
    game = task.game
    blocks = game.decode(task.recording, BLOCK)
    return write_section(task.path, blocks, Layout(game.columns), game.num_actions)


def _merge(
    recordings: Sequence[Recording],
    sections: Iterator[tuple[Path, Section | Failed]],
    shards: ShardWriter,
    source: Path,
) -> tuple[list[GameRecord], tuple[Shard, ...], list[Rejected]]:
    """Append the sections to shards as they come; the games are without their split yet."""
    games: list[GameRecord] = []
    damaged: list[Rejected] = []
    with closing(shards):
        for recording, (file, section) in zip(recordings, sections, strict=True):
            if isinstance(section, Failed):
                damaged.append(Rejected(recording.paths[0].relative_to(source).as_posix(), section.reason))
                file.unlink(missing_ok=True)
                count("corpus_games", own="rejected")
            else:
                count("corpus_games", own="kept")
                count("corpus_transitions", section.transitions)
                games.append(_record(recording, section, *shards.append(file)))
    return games, tuple(shards.shards), damaged


def _record(recording: Recording, section: Section, shard: int, offset: int) -> GameRecord:
    """The final score is what the source says of the game, else the last frame's."""
    score = recording.metadata.get("score")
    return GameRecord(
        key=recording.key,
        split="train",
        shard=shard,
        offset=offset,
        size=section.size,
        transitions=section.transitions,
        score=score if isinstance(score, int | float) else section.last_score,
        checksum=section.checksum,
        metadata={name: value for name, value in recording.metadata.items() if name != "score"},
    )


def _split(games: Sequence[GameRecord], dev_fraction: float) -> tuple[GameRecord, ...]:
    """Give each game its split by a hash of its key, so that it keeps it when other games are added to the source.

    Of two or more games at least one is dev and one train; a single one is train.
    """
    places = [_place(game.key) for game in games]
    lowest, highest = places.index(min(places)), places.index(max(places))
    dev = {i for i, place in enumerate(places) if place < dev_fraction} | {lowest}
    dev.discard(highest)
    return tuple(replace(game, split="dev" if i in dev else "train") for i, game in enumerate(games))


def _place(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
