"""The players that agents are compared with, in the real NetHack, and their recordings."""

from types import SimpleNamespace

import numpy as np
import pytest

from playscale.games.game import get_game
from playscale.games.nethack.rules import key_to_action
from playscale.rollout.references import evaluate_expert, evaluate_random, expert_reference

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture(scope="module")
def nethack():
    return get_game("nethack")


def recorded_actions(game, evaluation, folder):
    """The actions of every kept recording, by episode: its own, between spaces that only click screens away."""
    recordings, rejected = game.find_recordings(folder / "recordings")
    assert not rejected
    assert len(recordings) == 3
    by_folder = {f"recordings/{recording.paths[0].parent.name}": recording for recording in recordings}
    assert set(by_folder) == set(evaluation.recordings.values())
    found = {}
    for path, recording in by_folder.items():
        assert len(game.find_recordings(folder / path)[0]) == 1  # alone, too
        episode = evaluation.episodes[int(path.rpartition("-")[2])]
        assert recording.metadata["role"] == episode.metadata["role"]
        actions = np.concatenate([block["action"] for block in game.decode(recording, 64)])
        found[episode.index] = actions.tolist()
        assert episode.length <= len(actions) <= episode.length + 20
    return found


def play_expert(game, seed, max_steps):
    env, expert = game.make_env(max_steps), game.make_expert()
    observation, actions, done = env.reset(seed), [], False
    expert.reset(seed)
    while not done:
        actions.append(expert.act(observation))
        step = env.step(actions[-1])
        observation, done = step.observation, step.done
    env.close()
    return actions, env.outcome()


def test_random_policy(tmp_path, nethack):
    evaluation = evaluate_random(nethack, 4, tmp_path, max_steps=80, workers=2, seed=3)
    assert [episode.seed for episode in evaluation.episodes] == [3, 4, 5, 6]
    assert evaluation.reference().name == "random"
    actions = recorded_actions(nethack, evaluation, tmp_path / "random")
    assert len({tuple(sequence[:10]) for sequence in actions.values()}) == 3
    assert len({action for sequence in actions.values() for action in sequence}) > 50


def test_random_policy_in_a_task(tmp_path):
    """It draws from the task's actions alone, and does not take the evaluation of another game for its own."""
    task = get_game("nethack/score/@")
    whole = evaluate_random(get_game("nethack"), 4, tmp_path, max_steps=80, workers=2)
    evaluation = evaluate_random(task, 4, tmp_path, max_steps=80, workers=2)
    assert (whole.game, evaluation.game) == ("nethack", "nethack/score/@")
    assert whole.episodes != evaluation.episodes
    taken = set()
    for path in set(evaluation.recordings.values()):
        (recording,), _ = task.find_recordings(tmp_path / "random" / path)
        actions = np.concatenate([block["action"] for block in task.decode(recording, 64)])
        assert len(actions) == evaluation.episodes[int(path.rpartition("-")[2])].length
        taken |= set(actions.tolist())
    assert taken == set(range(23))


def test_expert_is_evaluated_and_recorded(tmp_path, nethack):
    evaluation = evaluate_expert(nethack, 3, tmp_path, max_steps=300, workers=2)
    actions = recorded_actions(nethack, evaluation, tmp_path / "expert")
    for episode in evaluation.episodes:
        played, outcome = play_expert(nethack, episode.seed, 300)
        recorded = actions[episode.index]
        start = next(k for k in range(20) if recorded[k : k + len(played)] == played)
        rest = recorded[:start] + recorded[start + len(played) :]
        assert set(rest) <= {key_to_action[ord(" ")]}
        assert (episode.score, episode.length) == (outcome.score, outcome.steps)


def test_expert_reference_is_the_mean_score_of_a_corpus():
    corpus = SimpleNamespace(
        uri="corpus", game="nethack", games=[SimpleNamespace(score=score) for score in (10, 20, 60)]
    )
    reference = expert_reference(corpus)
    assert reference.return_mean == 30
    assert reference.return_se == pytest.approx(np.std([10, 20, 60], ddof=1) / 3**0.5)
    assert reference.episodes == 3
    assert expert_reference(corpus, "nethack") == reference
    assert expert_reference(corpus, "nethack/score").name == "expert in nethack"
    with pytest.raises(ValueError, match="holds no games"):
        expert_reference(SimpleNamespace(uri="corpus", games=[]))
