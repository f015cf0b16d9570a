"""Settings of pods: from YAML into the compiled pipeline, every one of them; mistakes are one line."""

import json
import re
from pathlib import Path

import pytest
import yaml

from playscale_pipelines.compile import compile_pipeline, read_pods
from playscale_pipelines.pods import COMPONENTS, OWN_POD, Pods

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "studies" / "pods").glob("*.yaml"))
RETRIES = ("maxRetryCount", "backoffDuration", "backoffFactor", "backoffMaxDuration")
EVERYTHING = """
every: {retries: 3, backoff: 45}
train:
  cpu: 6
  memory: 24Gi
  gpus: 2
  gpu_type: amd.com/gpu
  shared_memory: 3Gi
  node_selector: {pool: spot}
  tolerations: [{key: spot, operator: Equal, value: "true", effect: NoSchedule}]
  hours: 1.5
evaluate: {gpus: 1}
settings: other-settings
credentials: other-secret
login: other-login
labels: {team: games}
image_pull_policy: Always
image_pull_secrets: [registry]
run_as_user: 12345
"""


def executors(path):
    """By component, from a compiled pipeline: the container, the platform's part, and the task that uses them."""
    pipeline, platform = yaml.safe_load_all(path.read_text())
    tasks = [
        task
        for group in (pipeline["root"], *pipeline["components"].values())
        for task in group.get("dag", {}).get("tasks", {}).values()
    ]
    found = {}
    for name, component in pipeline["components"].items():
        if label := component.get("executorLabel"):
            (task,) = [task for task in tasks if task["componentRef"]["name"] == name]
            found[label.removeprefix("exec-")] = {
                "container": pipeline["deploymentSpec"]["executors"][label]["container"],
                "kubernetes": platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label],
                "task": task,
            }
    return found


def settings_table(path):
    """Every setting of every pod that a compiled pipeline holds, as the cluster gets to see it."""
    table = {}
    for name, part in executors(path).items():
        resources, kubernetes, task = part["container"]["resources"], part["kubernetes"], part["task"]
        table[name] = {
            "cpu": (resources["resourceCpuRequest"], resources["resourceCpuLimit"]),
            "memory": (resources["resourceMemoryRequest"], resources["resourceMemoryLimit"]),
            "gpus": tuple(resources.get("accelerator", {}).get(k) for k in ("resourceType", "resourceCount")),
            "threads": {each["name"]: each["value"] for each in part["container"]["env"]}["OMP_NUM_THREADS"],
            "shm": [(e["mountPath"], e["medium"], e["sizeLimit"]) for e in kubernetes.get("emptyDirMounts", [])],
            "selector": kubernetes.get("nodeSelector", {}).get("labels", {}),
            "tolerations": kubernetes.get("tolerations", []),
            "seconds": kubernetes["activeDeadlineSeconds"],
            "retries": tuple(task["retryPolicy"].get(key, 0) for key in RETRIES),
            "settings": [(e["configMapName"], e["optional"], len(e["keyToEnv"])) for e in kubernetes["configMapAsEnv"]],
            "credentials": [(e["secretName"], e["optional"], len(e["keyToEnv"])) for e in kubernetes["secretAsEnv"]],
            "labels": kubernetes["podMetadata"]["labels"],
            "pull": (kubernetes["imagePullPolicy"], [e["secretName"] for e in kubernetes.get("imagePullSecret", [])]),
            "user": tuple(kubernetes["securityContext"][key] for key in ("runAsUser", "runAsGroup", "runAsNonRoot")),
            "cached": task.get("cachingOptions", {}).get("enableCache", False),
        }
    return table


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pods")
    (folder / "pods.yaml").write_text(EVERYTHING)
    pods = read_pods(folder / "pods.yaml")
    study, forecast = (settings_table(compile_pipeline(folder, pods, name)) for name in ("study", "forecast"))
    return study | forecast


