"""Every kustomization is built by kustomize itself (in kubectl) and valid in three Kubernetes versions' schemas."""

import json
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api import models

from playscale.study import kubernetes_api, train_job
from playscale_pipelines.pods import Pods

ROOT = Path(__file__).parents[3]
K8S = ROOT / "k8s"
VERSIONS = ("1.35", "1.36", "1.37")
FOLDERS = sorted(path.parent.relative_to(K8S).as_posix() for path in K8S.rglob("kustomization.yaml"))
CUSTOM = {"TrainingRuntime", "TrainJob"}


def build(folder):
    """What `kubectl kustomize` makes of a folder, without asking any cluster or network."""
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([kubectl, "kustomize", K8S / folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()
    return list(yaml.safe_load_all(done.stdout))


def find(documents, kind, name):
    (found,) = [d for d in documents if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return found


def test_every_folder_is_there():
    assert FOLDERS == ["base", "overlays/gpu", "overlays/kind", "train", "train/runtime"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_built_and_valid(folder):
    documents = build(folder)
    assert {d["kind"] for d in documents if "kubeflow.org" in d["apiVersion"]} <= CUSTOM
    for version in VERSIONS:
        for document in documents:
            if document["kind"] not in CUSTOM:
                kubernetes_validate.validate(document, version, strict=True)


def test_overlays_change_what_they_say():
    hard = {
        f: find(build(f), "ResourceQuota", "playscale")["spec"]["hard"] for f in FOLDERS if not f.startswith("train")
    }
    assert hard["overlays/kind"]["requests.cpu"] == "2"
    assert hard["overlays/gpu"] == hard["base"]
    gpus = find(build("overlays/gpu"), "ResourceQuota", "playscale-gpus")
    assert gpus["metadata"]["namespace"] == "kubeflow"
    assert gpus["spec"]["hard"] == {"requests.nvidia.com/gpu": "8"}


def test_training_is_interrupted_and_interrupts_nobody():
    documents = build("base")
    spot, server = (find(documents, "PriorityClass", f"playscale-{name}") for name in ("spot", "server"))
    assert spot["value"] < 0 < server["value"]
    assert spot["preemptionPolicy"] == "Never"
    assert not spot.get("globalDefault")


@pytest.mark.parametrize("kind", ["TrainJob", "TrainingRuntime"])
def test_custom_resources_have_the_fields_that_trainer_knows(kind):
    """Kubeflow's models drop what they do not know, and refuse what has another type."""
    (document,) = [d for d in build("train") if d["kind"] == kind]
    model = getattr(models, f"TrainerV1alpha1{kind}")
    assert model.from_dict(document).to_dict() == document
    unknown = json.loads(json.dumps(document).replace("template", "templates").replace("numNodes", "nodes"))
    assert unknown != document
    with pytest.raises((AssertionError, ValueError)):
        assert model.from_dict(unknown).to_dict() == unknown


def runtime_pod(documents):
    (job,) = find(documents, "TrainingRuntime", "playscale-torch")["spec"]["template"]["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pod_of_a_train_job_is_a_valid_pod(version):
    pod = runtime_pod(build("train"))
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"} | pod["metadata"], "spec": pod["spec"]}
    kubernetes_validate.validate(document, version, strict=True)
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "playscale/playscale:0.2.0"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_train_job_asks_for_as_many_gpus_as_processes():
    job = find(build("train"), "TrainJob", "playscale-bc")["spec"]
    assert job["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org",
        "kind": "TrainingRuntime",
        "name": "playscale-torch",
    }
    trainer = job["trainer"]
    gpus = {kind: trainer["resourcesPerNode"][kind]["nvidia.com/gpu"] for kind in ("requests", "limits")}
    assert set(gpus.values()) == {str(trainer["numProcPerNode"])}


def test_the_command_of_a_train_job_is_one_that_playscale_knows():
    """Its options parse: the one complaint is about the corpus, which is not there."""
    command = find(build("train"), "TrainJob", "playscale-bc")["spec"]["trainer"]["command"]
    assert command[:3] == ["torchrun", "-m", "playscale.cli"]
    local = [a.replace("s3://my-playscale/corpora/nld-aa", "/nowhere") for a in command[3:]]
    local = [a for a in local if not a.startswith(("--experiment", "--out"))]
    done = subprocess.run(
        [sys.executable, "-m", "playscale.cli", *local, "--out=/nowhere/out"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "/nowhere" in done.stderr
    assert "No such option" not in done.stderr


def test_settings_of_a_train_job_are_the_chart_s():
    values = yaml.safe_load((ROOT / "charts/playscale/values.yaml").read_text(encoding="utf-8"))["pipeline"]
    (container,) = runtime_pod(build("train"))["spec"]["containers"]
    assert container["envFrom"] == [
        {"configMapRef": {"name": values["settingsName"], "optional": True}},
        {"secretRef": {"name": values["secretName"], "optional": True}},
        {"secretRef": {"name": values["loginName"], "optional": True}},
    ]
    assert runtime_pod(build("train"))["spec"]["serviceAccountName"] == values["serviceAccount"]["name"]


def test_the_example_writes_to_the_claim_that_comes_with_it():
    documents = build("train")
    claim = find(documents, "PersistentVolumeClaim", "playscale-train")
    (patch,) = find(documents, "TrainJob", "playscale-bc")["spec"]["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]["template"]["spec"]
    (volume,), (container,) = spec["volumes"], spec["containers"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/out"}]


def test_a_machine_that_is_taken_away_does_not_count_as_a_failure_of_training():
    (job,) = find(build("train/runtime"), "TrainingRuntime", "playscale-torch")["spec"]["template"]["spec"][
        "replicatedJobs"
    ]
    job = job["template"]
    for version in VERSIONS:
        document = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": job["spec"]}
        kubernetes_validate.validate(document, version, strict=True)
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")


TRAINJOBS = {"gpus": 4, "cpu": 32, "memory": "128Gi", "tolerations": [{"key": "nvidia.com/gpu"}]}
STUDY_SPEC = "{name: mine, game: nethack, source: {corpus: s3://c}, sizes: [1M], budgets: [1e9, 2e9]}"


@pytest.fixture
def job_of_a_study(monkeypatch):
    """The TrainJob that a step makes, with every setting that reaches it."""
    for name in train_job.POD:
        monkeypatch.setenv(name, name.lower().replace("_", "-"))
    given = {"labels": {"team": "games"}, "image_pull_secrets": ["registry"]}
    train = TRAINJOBS | {"node_selector": {"pool": "spot"}, "trainjob": {"queue": "games"}}
    template = json.loads(Pods.model_validate(given | {"train": train}).train_job())
    return train_job.complete(template, [STUDY_SPEC, "bc-lstm-1m-s0", "s3://b/mine", ""], 4, "nvidia.com/gpu")


def test_the_train_job_of_a_study_has_the_fields_that_trainer_knows(job_of_a_study):
    assert models.TrainerV1alpha1TrainJob.from_dict(job_of_a_study).to_dict() == job_of_a_study


def test_managers_of_patches_are_a_domain_and_a_path(job_of_a_study):
    """Kubeflow Trainer's webhook refuses others, which its schema does not say."""
    for job in (job_of_a_study, find(build("train"), "TrainJob", "playscale-bc")):
        (patch,) = job["spec"]["runtimePatches"]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-z]+", patch["manager"])


def test_the_train_job_of_a_study_has_the_runtime_of_the_kustomization_and_changes_its_container(job_of_a_study):
    documents = build("train/runtime")
    reference = job_of_a_study["spec"]["runtimeRef"]
    runtime = find(documents, reference["kind"], reference["name"])
    assert runtime["apiVersion"].startswith(reference["apiGroup"])
    assert runtime["metadata"]["namespace"] == "kubeflow"
    (patch,) = job_of_a_study["spec"]["runtimePatches"]
    (patched,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert patched["name"] == job["name"] == kubernetes_api.CONTAINER
    assert [one["name"] for one in job["template"]["spec"]["template"]["spec"]["containers"]] == [
        kubernetes_api.CONTAINER
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pod_of_a_study_s_train_job_is_a_valid_pod(job_of_a_study, version):
    """As Kubeflow Trainer puts it together from the runtime and the TrainJob."""
    pod, trainer = runtime_pod(build("train/runtime")), job_of_a_study["spec"]["trainer"]
    (patch,) = job_of_a_study["spec"]["runtimePatches"]
    (patched,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    own = patched["template"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    container |= {"image": trainer["image"], "command": trainer["command"], "env": trainer["env"]}
    container["resources"] = trainer["resourcesPerNode"]
    metadata = {"name": "p", "labels": pod["metadata"]["labels"] | own["metadata"]["labels"]}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"] | own["spec"]}
    kubernetes_validate.validate(document, version, strict=True)
    assert metadata["labels"]["app.kubernetes.io/component"] == "train"


def test_the_kind_cluster():
    cluster = yaml.safe_load((K8S / "kind/cluster.yaml").read_text(encoding="utf-8"))
    assert (cluster["apiVersion"], cluster["kind"]) == ("kind.x-k8s.io/v1alpha4", "Cluster")
    assert [node["role"] for node in cluster["nodes"]] == ["control-plane", "worker"]


def test_gpu_operator_values_know_the_toleration_of_gpu_nodes():
    values = yaml.safe_load((K8S / "gpu-operator/values.yaml").read_text(encoding="utf-8"))
    assert "nvidia.com/gpu" in json.dumps(values["daemonsets"]["tolerations"])
