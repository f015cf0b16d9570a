"""The cluster, by kubectl and helm."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


class Failed(AssertionError):
    """What was seen is not what is promised."""


@dataclass(frozen=True)
class Cluster:
    """Where everything is.

    Attributes:
        image: The image that the nodes have, REPOSITORY:TAG.
        endpoint: The API of Kubeflow Pipelines, as seen from here.
        kubeflow: The namespace in which it runs pipelines.
        namespace: The namespace of the release under test, which this test makes and removes.
        folder: Files of this test.
    """

    image: str
    endpoint: str
    kubeflow: str
    namespace: str
    folder: Path

    def kubectl(self, *arguments: str, namespace: str | None = None, **options: Any) -> str:
        """Run kubectl, in the release's namespace if no other is given; return its output."""
        return run("kubectl", "-n", namespace or self.namespace, *arguments, **options)

    def pods(self, selector: str, namespace: str | None = None) -> list[dict[str, Any]]:
        """Return the pods with these labels that are not being deleted, oldest first."""
        text = self.kubectl("get", "pods", "-l", selector, "-o", "json", namespace=namespace)
        alive = [pod for pod in json.loads(text)["items"] if "deletionTimestamp" not in pod["metadata"]]
        return sorted(alive, key=lambda pod: pod["metadata"]["creationTimestamp"])

    @contextmanager
    def forward(self, service: str, port: int) -> Iterator[str]:
        """Forward a port of a Service to this machine; yield its address there, http://localhost:PORT."""
        log = self.folder / f"forward-{service}.log"
        with log.open("w") as file:
            command = ["kubectl", "-n", self.namespace, "port-forward", f"service/{service}", f":{port}"]
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            pattern = re.compile(r"127.0.0.1:(\d+)")
            found = until(30, f"kubectl port-forward of {service}", lambda: pattern.search(log.read_text()))
            yield f"http://localhost:{found[1]}"
        finally:
            process.terminate()
            process.wait()


def run(
    *command: str,
    check: bool = True,
    seconds: float = 300,
    given: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command and return its output, that of errors too. Failed: it takes longer, or fails and that is checked.

    Args:
        command: The program and its arguments.
        check: Its exit code must be 0.
        seconds: It may take so long.
        given: Its input.
        environment: All of its environment, if it is not that of this process.
    """
    try:
        done = subprocess.run(
            command,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout
        raise Failed(f"{shlex.join(command)[:200]} takes more than {seconds:.0f} s: {(said or '')[-1000:]}") from error
    if check and done.returncode:
        raise Failed(f"{shlex.join(command)[:200]} ended with {done.returncode}: {done.stdout[-2000:].strip()}")
    return done.stdout


def until(seconds: float, what: str, ask: Callable[[], T]) -> T:
    """Ask until the answer is true, and return it. Failed: not within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := ask():
            return answer
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)


def expect(condition: object, message: str) -> None:
    """Raise Failed with the message unless the condition holds."""
    if not condition:
        raise Failed(message)
