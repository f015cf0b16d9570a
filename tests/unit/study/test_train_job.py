"""The TrainJob of a run: made, followed and cleaned up, against a stand-in for the Kubernetes API."""

import json
import logging
import os
import signal

import pytest
import yaml
from kubernetes_server import FORBIDDEN, JOBS, condition, ends, kubernetes_server

from playscale.processes import signals
from playscale.study import train_job
from playscale.study.train_job import job_name, train_by_job
from playscale_components.train_job import component
from playscale_pipelines.pods import Pods

RUN, OUT = "bc-lstm-100m-s0", "s3://bucket/studies/mine"
SPEC = yaml.safe_dump(
    {"name": "mine", "game": "nethack", "source": {"corpus": "s3://c"}, "sizes": ["1M"], "budgets": [1e9, 2e9]}
)
SETTINGS = {"train": {"gpus": 4, "cpu": 32, "memory": "128Gi", "trainjob": {"queue": "games"}}}
NAME = job_name(RUN, OUT)


@pytest.fixture
def kubernetes(monkeypatch, caplog):
    monkeypatch.setattr(train_job, "POLL", 0.0)
    monkeypatch.setattr("playscale.storage.sync.INTERVAL", 0.01)
    caplog.set_level(logging.INFO)
    with kubernetes_server(monkeypatch) as namespace:
        yield namespace


def train(spec=SPEC, gpus="4", settings=SETTINGS):
    job = Pods.model_validate(settings).train_job()
    return component.train.python_func(spec, RUN, OUT, "http://mlflow:5000", gpus, "nvidia.com/gpu", job)


def existing(kubernetes, **metadata):
    """The TrainJob that an earlier try has made."""
    arguments = [SPEC, RUN, OUT, "http://mlflow:5000"]
    job = train_job.complete(json.loads(Pods.model_validate(SETTINGS).train_job()), arguments, 4, "nvidia.com/gpu")
    job["metadata"] |= metadata
    kubernetes.add(job)
    return job


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "playscale.study.train_job"]


def test_job_is_made_followed_through_its_states_and_its_end_is_that_of_the_step(kubernetes, caplog):
    def admitted(job):
        job["status"]["conditions"][0]["status"] = "False"
        kubernetes.add_pod("node-0", "Pending", conditions=[
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
             "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: none"}])  # fmt: skip

    kubernetes.moves = [
        lambda job: None,
        lambda job: job.update(status={"conditions": [condition("Suspended")]}),
        admitted,
        lambda job: kubernetes.pods[0].update(status={"phase": "Running"}),
        lambda job: None,
        ends("Complete"),
    ]
    assert train() == f"{OUT}/train/{RUN}/checkpoints"
    assert lines(caplog) == [
        f"TrainJob {NAME}: {state}"
        for state in (
            "made",
            "waits for its pod, which Kubeflow Trainer makes",
            "waits in the queue games",
            "pod node-0 waits: Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu",
            "pod node-0 on n1: running",
            "complete",
        )
    ]
    assert kubernetes.made == 1


