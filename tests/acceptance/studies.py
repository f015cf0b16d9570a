"""Studies on the cluster, disturbed, and what comes of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from playscale.points import Point, read_points
from playscale.tracking.client import TrackingClient

from .cluster import Cluster, expect, run, until
from .release import mlflow, names, put_object
from .strikes import RETRIES, Strikes, delete_server, wait_for_server

SPEC = {
    "game": "nethack",
    "source": {"collect": {"games": 2, "max_steps": 200}},
    "sizes": ["10k", "20k"],
    "budgets": [1e10, 2e10],
    "held_out": [4e10],
    "training": {"batch": 4, "unroll": 16, "dev_samples": 512, "save_seconds": 2},
    "evaluate": {"episodes": 2, "max_steps": 50},
    "forecast": [1e12],
}
POD = {"cpu": "500m", "memory": "2Gi", "retries": RETRIES, "backoff": 1}
STUDY_SECONDS = 900


class Submitted:
    """`playscale study submit --wait`, or `study forecast`, in a process of its own."""

    def __init__(
        self, cluster: Cluster, name: str, pods: Mapping[str, Any], *options: str, command: str = "submit"
    ) -> None:
        own = names(cluster)
        self.name = f"{name}-{cluster.folder.name[-6:]}"  # a study's name is taken for good
        self._log = cluster.folder / f"{name}-{command}.log"
        spec, settings = cluster.folder / f"{name}.yaml", cluster.folder / f"{name}-pods.yaml"
        spec.write_text(yaml.safe_dump({"name": self.name, **SPEC}))
        shared = {name: own[name] for name in ("settings", "credentials", "login")}
        settings.write_text(yaml.safe_dump({**shared, "every": POD, **pods}))
        words = [
            sys.executable, "-m", "playscale.cli", "study", command, str(spec), "--endpoint", cluster.endpoint,
            "--image", cluster.image, "--pods", str(settings), "--service-account", own["account"], "--wait", *options,
        ]  # fmt: skip
        with self._log.open("w") as file:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "COLUMNS": "200"},
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def runs(self) -> bool:
        """Tell whether it has not ended yet."""
        return self._process.poll() is None

    def run_ids(self) -> list[str]:
        """Return the ids of its runs so far."""
        return list(dict.fromkeys(re.findall(r"runs/details/([0-9a-f-]{36})", self.output)))

    def run_id(self, number: int = 0) -> str:
        """Return the id of its run; with `number`, of that many later ones. Failed: it was not submitted."""

        def found() -> str | None:
            known = self.run_ids()
            expect(self._process.poll() is None or len(known) > number, f"not submitted: {self.output[-1000:]}")
            return known[number] if len(known) > number else None

        return until(STUDY_SECONDS, f"the submission of {self.name}", found)

    def says(self, pattern: str, seconds: float) -> str:
        """Wait until it prints what matches, and return that line. Failed: it ends before."""

        def found() -> str | None:
            match = re.search(f".*{pattern}.*", self.output)
            ended = self._process.poll() is not None
            expect(match or not ended, f"ended without a line like {pattern!r}: {self.output[-1500:]}")
            return match[0].strip() if match else None

        return until(seconds, f"a line of `submit --wait` like {pattern!r}", found)

    def end(self) -> int:
        """Wait for its end; return its exit code. Failed: it takes too long."""
        until(STUDY_SECONDS, f"the end of {self.name}", lambda: self._process.poll() is not None)
        return self._process.returncode

    def stop(self) -> None:
        """End it where it still runs."""
        self._process.terminate()
        self._process.wait()


@contextmanager
def submitted(
    cluster: Cluster, name: str, pods: Mapping[str, Any], *options: str, command: str = "submit"
) -> Iterator[Submitted]:
    """Submit a study, or a forecast of it; whatever becomes of it, its run is ended after."""
    study = Submitted(cluster, name, pods, *options, command=command)
    try:
        yield study
    finally:
        study.stop()
        for run_id in study.run_ids():
            ended = ("delete", "workflow", "-l", f"pipeline/runid={run_id}", "--wait=false")
            cluster.kubectl(*ended, namespace=cluster.kubeflow)


def disturbed(cluster: Cluster) -> str:
    """Run a study, strike it, and compare its points with those of the same study on this machine."""
    with submitted(cluster, "disturbed", {}) as study:
        strikes = Strikes(cluster, study.run_id())
        seen = [strikes.kill_process(), delete_server(cluster, "mlflow")]
        seen += [strikes.delete_pod(), delete_server(cluster, "postgres")]
        seen += [strikes.exhaust_memory(), delete_server(cluster, "s3")]
        for component in ("s3", "postgres", "mlflow"):
            wait_for_server(cluster, component)
        here = local_points(cluster)
        expect(study.end() == 0, f"the study failed: {study.output[-2000:]}")
    compare(points(cluster, study.name), here)
    return f"{'; '.join(seen)}; {len(here)} points equal to those of this machine"


def hopeless_then_resubmitted(cluster: Cluster) -> str:
    """Let one run fail for good: the others' laws are made. Submitted again by itself, the study is finished."""
    pods = {"every": POD | {"retries": 0}}
    with submitted(cluster, "resubmitted", pods, "--resubmit", "1") as study:
        struck = Strikes(cluster, study.run_id(), most=1).kill_process()
        study.run_id(1)
        partial = points(cluster, study.name)
        fitted = len(experiment_runs(cluster, study.name, "fit"))
        expect(fitted == 1, f"{fitted} fits in MLflow after a study of which one run failed")
        expect(study.end() == 0, f"the second submission failed: {study.output[-2000:]}")
    here, whole = local_points(cluster), points(cluster, study.name)
    compare(whole, here)
    return f"{struck}; laws of {len(partial)} points, then of all {len(whole)}"


