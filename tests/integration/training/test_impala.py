"""A run of IMPALA: what it writes, and that it goes on after anything that stops it."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import toy_game
import toy_run
from process_state import gone, shared_memory

from playscale.agents.checkpoint import load_checkpoint
from playscale.config import budget_name
from playscale.points import read_points
from playscale.training import impala
from playscale.training.metrics import NonFiniteError
from playscale.training.run_state import latest
from playscale.training.trainer import train
from playscale_benchmarks.tree import below

TESTS = Path(__file__).parents[2] / "support"
pytestmark = pytest.mark.usefixtures("registered", "forked_workers")
PER_STEP = toy_run.BATCH * toy_run.UNROLL


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 20 and 60 steps that was left alone, with its cooldowns: its config, directory, points and curves."""
    out, asked, curves = tmp_path_factory.mktemp("run"), toy_run.config(20, 60, cooldown=0.25), toy_run.Curves()
    before = below(os.getpid()), shared_memory()
    points = train(asked, out, tracker=curves)
    assert (below(os.getpid()), shared_memory()) == before, "nothing is left of its actors"
    return asked, out, points, curves


def test_impala_points_have_their_columns(finished):
    asked, out, points, _ = finished
    written = read_points(out / "points.csv")
    # A run may have ended no episode by its first budget: its cell of that column is empty.
    assert [replace(p, extra={name: text for name, text in p.extra.items() if text}) for p in written] == points
    for steps, budget, point in zip((20, 60), asked.budgets, points, strict=True):
        assert (point.game, point.method, point.run, point.size) == ("recall", "impala", "impala-lstm-10k-s0", "10k")
        assert (point.flops, point.dev_loss, point.return_mean) == (budget, None, None)
        # A sample is an interaction; the last observation of an episode costs compute too, but is none. Whether one of
        # the first budget's few unrolls holds an episode's end depends on whose unrolls the learner took.
        assert 0.9 * steps * PER_STEP < point.samples <= steps * PER_STEP
        forward = toy_run.per_sample() / 3
        extra = {name: float(value) for name, value in point.extra.items() if name != "digest"}
        assert extra["flops_acting"] == pytest.approx(steps * PER_STEP * forward, rel=1e-5)
        assert extra["flops_teacher"] == 0
        assert extra["flops_total"] == pytest.approx(budget, rel=1e-5)
        assert extra["flops_6nd"] == pytest.approx(6 * point.params * point.samples, rel=1e-5)
        assert load_checkpoint(out / "checkpoints" / budget_name(budget)).config.value_head
    assert points[0].samples < points[1].samples < 60 * PER_STEP
    assert float(points[1].extra["episodes_trained"]) >= toy_run.BATCH  # however the actors share the work
    assert 0 < float(points[1].extra["train_return"]) <= toy_game.ROUNDS


def test_impala_curves_hold_figures_of_the_actors(finished):
    *_, curves = finished
    for name in ("policy_loss", "baseline_loss", "entropy", "policy_lag", "actor_share_forward", "samples_per_second"):
        assert len(curves.of(name)) > 20, name
        assert curves.of(f"{name}_cooldown"), name
    assert 0 < max(curves.of("policy_lag_max")) < 60, "in updates, of which there are so many"
    assert curves.of("actor_restarts")[-1] == 0
    assert curves.of("interactions") == sorted(curves.of("interactions"))


def test_finished_impala_run_returns_its_points_at_once(finished, monkeypatch):
    asked, out, points, _ = finished
    monkeypatch.setattr(impala, "ActorPool", None)  # none is needed
    assert train(asked, out) == points


def test_impala_refuses_another_run_in_the_same_directory(finished):
    asked, out, *_ = finished
    for change, says in (
        ({"rl": asked.rl.model_copy(update={"discount": 0.8})}, r"rl\.discount 0\.9, not 0\.8"),
        ({"seed": 1}, "seed 0, not 1"),
    ):
        other = asked.model_copy(update=change)
        with pytest.raises(ValueError, match=rf"another run \({says}.*\): use another output") as error:
            train(other, out)
        assert "\n" not in str(error.value)


def test_a_larger_budget_added_later_goes_on(finished):
    """With another number of actors: the machine may be another."""
    _, out, points, _ = finished
    seen = []
    more = toy_run.config(20, 60, 80, cooldown=0.25, rl={"actors": 1})
    found = train(more, out, progress=lambda what, fraction: seen.append(fraction))
    assert [point.samples for point in found[:2]] == [point.samples for point in points]
    assert 0.9 * 80 * PER_STEP < found[2].samples < 80 * PER_STEP
    assert min(seen) > 45 / 80, "from where the constant-rate run was"


CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
import toy_game
torch.set_num_threads(1)
toy_game.GAMES["recall"] = "toy_game:Recall"
from playscale.training.trainer import train
from playscale.config import TrainConfig
config = TrainConfig.model_validate_json(sys.argv[3])
def report(what, fraction):
    if fraction > 0.4:
        print("ready", flush=True)
        time.sleep(600)
train(config, Path(sys.argv[2]), progress=report)
"""


@pytest.mark.slow
def test_killed_impala_run_leaves_no_process_and_resumes_from_its_last_save(tmp_path):
    asked, before = toy_run.config(100, 300, save_seconds=0.05), shared_memory()
    command = [sys.executable, "-c", CHILD, str(TESTS), str(tmp_path), asked.model_dump_json()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout.readline() == "ready\n"
    pids = below(child.pid)
    assert len(pids) == 4, "two actors, a worker each"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert all(gone(pid) for pid in pids)
    assert shared_memory() == before
    save = load_checkpoint(latest(tmp_path / "resume"))
    assert 0.3 * 300 < save.meta["step"] < 300
    seen = []
    points = train(asked, tmp_path, progress=lambda what, fraction: seen.append(fraction))
    assert min(seen) > save.meta["step"] / 300
    assert [point.flops for point in points] == list(asked.budgets)
    end = load_checkpoint(latest(tmp_path / "resume")).meta
    assert end["step"] == 300
    taken = end["tally"]["interactions"] - save.meta["tally"]["interactions"]
    steps = 300 - save.meta["step"]
    assert 0.9 * steps * PER_STEP < taken <= steps * PER_STEP, "what was lost is not counted"
    assert points[1].samples == end["tally"]["interactions"]


def test_a_loss_that_runs_away_stops_it_and_its_actors(tmp_path):
    before = below(os.getpid()), shared_memory()
    asked = toy_run.config(40, learning_rate=1e30, warmup_steps=0, rl={"actors": 1})
    with pytest.raises(NonFiniteError, match=r"became (nan|inf) at step \d+"):
        train(asked, tmp_path)
    assert (tmp_path / "nonfinite.json").is_file()
    assert (below(os.getpid()), shared_memory()) == before


def test_impossible_settings_of_impala_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="fewer than 5 optimizer steps"):
        train(toy_run.config(2), tmp_path)
    with pytest.raises(ValueError, match="unknown game 'chess'"):
        train(toy_run.config(20, rl={"game": "chess"}), tmp_path)
    assert list(tmp_path.iterdir()) == []
