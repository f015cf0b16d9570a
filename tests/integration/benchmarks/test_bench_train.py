"""The training benchmark end to end, on a game recorded here and a size that takes no time."""

import os
from pathlib import Path

import pytest

from playscale.agents.flops import training_flops_per_sample
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game
from playscale.rollout.collect import collect
from playscale_benchmarks.bench import Options
from playscale_benchmarks.contender import import_peer
from playscale_benchmarks.train import ContenderProcess, _Unrolls, equal_layers, own
from playscale_benchmarks.unrolls import SKIP, UNROLLS

PEER = os.environ.get("PLAYSCALE_PEER")


@pytest.fixture(scope="module")
def games(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "games"
    collect("nethack", 2, folder, seed=3, max_steps=SKIP + 200, workers=1)
    return folder


@pytest.mark.slow
def test_training_benchmark_reports_the_work_and_the_hardware_limit(games, tmp_path):
    options = Options(games, None, rounds=2, seconds=0.01)
    row = own(options, _Unrolls(games, tmp_path).entry("policy", 4, 2, "fp32", size="10k"))
    flops = training_flops_per_sample(config_for_size(get_game("nethack"), "10k", "lstm"))
    assert row.detail["model_flops_per_second"] == pytest.approx(row.ours * flops)
    assert row.detail["step_seconds"] == pytest.approx(8 / row.ours)
    assert 0 < row.detail["mfu"] < 1
    assert row.detail["memory_gib"] > 0
    assert row.peer is None


@pytest.mark.slow
def test_training_benchmark_without_the_peer_measures_the_twin_alone(games, tmp_path):
    row = equal_layers(
        Options(games, None, rounds=1, seconds=0.01), _Unrolls(games, tmp_path).entry("twin", 4, 2, "fp32", width=16)
    )
    assert row.peer is None
    assert row.ours > 0


@pytest.mark.skipif(not PEER, reason="set PLAYSCALE_PEER to a checkout of princeton-nlp/il-scaling-in-games")
def test_both_sides_have_the_same_losses_for_three_steps(games, tmp_path):
    options = Options(games, Path(PEER), rounds=1, seconds=0.01)
    row = equal_layers(options, _Unrolls(games, tmp_path).entry("twin", 4, 2, "fp32", width=16))
    ours, theirs = row.detail["losses"]
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert len(set(ours)) == 3
    assert row.ratio == pytest.approx(row.ours / row.peer)


def test_bad_input_is_one_clear_line(games, tmp_path):
    with pytest.raises(ValueError, match=r"no il_scale/nethack/v1/net.py in it"):
        import_peer(tmp_path)
    with pytest.raises(ValueError, match=f"no recorded game of {SKIP + UNROLLS * 10_000} transitions"):
        _Unrolls(games, tmp_path).entry("policy", 10_000, 1, "fp32", size="10k")


@pytest.mark.slow
def test_a_contender_that_ends_is_named(games, tmp_path):
    entry = _Unrolls(games, tmp_path).entry("policy", 4, 2, "fp32", size="a lot")
    with pytest.raises(RuntimeError, match="ended with exit code"):
        ContenderProcess(entry)