def forecast(cluster: Cluster) -> str:
    """Forecast the loss of a larger budget of the study that was resubmitted: trained, and scored in its ledger."""
    asked = ("--budget", "8e10", "--for", "loss")
    with submitted(cluster, "resubmitted", {}, *asked, command="forecast") as made:
        run_id = made.run_id()
        expect(made.end() == 0, f"the forecast failed: {made.output[-2000:]}")
        status = (sys.executable, "-m", "playscale.cli", "study", "status", run_id, "--endpoint", cluster.endpoint)
        said = run(*status, "--json", seconds=120)
        shown = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    parts = {part: tuple(counts) for part, counts in shown["parts"].items()}
    expect(parts == dict.fromkeys(("forecast", "train", "evaluate", "score"), (1, 1)), f"parts of its run: {parts}")
    (point,) = [point for point in points(cluster, made.name) if point.extra.get("forecast")]
    return f"{point.run} at {point.flops:g} FLOPs, forecast {point.extra['forecast']}: dev loss {point.dev_loss:.3f}"


def together(cluster: Cluster) -> str:
    """Let both runs share a pod, one of them hopeless: it is named, and the points of the other are as always."""
    pods = {"every": POD | {"retries": 0}, "train": {"together": 2}}
    good, hopeless = "bc-lstm-10k-s0", "bc-lstm-20k-s0"
    with submitted(cluster, "together", pods) as study:
        study.run_id()
        put_object(cluster, f"studies/{study.name}/train/{hopeless}/run.json", b"{}")
        failed = study.says(f"train: 1 of 2 runs failed: {hopeless}", STUDY_SECONDS)
        study.says(f"done evaluate {good}, {hopeless}", STUDY_SECONDS)
        expect(study.end() == 1, f"a study without one run succeeded: {study.output[-2000:]}")
    fitted = len(experiment_runs(cluster, study.name, "fit"))
    expect(fitted == 1, f"{fitted} fits in MLflow after a study of which one run failed")
    here = [point for point in local_points(cluster) if point.run == good]
    compare(points(cluster, study.name), here)
    return f"{failed}; {len(here)} points of the other run equal to those of this machine"


def unplaceable(cluster: Cluster) -> str:
    """Ask for more than any node has: the reason is shown."""
    with submitted(cluster, "unplaceable", {"collect": POD | {"cpu": "640"}}) as study:
        return study.says("[Ii]nsufficient cpu", 180)


def local_points(cluster: Cluster) -> list[Point]:
    """Return the points of the same study on this machine, run once."""
    out = cluster.folder / "local"
    if not (out / "points.csv").is_file():
        spec = cluster.folder / "local.yaml"
        spec.write_text(yaml.safe_dump({"name": "local", **SPEC}))
        command = (sys.executable, "-m", "playscale.cli", "study", "run", str(spec), "--out", str(out))
        run(*command, environment={**os.environ, "OMP_NUM_THREADS": "1"}, seconds=600)
    return sorted(read_points(out / "points.csv"), key=str)


def points(cluster: Cluster, name: str) -> list[Point]:
    """Return the points of a study that MLflow has."""
    with mlflow(cluster) as address:
        return sorted(TrackingClient(name, address).connect(create=False).points(), key=str)


def experiment_runs(cluster: Cluster, name: str, kind: str) -> list[Any]:
    """Return the runs of a kind that MLflow has of a study."""
    with mlflow(cluster) as address:
        return list(TrackingClient(name, address).connect(create=False).runs(kind))


def compare(there: list[Point], here: list[Point]) -> None:
    """Expect the same points to the last bit, each once."""
    expect(len(there) == len(here), f"{len(there)} points on the cluster, {len(here)} here")
    for one, other in zip(there, here, strict=True):
        expect(one == other, f"points differ: {one} on the cluster, {other} here")
