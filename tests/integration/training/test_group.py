"""Several processes that share each batch's columns train as one process with the whole batch does."""

import json
from pathlib import Path

import forks
import pytest
import torch
import toy_game

from playscale.agents.checkpoint import load_checkpoint
from playscale.agents.flops import training_flops_per_sample
from playscale.agents.sizing import config_for_size
from playscale.config import TrainConfig, budget_name
from playscale.points import read_points
from playscale.training.distributed import Group
from playscale.training.trainer import train

TESTS = Path(__file__).parents[2] / "support"
BATCH, UNROLL = 4, 8
CHILD = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
import toy_game
torch.set_num_threads(1)
toy_game.GAMES["recall"] = "toy_game:Recall"
from playscale.training.trainer import train
from playscale.config import TrainConfig

class Curves:
    def log_metrics(self, metrics, samples):
        print(json.dumps([os.environ["RANK"], samples, metrics]), flush=True)

train(TrainConfig.model_validate_json(sys.argv[4]), Path(sys.argv[3]), sys.argv[2], Curves())
threads = [comm.read_text() for comm in Path("/proc/self/task").glob("*/comm")]
assert any("gloo" in name for name in threads), "a freed model has joined gloo's threads, which can wait for ever"
"""


class Curves:
    def __init__(self):
        self.losses = {}

    def log_metrics(self, metrics, samples):
        if "train_loss" in metrics:
            self.losses[samples] = metrics["train_loss"]


def config(*steps, **values):
    per_step = BATCH * UNROLL * training_flops_per_sample(config_for_size(toy_game.Recall(), "10k", "lstm"))
    budgets = tuple(float(step * per_step) for step in steps)
    given = {"size": "10k", "budgets": budgets, "batch": BATCH, "unroll": UNROLL, "dev_samples": 200}
    return TrainConfig(**given | values)


def in_two_processes(tmp_path, recall, out, asked):
    """Train in two processes, as torchrun starts them; what was logged, as (rank, samples, metrics)."""
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    arguments = [str(TESTS), recall.uri, str(out), asked.model_dump_json()]
    said = "".join(forks.run_two_ranks(script, arguments, tmp_path))
    return [json.loads(line) for line in said.splitlines() if line.startswith("[")]


def assert_close_weights(a, b):
    a, b = load_checkpoint(a), load_checkpoint(b)
    assert a.weights.keys() == b.weights.keys()
    for name, value in a.weights.items():
        torch.testing.assert_close(value, b.weights[name], rtol=2e-3, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("cooldown", [0.0, 0.4])
def test_two_processes_train_as_one_does_and_the_first_alone_writes(recall, tmp_path, cooldown):
    alone = Curves()
    asked = config(10, 25, cooldown=cooldown, save_seconds=1e-9)
    points = train(asked, tmp_path / "alone", recall.uri, alone)
    logged = in_two_processes(tmp_path, recall, tmp_path / "two", asked)
    assert {rank for rank, _, _ in logged} == {"0"}
    losses = {samples: metrics["train_loss"] for _, samples, metrics in logged if "train_loss" in metrics}
    assert losses.keys() == alone.losses.keys()
    assert losses == pytest.approx(alone.losses, rel=1e-4)
    for one, two in zip(points, read_points(tmp_path / "two" / "points.csv"), strict=True):
        assert two.dev_loss == pytest.approx(one.dev_loss, rel=1e-3)
        assert (two.samples, two.flops, two.params) == (one.samples, one.flops, one.params)
        where = Path("checkpoints") / budget_name(one.flops)
        assert_close_weights(tmp_path / "two" / where, tmp_path / "alone" / where)
    (save,) = (tmp_path / "two" / "resume").iterdir()
    (other,) = (tmp_path / "alone" / "resume").iterdir()
    a, b = load_checkpoint(save), load_checkpoint(other)
    assert a.extra.keys() == b.extra.keys()
    assert a.extra["state.hidden"].shape[0] == BATCH, "the state of all columns"
    torch.testing.assert_close(a.extra["state.hidden"], b.extra["state.hidden"], rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(recall, tmp_path):
    train(config(10, 25), tmp_path / "alone", recall.uri)
    train(config(10), tmp_path / "grown", recall.uri)
    in_two_processes(tmp_path, recall, tmp_path / "grown", config(10, 25))
    for budget in config(10, 25).cells:
        where = Path("checkpoints") / budget_name(budget)
        assert_close_weights(tmp_path / "grown" / where, tmp_path / "alone" / where)


def test_columns_are_dealt_out_evenly_or_not_at_all():
    assert [Group(rank, 3).columns(12) for rank in range(3)] == [slice(0, 4), slice(4, 8), slice(8, 12)]
    assert Group().columns(5) == slice(0, 5)
    with pytest.raises(ValueError, match="batch of 8 columns cannot be dealt out evenly to 3 processes"):
        Group(0, 3).columns(8)
