"""The tasks of NetHack against nle's own environments, their names, and their recordings."""

import pickle

import gymnasium as gym
import nle  # noqa: F401 - registers the environments
import numpy as np
import pytest
from counting_game import register
from nle import nethack
from nle.env.tasks import TASK_ACTIONS

from playscale.games.game import get_game
from playscale.games.nethack.env import set_birthday
from playscale.games.nethack.game import CHARACTERS

STEPS = 1000
MONK = "mon-hum-neu-mal"
# What is looked at can change the game: nle's screen_descriptions, one of its default keys, draws random numbers.
KEYS = ("tty_chars", "tty_colors", "tty_cursor")


def random_actions(seed, game):
    return np.random.default_rng(seed).integers(game.num_actions, size=STEPS).tolist()


def make_peer(**options):
    """nle's environment, before its first game: nothing leaks into it from another."""
    peer = gym.make("NetHackScore-v0", fix_moon_phase=True, observation_keys=KEYS, **options).unwrapped
    peer._max_episode_steps = STEPS  # gym.make keeps the argument of that name to itself
    return peer


def listen(peer):
    """The keys that nle's environment presses, as they come."""
    keys, step = [], peer.nethack.step
    peer.nethack.step = lambda key: keys.append(int(key)) or step(key)
    return keys


@pytest.mark.parametrize("character", [MONK, "@", "val-dwa-law-fem"])
def test_score_is_nethack_score(character):
    """Frame for frame, reward for reward, end for end as gymnasium's NetHackScore-v0; menus and deaths occur."""
    game = get_game(f"nethack/score/{character}")
    env, skipped, gains, penalties, died = game.make_env(STEPS), [], 0, 0, 0
    for seed in range(8):
        peer = make_peer(character=character)
        keys = listen(peer)
        peer.seed(seed, seed, reseed=False)
        theirs, _ = peer.reset()
        set_birthday(peer.nethack, seed)
        ours, score, ended = env.reset(seed), 0, False
        for action in random_actions(seed, game):
            for name, array in ours.items():
                np.testing.assert_array_equal(array, theirs[name])
            keys.clear()
            theirs, reward, ended, _, info = peer.step(action)
            step = env.step(action)
            assert step.score - score - step.penalty == reward
            assert step.done == ended
            assert step.terminated == (info["end_status"] == peer.StepStatus.DEATH)
            gains, penalties = gains + (step.score > score), penalties + (step.penalty > 0)
            ours, score = step.observation, step.score
            if ended:
                break
            skipped += keys[1:]
        assert step.truncated == (info["end_status"] == peer.StepStatus.ABORTED) == (not step.terminated)
        died += step.terminated
        peer.close()
    env.close()
    assert gains > 5
    assert penalties > 100
    assert {ord(" "), 27} <= set(skipped)  # texts were clicked through, questions refused
    assert 0 < died < 8


def test_the_actions_are_nles():
    score, challenge = get_game("nethack/score"), get_game("nethack")
    assert [f"{type(action).__name__}.{action.name}" for action in TASK_ACTIONS] == list(score.actions)
    assert (score.num_actions, challenge.num_actions) == (23, 121)
    for game in (score, challenge):
        assert len(set(game.actions)) == len(game.actions) == game.num_actions
    assert set(score.actions) < set(challenge.actions)
    assert challenge.actions[0] == "CompassDirection.N"


def test_challenge_has_no_penalty_and_any_character():
    """Played by a character that is named, it is nle's with the same options."""
    game = get_game(f"nethack/challenge/{MONK}")
    options = {"allow_all_yn_questions": True, "allow_all_modes": True, "penalty_step": 0.0}
    peer = make_peer(actions=nethack.ACTIONS, character=MONK, **options)
    env = game.make_env(STEPS)
    peer.seed(5, 5, reseed=False)
    theirs, _ = peer.reset()
    set_birthday(peer.nethack, 5)
    ours, score = env.reset(5), 0
    for action in random_actions(5, game)[:300]:
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name])
        theirs, reward, ended, _, _ = peer.step(action)
        step = env.step(action)
        assert (step.score - score, step.done, step.penalty) == (reward, ended, 0.0)
        if ended:
            break
        ours, score = step.observation, step.score
    peer.close()
    env.close()


