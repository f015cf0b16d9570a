"""NetHack's environment against nle's own, and what it leaves behind."""

import bz2
import shutil
import tempfile

import gymnasium as gym
import nle  # noqa: F401 - registers the environments
import numpy as np
import pytest
from nle import nethack

from playscale.games.nethack.env import SHOPKEEPERS_CHANGE, make_env, set_birthday
from playscale.games.nethack.expert import make_expert
from playscale.games.nethack.rules import KEYS, NO_PROGRESS_TIMEOUT, action_of
from playscale.games.nethack.ttyrec import RECORD, read_xlogfile

WANDERING = [action_of(key) for key in "hjklyubns.<>oi,"]


def test_environment_equals_nethack_challenge_seeded():
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
        set_birthday(peer.nethack, seed)
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
def test_environment_refuses_limits_out_of_range(max_steps):
    with pytest.raises(ValueError, match="max_steps"):
        make_env(max_steps)
    with pytest.raises(ValueError, match="seed"):
        make_env(1).reset(-1)


def let_expert_play(env, seed, begun=lambda: None):
    """Return the number of steps; `begun` is called before the first."""
    player, observation, steps, done = make_expert(), env.reset(seed), 0, False
    player.reset(seed)
    begun()
    while not done:
        step = env.step(player.act(observation))
        observation, steps, done = step.observation, steps + 1, step.done
    return steps


def without_times(recording):
    """Return a ttyrec as (channel, what it holds), record after record."""
    data, records, offset = bz2.decompress(recording.read_bytes()), [], 0
    while offset < len(data):
        _, _, length, channel = RECORD.unpack_from(data, offset)
        offset += RECORD.size + length
        records.append((channel, data[offset - length : offset]))
    return records


def test_a_recording_is_the_same_wherever_it_lies(tmp_path):
    """Seed 27: the expert dies after 22 steps; NetHack then named its files that it could not open."""
    recordings = []
    for folder in (tmp_path / "a", tmp_path / "a much longer name"):
        env = make_env(100, folder)
        assert let_expert_play(env, 27) == 22
        (recording,) = folder.glob("*.bz2")
        recordings.append(without_times(recording))
    assert recordings[0] == recordings[1]
    assert str(tmp_path).encode() not in b"".join(held for _, held in recordings[0])


def test_a_seed_fixes_what_nethack_takes_from_the_clock(tmp_path):
    env = make_env(5, tmp_path)
    for seed in (3, 2**22 + 3):
        play_out(env, seed)
        (game,) = read_xlogfile(tmp_path / f"nle.{seed}.xlogfile")
        assert game["starttime"] == str(SHOPKEEPERS_CHANGE * 3)
        assert game["seed"] == str(seed)


@pytest.fixture
def play_folder(tmp_path, monkeypatch):
    """Where NetHack keeps the files of its games."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_game_whose_folder_disappears_ends_with_an_error(play_folder):
    """NetHack would go on at the level it is on: with this seed to a score of 33 instead of 600."""
    env = make_env(3_000)
    with pytest.raises(OSError, match=r'not whole: Cannot create file "1lock.1" for level 1 \(errno 2\)'):
        let_expert_play(env, 1, begun=lambda: [shutil.rmtree(folder) for folder in play_folder.iterdir()])
    env.close()


@pytest.mark.parametrize("lost", ["", "record"])
def test_a_game_whose_files_are_lost_has_no_result(play_folder, lost):
    env = make_env(20, play_folder / "games")
    env.reset(3)
    (folder,) = play_folder.glob("nle*")
    if lost:
        (folder / lost).unlink()
    else:
        shutil.rmtree(folder)
    for _ in range(19):
        env.step(0)
    with pytest.raises(OSError, match=lost or "No such file or directory"):
        env.step(0)
    env.close()
    assert not list(play_folder.glob("games/*xlogfile"))
