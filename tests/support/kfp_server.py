"""The few endpoints of Kubeflow Pipelines' API that a submitted run needs, over real HTTP; runs nothing."""

import json
from contextlib import contextmanager

from argo_workflow import in_loop, task, workflow
from json_server import Handler, serving, url

API, V1, LOGS = "/apis/v2beta1", "/apis/v1beta1", "/apis/v1alpha1"
RUN = {"run_id": "run-1", "display_name": "smoke", "created_at": "2026-01-01T00:00:00Z"}
STATES = {"Running": "RUNNING", "Succeeded": "SUCCEEDED", "Failed": "FAILED", "Error": "FAILED", "Omitted": "SKIPPED"}


def some_workflows(ending="Succeeded"):
    """A run in four looks: collecting, then two runs are trained, the second of which ends as given."""
    collected = task("root.collect", "Succeeded", ["Succeeded"])
    first, second = (in_loop(1, i) + ".train" for i in (0, 1))
    trained = [task(first, "Succeeded", ["Succeeded"], run="bc-lstm-10k-s0")]
    return [
        workflow(task("root.collect", "Running", ["Running"])),
        workflow(collected, task(first, "Running", ["Running"], run="bc-lstm-10k-s0")),
        workflow(collected, *trained, task(second, "Running", ["Running"], run="bc-lstm-20k-s0")),
        workflow(collected, *trained, task(second, ending, [ending], run="bc-lstm-20k-s0")),
    ]


class Backend:
    """What the server is told and tells.

    endings: the states that runs come to, one after the other
    broken: requests to answer with 503
    workflows: the Argo workflow of the run at each look; the run has ended at the last
    logs: by pod
    v1: whether it has the API of version 1, too
    """

    def __init__(self, *endings, broken=0, token=None, workflows=None, logs=(), v1=True):
        self.endings, self.broken, self.token = endings or ("SUCCEEDED",), broken, token
        self.given, self.logs, self.v1 = workflows, dict(logs), v1
        self.experiments, self.runs, self.looks = [], [], 0

    def run(self, body):
        self.runs.append(body)
        self.looks = 0
        return RUN | {"state": "PENDING"}

    @property
    def ending(self):
        return self.endings[max(0, len(self.runs) - 1)]

    @property
    def workflows(self):
        return self.given or some_workflows("Failed" if self.ending == "FAILED" else "Succeeded")

    @property
    def workflow(self):
        return self.workflows[min(self.looks, len(self.workflows)) - 1]

    def look(self):
        self.looks += 1
        tasks = [
            {"task_id": name, "display_name": node["displayName"], "state": STATES[node["phase"]]}
            for name, node in self.workflow["status"]["nodes"].items()
            if node["phase"] in STATES
        ]
        state = self.ending if self.looks >= len(self.workflows) else "RUNNING"
        given = self.runs[-1]["runtime_config"] if self.runs else {}
        return RUN | {"runtime_config": given} | {"state": state, "run_details": {"task_details": tasks}}


class Kubeflow(Handler):
    def do_GET(self):
        backend, path = self.server.backend, self.path.split("?")[0]
        if backend.token and self.headers.get("Authorization") != f"Bearer {backend.token}":
            return self.answer("no", 401)
        if path == f"{API}/runs/run-1" and backend.looks == 2 and backend.broken:
            backend.broken -= 1
            return self.answer("no", 503)
        if path.startswith(f"{LOGS}/runs/run-1/nodes/"):
            return self.log(path.split("/")[-2])
        found = self.found(path)
        return self.answer({"error": path}, 404) if found is None else self.answer(found)

    def found(self, path):
        backend = self.server.backend
        if path == f"{V1}/runs/run-1" and backend.v1:
            return {"pipeline_runtime": {"workflow_manifest": json.dumps(backend.workflow)}}
        if path == f"{API}/runs/run-1":
            return backend.look()
        return {
            f"{API}/healthz": {"multi_user": False},
            f"{API}/experiments": {"experiments": backend.experiments},
            f"{API}/runs": {"runs": [RUN | {"runtime_config": run["runtime_config"]} for run in backend.runs]},
        }.get(path)

    def log(self, pod):
        """Answer as Kubeflow does: with status 200, whatever happens."""
        self.answer(self.server.backend.logs.get(pod, json.dumps({"error_message": "no such pod"})))

    def do_POST(self):
        backend = self.server.backend
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.split("?")[0] == f"{API}/experiments":
            backend.experiments.append({"experiment_id": "experiment-1", "display_name": body["display_name"]})
            return self.answer(backend.experiments[-1])
        if self.path.split("?")[0] == f"{API}/runs":
            return self.answer(backend.run(body))
        return self.answer({"error": self.path}, 404)


@contextmanager
def kfp_server(backend):
    """Its URL, while inside."""
    with serving(Kubeflow, backend=backend) as server:
        yield url(server)
