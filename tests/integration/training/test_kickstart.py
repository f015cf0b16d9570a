"""Kickstarting: a run that begins as its teacher, one that is pulled to it, and the teachers that are none."""

import numpy as np
import pytest
import torch
import toy_game
import toy_run

from playscale.agents.checkpoint import load_policy, save_checkpoint
from playscale.agents.flops import forward_flops
from playscale.agents.policy import build_policy, restrict
from playscale.agents.sizing import config_for_size
from playscale.config import Reinforcement, TrainConfig, budget_name
from playscale.games.game import get_game
from playscale.training.impala import policy_config
from playscale.training.trainer import train

pytestmark = pytest.mark.usefixtures("forked_workers")

PER_STEP = toy_run.BATCH * toy_run.UNROLL
TRAINED = 3e9  # FLOPs that the teachers here took, as their checkpoints say


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    toy_game.register(monkeypatch)


def keep(path, policy, flops=TRAINED):
    """A policy as the checkpoint of a cell."""
    save_checkpoint(path, policy, {"point": {"flops": flops}} if flops else {})
    return str(path)


def kickstarted(teacher, *steps, rl=None, **values):
    return toy_run.config(*steps, method="kickstart", rl={"teacher": teacher} | (rl or {}), **values)


def screens(seed, steps, columns, num_actions):
    """Random unrolls of NetHack's columns, a new game in column 0 at step 3."""
    generator = torch.Generator().manual_seed(seed)
    integers = lambda high, *shape, dtype: torch.randint(high, shape, generator=generator, dtype=dtype)  # noqa: E731
    done = torch.zeros(steps, columns, dtype=torch.bool)
    done[0], done[3, 0] = True, True
    previous = integers(num_actions, steps, columns, dtype=torch.int64)
    previous[done] = num_actions
    return {
        "tty_chars": integers(127, steps, columns, 24, 80, dtype=torch.uint8),
        "tty_colors": integers(16, steps, columns, 24, 80, dtype=torch.int8),
        "tty_cursor": integers(24, steps, columns, 2, dtype=torch.int16),
        "prev_action": previous,
        "done": done,
    }


def test_kickstarted_run_begins_as_its_teacher_over_the_actions_of_the_task(tmp_path):
    """A teacher of 121 actions in a task of 23. Steps too small to change anything leave what it began with."""
    game, curves = get_game("nethack/score"), toy_run.Curves()
    torch.manual_seed(3)
    teacher = build_policy(config_for_size(get_game("nethack"), "10k", "lstm"))
    rl = Reinforcement(game="nethack/score", teacher=keep(tmp_path / "teacher", teacher), max_steps=30, actors=2)
    budget = 12 * 2 * 6 * 3.0 * forward_flops(restrict(teacher, game, value_head=True))
    asked = TrainConfig(
        method="kickstart", size="10k", batch=2, unroll=6, budgets=(budget,), learning_rate=1e-15, rl=rl
    )  # fmt: skip
    train(asked, tmp_path / "out", tracker=curves)
    pupil, _ = load_policy(tmp_path / "out" / "checkpoints" / budget_name(budget))
    expected = restrict(teacher, game).eval()
    batch = screens(0, 7, 3, game.num_actions)
    with torch.no_grad():
        chances, theirs = (one(batch, one.initial_state(3)).logits.softmax(-1) for one in (pupil, expected))
    torch.testing.assert_close(chances, theirs, rtol=1e-5, atol=1e-7)
    assert chances.std(dim=(0, 1)).min() > 1e-4, "what is compared does depend on what is seen"
    # The teacher sees what the actors saw, from game to game and from unroll to unroll: it has nothing to object to.
    assert len(curves.of("teacher_divergence")) == 12
    assert max(map(abs, curves.of("teacher_divergence"))) < 1e-5


