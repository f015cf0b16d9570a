"""The players that agents are compared with, in the real NetHack, and their recordings."""

from types import SimpleNamespace

import numpy as np
import pytest

from playscale.games.game import get_game
from playscale.rollout.references import evaluate_expert, evaluate_random, expert_reference


@pytest.fixture(scope="module")
def nethack():
    return get_game("nethack")


def check_recordings(game, evaluation, folder):
    """Every kept recording decodes to its episode."""
    recordings, rejected = game.find_recordings(folder / "recordings")
    assert not rejected
    by_folder = {recording.paths[0].parent.name: recording for recording in recordings}
    assert {f"recordings/{name}" for name in by_folder} == set(evaluation.recordings.values())
    for path in evaluation.recordings.values():
        name = path.rpartition("/")[2]
        episode = evaluation.episodes[int(name.removeprefix("episode-"))]
        blocks = list(game.decode(by_folder[name], 64))
        actions = np.concatenate([block["action"] for block in blocks])
        assert abs(len(actions) - episode.length) <= 1 + len(actions) - np.count_nonzero(actions >= 0)
        assert by_folder[name].metadata["role"] == episode.metadata["role"]


def test_random_policy(tmp_path, nethack):
    evaluation = evaluate_random(nethack, 4, tmp_path, max_steps=80, workers=2, seed=3)
    assert [episode.seed for episode in evaluation.episodes] == [3, 4, 5, 6]
    assert all(1 <= episode.length <= 80 for episode in evaluation.episodes)
    assert evaluation.reference().name == "random"
    check_recordings(nethack, evaluation, tmp_path / "random")


def test_expert(tmp_path, nethack):
    one = evaluate_expert(nethack, 3, tmp_path / "one", max_steps=300, workers=1)
    two = evaluate_expert(nethack, 3, tmp_path / "two", max_steps=300, workers=2)
    assert one.episodes == two.episodes
    check_recordings(nethack, one, tmp_path / "one" / "expert")


def test_expert_of_a_corpus():
    corpus = SimpleNamespace(uri="corpus", games=[SimpleNamespace(score=score) for score in (10, 20, 60)])
    reference = expert_reference(corpus)
    assert reference.return_mean == 30
    assert reference.return_se == pytest.approx(np.std([10, 20, 60], ddof=1) / 3**0.5)
    assert reference.episodes == 3
    with pytest.raises(ValueError, match="holds no games"):
        expert_reference(SimpleNamespace(uri="corpus", games=[]))
