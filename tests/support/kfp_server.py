"""The few endpoints of Kubeflow Pipelines' v2beta1 API that a submitted run needs, over real HTTP; runs nothing."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

API = "/apis/v2beta1"
RUN = {"run_id": "run-1", "display_name": "smoke", "created_at": "2026-01-01T00:00:00Z"}
STEPS = ("collect", "train", "train")


class Backend:
    """What the server is told and tells. ending: the state that runs come to; broken: requests to answer with 503."""

    def __init__(self, ending="SUCCEEDED", broken=0, token=None):
        self.ending, self.broken, self.token = ending, broken, token
        self.experiments, self.runs, self.looks = [], [], 0

    def run(self, body):
        self.runs.append(body)
        return RUN | {"state": "PENDING"}

    def look(self):
        """A run, one task further each time: the last task ends as the run does."""
        self.looks += 1
        ended = self.looks > len(STEPS)
        tasks = [{"task_id": "root", "display_name": "root", "state": "RUNNING"}]
        for i, name in enumerate(STEPS[: self.looks]):
            last = i == len(STEPS) - 1
            state = (self.ending if last else "SUCCEEDED") if i < self.looks - 1 else "RUNNING"
            tasks.append({"task_id": str(i), "display_name": name, "state": state, "parent_task_id": "root"})
            tasks.append(
                {"task_id": f"d{i}", "display_name": f"{name}-driver", "state": "SUCCEEDED", "parent_task_id": "root"}
            )
        state = self.ending if ended else "RUNNING"
        return RUN | {"state": state, "run_details": {"task_details": tasks}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        backend, path = self.server.backend, self.path.split("?")[0]
        if backend.token and self.headers.get("Authorization") != f"Bearer {backend.token}":
            return self.answer(401, None)
        if path == f"{API}/healthz":
            return self.answer(200, {"multi_user": False})
        if path == f"{API}/experiments":
            return self.answer(200, {"experiments": backend.experiments})
        if path == f"{API}/runs/run-1":
            if backend.looks == 2 and backend.broken:
                backend.broken -= 1
                return self.answer(503, None)
            return self.answer(200, backend.look())
        return self.answer(404, {"error": path})

    def do_POST(self):
        backend = self.server.backend
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.split("?")[0] == f"{API}/experiments":
            backend.experiments.append({"experiment_id": "experiment-1", "display_name": body["display_name"]})
            return self.answer(200, backend.experiments[-1])
        if self.path.split("?")[0] == f"{API}/runs":
            return self.answer(200, backend.run(body))
        return self.answer(404, {"error": self.path})

    def answer(self, status, body):
        content = b"no" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if body is None else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def kfp_server(backend):
    """Its URL, while inside."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.backend = backend
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
