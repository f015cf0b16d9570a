"""Settings merged into the defaults of Argo's workflows, and taken out again; kubectl is one that keeps a file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ARGO = Path(__file__).parents[3] / "k8s" / "argo"
KUBECTL = """#!{python}
import json, sys
from pathlib import Path
state = Path({state!r})
found = json.loads(state.read_text())
assert sys.argv[1:3] == ["--namespace", found["metadata"]["namespace"]], sys.argv
if "get" in sys.argv:
    print(json.dumps(found))
else:
    patch = json.loads(sys.argv[-1])
    if patch["metadata"].pop("resourceVersion") != found["metadata"]["resourceVersion"]:
        sys.exit("Error from server (Conflict)")
    found["metadata"]["resourceVersion"] += "0"
    for there, new in ((found["metadata"].setdefault("annotations", {{}}), patch["metadata"]["annotations"]),
                       (found["data"], patch["data"])):
        there.update(new)
        for key in [key for key, value in there.items() if value is None]:
            del there[key]
    state.write_text(json.dumps(found))
"""
OF_KUBEFLOW = """# finished workflows are deleted after a week
spec:
  ttlStrategy:
    secondsAfterCompletion: 604800
  templateDefaults:
    retryStrategy:
      limit: "2"
      retryPolicy: OnError
  podGC: {strategy: OnPodCompletion}
"""
RETRIES, PRIORITY = ARGO / "retries.yaml", ARGO / "priority.yaml"


class Cluster:
    def __init__(self, folder):
        self.folder, self.state = folder, folder / "configmap.json"
        kubectl = folder / "kubectl"
        kubectl.write_text(KUBECTL.format(python=sys.executable, state=str(self.state)))
        kubectl.chmod(0o755)

    def holds(self, data, namespace="kubeflow"):
        metadata = {"name": "workflow-controller-configmap", "namespace": namespace, "resourceVersion": "7"}
        self.state.write_text(json.dumps({"metadata": metadata, "data": data}))

    @property
    def found(self):
        return json.loads(self.state.read_text())

    @property
    def defaults(self):
        return yaml.safe_load(self.found["data"]["workflowDefaults"])

    def run(self, *arguments):
        environment = os.environ | {"PATH": str(self.folder)}
        command = [sys.executable, ARGO / "defaults.py", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    made.holds({"workflowDefaults": OF_KUBEFLOW, "executor": "imagePullPolicy: IfNotPresent\n"})
    return made


def test_settings_are_merged_and_the_rest_stays(cluster):
    for file in (RETRIES, PRIORITY):
        result = cluster.run(file)
        assert (result.returncode, result.stderr) == (0, "")
    spec = cluster.defaults["spec"]
    assert spec["ttlStrategy"] == {"secondsAfterCompletion": 604800}
    assert spec["podGC"] == {"strategy": "OnPodCompletion"}
    assert spec["podPriorityClassName"] == "playscale-spot"
    retried = yaml.safe_load(RETRIES.read_text())["spec"]["templateDefaults"]["retryStrategy"]
    assert spec["templateDefaults"]["retryStrategy"] == retried
    assert (retried["limit"], retried["retryPolicy"]) == ("2", "Always")
    assert cluster.found["data"]["executor"] == "imagePullPolicy: IfNotPresent\n"


def test_merging_again_changes_nothing(cluster):
    cluster.run(RETRIES)
    before = cluster.found
    result = cluster.run(RETRIES)
    assert (result.returncode, "already" in result.stdout) == (0, True)
    assert cluster.found == before


@pytest.mark.parametrize("order", [(RETRIES, PRIORITY), pytest.param((PRIORITY, RETRIES), marks=pytest.mark.slow)])
def test_undo_in_any_order_brings_back_what_was_there(cluster, order):
    for file in (RETRIES, PRIORITY, RETRIES):
        cluster.run(file)
    for file in order:
        assert cluster.run(file, "--undo").returncode == 0
    assert cluster.defaults == yaml.safe_load(OF_KUBEFLOW)
    assert cluster.found["metadata"]["annotations"] == {}
    again = cluster.run(RETRIES, "--undo")
    assert (again.returncode, "was not merged" in again.stdout) == (0, True)


def test_undo_leaves_what_somebody_has_changed_since(cluster):
    cluster.run(RETRIES)
    found, defaults = cluster.found, cluster.defaults
    defaults["spec"]["templateDefaults"]["retryStrategy"]["limit"] = "5"
    found["data"]["workflowDefaults"] = yaml.safe_dump(defaults)
    cluster.state.write_text(json.dumps(found))
    cluster.run(RETRIES, "--undo")
    assert cluster.defaults["spec"]["templateDefaults"]["retryStrategy"] == {"limit": "5", "retryPolicy": "OnError"}


def test_an_upgrade_of_kubeflow_in_between_is_merged_again_and_undone_to_the_new_settings(cluster):
    cluster.run(RETRIES)
    found = cluster.found
    upgraded = OF_KUBEFLOW.replace("OnError", "OnTransientError")
    found["data"]["workflowDefaults"] = upgraded
    cluster.state.write_text(json.dumps(found))
    assert cluster.run(RETRIES).returncode == 0
    assert cluster.defaults["spec"]["templateDefaults"]["retryStrategy"]["retryPolicy"] == "Always"
    cluster.run(RETRIES, "--undo")
    assert cluster.defaults == yaml.safe_load(upgraded)


def test_a_config_map_without_defaults_has_none_again_after_undo(cluster):
    cluster.holds({"executor": "x"}, namespace="argo")
    assert cluster.run(RETRIES, "--namespace", "argo").returncode == 0
    assert set(cluster.found["data"]) == {"executor", "workflowDefaults"}
    assert cluster.run(RETRIES, "--namespace", "argo", "--undo").returncode == 0
    assert cluster.found["data"] == {"executor": "x"}


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        ({"config": "workflowDefaults: {}"}, 2, "one key `config`"),
        ({"workflowDefaults": "- a\n- b\n"}, 2, "no mapping"),
        ({"workflowDefaults": "spec: [1]\n"}, 2, "spec is no mapping"),
        ({"workflowDefaults": "spec: {"}, 2, "workflowDefaults"),
    ],
)
def test_a_config_map_that_cannot_be_merged_is_left_as_it_is_in_one_line(cluster, data, code, says):
    cluster.holds(data)
    result = cluster.run(RETRIES)
    assert (result.returncode, len(result.stderr.splitlines())) == (code, 1), result.stderr
    assert says in result.stderr
    assert cluster.found["data"] == data


def test_a_cluster_that_refuses_is_one_line(cluster):
    (cluster.folder / "kubectl").write_text("#!/bin/sh\necho 'Error from server (Forbidden): no' >&2\nexit 1\n")
    result = cluster.run(RETRIES)
    assert (result.returncode, result.stderr) == (1, "defaults.py: kubectl: Error from server (Forbidden): no\n")


def test_a_machine_without_kubectl_is_one_line(cluster):
    (cluster.folder / "kubectl").unlink()
    result = cluster.run(RETRIES)
    assert (result.returncode, result.stderr) == (2, "defaults.py: kubectl is not on PATH\n")
