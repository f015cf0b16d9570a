"""Games that share their machine code: what is shared, and that nothing else is."""

import sys
from pathlib import Path

import numpy as np
import pytest

from playscale.games.nethack.env import make_env

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="maps memory as Linux does")


def executable_copies() -> list[str]:
    """The mappings of NetHack's code in this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if " r-xp " in line and ("nle.so" in line or "libnethack" in line)]


def screens(envs, seeds, actions):
    """What each game shows when all of them take turns."""
    seen = [[env.reset(seed)["tty_chars"]] for env, seed in zip(envs, seeds, strict=True)]
    for action in actions:
        for env, shown in zip(envs, seen, strict=True):
            shown.append(env.step(int(action)).observation["tty_chars"])
    return [np.stack(shown) for shown in seen]


def test_games_share_their_code_and_nothing_else():
    actions = np.random.default_rng(0).integers(8, size=150)
    alone = [screens([env], [seed], actions)[0] for seed in (1, 2, 3) for env in [make_env(1000)]]
    envs = [make_env(1000) for _ in range(3)]
    together = screens(envs, (1, 2, 3), actions)
    copies = executable_copies()
    assert len(copies) >= 3
    assert all("libnethack.so" in line for line in copies)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (together[0] != together[1]).any()
    for env in envs:
        env.close()
