"""corpus.json: the contents of a corpus, one row per game."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from playscale.corpus.layout import BLOCK
from playscale.games.game import Column, Metadata, Rejected
from playscale.storage.files import parse_json, write_json
from playscale.storage.storage import Storage

NAME = "corpus.json"
FORMAT, SCHEMA = "playscale-corpus", 1
SPLITS = ("train", "dev")
FIXED = ("key", "split", "shard", "offset", "size", "transitions", "score", "checksum")

Split = Literal["train", "dev"]


@dataclass(frozen=True, slots=True)
class GameRecord:
    """One game of a corpus.

    Its section is `size` bytes at `offset` of shard number `shard`; `score` is the final score in points.
    """

    key: str
    split: Split
    shard: int
    offset: int
    size: int
    transitions: int
    score: float
    checksum: str
    metadata: Metadata


@dataclass(frozen=True)
class Shard:
    """One file of sections, and its length in bytes."""

    file: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """The contents of corpus.json.

    `fingerprint` identifies the recordings and settings it was made from by the recordings' bytes, `stats` by their
    names, sizes and times of change, which is faster. Versions before 0.2 wrote the latter only, as `fingerprint`.
    """

    game: str
    num_actions: int
    columns: Mapping[str, Column]
    shards: tuple[Shard, ...]
    games: tuple[GameRecord, ...]
    rejected: tuple[Rejected, ...]
    source: str
    fingerprint: str
    stats: str

    @cached_property
    def digest(self) -> str:
        """Hash of the content: games, split, every value of every column; not of shards or location of the source."""
        known = [{name: value for name, value in g.metadata.items() if value is not None} for g in self.games]
        rows = [
            (g.key, g.split, g.transitions, g.score, g.checksum, metadata)
            for g, metadata in zip(self.games, known, strict=True)
        ]
        columns = {name: (list(c.shape), c.dtype) for name, c in self.columns.items()}
        text = json.dumps([SCHEMA, self.game, self.num_actions, columns, BLOCK, rows], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def counts(self) -> dict[str, dict[str, int]]:
        """Count the games, transitions and stored bytes of each split."""
        return {
            split: {
                "games": sum(g.split == split for g in self.games),
                "transitions": sum(g.transitions for g in self.games if g.split == split),
                "bytes": sum(g.size for g in self.games if g.split == split),
            }
            for split in SPLITS
        }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write corpus.json: the games as rows under one list of fields (about 200 bytes per NetHack game)."""
    names = sorted({name for g in manifest.games for name in g.metadata})
    rows = [[getattr(g, name) for name in FIXED] + [g.metadata.get(name) for name in names] for g in manifest.games]
    value = {
        "format": FORMAT,
        "schema": SCHEMA,
        "game": manifest.game,
        "num_actions": manifest.num_actions,
        "columns": {name: {"shape": list(c.shape), "dtype": c.dtype} for name, c in manifest.columns.items()},
        "block": BLOCK,
        "digest": manifest.digest,
        "source": manifest.source,
        "fingerprint": manifest.fingerprint,
        "stats": manifest.stats,
        "counts": manifest.counts(),
        "shards": [asdict(shard) for shard in manifest.shards],
        "rejected": [asdict(rejected) for rejected in manifest.rejected],
        "games": {"fields": [*FIXED, *names], "rows": rows},
    }
    write_json(folder / NAME, value, indent=None)


def read_manifest(storage: Storage) -> Manifest:
    """Read corpus.json; ValueError when it is missing, damaged, no corpus or of another schema, or a shard is cut."""
    sizes, path = storage.sizes(), storage.where(NAME)
    if not sizes:
        raise ValueError(f"{storage.where('')}: no such corpus")
    if NAME not in sizes:
        raise ValueError(f"{storage.where('')}: not a corpus (it has no {NAME})")
    value = parse_json(storage.read_whole(NAME), path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(f"{path}: not the manifest of a corpus")
    if value.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema {value.get('schema')!r}, not {SCHEMA}; prepare the corpus again")
    try:
        manifest = _parse(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {error}); prepare the corpus again") from error
    if manifest.digest != value.get("digest") or value.get("block") != BLOCK:
        raise ValueError(f"{path}: damaged (what it lists does not give its digest); prepare the corpus again")
    for shard in manifest.shards:
        if shard.file not in sizes:
            raise ValueError(f"{storage.where(shard.file)}: missing; prepare the corpus again")
        if sizes[shard.file] != shard.size:
            found = f"{sizes[shard.file]} bytes, not {shard.size}"
            raise ValueError(f"{storage.where(shard.file)}: {found}; prepare the corpus again")
    return manifest


def _parse(value: Mapping[str, Any]) -> Manifest:
    fields = value["games"]["fields"]
    if tuple(fields[: len(FIXED)]) != FIXED:
        raise ValueError("unexpected fields of games")
    return Manifest(
        game=value["game"],
        num_actions=value["num_actions"],
        columns={name: Column(tuple(c["shape"]), c["dtype"]) for name, c in value["columns"].items()},
        shards=tuple(Shard(**shard) for shard in value["shards"]),
        games=tuple(_record(fields, row) for row in value["games"]["rows"]),
        rejected=tuple(Rejected(**rejected) for rejected in value["rejected"]),
        source=value["source"],
        fingerprint=value["fingerprint"],
        stats=value.get("stats", value["fingerprint"]),
    )


def _record(fields: Sequence[str], row: Sequence[Any]) -> GameRecord:
    values = dict(zip(fields, row, strict=True))
    fixed = {name: values.pop(name) for name in FIXED}
    return GameRecord(**fixed, metadata=values)
