"""Whole studies: `playscale study run`, `playscale study submit` and `playscale compile`."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from playscale.cli.options import Tracking

BUCKET = "s3://playscale/studies"  # of the chart, where a submitted study goes unless it is told


class Runner(StrEnum):
    subprocess = "subprocess"
    docker = "docker"


Spec = Annotated[Path, typer.Argument(help="The study's spec, YAML; see studies/.")]
Image = Annotated[str | None, typer.Option(envvar="PLAYSCALE_IMAGE", help="Image that the components run in.")]
PodFile = Annotated[Path | None, typer.Option("--pods", help="Settings of the pods, YAML; see studies/pods/.")]


def study_run(
    spec: Spec,
    out: Annotated[str | None, typer.Option(help="Directory, or s3://BUCKET/PREFIX (default: out/NAME).")] = None,
    runner: Annotated[Runner, typer.Option(help="How kfp.local runs the components.")] = Runner.subprocess,
    image: Image = None,
    tracking_uri: Tracking = None,
) -> None:
    """Run a whole study on this machine, as the very pipeline a cluster runs; run it again to go on after a stop.

    \b
    Example:
      playscale study run studies/smoke.yaml --out out/smoke
    """
    from playscale.study.local_run import run_study
    from playscale.study.spec import read_spec

    if runner == Runner.docker:
        _use(image)
        from playscale_pipelines.containers import check

        read_spec(spec)
        check(spec.read_text())
    run_study(spec, out, tracking_uri, runner.value)


def study_submit(
    spec: Spec,
    endpoint: Annotated[str, typer.Option(help="URL of the Kubeflow Pipelines server.")],
    image: Image = None,
    out: Annotated[str | None, typer.Option(help=f"Where the study is written (default: {BUCKET}/NAME).")] = None,
    pods: PodFile = None,
    tracking_uri: Annotated[str, typer.Option(help="MLflow server (default: as the pods' settings say).")] = "",
    experiment: Annotated[str | None, typer.Option(help="Experiment of Kubeflow (default: the study's name).")] = None,
    namespace: Annotated[str | None, typer.Option(help="Of a multi-user Kubeflow.")] = None,
    service_account: Annotated[str, typer.Option(help="That the pods run as.")] = "playscale-pipeline",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, and fail if the run failed.")] = False,
) -> None:
    """Run a study on a cluster, as a pipeline of Kubeflow: compiles and submits it, and shows where it can be watched.

    \b
    Example:
      playscale study submit studies/smoke.yaml --endpoint http://localhost:8888 --wait
    """
    from playscale.study.spec import read_spec

    study = read_spec(spec)
    place = out or f"{BUCKET}/{study.name}"
    for name, uri in {"--out": place, **study.inputs()}.items():
        if "://" not in uri:
            raise ValueError(f"{name}: {uri} is a path of this machine, which no pod can see; give s3://BUCKET/PREFIX")
    _use(image)
    from playscale.cli.console import progress
    from playscale_pipelines.compile import read_pods
    from playscale_pipelines.submit import reach, submit
    from playscale_pipelines.submit import wait as watch

    settings = read_pods(pods)
    server = reach(endpoint, namespace)
    arguments = {"spec": spec.read_text(), "out": place, "tracking_uri": tracking_uri}
    run = submit(server, arguments, settings, experiment or study.name, service_account)
    typer.echo(f"submitted: {server.url(run)}\nwrites to: {place}")
    if wait:
        with progress(study.name) as show:
            watch(server, run, show)
        typer.echo("succeeded")


def compile_pipelines(
    out: Annotated[Path, typer.Option(help="Directory for the YAML.")] = Path("pipelines/compiled"),
    image: Image = None,
    pods: PodFile = None,
) -> None:
    """Write the pipelines as YAML for Kubeflow Pipelines.

    \b
    Example:
      playscale compile --out compiled --image registry.example.org/playscale:0.2.0
    """
    _use(image)
    from playscale_pipelines.compile import compile_study, read_pods

    typer.echo(compile_study(out, read_pods(pods)))


def _use(image: str | None) -> None:
    """Components read their image when they are imported."""
    if image:
        os.environ["PLAYSCALE_IMAGE"] = image
