"""What the Kubernetes API tells, where Kubeflow does not and a kubeconfig gives access; its server is a stand-in."""

from contextlib import contextmanager

import pytest
import yaml
from argo_workflow import OOM, in_loop, pod_name, task, workflow
from json_server import Handler, serving, url
from kfp_server import Backend, kfp_server

from playscale_pipelines.submit import reach
from playscale_pipelines.watch import explain, read_log, steps_of

TRAIN = f"{in_loop(1, 0)}.train"
FAILED = workflow(task(TRAIN, "Failed", [("Failed", OOM)], run="bc-lstm-10k-s0"))
WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows"


@contextmanager
def kubernetes_api(asked):
    """Serve the workflow of run-1 and the log of its pod; yield the URL."""

    class Kubernetes(Handler):
        def do_GET(self):
            asked.append(self.path)
            found = {
                f"{WORKFLOWS}?labelSelector=pipeline%2Frunid%3Drun-1": {"items": [FAILED]},
                f"/api/v1/namespaces/kubeflow/pods/{pod_name(TRAIN)}/log?container=main": "from the pod",
            }.get(self.path)
            self.answer(found or {}, 200 if found else 404)

    with serving(Kubernetes) as server:
        yield url(server)


def write_config(path, url):
    named = {"clusters": "cluster", "contexts": "context", "users": "user"}
    entries = {"cluster": {"server": url}, "context": {"cluster": "mine", "user": "mine"}, "user": {}}
    config = {many: [{"name": "mine", one: entries[one]}] for many, one in named.items()}
    path.write_text(yaml.safe_dump(config | {"current-context": "mine", "kind": "Config", "apiVersion": "v1"}))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A Kubeflow without its v1 API and without logs, and a Kubernetes API; the requests to the latter."""
    asked = []
    with kfp_server(Backend(v1=False)) as kubeflow, kubernetes_api(asked) as url:
        write_config(tmp_path / "config", url)
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
        yield kubeflow, asked


def test_steps_and_logs_come_from_kubernetes_where_kubeflow_has_none(server):
    kubeflow = reach(server[0])
    (step,) = steps_of(kubeflow, "run-1")
    assert (step.title, step.state, step.reason) == ("train bc-lstm-10k-s0", "failed", "OOMKilled (exit code 1)")
    assert read_log(kubeflow, "run-1", step.pods[0].name) == "from the pod"
    assert explain(kubeflow, "run-1", step)[1] == "| from the pod"


def test_run_that_kubernetes_does_not_know_has_kubeflows_list_of_tasks(server):
    steps = steps_of(reach(server[0], namespace="other"), "run-1")
    assert [step.title for step in steps][:1] == ["collect"]
    assert len(server[1]) == 1


def test_context_that_is_not_in_the_kubeconfig_is_named(server):
    with pytest.raises(ValueError, match=r"--kube-context yours: .*yours"):
        steps_of(reach(server[0], kube_context="yours"), "run-1")
