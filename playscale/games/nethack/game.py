"""NetHack as one of the games: the parts of this folder behind the game port."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from playscale.games.game import Column, Env, Observation, Player, Recording, Rejected

if TYPE_CHECKING:
    from torch import nn


class NetHack:
    """NetHackChallenge-v0 of nle 1.3: 121 actions, any character, the 24x80 terminal as observation."""

    name = "nethack"
    num_actions = 121
    columns: Mapping[str, Column] = {
        "tty_chars": Column((24, 80), "uint8"),
        "tty_colors": Column((24, 80), "int8"),
        "tty_cursor": Column((2,), "int16"),
    }

    def make_env(self, max_steps: int, record_dir: Path | None = None, into: Observation | None = None) -> Env:
        from playscale.games.nethack.env import make_env

        return make_env(max_steps, record_dir, into)

    def make_expert(self) -> Player:
        from playscale.games.nethack.expert import make_expert

        return make_expert()

    def find_recordings(self, source: Path) -> tuple[list[Recording], list[Rejected]]:
        from playscale.games.nethack.ttyrec import find_recordings

        return find_recordings(source)

    def decode(self, recording: Recording, block: int) -> Iterator[dict[str, np.ndarray]]:
        from playscale.games.nethack.ttyrec import decode

        return decode(recording, block)

    def encoder_widths(self, scale: float) -> Any:
        from playscale.games.nethack.encoder import encoder_widths

        return encoder_widths(scale)

    def make_encoder(self, widths: Any) -> nn.Module:
        from playscale.games.nethack.encoder import NetHackEncoder

        return NetHackEncoder(widths, self.num_actions)
