"""NetHack's environment against nle's own, and what it leaves behind."""

import gymnasium as gym
import nle  # noqa: F401 - registers the environments
import numpy as np
import pytest
from nle import nethack

from playscale.games.nethack.env import make_env
from playscale.games.nethack.expert import make_expert
from playscale.games.nethack.rules import KEYS, NO_PROGRESS_TIMEOUT, action_of
from playscale.games.nethack.ttyrec import read_xlogfile

WANDERING = [action_of(key) for key in "hjklyubns.<>oi,"]


def test_it_is_the_seeded_equivalent_of_nethack_challenge():
    """Frame for frame what nle's gymnasium environment shows, menus, prompts and score included."""
    peer = gym.make(
        "NetHackScore-v0",
        actions=nethack.ACTIONS,
        allow_all_yn_questions=True,
        allow_all_modes=True,
        character="@",
        penalty_step=0.0,
        fix_moon_phase=True,
        max_episode_steps=10_000,
    ).unwrapped
    env = make_env(10_000)
    for seed in range(4):
        peer.seed(seed, seed, reseed=False)
        theirs, _ = peer.reset()
        ours = env.reset(seed)
        actions = np.random.default_rng(seed).integers(len(KEYS), size=400)
        actions[::2] = np.random.default_rng(seed).choice(WANDERING, size=200)
        for action in actions:
            for name, array in ours.items():
                np.testing.assert_array_equal(array, theirs[name])
            theirs, _, ended, _, _ = peer.step(int(action))
            step = env.step(int(action))
            ours = step.observation
            assert step.done == ended
            if ended:
                break
            assert step.score == theirs["blstats"][nethack.NLE_BL_SCORE]
    peer.close()
    env.close()


def play_out(env, seed):
    """Walk at random until the game is over."""
    env.reset(seed)
    generator = np.random.default_rng(seed)
    step = env.step(0)
    while not step.done:
        step = env.step(int(generator.choice(WANDERING[:8])))
    return step


def test_a_death_is_an_end_and_keeps_its_score():
    """The status line is empty after death, the score is not lost."""
    env, player = make_env(5_000), make_expert()
    for seed in range(8):
        observation, step = env.reset(seed), None
        player.reset(seed)
        while step is None or not step.done:
            step = env.step(player.act(observation))
            observation = step.observation
        outcome = env.outcome()
        if step.terminated:
            assert outcome.terminated
            assert outcome.score == step.score > 0
            assert outcome.metadata["death"] not in ("quit", None)
            return
    pytest.fail("nobody died")


def test_the_character_is_known_with_and_without_recording(tmp_path):
    outcomes = []
    for record_dir in (None, tmp_path):
        env = make_env(50, record_dir)
        play_out(env, 3)
        outcomes.append(env.outcome())
        env.close()
    assert outcomes[0] == outcomes[1]
    metadata = outcomes[0].metadata
    assert {name: metadata[name] for name in ("role", "race", "gender", "alignment")} == {
        "role": "Mon",
        "race": "Hum",
        "gender": "Fem",
        "alignment": "Neu",
    }
    assert metadata["turns"] > 0
    assert metadata["deepest_level"] == 1


def test_a_cut_game_is_logged_with_its_score(tmp_path):
    """The log has a line for it, as for any other game; the score in it is the one last seen."""
    env = make_env(200, tmp_path)
    step = play_out(env, 3)
    (game,) = read_xlogfile(tmp_path / "nle.3.xlogfile")
    assert step.truncated
    assert game["death"] == "quit"
    assert int(game["points"]) == step.score
    assert game["ttyrecname"] == "nle.3.0.ttyrec3.bz2"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["nle.3.0.ttyrec3.bz2", "nle.3.xlogfile"]


def test_recordings_do_not_overwrite_each_other(tmp_path):
    for _ in range(2):
        env = make_env(5, tmp_path)
        play_out(env, 1)
    assert len(list(tmp_path.glob("*.ttyrec3.bz2"))) == 2
    assert [game["ttyrecname"] for game in read_xlogfile(tmp_path / "nle.1.xlogfile")] == [
        "nle.1.0.ttyrec3.bz2",
        "nle.1.1.ttyrec3.bz2",
    ]


def test_a_game_that_stands_still_is_stopped():
    env = make_env(10 * NO_PROGRESS_TIMEOUT)
    env.reset(0)
    escape = action_of("\x1b")
    steps = 1
    while not env.step(escape).truncated:
        steps += 1
    assert steps == pytest.approx(NO_PROGRESS_TIMEOUT, abs=2)


@pytest.mark.parametrize("max_steps", [0, -1])
def test_nonsense_limits(max_steps):
    with pytest.raises(ValueError, match="max_steps"):
        make_env(max_steps)
    with pytest.raises(ValueError, match="seed"):
        make_env(1).reset(-1)