def test_every_setting_reaches_the_compiled_pipeline(everything):
    for name, row in everything.items():
        print(f"\n{name}: " + ", ".join(f"{key}={value}" for key, value in row.items()))
    gpus = "{{$.inputs.parameters['pipelinechannel--gpus']}}"
    assert everything["train"] == {
        "cpu": ("6", "6"),
        "memory": ("24Gi", "24Gi"),
        "gpus": ("amd.com/gpu", gpus),
        "threads": "6",
        "shm": [("/dev/shm", "Memory", "3Gi")],  # noqa: S108
        "selector": {"pool": "spot"},
        "tolerations": [{"key": "spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}],
        "seconds": "5400",
        "retries": (3, "45s", 2.0, "21600s"),
        "settings": [("other-settings", True, 7)],
        "credentials": [("other-secret", True, 2), ("other-login", True, 3)],
        "labels": {
            "app.kubernetes.io/part-of": "playscale",
            "app.kubernetes.io/component": "train",
            "team": "games",
        },
        "pull": ("Always", ["registry"]),
        "user": ("12345", "0", True),
        "cached": False,
    }
    assert everything["evaluate"]["gpus"] == ("nvidia.com/gpu", "1")
    assert everything["fit"]["gpus"] == (None, None)
    assert everything["collect"]["retries"][:2] == (3, "45s")
    assert everything["check"]["retries"][0] == 0
    kinds = {name.removesuffix("-2") for name in everything}
    assert kinds == set(COMPONENTS)
    for name, row in everything.items():
        assert row["labels"]["app.kubernetes.io/component"] == name.removesuffix("-2")


def test_the_example_of_a_shared_queue_trains_as_that_of_gpus():
    gpu, queue = (read_pods(ROOT / f"studies/pods/{name}.yaml") for name in ("gpu", "gpu-queue"))
    assert queue.train == gpu.train
    assert queue.labels == {"kueue.x-k8s.io/queue-name": "games"}


def test_with_kubeflows_own_mlflow_its_variables_are_left_to_kubeflow(tmp_path):
    (tmp_path / "pods.yaml").write_text("mlflow: kubeflow")
    found = executors(compile_pipeline(tmp_path, read_pods(tmp_path / "pods.yaml"), "study"))
    assert len(found) > 5
    for part in found.values():
        given = [pair["envVar"] for source in part["kubernetes"]["configMapAsEnv"] for pair in source["keyToEnv"]]
        given += [pair["envVar"] for source in part["kubernetes"]["secretAsEnv"] for pair in source["keyToEnv"]]
        assert "AWS_ENDPOINT_URL" in given
        assert not [name for name in given if name.startswith("MLFLOW_")]


@pytest.mark.slow
def test_the_number_of_gpus_is_a_text_parameter_that_the_training_tasks_take_in(tmp_path):
    path = compile_pipeline(tmp_path, Pods.model_validate({"train": {"gpus": 2}}))
    pipeline, _ = yaml.safe_load_all(path.read_text())
    parameter = pipeline["root"]["inputDefinitions"]["parameters"]["gpus"]
    assert (parameter["parameterType"], parameter["defaultValue"]) == ("STRING", "2")
    groups = [part["dag"]["tasks"] for part in pipeline["components"].values() if "dag" in part]
    loops = [task for group in groups for task in group.values() if "parameterIterator" in task]
    assert len(loops) == 2
    for loop in loops:  # kfp leaves it out of the loop by itself, and the driver would look for it in vain
        assert loop["inputs"]["parameters"]["pipelinechannel--gpus"] == {"componentInputParameter": "gpus"}
    taking = [part for name, part in executors(path).items() if name.startswith("train")]
    assert len(taking) == 2
    for part in taking:
        given = part["task"]["inputs"]["parameters"]["pipelinechannel--gpus"]
        assert given == {"componentInputParameter": "pipelinechannel--gpus"}


JOB = {"gpus": 4, "cpu": 32, "memory": "128Gi", "gpu_type": "amd.com/gpu", "hours": 1.5, "trainjob": {"queue": "games"}}


@pytest.mark.parametrize("name", ["study", "forecast"])
def test_step_that_follows_a_train_job_waits_in_a_small_pod_under_the_name_of_the_training(tmp_path, name):
    path = compile_pipeline(tmp_path, Pods.model_validate({"train": JOB | {"retries": 5, "backoff": 7}}), name)
    tables = {key: row for key, row in settings_table(path).items() if key.startswith("train")}
    assert tables
    for row in tables.values():
        assert (row["cpu"], row["memory"], row["gpus"]) == (("250m",) * 2, ("512Mi",) * 2, (None, None))
        assert (row["selector"], row["tolerations"], row["shm"]) == ({}, [], [])
        assert row["retries"][:2] == (5, "7s")
        assert int(row["seconds"]) > 3e7  # a wait in a queue has no end
        assert row["labels"] == {"app.kubernetes.io/part-of": "playscale", "app.kubernetes.io/component": "train"}
    for key, part in executors(path).items():
        fields = {one["name"] for one in part["kubernetes"]["fieldPathAsEnv"]}
        assert (set(OWN_POD) <= fields) == key.startswith("train")
        if key.startswith("train"):
            given = part["task"]["inputs"]["parameters"]
            assert given["gpus"] == {"componentInputParameter": "pipelinechannel--gpus"}
            assert given["gpu_type"]["runtimeValue"]["constant"] == "amd.com/gpu"
            json.loads(given["job"]["runtimeValue"]["constant"])


def test_train_job_has_the_environment_of_a_step_and_the_limits_of_its_settings():
    pods = Pods.model_validate(yaml.safe_load(EVERYTHING) | {"train": JOB | {"node_selector": {"pool": "spot"}}})
    job = json.loads(pods.train_job())
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "games"
    assert job["metadata"]["labels"]["team"] == "games"
    assert job["spec"]["activeDeadlineSeconds"] == 5400
    trainer = job["spec"]["trainer"]
    assert trainer["resourcesPerNode"]["requests"] == {"cpu": "32", "memory": "128Gi"}
    sources = {one["name"]: one["valueFrom"] for one in trainer["env"] if "valueFrom" in one}
    assert sources["AWS_ENDPOINT_URL"]["configMapKeyRef"]["name"] == "other-settings"
    assert sources["AWS_ACCESS_KEY_ID"]["secretKeyRef"]["name"] == "other-secret"
    assert sources["MLFLOW_TRACKING_TOKEN"]["secretKeyRef"]["name"] == "other-login"
    assert len(sources) == 12
    assert all(next(iter(source.values()))["optional"] for source in sources.values())
    (patch,) = job["spec"]["runtimePatches"]
    (part,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = part["template"]["spec"]["template"]
    assert pod["spec"] == {"nodeSelector": {"pool": "spot"}, "imagePullSecrets": [{"name": "registry"}]}
    assert "kueue.x-k8s.io/queue-name" not in pod["metadata"]["labels"]


@pytest.mark.slow
def test_no_retries_are_said_to_kubeflow_too(tmp_path):
    """A task that says nothing has the retries that Argo gives to all."""
    found = executors(compile_pipeline(tmp_path, Pods.model_validate({"every": {"retries": 0}})))
    assert {name: part["task"]["retryPolicy"].get("maxRetryCount", 0) for name, part in found.items()} == dict.fromkeys(
        found, 0
    )


def dags(pipeline):
    """The tasks of each pipeline within a compiled one, by component; of the whole under "root"."""
    parts = {"root": pipeline["root"]} | pipeline["components"]
    return {name: part["dag"]["tasks"] for name, part in parts.items() if "dag" in part}


def given_value(pipeline, component, task, name, above):
    """Follow a task's input parameter up through the pipelines around it; return the parameter of the whole, or value.

    above: by component, the component and the name of the task that it is
    """
    parameter = dags(pipeline)[component][task]["inputs"]["parameters"]
    if not (passed := parameter[name].get("componentInputParameter")):
        return parameter[name]["runtimeValue"]["constant"]
    if component not in above:
        return f"root: {passed}"
    return given_value(pipeline, *above[component], passed, above)


@pytest.mark.slow
def test_the_number_of_gpus_comes_through_all_nested_pipelines_to_each_training_task(tmp_path):
    path = compile_pipeline(tmp_path, Pods())
    pipeline, _ = yaml.safe_load_all(path.read_text())
    above = {
        task["componentRef"]["name"]: (group, name)
        for group, tasks in dags(pipeline).items()
        for name, task in tasks.items()
    }
    training = [component for component in above if re.fullmatch(r"comp-train(-\d)?", component)]
    assert len(training) == 2
    for component in training:
        group, task = above[component]
        count = given_value(pipeline, group, task, "accelerator_count", above)
        assert count == "{{$.inputs.parameters['pipelinechannel--gpus']}}"
        assert given_value(pipeline, group, task, "pipelinechannel--gpus", above) == "root: gpus"
        around = [group]
        while around[-1] in above:
            around.append(above[around[-1]][0])
        assert [re.sub(r"^comp-|(-\d+)+$", "", name) for name in around] in (
            ["for-loop", "runs", "grid", "root"],
            ["for-loop", "runs", "taught", "grid", "root"],
        )


def test_runs_of_one_pod_are_planned_as_groups_whose_evaluation_follows_a_failed_training(tmp_path):
    alone, together = (
        next(iter(yaml.safe_load_all(compile_pipeline(tmp_path, Pods.model_validate(given)).read_text())))
        for given in ({}, {"train": {"together": 3}})
    )
    assert alone["root"]["inputDefinitions"] == together["root"]["inputDefinitions"]  # what `kfp run create` gives
    for pipeline, number, follows in ((alone, 1, False), (together, 3, True)):
        groups = list(dags(pipeline).values())
        planned = [tasks["plan"]["inputs"]["parameters"]["together"] for tasks in groups if "plan" in tasks]
        assert planned == [{"runtimeValue": {"constant": number}}] * 2
        played = [tasks["evaluate"] for tasks in groups if "evaluate" in tasks]
        assert len(played) == 2
        for task in played:
            assert task["dependentTasks"] == ["train"]
            assert ("triggerPolicy" in task) == follows
            assert ("taskOutputParameter" in task["inputs"]["parameters"]["checkpoints"]) != follows


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_settings(path):
    pods = read_pods(path)
    assert pods.train.gpus == (4 if "trainjob" in path.name else 1 if "gpu" in path.name else 0)
    assert pods.train.retries == (8 if "spot" in path.name else 2)
    assert pods.evaluate.shared_memory == "1Gi"  # a default that the file does not name stays


def test_pods_on_a_laptop_are_small_and_those_of_the_charts_example():
    (path,) = [path for path in EXAMPLES if path.name == "kind.yaml"]
    pods = read_pods(path)
    assert {(getattr(pods, name).cpu, getattr(pods, name).memory) for name in COMPONENTS} == {("500m", "2Gi")}
    example = yaml.safe_load((ROOT / "charts/playscale/examples/kind.yaml").read_text())
    assert example["pipeline"]["upload"]["pods"] == yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {gpu: 1}", "unknown key 'train.gpu'; did you mean 'gpus'?"),
        ("trian: {gpus: 1}", "unknown key 'trian'; did you mean 'train'?"),
        ("every: {gpu: 1}", "unknown key 'collect.gpu'; did you mean 'gpus'?"),
        ("train: {memory: lots}", "train.memory: must match"),
        ("evaluate: {together: 8}", "unknown key 'evaluate.together'"),
        ("train: {together: 0}", "train.together: "),
        ("train: {trainjob: {que: a}}", "unknown key 'train.trainjob.que'; did you mean 'queue'?"),
        ("train: {trainjob: {}, together: 2}", "train: together: a TrainJob trains one run"),
        (
            "{mlflow: kubeflow, train: {trainjob: {}}}",
            "mlflow: Kubeflow's plugin sets nothing in the pods of TrainJobs",
        ),
        ("evaluate: {trainjob: {}}", "unknown key 'evaluate.trainjob'"),
        ("train: {tolerations: [{kee: x}]}", "unknown key 'train.tolerations.0.kee'; did you mean 'key'?"),
        ("image_pull_policy: Sometimes", "image_pull_policy: must be"),
        ("- train", "expected a mapping of keys"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(tmp_path, text, said):
    path = tmp_path / "pods.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"pods\.yaml(, line \d+)?: ") as caught:
        read_pods(path)
    assert said in str(caught.value)


def test_the_checked_in_pipeline_is_what_compiles_now(cli, tmp_path, monkeypatch):
    monkeypatch.delenv("PLAYSCALE_IMAGE", raising=False)
    assert cli("compile", "--out", tmp_path, cwd=ROOT).returncode == 0
    for name in ("study.yaml", "forecast.yaml"):
        new, kept = (folder / name for folder in (tmp_path, ROOT / "pipelines" / "compiled"))
        assert new.read_text() == kept.read_text(), "pipelines/compiled is stale: run `playscale compile`"