@pytest.mark.slow
def test_every_character_is_played():
    wanted = {character: character.split("-") for character in CHARACTERS}
    found = {}
    for character in CHARACTERS:
        env = get_game(f"nethack/score/{character}").make_env(1)
        env.reset(0)
        env.step(0)
        metadata = env.outcome().metadata
        found[character] = [metadata[key].lower() for key in ("role", "race", "alignment", "gender")]
    assert found == wanted


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("nethack", "nethack"),
        ("nethack/challenge", "nethack"),
        ("nethack/challenge/@", "nethack"),
        (f"nethack/challenge/{MONK}", f"nethack/challenge/{MONK}"),
        ("nethack/score", "nethack/score"),
        (f"nethack/score/{MONK}", "nethack/score"),
        ("nethack/score/@", "nethack/score/@"),
    ],
)
def test_a_game_has_one_name(asked, name):
    game = get_game(asked)
    assert game.name == name
    assert get_game(name) == game == pickle.loads(pickle.dumps(game))  # noqa: S301
    assert game.task("score/@") == get_game("nethack/score/@")


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("nethack/scor", "no task 'scor': known are challenge, score"),
        ("nethack/", "no task ''"),
        ("nethack/score/", "no character ''"),
        ("nethack/score/val-dwa-law-mal", "such as val-dwa-law-fem, or @ for any"),
        ("nethack/score/mon", "write role-race-alignment-gender"),
        ("nethack/score/@/x", "no character '@/x'"),
        ("nethak/score", "unknown game 'nethak': did you mean 'nethack'"),
        ("counting/score", "counting has no tasks"),
    ],
)
def test_a_task_that_is_none(asked, text, monkeypatch):
    register(monkeypatch)
    with pytest.raises(ValueError, match=text) as error:
        get_game(asked)
    assert "\n" not in str(error.value)


def record(game, seed, folder, steps=300):
    """Play at random: what was seen before each action, the actions, the scores then."""
    env = game.make_env(steps, folder)
    seen, actions, scores, score = [env.reset(seed)], [], [], 0
    for action in random_actions(seed, game):
        actions.append(action)
        scores.append(score)
        step = env.step(action)
        seen.append(step.observation)
        score = step.score
        if step.done:
            break
    return seen[:-1], actions, scores


def test_a_recording_holds_what_the_player_did(tmp_path):
    """The keys that skip menus are in the file, but they are no transitions; nor is what shows only between them."""
    game = get_game("nethack/score")
    for seed in range(6):
        seen, actions, scores = record(game, seed, tmp_path / str(seed))
        (recording,), _ = game.find_recordings(tmp_path / str(seed))
        blocks = list(game.decode(recording, 64))
        read = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        assert read["action"].tolist() == actions
        assert read["score"].tolist() == scores
        for name in game.columns:
            np.testing.assert_array_equal(read[name], np.stack([each[name] for each in seen]))
        everything = sum(len(block["action"]) for block in get_game("nethack").decode(recording, 64))
        assert everything > len(actions)


def test_a_recording_of_other_keys_is_refused(tmp_path):
    record(get_game("nethack"), 0, tmp_path)
    (recording,), _ = get_game("nethack/score").find_recordings(tmp_path)
    with pytest.raises(ValueError, match=r"key \d+ at transition \d+ is none of the game's 23 actions"):
        list(get_game("nethack/score").decode(recording, 64))


def test_the_expert_needs_more_keys():
    with pytest.raises(ValueError, match="nethack/score has no expert"):
        get_game("nethack/score").make_expert()
    get_game(f"nethack/challenge/{MONK}").make_expert()
