"""The IMPALA benchmark end to end, at a size and for a time that say nothing of speed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from process_state import gone

from playscale.agents.flops import forward_flops
from playscale.agents.policy import PolicyConfig
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game
from playscale_benchmarks import impala_sides
from playscale_benchmarks.bench import Options
from playscale_benchmarks.impala_speed import CLOSE, measure, peer_flops, size_for
from playscale_benchmarks.tree import below, end, go_on, hold

COUNTING = """
import subprocess, sys, time
if sys.argv[1] == "above":
    subprocess.run([sys.executable, "-c", sys.argv[2], "below", ""])
for _ in range(30_000):
    time.sleep(0.002)
    print(".", end="", file=open(sys.argv[3], "a"))
"""


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_until(true):
    """Wait for what is known to come about."""
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_the_policies_cost_about_the_same():
    """The peer's: two convolutional stacks, two layers of 512 and an LSTM of 512 over 23 actions, counted by hand."""
    convolutions = 2 * 9 * (32 * 16 + 3 * 16 * 16 + 16 * 8)
    features = 32 + 8 * (21 * 79 + 9 * 9)
    layers = 2 * (27 * 32 + 32 * 32 + features * 512 + 512 * 512 + 512 * 24)
    theirs = (21 * 79 + 9 * 9) * convolutions + layers + 16 * 512**2
    assert peer_flops() == pytest.approx(theirs, rel=1e-3)
    ours = config_for_size(get_game("nethack/score"), size_for(theirs), "lstm")
    assert isinstance(ours, PolicyConfig)
    assert abs(forward_flops(ours) / theirs - 1) < CLOSE
    with pytest.raises(ValueError, match="no size has about 1e"):
        size_for(1e18)


def test_a_tree_is_held_still_as_a_whole(tmp_path):
    """A process that starts another, which writes for a minute."""
    file = tmp_path / "dots"
    code = COUNTING.replace("sys.argv[3]", repr(str(file)))
    with subprocess.Popen([sys.executable, "-c", code, "above", code]) as top:
        try:
            wait_until(file.exists)
            pids = [top.pid, *below(top.pid)]
            assert len(pids) == 2
            hold(top.pid)
            wait_until(lambda: {state(pid) for pid in pids} == {"T"})
            size = file.stat().st_size
            time.sleep(0.2)
            assert file.stat().st_size == size
            go_on(top.pid)
            wait_until(lambda: file.stat().st_size > size)
        finally:
            end(top.pid)
    assert all(gone(pid) for pid in pids)


@pytest.mark.slow
def test_impala_benchmark_has_rows_for_each_shape_and_leaves_no_process(monkeypatch):
    monkeypatch.setattr(impala_sides, "WARM_UP", 0.1)
    before = below(os.getpid())
    whole, alone, lag, waits = measure(Options(rounds=2, seconds=0.01), 4, 2, 2, "10k", peer_flops())
    assert (whole.name, whole.unit) == ("impala 4 x 2, 2 actors", "frames/s")
    assert (whole.ours > 0, whole.peer > 0, alone.peer > 0) == (True, True, True)
    assert alone.ours == whole.ours
    assert whole.detail["flops"] < whole.detail["peer_flops"]
    assert lag.ours >= 0
    assert 0 <= waits.ours <= 100
    assert below(os.getpid()) == before
