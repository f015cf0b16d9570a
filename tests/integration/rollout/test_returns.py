"""Returns do not depend on how many workers there are, how fast they are, or what else is in a batch."""

import sys
from functools import partial

import pytest
import torch
from counting_agents import network
from counting_game import Counting

from playscale.agents.checkpoint import save_checkpoint
from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game
from playscale.rollout.evaluate import EvalCandidate, evaluate, evaluate_candidates
from playscale.rollout.evaluation import EvalSettings

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture(params=["lstm", pytest.param("transformer", marks=pytest.mark.slow)])
def policy(request):
    torch.manual_seed(0)
    return build_policy(config_for_size(get_game("nethack"), "20k", request.param)).eval()


def test_nethack_with_one_and_with_eight_workers(tmp_path, policy, monkeypatch):
    """Episode for episode: score, length, and everything the game says of itself."""
    monkeypatch.setitem(sys.modules["playscale.rollout.evaluation_pool"].ROWS, "cpu", 8)
    save_checkpoint(tmp_path / "agent", policy, {})
    played = {
        workers: evaluate(
            [tmp_path / "agent"], 20, tmp_path / str(workers), max_steps=60, workers=workers, device="cpu"
        )
        for workers in (1, 8)
    }
    assert played[1][0].episodes == played[8][0].episodes
    assert len({episode.metadata["turns"] for episode in played[1][0].episodes}) > 3


def test_slow_workers_play_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules["playscale.rollout.evaluation_pool"].ROWS, "cpu", 4)
    agent = EvalCandidate("network", network, "counting")
    play = partial(evaluate_candidates, candidates=[agent], settings=EvalSettings(16, 12, 0, 1.0))
    [steady] = play(Counting(), out=tmp_path / "steady", workers=1)
    [uneven] = play(Counting({2: "slow", 7: "slow", 13: "slow"}), out=tmp_path / "uneven", workers=8)
    assert steady.episodes == uneven.episodes
    assert len(set(steady.returns)) > 3


@torch.inference_mode()
def test_a_row_of_a_batch_does_not_feel_the_others(policy):
    """Bit for bit, as long as the number of rows stays: what another episode shows changes nothing in this one."""
    rows, steps = 16, 5
    generator = torch.Generator().manual_seed(1)
    states = [policy.initial_state(rows), policy.initial_state(rows)]
    mine = torch.arange(rows) % 3 == 0
    for step in range(steps):
        batch = screens(rows, step, generator)
        other = screens(rows, step, generator)
        mixed = {name: torch.where(mine.view(1, -1, *[1] * (t.dim() - 2)), t, other[name]) for name, t in batch.items()}
        outputs = [policy(shown, state) for shown, state in zip((batch, mixed), states, strict=True)]
        states = [output.state for output in outputs]
        one, two = (output.logits[0] for output in outputs)
        assert torch.equal(one[mine], two[mine])
        assert not torch.equal(one[~mine], two[~mine])


def screens(rows, step, generator):
    """A batch [1, rows] of noise; each row's game begins anew now and then."""
    draw = partial(torch.randint, generator=generator)
    return {
        "tty_chars": draw(32, 127, (1, rows, 24, 80)).to(torch.uint8),
        "tty_colors": draw(0, 16, (1, rows, 24, 80)).to(torch.int8),
        "tty_cursor": draw(1, 21, (1, rows, 2)).to(torch.int16),
        "prev_action": draw(0, 121, (1, rows)),
        "done": draw(0, 4, (1, rows)) == 0 if step else torch.ones(1, rows, dtype=torch.bool),
    }
