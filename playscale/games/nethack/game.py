"""NetHack as one of the games: the parts of this folder behind the game port."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from playscale.games.game import Column, Env, Observation, Player, Recording, Rejected
from playscale.games.nethack.task import ANY, parse_task, task_name

if TYPE_CHECKING:
    from torch import nn

    from playscale.games.nethack.rules import Rules


@dataclass(frozen=True)
class NetHack:
    """NetHack through nle 1.3, the 24x80 terminal as observation: by itself NetHackChallenge-v0, or one of its tasks.

    challenge: NetHackChallenge-v0, 121 actions. score: NetHackScore-v0, 23 actions, menus skipped, a penalty for steps
    that leave the turn counter unchanged. Either may be played by a character of one's choice, or by any.
    """

    play: str = "challenge"
    character: str = ANY
    default_task: ClassVar[str | None] = "score"  # as in the paper: 23 actions, and menus do not hold up a beginner
    columns: ClassVar[Mapping[str, Column]] = {
        "tty_chars": Column((24, 80), "uint8"),
        "tty_colors": Column((24, 80), "int8"),
        "tty_cursor": Column((2,), "int16"),
    }

    def task(self, text: str) -> NetHack:
        return NetHack(*parse_task(text))

    @property
    def name(self) -> str:
        return task_name(self.play, self.character)

    @property
    def actions(self) -> tuple[str, ...]:
        return self.rules.names

    @property
    def num_actions(self) -> int:
        return len(self.rules.names)

    @cached_property
    def rules(self) -> Rules:
        from playscale.games.nethack.rules import rules_of

        return rules_of(self.play, self.character)

    def make_env(self, max_steps: int, record_dir: Path | None = None, into: Observation | None = None) -> Env:
        from playscale.games.nethack.env import make_env

        return make_env(max_steps, record_dir, into, self.rules)

    def make_expert(self) -> Player:
        from playscale.games.nethack.expert import make_expert

        if self.play != "challenge":
            raise ValueError(f"{self.name} has no expert: ours needs the keys of nethack and of nethack/challenge")
        return make_expert()

    def find_recordings(self, source: Path) -> tuple[list[Recording], list[Rejected]]:
        from playscale.games.nethack.ttyrec import find_recordings

        return find_recordings(source)

    def decode(self, recording: Recording, block: int) -> Iterator[dict[str, np.ndarray]]:
        from playscale.games.nethack.ttyrec import decode

        return decode(recording, block, self.rules)

    def encoder_widths(self, scale: float) -> Any:
        from playscale.games.nethack.encoder import encoder_widths

        return encoder_widths(scale)

    def make_encoder(self, widths: Any) -> nn.Module:
        from playscale.games.nethack.encoder import NetHackEncoder

        return NetHackEncoder(widths, self.num_actions)