def test_job_has_the_settings_of_pods_the_command_and_the_pod_as_its_owner(kubernetes):
    kubernetes.moves = [ends("Complete")]
    train()
    job = kubernetes.jobs[NAME]
    assert job["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "step-1", "uid": "u-1"}]
    assert job["metadata"]["labels"] == {
        "app.kubernetes.io/part-of": "playscale",
        "app.kubernetes.io/component": "train",
        "kueue.x-k8s.io/queue-name": "games",
        "playscale/study": "mine",
        "playscale/run": RUN,
        "playscale/kubeflow-run": "run-1",
    }
    trainer = job["spec"]["trainer"]
    assert trainer["command"] == [
        "torchrun", "-m", "playscale.study.train_job", SPEC, RUN, OUT, "http://mlflow:5000",
    ]  # fmt: skip
    assert trainer["numProcPerNode"] == 4
    wanted = {"cpu": "32", "memory": "128Gi", "nvidia.com/gpu": "4"}
    assert trainer["resourcesPerNode"] == {"requests": wanted, "limits": wanted}
    assert {"name": "KFP_RUN_ID", "value": "run-1"} in trainer["env"]


def test_without_gpus_one_process_trains(kubernetes):
    kubernetes.moves = [ends("Complete")]
    train(gpus="0")
    trainer = kubernetes.jobs[NAME]["spec"]["trainer"]
    assert trainer["numProcPerNode"] == 1
    assert "nvidia.com/gpu" not in trainer["resourcesPerNode"]["limits"]


def test_references_are_trained_by_nothing():
    assert train_by_job("", "references", OUT, "", "4", "nvidia.com/gpu", "{}") == ""


def test_failed_job_names_its_reason_and_shows_the_end_of_its_pods_logs_once(kubernetes, caplog):
    ended = {"name": "node", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}

    def pod_fails(job):
        kubernetes.add_pod("node-0", "Failed", containerStatuses=[ended])
        kubernetes.logs["node-0"] = "first\nlast\n"

    def next_pod_fails(job):
        kubernetes.add_pod("node-1", "Failed", reason="Evicted", message="node is low on memory")
        ends("Failed", reason="FailedJobs", message="jobset failed due to one or more job failures")(job)

    kubernetes.moves = [pod_fails, lambda job: None, next_pod_fails]
    with pytest.raises(RuntimeError) as caught:
        train()
    assert str(caught.value) == (
        f"TrainJob {NAME} failed: FailedJobs: jobset failed due to one or more job failures; "
        "pod node-1: Evicted node is low on memory"
    )
    said = lines(caplog)
    assert said[1:4] == ["pod node-0 failed: OOMKilled (exit code 137)", "| first", "| last"]
    assert sum("node-0 failed" in line for line in said) == 1
    assert NAME in kubernetes.jobs


def test_the_end_of_a_log_is_that_of_the_training_and_not_of_torchrun(kubernetes, caplog):
    def pod_fails(job):
        kubernetes.add_pod("node-0", "Failed")
        kubernetes.logs["node-0"] = (
            f"20:01:22 train-{RUN}: failed after 13 s: the loss became nan at step 31\n[rank0]: Traceback\n"
            "E1130 22:30:30.7 17179 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode)\n===\n"
        )
        ends("Failed", reason="FailedJobs")(job)

    kubernetes.moves = [pod_fails]
    with pytest.raises(RuntimeError, match="FailedJobs; pod node-0: Failed: the loss became nan at step 31$"):
        train()
    assert lines(caplog)[-1] == "| [rank0]: Traceback"


def test_later_try_follows_the_job_of_an_earlier_one_and_owns_it(kubernetes):
    job = existing(kubernetes, ownerReferences=[{"apiVersion": "v1", "kind": "Pod", "name": "step-0", "uid": "u-0"}])
    kubernetes.moves = [lambda job: None, ends("Complete")]
    train()
    assert kubernetes.made == 1
    assert [owner["uid"] for owner in job["metadata"]["ownerReferences"]] == ["u-1"]


def test_later_try_takes_the_end_of_the_job_of_its_own_pipeline_run(kubernetes):
    ends("Complete")(existing(kubernetes))
    train()
    assert kubernetes.made == 1


@pytest.mark.parametrize(("run", "end"), [("run-0", "Complete"), ("run-1", "Failed")])
def test_job_that_failed_or_ended_in_another_pipeline_run_is_replaced(kubernetes, run, end):
    ends(end)(existing(kubernetes))
    kubernetes.jobs[NAME]["metadata"]["labels"]["playscale/kubeflow-run"] = run
    kubernetes.moves = [lambda job: None, ends("Complete")]
    train()
    assert kubernetes.made == 2
    assert f"DELETE {JOBS}/{NAME}" in kubernetes.asked


def test_job_that_is_being_deleted_is_waited_for(kubernetes):
    existing(kubernetes, deletionTimestamp="2026-11-30T20:01:00Z")
    kubernetes.moves = [lambda job: None, lambda job: kubernetes.jobs.clear(), ends("Complete")]
    train()
    assert kubernetes.made == 2


def test_job_that_trains_the_run_for_another_specification_is_left_alone(kubernetes):
    existing(kubernetes)["spec"]["trainer"]["command"][3] = "another"
    with pytest.raises(ValueError, match=f"TrainJob {NAME} trains this run for another specification: .*kubectl"):
        train()
    assert list(kubernetes.jobs) == [NAME]


def test_job_that_somebody_deletes_ends_the_step(kubernetes):
    kubernetes.moves = [lambda job: None, lambda job: kubernetes.jobs.clear(), lambda job: None]
    with pytest.raises(RuntimeError, match="somebody deleted it before its end"):
        train()


def stop(job):
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def signals_forgotten():
    """This process goes on after a signal that ended a step."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])
    signals._request.number = None


@pytest.mark.usefixtures("signals_forgotten")
@pytest.mark.parametrize("taken_over", [False, True])
def test_signal_deletes_the_job_unless_another_pod_follows_it_now(kubernetes, taken_over):
    def stops(job):
        if taken_over:
            job["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": "step-2", "uid": "u-2"}]
        stop(job)

    kubernetes.moves = [lambda job: None, stops]
    with pytest.raises(signals.Stopped):
        train()
    assert (NAME in kubernetes.jobs) == taken_over


def test_cluster_without_trainer_is_named(kubernetes):
    kubernetes.answers = [(404, "404 page not found")] * 2
    with pytest.raises(ValueError, match=r"the cluster has no TrainJobs .*install Kubeflow Trainer"):
        train()


def test_missing_right_is_named_with_what_gives_it(kubernetes):
    kubernetes.answers = [(404, {}), (403, {"kind": "Status", "message": FORBIDDEN})]
    with pytest.raises(
        ValueError, match=r"^the Kubernetes API: trainjobs\.trainer\.kubeflow\.org is forbidden: "
    ) as caught:
        train()
    assert str(caught.value).endswith("; the chart's pipeline.rbac.trainJobs gives the rights")


def test_refusal_of_trainers_own_is_passed_on_in_one_line(kubernetes):
    message = 'admission webhook "validator" denied the request:\nspec.runtimeRef: not found'
    kubernetes.answers = [(404, {}), (403, {"kind": "Status", "message": message})]
    with pytest.raises(ValueError, match='^the Kubernetes API: admission webhook "validator" denied .* not found$'):
        train()


def test_api_that_is_away_for_a_while_is_waited_for(kubernetes, caplog):
    busy = [(503, {"kind": "Status", "message": "etcd is away"}), (429, "slow down"), (500, "")]
    kubernetes.answers = [*busy, (404, {}), *busy]
    kubernetes.moves = [lambda job: None, lambda job: kubernetes.answers.extend(busy), ends("Complete")]
    train()
    assert kubernetes.made == 1
    assert "etcd is away" in caplog.text


def test_api_that_stays_away_fails_the_step_and_leaves_the_job(kubernetes, monkeypatch):
    monkeypatch.setattr("playscale.storage.sync.PATIENCE", 0.05)
    kubernetes.moves = [lambda job: kubernetes.answers.extend([(503, "")] * 1000)]
    with pytest.raises(OSError, match="the Kubernetes API: 503 Service Unavailable"):
        train()
    assert NAME in kubernetes.jobs


def test_failed_pod_whose_log_is_gone_is_named(kubernetes):
    def pod_fails(job):
        kubernetes.add_pod("node-0", "Failed")
        ends("Failed", reason="FailedJobs")(job)

    kubernetes.moves = [pod_fails]
    with pytest.raises(RuntimeError, match="failed: FailedJobs; pod node-0: Failed$"):
        train()


def test_outside_of_a_pod_there_is_one_line(monkeypatch):
    with pytest.raises(RuntimeError, match="POD_NAME is not set"):
        train()
    for name in train_job.POD:
        monkeypatch.setenv(name, "x")
    with pytest.raises(RuntimeError, match="a TrainJob is made by a pod of a cluster alone: Service host"):
        train()


@pytest.mark.parametrize("run", [RUN, "impala-transformer-1_000m-s12." + "x" * 60, "Kickstart"])
def test_names_leave_room_for_those_of_pods_and_are_labels_of_dns(run):
    name = job_name(run, OUT)
    assert len(f"{name}-node-0-0-abcde") <= 63
    assert name == name.lower()
    assert name.replace("-", "").isalnum()
    assert name.startswith("train-")
    assert job_name(run, f"{OUT}/") == name != job_name(run, f"{OUT}2")
