"""Agents of the whole game in a task of it."""

import pytest
import torch

from playscale.agents.checkpoint import load_policy, save_checkpoint
from playscale.agents.policy import build_policy, restrict
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game
from playscale.points import read_points
from playscale.rollout.evaluate import evaluate
from playscale.rollout.evaluation import read_evaluation

pytestmark = pytest.mark.usefixtures("forked_workers")

TASK = "nethack/score"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """An untrained agent of NetHack's 121 actions, and the same one restricted to the task's 23."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    policy = build_policy(config_for_size(get_game("nethack"), "10k", "lstm"))
    for name, agent in (("whole", policy), ("restricted", restrict(policy, get_game(TASK)))):
        point = {"game": agent.config.game, "run": name, "flops": 1e9, "params": 1e4, "samples": 1e5, "dev_loss": 2.5}
        save_checkpoint(folder / name, agent, {"point": point})
    return folder / "whole", folder / "restricted"


def play(checkpoints, out, game, **more):
    return evaluate(checkpoints, 4, out, **({"max_steps": 60, "workers": 1, "device": "cpu", "game": game} | more))


def test_agents_play_the_task(checkpoints, tmp_path):
    """One of more actions plays exactly as the one that was restricted before; a task's agent plays as it is."""
    whole, restricted = play(checkpoints, tmp_path, "nethack/score/mon-hum-neu-mal")
    assert whole.episodes == restricted.episodes
    assert whole.game == restricted.game == TASK
    assert play(checkpoints[1:], tmp_path / "own", None)[0].episodes == restricted.episodes
    assert {episode.metadata["role"] for episode in whole.episodes} == {"Mon"}
    assert [(p.game, p.run, p.dev_loss, p.return_mean) for p in read_points(tmp_path / "points.csv")] == [
        (TASK, run, 2.5, whole.return_mean) for run in ("restricted", "whole")
    ]
    game = get_game(TASK)
    for path in set(whole.recordings.values()):
        (recording,), _ = game.find_recordings(tmp_path / whole.name / path)
        length = sum(len(block["action"]) for block in game.decode(recording, 64))
        assert length == whole.episodes[int(path.rpartition("-")[2])].length


@pytest.mark.slow
def test_an_evaluation_in_another_task_is_not_taken_for_this_one(checkpoints, tmp_path):
    def mark():
        return (tmp_path / "whole-whole" / "evaluation.json").stat().st_mtime_ns

    (first,) = play(checkpoints[:1], tmp_path, TASK)
    before = mark()
    assert play(checkpoints[:1], tmp_path, TASK) == [first]
    assert mark() == before
    (other,) = play(checkpoints[:1], tmp_path, "nethack/score/val-dwa-law-fem")
    assert read_evaluation(tmp_path / "whole-whole" / "evaluation.json") == other
    assert other.game == "nethack/score/val-dwa-law-fem"
    assert {episode.metadata["role"] for episode in other.episodes} == {"Val"}
    (own,) = play(checkpoints[:1], tmp_path, None)
    assert (own.game, own.point["game"]) == ("nethack", "nethack")


def test_evaluate_refuses_tasks_that_the_agent_cannot_play(checkpoints, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(
        ValueError, match=r"restricted: an agent of nethack/score cannot play nethack: it has no action"
    ):
        play(checkpoints, out, "nethack")
    with pytest.raises(ValueError, match="a checkpoint of nethack/score, but nethack is played here"):
        play(checkpoints, out, None)
    with pytest.raises(ValueError, match="known are challenge, score"):
        play(checkpoints, out, "nethack/skore")
    assert not out.exists()


def test_looking_at_checkpoints_leaves_the_random_numbers_alone(checkpoints, tmp_path):
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    play(checkpoints[:1], tmp_path, TASK, max_steps=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert load_policy(checkpoints[0])[0].config.num_actions == 121
