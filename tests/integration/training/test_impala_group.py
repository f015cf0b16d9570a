"""Two learners under torchrun, each with actors of its own: their gradients are averaged, their weights stay equal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_run
from safetensors.torch import load_file

from playscale.points import read_points
from playscale.training.trainer import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("registered")]

TESTS = Path(__file__).parents[2] / "support"
CHILD = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
import toy_game
from safetensors.torch import save_file
torch.set_num_threads(1)
toy_game.GAMES["recall"] = "toy_game:Recall"
from playscale.config import TrainConfig
from playscale.training.trainer import train
from playscale.training.impala import Impala
from playscale.training.optimization import PolicyOptimizer

rank, notes = os.environ["RANK"], Path(sys.argv[4])
optimizer_step, update, steps = PolicyOptimizer.step, Impala.update, []

def noted_step(self, loss, rate):
    # What this process's own unroll asks for, and what the step is taken with.
    own = torch.autograd.grad(loss, self.parameters, retain_graph=True)
    done = optimizer_step(self, loss, rate)
    steps.append(rate)
    if len(steps) == 1:
        mean = [parameter.grad for parameter in self.parameters]
        kinds = {"own": own, "mean": mean}
        named = {f"{kind}.{i}": value for kind, values in kinds.items() for i, value in enumerate(values)}
        whole = {name: value.contiguous().clone() for name, value in named.items()}
        save_file(whole, notes / f"gradients-{rank}.safetensors")
    return done

def noted_update(self, batch, rate):
    done = update(self, batch, rate)
    weights = {f"{i}": parameter.detach().contiguous().clone() for i, parameter in enumerate(self.optimizer.parameters)}
    save_file(weights, notes / f"weights-{rank}.safetensors")
    about = {"pids": self._actors.pids, "columns": batch.tensors["done"].shape[1], "tally": self.state.play.to_dict()}
    (notes / f"about-{rank}.json").write_text(json.dumps(about))
    return done

PolicyOptimizer.step, Impala.update = noted_step, noted_update
config = TrainConfig.model_validate_json(sys.argv[3])
train(config, Path(sys.argv[2]), progress=lambda what, fraction: print(rank, what, flush=True))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a run by two processes with a cooldown branch, of their notes, and its config."""
    folder = tmp_path_factory.mktemp("group")
    out, notes, script = folder / "out", folder / "notes", folder / "child.py"
    notes.mkdir()
    script.write_text(CHILD)
    asked = toy_run.config(30, batch=6, clip_norm=1e9, cooldown=0.2, rl={"actors": 1})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    command += [str(TESTS), str(out), asked.model_dump_json(), str(notes)]
    paths = [path for path in sys.path if path]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {line[0] for line in done.stdout.splitlines() if line[1:2] == " "} == {"0"}, "the first alone reports"
    return out, notes, asked


def both(notes, name):
    return [load_file(notes / f"{name}-{rank}.safetensors") for rank in (0, 1)]


def test_both_end_with_the_same_weights(trained):
    _, notes, _ = trained
    one, other = both(notes, "weights")
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_step_is_taken_with_the_mean_of_their_gradients(trained):
    _, notes, _ = trained
    one, other = both(notes, "gradients")
    names = [name.removeprefix("own.") for name in one if name.startswith("own.")]
    assert len(names) > 10
    for name in names:
        mean = (one[f"own.{name}"] + other[f"own.{name}"]) / 2
        for found in (one, other):
            torch.testing.assert_close(found[f"mean.{name}"], mean, rtol=1e-4, atol=1e-7)
    assert any(not torch.allclose(one[f"own.{name}"], other[f"own.{name}"]) for name in names), "of different games"


def test_learners_have_actors_of_their_own_and_count_interactions_together(trained):
    out, notes, asked = trained
    one, other = (json.loads((notes / f"about-{rank}.json").read_text()) for rank in (0, 1))
    assert not set(one["pids"]) & set(other["pids"])
    assert [len(about["pids"]) for about in (one, other)] == [1, 1]
    assert (one["columns"], other["columns"]) == (3, 3)
    tally, theirs = one["tally"], other["tally"]
    assert (tally["interactions"], tally["episodes"]) == (theirs["interactions"], theirs["episodes"])
    frames = 30 * 6 * toy_run.UNROLL
    assert 0.9 * frames < tally["interactions"] < frames
    (point,) = read_points(out / "points.csv")
    assert point.samples == tally["interactions"]
    assert train(asked, out) == [point], "and one process finds it finished"
