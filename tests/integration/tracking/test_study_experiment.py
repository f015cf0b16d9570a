"""A study's experiment and its points are its own; runs that differ in settings alone are two."""

import pytest
import yaml

from playscale import __version__
from playscale.config import TrainConfig
from playscale.study import steps
from playscale.study.tracked_runs import log_points, run_labels, start_run
from playscale.tracking.client import TrackingClient
from playscale.tracking.mlflow_tracker import MlflowExperiment
from playscale.training.trainer import train

SIZES = {"sizes": ["8k"], "budgets": [2e7, 4e7], "training": {"batch": 4, "unroll": 8, "dev_samples": 100}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/m.db"


def test_study_of_a_name_that_another_one_has_is_refused_with_both_directories(recall, tmp_path, store):
    spec = yaml.safe_dump(SIZES | {"name": "mine", "game": "recall", "source": {"corpus": recall.uri}})
    first, second = tmp_path / "first", tmp_path / "second"
    (run,) = steps.plan(spec, recall.uri, str(first), store)
    TrackingClient("mine", store).connect().start("run", run)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"study 'mine' in {second} .* the study 'mine' in {first}; give"):
            steps.plan(spec, recall.uri, str(second), store)
        assert not (second / "plan.json").exists()
    first.rename(tmp_path / "moved")
    assert steps.plan(spec, recall.uri, str(tmp_path / "moved"), store) == [run]


def test_sweep_of_a_setting_in_one_experiment_keeps_every_run(recall, tmp_path, store):
    client = TrackingClient("sweep", store)
    trained = []
    for rate in (1e-3, 1e-2, 1e-3):
        config = TrainConfig(size="8k", budgets=(2e7,), batch=4, unroll=8, dev_samples=100, learning_rate=rate)
        with client.open(tmp_path / "spool") as experiment:
            record = start_run(experiment, config, recall.uri)
            points = train(config, tmp_path / str(rate), recall.uri, record)
            log_points(experiment, points, tmp_path / str(rate))
            record.finish()
        trained += points
    logged = client.query(MlflowExperiment.points)
    assert sorted((point.digest, point.dev_loss) for point in logged) == sorted(
        (point.digest, pytest.approx(point.dev_loss)) for point in trained[:2]
    )
    assert trained[2] == trained[0]
    runs = client.connect().runs("run")
    assert sorted(run.data.params["learning_rate"] for run in runs) == ["0.001", "0.01"]


def test_labels_say_what_made_a_run(monkeypatch):
    for name in ("KFP_RUN_ID", "PLAYSCALE_KFP_URL", "PLAYSCALE_REVISION"):
        monkeypatch.delenv(name, raising=False)
    assert run_labels() == {"playscale.version": __version__}
    monkeypatch.setenv("KFP_RUN_ID", "r1")
    monkeypatch.setenv("PLAYSCALE_REVISION", "unknown")
    assert run_labels("abc")["kfp.pipeline_run_url"] == "/#/runs/details/r1"
    assert run_labels("abc")["playscale.corpus"] == "abc"
    monkeypatch.setenv("PLAYSCALE_KFP_URL", "https://kubeflow/pipeline/")
    monkeypatch.setenv("PLAYSCALE_REVISION", "f00")
    assert run_labels()["kfp.pipeline_run_url"] == "https://kubeflow/pipeline/#/runs/details/r1"
    assert run_labels()["mlflow.source.git.commit"] == "f00"
