"""IMPALA learns a game that asks for memory: with an LSTM to within 5 % of the optimum, and not without memory."""

import pytest
import torch
import toy_game
import toy_run

from playscale.agents import sizing
from playscale.config import budget_name
from playscale.rollout.evaluate import evaluate
from playscale.training.trainer import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_workers")]

INTERACTIONS = 400_000
ENTROPY_COST = 0.03  # with 0.01, runs beside other work end where they tell only some of the cues apart
BATCH, UNROLL = 32, 20
EPISODES = 100
GUESSING = toy_game.ROUNDS / toy_game.CUES


def evaluated(tmp_path, core):
    """The mean return in games that no run was trained on, of an agent trained with that core."""
    steps = INTERACTIONS // (BATCH * UNROLL)
    rl = {"max_steps": 200, "actors": 2, "entropy_cost": ENTROPY_COST, "reward_clip": 10.0}
    asked = toy_run.config(steps, core=core, batch=BATCH, unroll=UNROLL, learning_rate=3e-3, save_seconds=1e9, rl=rl)
    train(asked, tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / budget_name(asked.budgets[0])
    (found,) = evaluate([checkpoint], EPISODES, tmp_path / "played", max_steps=200, workers=2, device="cpu")
    assert found.episode_count == EPISODES
    return found.return_mean


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    toy_game.register(monkeypatch)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_impala_with_an_lstm_comes_within_5_percent_of_the_optimum(tmp_path):
    assert evaluated(tmp_path, "lstm") >= 0.95 * toy_game.ROUNDS


def test_impala_without_memory_stays_below_the_optimum(tmp_path, monkeypatch):
    """A transformer that sees one step alone can but guess."""
    monkeypatch.setattr(sizing, "CONTEXT", 1)
    assert 0.5 * GUESSING < evaluated(tmp_path, "transformer") < 2 * GUESSING
