"""How NetHack is played in nle's tasks: NetHackChallenge-v0 and NetHackScore-v0 as data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nle.env.tasks import TASK_ACTIONS
from nle.nethack.actions import ACTIONS

from playscale.games.nethack.actions import name_of
from playscale.games.nethack.task import ANY

ESC, SPACE = 27, ord(" ")  # the keys that skip menus
NO_PROGRESS_TIMEOUT = 10_000  # NetHackChallenge-v0 ends a game whose turn counter stands still for so many steps


@dataclass(frozen=True)
class Rules:
    """One way to play.

    names, keys: of the actions, in order
    character: role-race-alignment-gender, or "@" for any
    skips_menus: what waits for a key is clicked away, and most questions are refused, before the player sees them
    penalty: what a step costs that leaves the turn counter as it was (points)
    no_progress_timeout: steps without a turn after which a game is stopped
    """

    names: tuple[str, ...]
    keys: tuple[int, ...]
    character: str = ANY
    skips_menus: bool = False
    penalty: float = 0.0
    no_progress_timeout: float = math.inf


def rules_of(task: str, character: str) -> Rules:
    """The rules of one of task.TASKS, played by a character."""
    actions = TASK_ACTIONS if task == "score" else ACTIONS
    names, keys = tuple(map(name_of, actions)), tuple(map(int, actions))
    if task == "score":
        return Rules(names, keys, character, skips_menus=True, penalty=0.01)
    return Rules(names, keys, character, no_progress_timeout=NO_PROGRESS_TIMEOUT)


CHALLENGE = rules_of("challenge", ANY)
