"""Several runs in one pod, the study in S3: the same points as of each run alone; a hopeless one is named."""

import pytest
import yaml

from playscale.points import read_points
from playscale.study import steps

HOPELESS = "bc-lstm-8k-s1"
SPEC = {
    "name": "group",
    "game": "recall",
    "sizes": ["8k"],
    "seeds": [0, 1, 2],
    "budgets": [2e7, 4e7],
    "training": {"batch": 4, "unroll": 8, "dev_samples": 100},
    "evaluate": {"episodes": 2, "max_steps": 60},
}


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_a_hopeless_run_leaves_the_points_of_its_group_as_they_are_without_it(recall, s3, tmp_path):
    spec = yaml.safe_dump(SPEC | {"source": {"corpus": recall.uri}})
    out, alone, store = "s3://bucket/group", str(tmp_path / "alone"), f"sqlite:///{tmp_path}/m.db"
    (group,) = steps.plan(spec, recall.uri, out, store, together=3)
    (s3 / "group" / "train" / HOPELESS).mkdir(parents=True)
    (s3 / "group" / "train" / HOPELESS / "run.json").write_text("{}")
    with pytest.raises(RuntimeError, match=f"^train: 1 of 3 runs failed: {HOPELESS}: "):
        steps.train(spec, group, out, store)
    steps.evaluate(spec, group, "", out, store)
    steps.evaluate(spec, steps.REFERENCES, "", out, store)
    with pytest.raises(RuntimeError, match=f"^{HOPELESS}: not trained$"):
        steps.check(spec, out)
    assert not list(s3.rglob("*.begun"))
    for run in steps.plan(yaml.safe_dump(yaml.safe_load(spec) | {"name": "alone"}), recall.uri, alone, store):
        if run != HOPELESS:
            saved = steps.train(spec, run, alone, store)
            steps.evaluate(spec, run, saved, alone, store)
            for step in ("train", "evaluate"):
                here, there = (read_points(f"{root}/{step}/{run}/points.csv") for root in (alone, s3 / "group"))
                assert [(p.flops, p.dev_loss, p.return_mean) for p in here] == [
                    (p.flops, p.dev_loss, p.return_mean) for p in there
                ]
                assert len(here) == 2
