"""The step `train` in several processes, as a TrainJob's pod starts it: in one copy of the study's directory in S3."""

from pathlib import Path

import forks
import pytest
import yaml

from playscale.points import read_points
from playscale.study import steps

SUPPORT = Path(__file__).parents[2] / "support"
SPEC = {
    "name": "processes",
    "game": "recall",
    "sizes": ["8k"],
    "budgets": [2e7, 4e7],
    "training": {"batch": 4, "unroll": 8, "dev_samples": 100, "cooldown": 0.3},
    "evaluate": {"episodes": 2, "max_steps": 60},
}
CHILD = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import torch, toy_game
torch.set_num_threads(1)
toy_game.GAMES["recall"] = "toy_game:Recall"
from playscale.study import train_job
train_job.main()
"""


@pytest.mark.slow
def test_two_processes_share_the_first_ones_directory_and_make_the_points_of_one(recall, s3, tmp_path):
    spec = yaml.safe_dump(SPEC | {"source": {"corpus": recall.uri}})
    store = f"sqlite:///{tmp_path}/m.db"
    (run,) = steps.plan(spec, recall.uri, "s3://bucket/two", store)
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    said = forks.run_two_ranks(script, [str(SUPPORT), spec, run, "s3://bucket/two", store], tmp_path)
    assert f"train-{run}: done" in said[0]
    assert said[1] == ""
    alone = yaml.safe_dump(yaml.safe_load(spec) | {"name": "alone"})
    steps.plan(alone, recall.uri, "s3://bucket/one", store)
    steps.train(alone, run, "s3://bucket/one", store)
    for one, two in zip(*(read_points(s3 / out / "train" / run / "points.csv") for out in ("one", "two")), strict=True):
        assert two.dev_loss == pytest.approx(one.dev_loss, rel=1e-3)
        assert (two.samples, two.flops, two.params) == (one.samples, one.flops, one.params)


def test_the_processes_of_a_run_are_on_one_machine(monkeypatch):
    from playscale.training import distributed

    group = distributed.Group(rank=1, size=4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "process_group", lambda: __import__("contextlib").nullcontext(group))
    with pytest.raises(ValueError, match="on the GPUs of one machine"):
        steps.train("name: x", "bc-lstm-8k-s0", "s3://bucket/x", "")
