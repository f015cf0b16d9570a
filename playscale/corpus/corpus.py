"""A corpus: recorded games of one game, split into train and dev, to be streamed as unrolls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from playscale.corpus.layout import Decoder, Layout
from playscale.corpus.manifest import GameRecord, Manifest, read_manifest
from playscale.corpus.reader import GameReader, open_sections
from playscale.corpus.stream import stream
from playscale.corpus.window import Batch
from playscale.games.game import Column, Rejected
from playscale.storage.storage import Storage, open_storage
from playscale.storage.sync import read_patiently


class Corpus:
    """An opened corpus. Only the manifest is in memory; frames are read while they are streamed.

    Attributes:
        uri: The path or s3:// URI it was opened at.
        game: Name of the game.
        num_actions: Number of actions A; A itself stands for "no previous action".
        columns: Shape (without time and batch) and dtype of each array of an observation, by name.
        games: One record per game: key, split, transitions, final score (points), metadata.
        rejected: The recordings that were left out, each with the reason.
        digest: Hexadecimal hash of all that decides what is read: the games in order with their checksums, splits and
            scores, columns and actions. It is the same wherever the corpus lies, however it is sharded, and whenever
            and on whatever machine it was made. Part of the identity of a run.
        fingerprint: Identifies the recordings and settings that it was made from, by the recordings' bytes.
        stats: Identifies them by the recordings' names, sizes and times of change.
    """

    def __init__(self, uri: str, storage: Storage, manifest: Manifest) -> None:
        self.uri = uri
        self.game: str = manifest.game
        self.num_actions: int = manifest.num_actions
        self.columns: Mapping[str, Column] = manifest.columns
        self.games: tuple[GameRecord, ...] = manifest.games
        self.rejected: tuple[Rejected, ...] = manifest.rejected
        self.digest: str = manifest.digest
        self.fingerprint: str = manifest.fingerprint
        self.stats: str = manifest.stats
        self.sections = open_sections(uri, storage, manifest.shards, manifest.digest)
        self._layout = Layout(manifest.columns)

    @classmethod
    def open(cls, uri: str | Path) -> Corpus:
        """Open a corpus.

        Args:
            uri: A local path, a file:// URI or s3://BUCKET/PREFIX.

        Raises:
            ValueError: It is missing, not a corpus, of another schema, damaged, or lacks a shard.
            OSError: S3 cannot be reached.
        """
        storage = open_storage(uri)
        return cls(str(uri), storage, read_patiently(lambda: read_manifest(storage)))

    def transitions(self, split: str) -> int:
        """Return the number of transitions in a split, "train" or "dev"."""
        return sum(game.transitions for game in self.games if game.split == split)

    def require_games(self, split: str) -> None:
        """Raise ValueError when a split has no games."""
        if not any(game.split == split for game in self.games):
            raise ValueError(f"{self.uri}: no game in its {split} split; prepare a corpus of more games")

    def summary(self) -> str:
        """Return the game and the sizes of both splits in one line."""
        parts = [
            f"{sum(game.split == split for game in self.games)} {split} games ({self.transitions(split):,} transitions)"
            for split in ("train", "dev")
        ]
        return f"{self.game}: {parts[0]}, {parts[1]}, {len(self.rejected)} recordings left out"

    def stream(
        self, *, batch: int, unroll: int, split: str = "train", seed: int = 0, start: int = 0
    ) -> Iterator[Batch]:
        """Yield batches of unrolls.

        Each of the `batch` columns plays a game to its end and continues with the next one in the same unroll. A train
        stream is endless and reshuffled each round. A dev stream plays each game once, in the order of `games` whatever
        the seed, and ends. Memory: one decoded block per column (NetHack: 2.5 MB).

        Args:
            batch: Number of columns, B.
            unroll: Transitions per column in a batch, T.
            split: "train" or "dev".
            seed: Seed of the order of the games of a train stream.
            start: Index of the first batch to yield; those before it are skipped without being read.

        Yields:
            A dict of fresh arrays: the game's columns [T, B, ...]; action and prev_action i64 [T, B] (num_actions at a
            game's first transition: none); done bool [T, B] (a game's first transition); score i32 [T, B] (points when
            the frame was shown); game_id i64 [T, B] (index into `games`); valid bool [T, B] (False: padding, in a dev
            stream only, with game_id -1).

        Raises:
            ValueError: An argument is out of range, the split has no games, or a shard is damaged.
        """
        return stream(self, batch, unroll, split, seed, start)

    def read_game(self, game: str | int) -> Batch:
        """Read a whole game.

        Args:
            game: Its key or its index in `games`.

        Returns:
            The arrays of a stream's batch without the batch axis, [transitions, ...].

        Raises:
            ValueError: There is no such game, or its shard is damaged.
        """
        index = game if isinstance(game, int) else next((i for i, g in enumerate(self.games) if g.key == game), -1)
        if not 0 <= index < len(self.games):
            raise ValueError(f"{self.uri}: no game {game!r} in it")
        reader = self.reader(index, self.decoder())
        T = self.games[index].transitions
        blocks = []
        for block in range(reader.blocks):
            arrays = {name: array.copy() for name, array in reader.read(block).items()}
            actions = arrays.pop("actions").astype(np.int64)
            blocks.append(arrays | {"action": actions[1:], "prev_action": actions[:-1]})
        out = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return out | {"done": np.arange(T) == 0, "game_id": np.full(T, index), "valid": np.ones(T, np.bool_)}

    def decoder(self) -> Decoder:
        """Return a decoder of this corpus' blocks, which several readers may share."""
        return Decoder(self._layout)

    def reader(self, index: int, decoder: Decoder) -> GameReader:
        """Return a reader of the blocks of game number `index`; ValueError when its index of blocks is damaged."""
        return GameReader(self.sections, self.games[index], decoder)
