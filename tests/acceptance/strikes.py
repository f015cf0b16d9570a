"""What is done to the pods of a study while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from .cluster import Cluster, expect, until
from .release import RELEASE

RETRIES = 2  # of every step, in studies.py
FIND = """
import glob, os
def size(pid):
    return int(open(f"/proc/{pid}/status").read().split("VmRSS:")[1].split()[0])
lines = [line for line in glob.glob("/proc/[0-9]*/cmdline") if b"executor_main" in open(line, "rb").read()]
pids = [pid for line in lines if (pid := int(line.split("/")[2])) != os.getpid()]  # this code names it, too
found = max(pids, key=size)
"""
SIZE = f"{FIND}print(size(found))"
KILL = f"{FIND}os.kill(found, 9)"
# Many small processes, so that the largest one is the training: the kernel ends the largest.
FILL = """
import os, time
for _ in range(60):
    if not os.fork():
        block = bytearray(100 << 20)
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(60)
        os._exit(0)
    time.sleep(0.2)
"""
LOADED = 200_000  # kB: a training process has imported its packages


class Strikes:
    """Strikes on the training pods of one run of the pipeline; no step is struck more often than it is tried again."""

    def __init__(self, cluster: Cluster, run_id: str, most: int = RETRIES) -> None:
        self._cluster, self._run, self._most = cluster, run_id, most
        self._struck: Counter[str] = Counter()
        self._pods: set[str] = set()

    def kill_process(self) -> str:
        """Kill a training process, as the kernel does; return what was done."""
        return self._strike("process killed", lambda pod: self._inside(pod, KILL))

    def delete_pod(self) -> str:
        """Delete a training pod, as a spot node that goes does; return what was done."""
        return self._strike("pod deleted", lambda pod: self._kubectl("delete", "pod", pod, "--wait=false"))

    def exhaust_memory(self) -> str:
        """Use up a training pod's memory, so that the kernel kills the training; return what was done."""
        return self._strike("out of memory", lambda pod: self._inside(pod, FILL, check=False))

    def _strike(self, what: str, act: Callable[[str], object]) -> str:
        pod = until(400, f"a training pod to strike ({what})", self._training)
        name, step = pod["metadata"]["name"], _step(pod)
        act(name)
        self._pods.add(name)
        self._struck[step] += 1
        return what

    def _training(self) -> dict[str, Any] | None:
        """Return a pod whose process trains, was not struck yet, and whose step will be tried again."""
        selector = f"pipeline/runid={self._run},app.kubernetes.io/component=train"
        for pod in self._cluster.pods(selector, self._cluster.kubeflow):
            name = pod["metadata"]["name"]
            fresh = name not in self._pods and self._struck[_step(pod)] < self._most
            if fresh and pod["status"].get("phase") == "Running" and self._size(name) > LOADED:
                return pod
        return None

    def _size(self, pod: str) -> int:
        """Return the memory of the training process in kB; 0 where there is none."""
        last = self._inside(pod, SIZE, check=False).strip().splitlines()[-1:]
        return int(last[0]) if last and last[0].isdigit() else 0

    def _inside(self, pod: str, code: str, **options: Any) -> str:
        return self._kubectl("exec", pod, "-c", "main", "--", "python3", "-c", code, **options)

    def _kubectl(self, *arguments: str, **options: Any) -> str:
        return self._cluster.kubectl(*arguments, namespace=self._cluster.kubeflow, **options)


def _step(pod: dict[str, Any]) -> str:
    """Return the step's name in the workflow, the same at each try."""
    return str(pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"]).rpartition("(")[0]


def delete_server(cluster: Cluster, component: str) -> str:
    """Delete a server's pod; what it serves is gone for a while."""
    expect(cluster.pods(_server(component)), f"no pod of {component}")
    cluster.kubectl("delete", "pod", "-l", _server(component), "--wait=false")
    return f"{component} deleted"


def wait_for_server(cluster: Cluster, component: str) -> None:
    """Wait until a server is ready. Failed: not within minutes."""

    def ready() -> bool:
        pods = cluster.pods(_server(component))
        return bool(pods) and all(_ready(pod) for pod in pods)

    until(240, f"{component} ready again", ready)


def _server(component: str) -> str:
    return f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"


def _ready(pod: dict[str, Any]) -> bool:
    conditions: Sequence[dict[str, str]] = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
