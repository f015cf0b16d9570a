"""What any game must do, whoever wrote it. A new game passes this file unchanged."""

import numpy as np
import pytest
import torch

from playscale.games.game import GAMES, get_game

STEPS = 300


@pytest.fixture(params=[*sorted(GAMES), "nethack/score"])
def game(request):
    return get_game(request.param)


class Guesser:
    """Plays where there is no expert."""

    def __init__(self, num_actions):
        self.num_actions = num_actions

    def reset(self, seed):
        self.generator = np.random.default_rng(seed)

    def act(self, observation):
        return int(self.generator.integers(self.num_actions))


def make_player(game):
    """The expert; only a task may have none."""
    try:
        return game.make_expert()
    except ValueError:
        assert "/" in game.name
        return Guesser(game.num_actions)


def play(game, seed, max_steps=STEPS, record_dir=None):
    """One game of the expert, if any: the observations it acted on, its actions, the steps' answers, the outcome."""
    env, player = game.make_env(max_steps, record_dir), make_player(game)
    observations, actions, steps = [env.reset(seed)], [], []
    player.reset(seed)
    while not steps or not steps[-1].done:
        actions.append(player.act(observations[-1]))
        steps.append(env.step(actions[-1]))
        observations.append(steps[-1].observation)
    outcome = env.outcome()
    env.close()
    return observations[:-1], actions, steps, outcome


def test_game_and_its_actions_are_found_by_name(game):
    assert get_game(game.name).name == game.name
    assert len(game.actions) == len(set(game.actions)) == game.num_actions
    with pytest.raises(ValueError, match="task"):
        game.task("no such")


def test_observations_are_as_declared(game):
    observations, _, _, _ = play(game, 1)
    for observation in (observations[0], observations[-1]):
        assert observation.keys() == game.columns.keys()
        for name, column in game.columns.items():
            assert observation[name].shape == column.shape
            assert observation[name].dtype == column.dtype


def test_what_people_see_fits_a_terminal(game):
    observations, _, _, _ = play(game, 1, max_steps=9)
    shown = game.terminal({name: np.stack([one[name] for one in observations]) for name in game.columns})
    if shown is not None:
        assert (shown.chars.shape, shown.chars.dtype) == ((9, 24, 80), np.uint8)
        assert (shown.colors.shape, shown.cursor.shape) == ((9, 24, 80), (9, 2))
        assert shown.depth is None or (shown.depth.shape, shown.depth.dtype) == ((9,), np.uint8)


def test_observations_are_fresh_arrays(game):
    env = game.make_env(STEPS)
    first = env.reset(2)
    kept = {name: array.copy() for name, array in first.items()}
    later = [env.step(0).observation for _ in range(5)]
    env.close()
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])
        assert not any(np.shares_memory(array, observation[name]) for observation in later)


def test_observations_can_be_written_into_the_callers_arrays(game):
    """They are then what a fresh array would hold, in every step and in the next game."""
    into = {name: np.full(column.shape, 77, column.dtype) for name, column in game.columns.items()}
    fresh, shared = game.make_env(STEPS), game.make_env(STEPS, None, into)
    for seed in (1, 2):
        wanted, seen = fresh.reset(seed), shared.reset(seed)
        for action in (0, 1, 2):
            assert all(seen[name] is into[name] for name in game.columns)
            assert all((into[name] == wanted[name]).all() for name in game.columns)
            wanted, seen = fresh.step(action).observation, shared.step(action).observation
    fresh.close()
    shared.close()


def test_a_seed_is_a_game(game):
    once, again, other = play(game, 3), play(game, 3), play(game, 4)
    assert once[1] == again[1]
    assert [step.score for step in once[2]] == [step.score for step in again[2]]
    assert once[3] == again[3]
    for left, right in zip(once[0], again[0], strict=True):
        assert all((left[name] == right[name]).all() for name in game.columns)
    assert any((once[0][0][name] != other[0][0][name]).any() for name in game.columns)


def test_one_environment_plays_many_games(game):
    """A game is the same in a fresh environment and after another game, finished or abandoned."""
    alone = game.make_env(40)
    used = game.make_env(40)
    used.reset(5)
    for _ in range(40):
        used.step(1)
    used.reset(6)
    used.step(2)
    for observation, expected in (
        (used.reset(7), alone.reset(7)),
        (used.step(0).observation, alone.step(0).observation),
    ):
        assert all((observation[name] == expected[name]).all() for name in game.columns)
    used.close()
    alone.close()


def test_the_limit_truncates(game):
    _, actions, steps, outcome = play(game, 8, max_steps=7)
    assert len(actions) == outcome.steps == 7
    assert steps[-1].truncated
    assert not steps[-1].terminated
    assert not outcome.terminated
    assert not any(step.done for step in steps[:-1])
    assert outcome.score == steps[-1].score


def test_the_player_plays_legally_to_an_end(game):
    _, actions, steps, outcome = play(game, 9, max_steps=20_000)
    assert all(isinstance(action, int) and 0 <= action < game.num_actions for action in actions)
    assert steps[-1].terminated != steps[-1].truncated
    assert outcome.terminated == steps[-1].terminated
    assert outcome.steps == len(steps)
    assert outcome.score == steps[-1].score
    assert all(step.penalty >= 0 for step in steps)


def test_the_encoder_has_a_row_for_each_previous_action(game):
    encoder = game.make_encoder(game.encoder_widths(0.1))
    assert len(encoder.previous_action) == game.num_actions + 1
    seen = {
        name: torch.zeros(1, *column.shape, dtype=getattr(torch, column.dtype)) for name, column in game.columns.items()
    }
    for row in (0, game.num_actions):
        encoder.zero_grad()
        encoder(seen, torch.tensor([row])).sum().backward()
        assert encoder.previous_action.grad.abs().sum(1).nonzero().flatten().tolist() == [row]


def test_a_recording_holds_the_game(game, tmp_path):
    """Frames, actions and scores come back from a recording as they were when they were played."""
    observations, actions, steps, outcome = play(game, 10, record_dir=tmp_path / "source" / "one")
    assert outcome.steps == STEPS
    recordings, rejected = game.find_recordings(tmp_path / "source")
    assert (len(recordings), rejected) == (1, [])
    blocks = list(game.decode(recordings[0], 64))
    decoded = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    assert decoded["action"][-STEPS:].tolist() == actions  # keys before the first move may stand before them
    for name in game.columns:
        np.testing.assert_array_equal(decoded[name][-STEPS:], np.stack([each[name] for each in observations]))
    assert decoded["score"][-STEPS + 1 :].tolist() == [step.score for step in steps[:-1]]
