"""corpus.json: the contents of a corpus, one row per game."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from playscale.config import explain
from playscale.corpus.layout import BLOCK, WORD, Layout
from playscale.games.game import Column, Metadata, Rejected
from playscale.storage.files import canonical, checksum, is_whole, parse_json, with_checksum, write_json
from playscale.storage.storage import Storage

NAME = "corpus.json"
FORMAT, SCHEMA = "playscale-corpus", 1
SPLITS = ("train", "dev")
FIXED = ("key", "split", "shard", "offset", "size", "transitions", "score", "checksum")

MOST_ACTIONS = 4096
MOST_BLOCK_BYTES = 2**30  # of a decoded block
SMALLEST_BLOCK = 1 + 2 * WORD.itemsize  # bytes of a section per block: more than nothing, and its entry in the index

Split = Literal["train", "dev"]
Count = Annotated[int, Field(ge=0, lt=2**63, strict=True)]


@dataclass(frozen=True, slots=True)
class GameRecord:
    """One game of a corpus.

    Its section is `size` bytes at `offset` of shard number `shard`; `score` is the final score in points.
    """

    key: str
    split: Split
    shard: Count
    offset: Count
    size: Count
    transitions: Annotated[Count, Field(ge=1)]
    score: float | int
    checksum: str
    metadata: Metadata


@dataclass(frozen=True)
class Shard:
    """One file of sections, and its length in bytes."""

    file: str
    size: Count


@dataclass(frozen=True)
class Manifest:
    """The contents of corpus.json.

    `fingerprint` identifies the recordings and settings it was made from by the recordings' bytes, `stats` by their
    names, sizes and times of change, which is faster. Versions before 0.2 wrote the latter only, as `fingerprint`.
    """

    game: str
    num_actions: Annotated[Count, Field(ge=1, le=MOST_ACTIONS)]
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
        return checksum(canonical([SCHEMA, self.game, self.num_actions, columns, BLOCK, rows]))

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
    write_json(folder / NAME, with_checksum(value), indent=None)


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
    if not is_whole(value, "stats" in value):  # 0.1 wrote neither
        raise ValueError(f"{path}: damaged (its checksum does not match); prepare the corpus again")
    try:
        manifest = _parse(value)
        _check(manifest)
    except ValidationError as error:
        raise ValueError(f"{path}: damaged ({explain(error)}); prepare the corpus again") from error
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
    names = fields[len(FIXED) :]
    games = [
        {**dict(zip(FIXED, row, strict=False)), "metadata": dict(zip(names, row[len(FIXED) :], strict=True))}
        for row in value["games"]["rows"]
    ]
    return TypeAdapter(Manifest).validate_python({"stats": value["fingerprint"], **value, "games": games})


def _check(manifest: Manifest) -> None:
    """Raise ValueError where a value cannot be: reading would need memory without bounds, or bytes of another game."""
    for name, column in manifest.columns.items():
        if np.dtype(column.dtype).kind not in "biuf" or min(column.shape, default=0) < 0:
            raise ValueError(f"column {name}: {column.dtype} {list(column.shape)}")
    if (size := Layout(manifest.columns).block_bytes(BLOCK)) > MOST_BLOCK_BYTES:
        raise ValueError(f"a block of {BLOCK} frames would take {size:.2g} bytes")
    for game in manifest.games:
        if game.shard >= len(manifest.shards) or game.offset + game.size > manifest.shards[game.shard].size:
            raise ValueError(f"game {game.key}: its section is not within a shard")
        if -(-game.transitions // BLOCK) * SMALLEST_BLOCK + WORD.itemsize > game.size:
            raise ValueError(f"game {game.key}: {game.size} bytes cannot hold {game.transitions:.3g} transitions")
