"""The actions and rules of nle's tasks, NetHackChallenge-v0 and NetHackScore-v0, as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from nle.env.tasks import TASK_ACTIONS
from nle.nethack.actions import ACTIONS

from playscale.games.nethack.game import ANY

ESC, SPACE = 27, ord(" ")  # the keys that skip menus
NO_PROGRESS_TIMEOUT = 10_000  # steps for which the turn counter stands still until NetHackChallenge-v0 ends a game


@dataclass(frozen=True)
class Rules:
    """The rules of one task.

    names, keys: of the actions, in order
    character: role-race-alignment-gender, or "@" for any
    skips_menus: what waits for a key is clicked away, and most questions are refused, before the player sees them
    penalty: cost of a step that leaves the turn counter unchanged (points)
    no_progress_timeout: steps without a turn after which a game is stopped
    """

    names: tuple[str, ...]
    keys: tuple[int, ...]
    character: str = ANY
    skips_menus: bool = False
    penalty: float = 0.0
    no_progress_timeout: float = math.inf


def rules_of(task: str, character: str) -> Rules:
    """Return the rules of one of game.TASKS, played by a character."""
    actions = TASK_ACTIONS if task == "score" else ACTIONS
    names, keys = tuple(map(action_name, actions)), tuple(map(int, actions))
    if task == "score":
        return Rules(names, keys, character, skips_menus=True, penalty=0.01)
    return Rules(names, keys, character, no_progress_timeout=NO_PROGRESS_TIMEOUT)


def action_name(action: IntEnum) -> str:
    """Return an action's name, the same in every task: "CompassDirection.N"."""
    return f"{type(action).__name__}.{action.name}"


def actions_by_key(keys: Sequence[int]) -> np.ndarray:
    """Return i64 [256]: the action that presses a key, -1 where no action does.

    Where two actions press the same key, which the game cannot tell apart, the later one stands for both, as in nle's
    own examples of learning from recordings. Of the 121 actions this concerns +, " and $.
    """
    table = np.full(256, -1, dtype=np.int64)
    table[list(keys)] = np.arange(len(keys))
    return table


CHALLENGE = rules_of("challenge", ANY)

KEYS: tuple[int, ...] = CHALLENGE.keys
"""Key code of each action of NetHackChallenge-v0, in the order of nle.nethack.ACTIONS (meta keys have bit 7 set)."""

action_to_key: np.ndarray = np.array(KEYS, dtype=np.uint8)
"""u8 [121]: the key that an action presses."""

key_to_action: np.ndarray = actions_by_key(KEYS)
"""i64 [256]: the action that presses a key, -1 where no action does."""


def action_of(key: str | int) -> int:
    """Return the action that presses a key, given as its character or its code; ValueError when no action does."""
    code = ord(key) if isinstance(key, str) else key
    action = int(key_to_action[code]) if 0 <= code < 256 else -1
    if action < 0:
        raise ValueError(f"key {key!r} is not one of NetHack's {len(KEYS)} actions")
    return action
