"""A study whose directory is in S3: a real server behind a faulty network; killed half-way and run again."""

import os
import time

import forks
import pytest
import s3_server
import toy_game
import yaml
from faulty_proxy import FAULTS, faulty

from playscale.agents.checkpoint import load_checkpoint
from playscale.points import read_points
from playscale.storage.files import read_json

pytestmark = pytest.mark.slow

SPEC = {
    "name": "far",
    "game": "recall",
    "method": ["bc", "kickstart"],
    "sizes": ["10k"],
    "seeds": [7],
    "budgets": [2e8, 4e8],
    "training": {"batch": 8, "unroll": 8, "save_seconds": 0.2},
    "rl": {"teacher": "bc", "max_steps": 60, "actors": 1, "discount": 0.9},
    "evaluate": {"episodes": 4, "max_steps": 60},
}


def start(folder, environment, log):
    command = ["study", "run", "far.yaml", "--out", "s3://bucket/far"]
    tracking = ["--tracking-uri", f"sqlite:///{folder}/mlflow.db"]
    return forks.start_command([*command, *tracking], folder, environment, log, log)


@pytest.fixture(scope="module")
def s3_study(tmp_path_factory):
    """Kill the study at its first checkpoint and run it again; its folder, the proxy, its log."""
    folder, root = tmp_path_factory.mktemp("study"), tmp_path_factory.mktemp("s3")
    for path in (root / "bucket", folder / "scratch"):
        path.mkdir()
    toy_game.record_games(root / "bucket" / "games", 16)
    (folder / "far.yaml").write_text(yaml.safe_dump(SPEC | {"source": {"games": "s3://bucket/games"}}))
    log = folder / "log"
    with s3_server.serve(root) as real, faulty(real, share=0.1) as (endpoint, proxy):
        environment = os.environ | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": s3_server.ACCESS,
            "AWS_SECRET_ACCESS_KEY": s3_server.SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "PLAYSCALE_SCRATCH": str(folder / "scratch"),
            "PYTHONPATH": toy_game.python_path(folder),
        }
        process = start(folder, environment, log)
        deadline = time.time() + 600
        while not list((root / "bucket/far/train").glob("*/checkpoints/*/checkpoint.json")):
            assert process.is_alive(), log.read_text()
            assert time.time() < deadline, "no checkpoint came to S3"
            time.sleep(0.1)
        process.kill()
        process.join()
        process = start(folder, environment, log)
        process.join(1100)
        said = log.read_text() + "".join(path.read_text() for path in folder.glob("out/far/*.log"))
        assert process.exitcode == 0, said[-4000:]
    return root / "bucket" / "far", proxy, (folder / "out" / "far" / "pipeline.log").read_text()


def test_study_leaves_all_of_its_files_in_s3_and_none_half_written(s3_study):
    out, *_ = s3_study
    points = read_points(out / "points.csv")
    assert {(p.method, p.flops) for p in points} == {(m, b) for m in SPEC["method"] for b in SPEC["budgets"]}
    assert all(p.return_mean is not None for p in points)
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"plan.json", "fit.json", "report.html", "corpus/corpus.json"} <= names
    assert not [name for name in names if "partial" in name or "/." in name]
    checkpoints = [path.parent for path in out.rglob("checkpoint.json")]
    assert len(checkpoints) >= len(points)
    assert all(load_checkpoint(path).weights for path in checkpoints)  # their SHA-256 are right


def test_log_says_what_the_steps_do_and_nothing_of_boto3(s3_study):
    *_, log = s3_study
    for what in (
        "collect: starts",
        "prepare: done after ",
        ": starts, ",
        "dev loss ",
        "saved at step ",
        ": checkpoint, ",
        "fit: done after",
    ):
        assert what in log
    assert "credentials" not in log


def test_kickstarted_run_reads_its_teacher_from_s3(s3_study):
    out, *_ = s3_study
    runs = read_json(out / "plan.json")["runs"]
    teachers = [run["rl"]["teacher"] for run in runs.values() if run["method"] == "kickstart"]
    assert teachers
    assert all(teacher.startswith("s3://bucket/far/train/") for teacher in teachers)


def test_study_meets_every_kind_of_network_fault(s3_study, capsys):
    """The schedule of the proxy has a fault of each kind within the first 150 requests; a study makes hundreds."""
    _, proxy, _ = s3_study
    assert set(proxy.injected) == set(FAULTS)
    with capsys.disabled():
        print(f"\nstudy in S3: {proxy.requests} requests, faults {dict(proxy.injected)}, points lost 0")
