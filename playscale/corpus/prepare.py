"""Turn recordings into a corpus."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from playscale.corpus.corpus import Corpus
from playscale.corpus.layout import BLOCK, Layout
from playscale.corpus.manifest import NAME, GameRecord, Manifest, Shard, write_manifest
from playscale.corpus.recordings import fingerprint_of, readable_recordings, relative_name, stats_of
from playscale.corpus.shards import SHARD, ShardWriter, WrittenGame, write_section
from playscale.games.game import Game, Recording, Rejected, get_game
from playscale.processes.cores import usable_cores
from playscale.processes.worker import WorkerDiedError, run_tasks
from playscale.storage.files import PARTIAL, atomic_dir, local_path
from playscale.storage.s3 import S3Storage
from playscale.storage.storage import Storage, is_s3, open_storage
from playscale.storage.sync import local_copy, patiently, read_patiently, scratch_folder
from playscale.tracking.monitor import count

Progress = Callable[[str, float], None]
Merged = tuple[tuple[GameRecord, ...], tuple[Shard, ...], list[Rejected]]  # the third: recordings left out
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


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
    """Turn recordings into a corpus.

    The corpus does not depend on the number of workers. Recordings that cannot be read, are damaged or hold the same
    game as another one are left out and listed with their reasons (`Corpus.rejected`). `out` appears whole or not at
    all; when it already is the corpus of these recordings and settings, it is returned unchanged.

    Args:
        source: Directory of recordings, here or in S3 (copied before it is decoded).
        out: Where the corpus goes: a local path, or s3://BUCKET/PREFIX, to which each shard is uploaded when it is
            full, and the manifest last.
        game: Name of the game.
        workers: Number of worker processes; by default one per usable core.
        dev_fraction: Share of the games in the dev split, between 0 and 1.
        progress: Called with a text and the fraction done (0 to 1).

    Raises:
        ValueError: There is no such source, no readable recording in it, `out` is something else, or a setting is out
            of range.
        OSError: `out` cannot be written.
    """
    if not 0 < dev_fraction < 1:
        raise ValueError(f"dev_fraction must lie between 0 and 1, not {dev_fraction}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    recorded_game, storage = get_game(game), open_storage(out)
    folder = local_copy(source)
    recordings, rejected = readable_recordings(recorded_game, folder)
    _require(recordings, rejected, source)
    identity = recordings, recorded_game.name, dev_fraction
    stats = stats_of(*identity)
    report = progress or _no_progress

    def merge(aside: Path, upload: Callable[[Path], None] | None = None) -> Merged:
        with closing(_decode(recorded_game, recordings, aside, workers or usable_cores(), report)) as sections:
            return _merge(recordings, sections, ShardWriter(aside, upload), folder, dev_fraction)

    if _occupied(out, storage):
        corpus = _existing(out)
        if stats == corpus.stats or _is_of(corpus, partial(fingerprint_of, *identity), merge, dev_fraction):
            return corpus
        raise ValueError(f"{out}: a corpus of other recordings or settings: remove it or choose another place")
    fingerprint = fingerprint_of(*identity)
    with _destination(out) as (aside, upload):
        games, shards, left_out = merge(aside, upload)
        rejected = sorted(rejected + left_out, key=lambda r: r.path)
        _require(games, rejected, source)
        manifest = Manifest(
            game=recorded_game.name,
            num_actions=recorded_game.num_actions,
            columns=recorded_game.columns,
            shards=shards,
            games=games,
            rejected=tuple(rejected),
            source=str(source if is_s3(source) else folder.resolve()),
            fingerprint=fingerprint,
            stats=stats,
        )
        write_manifest(aside, manifest)
        if upload is not None:
            upload(aside / NAME)
    report("corpus written", 1.0)
    return Corpus.open(out)


def _occupied(out: str | Path, storage: Storage) -> bool:
    """Return whether `out` holds something that must not be overwritten.

    Shards without a manifest are an interrupted upload, or move, which is done again.
    """
    if is_s3(out):
        names = list(read_patiently(storage.sizes))
    elif not (folder := local_path(out)).is_dir():
        return folder.exists()
    else:
        names = [path.name for path in folder.iterdir() if not PARTIAL.fullmatch(path.name)]
    return any(not name.startswith(SHARD) for name in names)


@contextmanager
def _destination(out: str | Path) -> Iterator[tuple[Path, Callable[[Path], None] | None]]:
    """Yield a local folder to write to and, for S3, a function that uploads a complete file from there.

    The manifest must come last: without it nothing is a corpus.
    """
    if is_s3(out):
        storage = S3Storage(str(out))
        read_patiently(storage.check_writable)
        with scratch_folder() as folder:
            yield folder, lambda path: patiently(lambda: storage.put(path, path.name))
    else:
        for shard in local_path(out).glob(f"{SHARD}*"):
            shard.unlink()
        with atomic_dir(local_path(out)) as aside:
            yield aside, None


def _no_progress(text: str, fraction: float) -> None:
    del text, fraction


def _require(games: Sequence[object], rejected: Sequence[Rejected], source: str | Path) -> None:
    if not games:
        first = rejected[0]
        raise ValueError(f"{source}: none of its {len(rejected)} recordings can be used; {first.path}: {first.reason}")


def _existing(out: str | Path) -> Corpus:
    try:
        return Corpus.open(out)
    except ValueError as error:
        raise ValueError(
            f"{out}: there already and not a whole corpus: remove it or choose another place ({error})"
        ) from error


def _is_of(
    corpus: Corpus, fingerprint: Callable[[], str], merge: Callable[[Path], Merged], dev_fraction: float
) -> bool:
    """Return whether a corpus is of the recordings although their times of change differ, as those of copies do.

    Version 0.1 kept no hash of the recordings' bytes and split by the hash of the key: its games are decoded again.
    """
    if corpus.fingerprint != corpus.stats:
        return corpus.fingerprint == fingerprint()
    key_hashes = [hashlib.blake2b(game.key.encode(), digest_size=8).digest() for game in corpus.games]
    fractions = [int.from_bytes(key_hash, "big") / 2**64 for key_hash in key_hashes]
    if corpus.games != _split(corpus.games, fractions, dev_fraction):
        return False
    with scratch_folder() as folder:
        games, _, _ = merge(folder)
    checksums = {game.key: game.checksum for game in corpus.games}
    is_same = all(checksums.get(game.key) == game.checksum for game in games)
    return is_same and {game.checksum for game in games} == set(checksums.values())


def _decode(
    game: Game, recordings: Sequence[Recording], aside: Path, workers: int, report: Progress
) -> Generator[tuple[Path, WrittenGame | str]]:
    """Yield the recordings' sections in order, each with the file in `aside` that its worker wrote.

    In place of the section of a damaged recording stands the reason why it cannot be used.
    """
    tasks = [_Task(game, recording, aside / f"game-{i}") for i, recording in enumerate(recordings)]
    sizes = [sum(path.stat().st_size for path in recording.paths) for recording in recordings]
    done: dict[int, WrittenGame | str] = {}
    next_one = count = size = 0
    with closing(run_tasks(_write, tasks, workers, quiet=True)) as results:  # decoders in C print what they raise
        for index, result in results:
            done[index] = _section_or_reason(result)
            count, size = count + 1, size + sizes[index]
            report(f"{count} of {len(tasks)} games decoded", size / max(1, sum(sizes)))
            while next_one in done:
                yield tasks[next_one].path, done.pop(next_one)
                next_one += 1


def _section_or_reason(result: WrittenGame | Exception) -> WrittenGame | str:
    """Return the section, or why the recording is damaged; raise what is no fault of the recording (a full disk)."""
    if isinstance(result, WorkerDiedError):
        if -result.exit_code in CRASHES:
            return f"the decoder crashed on it ({signal.Signals(-result.exit_code).name})"
        raise OSError(str(result)) from result
    if isinstance(result, ValueError):
        return str(result)
    if isinstance(result, Exception):
        raise result
    return result


def _write(task: _Task) -> WrittenGame:
    """In a worker, decode one recording into a file beside the shards: frames never pass through a pipe."""
    game = task.game
    blocks = game.decode(task.recording, BLOCK)
    return write_section(task.path, blocks, Layout(game.columns), game.num_actions)


def _merge(
    recordings: Sequence[Recording],
    sections: Iterator[tuple[Path, WrittenGame | str]],
    shards: ShardWriter,
    source: Path,
    dev_fraction: float,
) -> Merged:
    """Append the sections to shards as they come, each game once."""
    games: list[GameRecord] = []
    identities: list[float] = []
    left_out: list[Rejected] = []
    keys: dict[str, str] = {}  # of the games, by checksum
    with closing(shards):
        for recording, (file, section) in zip(recordings, sections, strict=True):
            if isinstance(section, WrittenGame) and section.checksum in keys:
                section = f"the same game as {keys[section.checksum]}"  # noqa: PLW2901
            if isinstance(section, str):
                left_out.append(Rejected(relative_name(recording.paths[0], source), section))
                file.unlink(missing_ok=True)
                count("corpus_games", label="rejected")
            else:
                count("corpus_games", label="kept")
                count("corpus_transitions", section.transitions)
                keys[section.checksum] = recording.key
                identities.append(section.identity)
                games.append(_record(recording, section, *shards.append(file)))
    return _split(games, identities, dev_fraction), tuple(shards.shards), left_out


def _record(recording: Recording, section: WrittenGame, shard: int, offset: int) -> GameRecord:
    """Return the record of a game. Its final score is that in the source's metadata, else that of the last frame."""
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


def _split(games: Sequence[GameRecord], identities: Sequence[float], dev_fraction: float) -> tuple[GameRecord, ...]:
    """Assign each game a split by what was played, so that it keeps it under any name and in any company.

    Of two or more different games at least one is dev and one train; a single one is train.
    """
    lowest, highest = min(identities, default=0.0), max(identities, default=0.0)
    dev = [value != highest and (value < dev_fraction or value == lowest) for value in identities]
    return tuple(replace(game, split="dev" if is_dev else "train") for game, is_dev in zip(games, dev, strict=True))
