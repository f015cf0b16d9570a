"""The 121 actions of NetHackChallenge-v0 as keypresses, and back; the names and keys of any task's."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from nle.nethack.actions import ACTIONS


def name_of(action: IntEnum) -> str:
    """What an action is called in every task: "CompassDirection.N"."""
    return f"{type(action).__name__}.{action.name}"


def actions_by_key(keys: Sequence[int]) -> np.ndarray:
    """i64 [256]: the action that presses a key, -1 where no action does.

    Where two actions press it, which the game cannot tell apart, the later one stands for both, as in nle's own
    examples of learning from recordings. Of the 121 that is so for +, " and $.
    """
    table = np.full(256, -1, dtype=np.int64)
    table[list(keys)] = np.arange(len(keys))
    return table


KEYS: tuple[int, ...] = tuple(int(action) for action in ACTIONS)
"""The key code of each action, in the order of nle.nethack.ACTIONS (meta keys have the eighth bit set)."""

action_to_key: np.ndarray = np.array(KEYS, dtype=np.uint8)
"""u8 [121]: the key that an action presses."""

key_to_action: np.ndarray = actions_by_key(KEYS)
"""i64 [256]: the action that presses a key, -1 where no action does."""


def action_of(key: str | int) -> int:
    """The action that presses a key, given as its character or its code; ValueError when no action does."""
    code = ord(key) if isinstance(key, str) else key
    action = int(key_to_action[code]) if 0 <= code < 256 else -1
    if action < 0:
        raise ValueError(f"key {key!r} is not one of NetHack's {len(KEYS)} actions")
    return action
