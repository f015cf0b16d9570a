"""The acceptance test on the cluster that $KUBECONFIG names: `make test-kubernetes`.

It needs helm and kubectl, and in the environment: PLAYSCALE_KFP, the address of Kubeflow Pipelines' API as seen from
here; PLAYSCALE_IMAGE, an image that the nodes have, REPOSITORY:TAG. PLAYSCALE_KFP_NAMESPACE is the namespace in which
pipelines run (default: kubeflow). PLAYSCALE_INSIDE, a command under which all of this runs, is read by the Makefile.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import network, operators, release, studies
from .cluster import ROOT, Cluster, Failed, run
from .retries import retries_are_set, retries_are_unset
from .train_jobs import train_jobs

NAMESPACE = "playscale-acceptance"
Step = tuple[str, str, Callable[[Cluster], str]]


def install(cluster: Cluster) -> str:
    """Install the chart with passwords that it makes itself."""
    release.make_namespace(cluster)
    release.install(cluster)
    return "installed with generated passwords"


def keep_data(cluster: Cluster) -> str:
    """Log a study, and read it back by port-forward with MLflow's own client."""
    release.put_data(cluster)
    return release.data_is_there(cluster)


def two_replicas(cluster: Cluster) -> str:
    """Upgrade to two servers."""
    small = release.values(cluster)["mlflow"]
    release.install(cluster, mlflow=small | {"replicas": 2})
    return release.check(cluster)


def reinstall(cluster: Cluster) -> str:
    """Uninstall and install: the data are still there."""
    release.remove(cluster)
    release.install(cluster)
    return release.data_is_there(cluster)


def from_the_first_chart(cluster: Cluster) -> str:
    """Install the chart of version 0.1, log data, upgrade to today's: the data are still there."""
    old = replace(cluster, namespace=f"{cluster.namespace}-0-1")
    given = {
        "postgres": {"storage": "1Gi", "password": "of the first chart"},
        "s3": {"storage": "5Gi", "accessKey": "FIRSTCHART", "secretKey": "of-the-first-chart"},
        "pipeline": {},  # in its own namespace: in Kubeflow's is the other release
    }
    try:
        release.make_namespace(old)
        release.install(old, release.FIRST_CHART, **given)
        release.put_data(old)
        release.install(old, **given)
        return release.data_is_there(old)
    finally:
        release.clean(old)


def remove(cluster: Cluster) -> str:
    """Remove everything."""
    release.clean(cluster)
    return release.leftovers(cluster)


STEPS: tuple[Step, ...] = (
    ("retries", "retries of failed steps switched on in Argo's settings", retries_are_set),
    ("install", "helm install --wait in a fresh namespace", install),
    ("check", "helm test", release.check),
    ("data", "a study logged, an artifact downloaded by port-forward", keep_data),
    ("network", "every line of the network table", network.probe),
    ("unplaceable", "a step that cannot be placed says why", studies.unplaceable),
    ("disturbed", "a study: process killed, pod deleted, out of memory, servers deleted", studies.disturbed),
    ("resubmitted", "a hopeless run, laws of the others, submitted again", studies.hopeless_then_resubmitted),
    ("forecast", "a forecast of that study: registered, trained, scored", studies.forecast),
    ("trainjob", "a study trained by TrainJobs, Kubeflow Trainer's part played by hand", train_jobs),
    ("login", "helm upgrade to two servers with accounts, a study with a password, a wrong one", operators.login),
    ("together", "two runs in one pod, one of them hopeless, logged with a password", studies.together),
    ("tls", "the development Postgres with a certificate that the servers check", operators.tls),
    ("jobs", "mlflow gc, the backup, the database's volume deleted, the restore", operators.jobs),
    ("replicas", "helm upgrade to two servers, helm test", two_replicas),
    ("reinstall", "helm uninstall and install, data still there", reinstall),
    ("upgrade", "helm upgrade from the chart of version 0.1, data still there", from_the_first_chart),
    ("undo", "Argo's settings as before", retries_are_unset),
    ("remove", "everything removed", remove),
)


@dataclass(frozen=True)
class Seen:
    """The end of a step: what was seen, or why it failed."""

    what: str
    text: str
    seconds: float
    failed: bool


def main() -> int:
    """Run the steps; print each and a table; return 1 if one failed, 2 if something is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance", description=__doc__)
    names = [name for name, _, _ in STEPS]
    parser.add_argument("--only", nargs="+", choices=names, help="these steps alone, without removing everything first")
    given = parser.parse_args()
    if missing := _missing():
        print(f"test-kubernetes: {missing}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="kubernetes-", suffix=f"-{secrets.token_hex(3)}") as folder:
        cluster = Cluster(
            os.environ["PLAYSCALE_IMAGE"],
            os.environ["PLAYSCALE_KFP"],
            os.environ.get("PLAYSCALE_KFP_NAMESPACE", "kubeflow"),
            NAMESPACE,
            Path(folder),
        )
        steps = [step for step in STEPS if not given.only or step[0] in given.only]
        seen = list(_run(cluster, steps, clean=not given.only))
    width = max(len(one.what) for one in seen)
    print()
    for one in seen:
        state, first_line = "FAILED" if one.failed else "ok", one.text.splitlines()[0]
        print(f"{state:6}  {one.what:{width}}  {one.seconds:4.0f} s  {first_line}")
    return int(any(one.failed for one in seen))


def _missing() -> str:
    """Return what is missing, in one line; "" if nothing is."""
    for program in ("helm", "kubectl"):
        if not shutil.which(program):
            return f"no {program} on PATH"
    for name in ("PLAYSCALE_KFP", "PLAYSCALE_IMAGE"):
        if not os.environ.get(name):
            return f'{name} is not set; see docs/cluster.md, "The acceptance test"'
    try:
        run("kubectl", "version", "--request-timeout=20s", seconds=30)
    except Failed as error:
        return f"no cluster answers: {str(error).splitlines()[-1]}"
    return ""


def _run(cluster: Cluster, steps: Sequence[Step], *, clean: bool) -> Iterator[Seen]:
    """Yield what each step saw. After a failure only the last steps follow, which leave the cluster as it was."""
    last = {"undo", "remove"}
    failed = False
    if clean:
        release.clean(cluster)  # of a test that was killed
    for name, what, step in steps:
        if failed and name not in last:
            continue
        began = time.monotonic()
        try:
            text, wrong = step(cluster), False
        except Failed as error:
            text, wrong = str(error), True
        failed = failed or wrong
        one = Seen(what, text, time.monotonic() - began, wrong)
        print(f"{'FAILED' if wrong else 'ok':6}  {what} ({one.seconds:.0f} s): {text}", flush=True)
        yield one


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
