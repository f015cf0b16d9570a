import numpy as np
import pytest
from nle import nethack

from playscale.games.nethack.rules import KEYS, action_of, action_to_key, key_to_action


def test_keys_are_nles_actions_in_order():
    assert tuple(int(action) for action in nethack.ACTIONS) == KEYS
    assert len(KEYS) == 121


def test_actions_and_keys_map_to_each_other():
    assert (key_to_action[action_to_key] >= 0).all()
    np.testing.assert_array_equal(action_to_key[key_to_action[action_to_key]], action_to_key)
    assert np.flatnonzero(key_to_action[action_to_key] != np.arange(121)).size == 3  # + " $ belong to two actions each
    assert set(np.flatnonzero(key_to_action >= 0)) == set(KEYS)


def test_action_of_a_key():
    assert KEYS[action_of("h")] == ord("h")
    assert KEYS[action_of(0xF0)] == 0xF0
    with pytest.raises(ValueError, match="not one of NetHack's"):
        action_of("\x01")
