"""A corpus: recorded games of one game, split into train and dev, to be streamed as unrolls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from playscale.corpus.layout import Decoder, Layout
from playscale.corpus.manifest import GameRecord, Manifest, read_manifest
from playscale.corpus.reader import open_sections
from playscale.corpus.shards import GameReader
from playscale.corpus.stream import stream
from playscale.corpus.window import Batch
from playscale.games.game import Column, Rejected
from playscale.storage.storage import Storage, open_place


class Corpus:
    """An opened corpus. It holds the manifest only; frames are read when they are streamed."""

    def __init__(self, uri: str, place: Storage, manifest: Manifest) -> None:
        self.uri = uri
        self.game: str = manifest.game
        self.num_actions: int = manifest.num_actions
        self.columns: Mapping[str, Column] = manifest.columns
        self.games: tuple[GameRecord, ...] = manifest.games
        self.rejected: tuple[Rejected, ...] = manifest.rejected
        self.digest: str = manifest.digest
        self.fingerprint: str = manifest.fingerprint
        self.sections = open_sections(uri, place, manifest.shards, manifest.digest)
        self._layout = Layout(manifest.columns)

    @classmethod
    def open(cls, uri: str | Path) -> Corpus:
        """Open a corpus at a path or s3://BUCKET/PREFIX.

        ValueError when it is missing, not a corpus, of another schema, damaged, or lacks a shard; OSError when S3
        cannot be reached.
        """
        place = open_place(uri)
        return cls(str(uri), place, read_manifest(place))

    def transitions(self, split: str) -> int:
        """How many transitions a split holds."""
        return sum(game.transitions for game in self.games if game.split == split)

    def summary(self) -> str:
        """What it holds, in one line."""
        parts = [
            f"{sum(game.split == split for game in self.games)} {split} games ({self.transitions(split):,} transitions)"
            for split in ("train", "dev")
        ]
        return f"{self.game}: {parts[0]}, {parts[1]}, {len(self.rejected)} recordings left out"

    def stream(
        self, *, batch: int, unroll: int, split: str = "train", seed: int = 0, start: int = 0
    ) -> Iterator[Batch]:
        """Unrolls of `unroll` = T transitions in `batch` = B columns, from batch number `start` of this stream
        on.

        Each is a dict of fresh arrays: the game's columns [T, B, ...]; action, prev_action i64 [T, B]
        (num_actions: none, a game's first); done bool [T, B] (a game's first transition); score i32 [T, B]
        (points at that frame); game_id i64 [T, B] (index into `games`); valid bool [T, B] (False: padding, in a
        dev stream only, with game_id -1).

        A column plays a game to its end and goes on with the next one in the same unroll. A train stream goes
        on for ever, reshuffled each round; a dev stream plays each game once, in the order of `games` whatever
        the seed, and ends. ValueError: arguments out of range, a split without games, a damaged shard. Memory:
        one decoded block a column (NetHack: 2.5 MB).
        """
        return stream(self, batch, unroll, split, seed, start)

    def read_game(self, game: str | int) -> Batch:
        """A whole game by key or index: the same arrays as a stream's, without the batch axis: [transitions, ...]."""
        index = game if isinstance(game, int) else next((i for i, g in enumerate(self.games) if g.key == game), -1)
        if not 0 <= index < len(self.games):
            raise ValueError(f"{self.uri}: no game {game!r} in it")
        reader = self.reader()
        self.turn(reader, index)
        T = self.games[index].transitions
        blocks = []
        for block in range(reader.blocks):
            arrays = {name: array.copy() for name, array in reader.read(block).items()}
            actions = arrays.pop("actions").astype(np.int64)
            blocks.append(arrays | {"action": actions[1:], "prev_action": actions[:-1]})
        out = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return out | {"done": np.arange(T) == 0, "game_id": np.full(T, index), "valid": np.ones(T, np.bool_)}

    def decoder(self) -> Decoder:
        """A decoder of this corpus' blocks."""
        return Decoder(self._layout)

    def reader(self) -> GameReader:
        """A reader of this corpus' blocks, to be turned to a game."""
        return GameReader(self.decoder())

    def turn(self, reader: GameReader, index: int) -> None:
        """Turn a reader to game number `index`."""
        reader.open(self.sections, self.games[index])