@pytest.mark.slow
def test_the_pull_alone_makes_it_as_its_teacher(tmp_path):
    """No reward is learned from, and the run begins from other weights: only the teacher is left."""
    teacher = keep(tmp_path / "teacher", toy_run.policy(seed=4, value_head=False))
    rl = {"start": "scratch", "value_warmup": 10**9, "entropy_cost": 0.0, "teacher_half_life": 1e9, "actors": 1}
    curves = toy_run.Curves()
    train(kickstarted(teacher, 200, rl=rl, learning_rate=1e-2), tmp_path / "out", tracker=curves)
    divergence = curves.of("teacher_divergence")
    assert np.mean(divergence[-20:]) < 0.2 * np.mean(divergence[:5])
    assert curves.of("teacher_cost")[-1] == pytest.approx(1, abs=1e-4)


def test_kickstarted_run_without_a_teacher_cost_holds_no_teacher(tmp_path):
    teacher, curves = keep(tmp_path / "teacher", toy_run.policy(seed=4)), toy_run.Curves()
    (point,) = train(kickstarted(teacher, 10, rl={"teacher_cost": 0.0, "actors": 1}), tmp_path / "out", tracker=curves)
    assert curves.of("teacher_divergence") == []
    assert float(point.extra["flops_teacher"]) == TRAINED, "its training, and no forward pass"


@pytest.mark.parametrize("flops", [TRAINED, pytest.param(None, marks=pytest.mark.slow)])
def test_the_teachers_compute_is_counted_apart_and_in_the_total(tmp_path, flops):
    """What is not known of its training is left out."""
    teacher = keep(tmp_path / "teacher", toy_run.policy(seed=4, value_head=False), flops)
    (point,) = train(kickstarted(teacher, 10, rl={"actors": 1}), tmp_path / "out")
    found = {name: float(value) for name, value in point.extra.items() if name != "digest"}
    frames = 10 * PER_STEP
    forward = toy_run.per_sample() / 3
    teachers = forward_flops(load_policy(tmp_path / "teacher")[0])
    assert teachers < forward, "it has no value head"
    assert (point.method, point.run) == ("kickstart", "kickstart-lstm-10k-s0")
    assert found["flops_teacher"] == pytest.approx((flops or 0) + frames * teachers, rel=1e-5)
    assert found["flops_total"] == pytest.approx(3 * frames * forward + found["flops_teacher"], rel=1e-5)
    assert found["flops_acting"] == pytest.approx(frames * forward, rel=1e-5)
    assert point.flops == pytest.approx(3 * frames * forward)


def test_teachers_that_are_none(tmp_path):
    """One line each, before anything is written."""
    out = tmp_path / "out"
    score = config_for_size(get_game("nethack/score"), "10k", "lstm")
    fewer = keep(tmp_path / "fewer", build_policy(score))
    toy = keep(tmp_path / "toy", toy_run.policy())
    for asked, says in (
        (kickstarted(fewer, 9), "an agent of nethack/score cannot play recall: it does not see the same columns"),
        (kickstarted(fewer, 9, rl={"game": "nethack"}), "an agent of nethack/score cannot play nethack: it has no act"),
        (kickstarted(toy, 9, size="30k"), r"a teacher of size 10k \(lstm\).*not 30k \(lstm\); or start from scratch"),
        (kickstarted(str(tmp_path), 9), "not a checkpoint"),
    ):
        with pytest.raises(ValueError, match=says) as error:
            train(asked, out)
        assert "\n" not in str(error.value)
        assert not out.exists()
    with pytest.raises(ValueError, match="kickstart has one, impala none"):
        toy_run.config(9, rl={"teacher": toy})


def test_kickstarted_run_refuses_another_teacher_and_takes_the_same_from_elsewhere(tmp_path):
    policy = toy_run.policy(seed=4)
    first, copied = keep(tmp_path / "first", policy), keep(tmp_path / "copied", policy)
    other = keep(tmp_path / "other", toy_run.policy(seed=5))
    rl = {"actors": 1}
    points = train(kickstarted(first, 6, rl=rl), tmp_path / "out")
    assert train(kickstarted(copied, 6, rl=rl), tmp_path / "out") == points
    with pytest.raises(ValueError, match=r"another run \(teacher .*other, or changed since\)"):
        train(kickstarted(other, 6, rl=rl), tmp_path / "out")
    assert policy_config(kickstarted(first, 6), get_game("recall")).value_head
