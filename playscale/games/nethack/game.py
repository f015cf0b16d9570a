"""NetHack as a Game: the names of its tasks, and the other modules of this folder, imported when they are needed.

Nothing here imports nle, so that names can be checked without it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from playscale.games.game import Column, Env, Observation, Player, Recording, Rejected, TerminalFrames

if TYPE_CHECKING:
    from torch import nn

    from playscale.games.nethack.rules import Rules


ANY = "@"
TASKS = {"challenge": ANY, "score": "mon-hum-neu-mal"}  # with the character that plays each by default, as in nle

_RACES = {"hum": {"law", "neu", "cha"}, "dwa": {"law"}, "elf": {"cha"}, "gno": {"neu"}, "orc": {"cha"}}
# role: races, alignments (NetHack 3.6, src/role.c); Valkyries are female
_ROLES = {
    "arc": ("hum dwa gno", "law neu"),
    "bar": ("hum orc", "neu cha"),
    "cav": ("hum dwa gno", "law neu"),
    "hea": ("hum gno", "neu"),
    "kni": ("hum", "law"),
    "mon": ("hum", "law neu cha"),
    "pri": ("hum elf", "law neu cha"),
    "rog": ("hum orc", "cha"),
    "ran": ("hum elf gno orc", "neu cha"),
    "sam": ("hum", "law"),
    "tou": ("hum", "neu"),
    "val": ("hum dwa", "law neu"),
    "wiz": ("hum elf gno orc", "neu cha"),
}
CHARACTERS = tuple(
    f"{role}-{race}-{alignment}-{gender}"
    for role, (races, alignments) in _ROLES.items()
    for race in races.split()
    for alignment in alignments.split()
    if alignment in _RACES[race]
    for gender in ("mal", "fem")
    if (role, gender) != ("val", "mal")
)
"""Every character that NetHack knows: role, race, alignment, gender."""


@dataclass(frozen=True)
class NetHack:
    """NetHack through nle 1.3, with the 24x80 terminal as observation.

    Task "challenge", the default, is NetHackChallenge-v0: 121 actions. Task "score" is NetHackScore-v0: 23 actions,
    menus skipped, a penalty for steps that leave the turn counter unchanged. Either may be played by any character or
    by a fixed one.
    """

    play: str = "challenge"
    character: str = ANY
    default_task: ClassVar[str | None] = "score"  # as in the paper: 23 actions, and menus do not stop a beginner
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
            raise ValueError(f"{self.name} has no expert: it needs the keys of nethack and of nethack/challenge")
        return make_expert()

    def find_recordings(self, source: Path) -> tuple[list[Recording], list[Rejected]]:
        from playscale.games.nethack.ttyrec import find_recordings

        return find_recordings(source)

    def decode(self, recording: Recording, block: int) -> Iterator[dict[str, np.ndarray]]:
        from playscale.games.nethack.ttyrec import decode

        return decode(recording, block, self.rules)

    def terminal(self, observations: Observation) -> TerminalFrames:
        from playscale.games.nethack.screen import dungeon_levels

        chars, colors, cursor = (observations[name] for name in self.columns)
        return TerminalFrames(chars, colors, cursor, dungeon_levels(chars))

    def encoder_widths(self, scale: float) -> Any:
        from playscale.games.nethack.encoder import encoder_widths

        return encoder_widths(scale)

    def make_encoder(self, widths: Any) -> nn.Module:
        from playscale.games.nethack.encoder import NetHackEncoder

        return NetHackEncoder(widths, self.num_actions)


def parse_task(text: str) -> tuple[str, str]:
    """Split TASK or TASK/CHARACTER, such as score/val-dwa-law-fem; ValueError names what is known."""
    task, slash, character = text.partition("/")
    if task not in TASKS:
        raise ValueError(f"nethack has no task {task!r}: known are {', '.join(TASKS)}, as in nethack/score")
    if not slash:
        return task, TASKS[task]
    if character != ANY and character not in CHARACTERS:
        near = difflib.get_close_matches(character, CHARACTERS, n=1, cutoff=0.0)
        raise ValueError(
            f"nethack/{text}: no character {character!r}: "
            f"write role-race-alignment-gender, such as {near[0]}, or {ANY} for any"
        )
    return task, character


def task_name(task: str, character: str) -> str:
    """Return the full name of a game, without what is the default."""
    name = f"nethack/{task}" if character == TASKS[task] else f"nethack/{task}/{character}"
    return "nethack" if name == "nethack/challenge" else name
