"""Whole studies: `playscale study run` and `playscale compile`."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from playscale.verbs.options import Tracking


class Runner(StrEnum):
    subprocess = "subprocess"


def study_run(
    spec: Annotated[Path, typer.Argument(help="The study's spec, YAML; see studies/.")],
    out: Annotated[str | None, typer.Option(help="Directory, or s3://BUCKET/PREFIX (default: out/NAME).")] = None,
    runner: Annotated[Runner, typer.Option(help="How kfp.local runs the components.")] = Runner.subprocess,
    tracking_uri: Tracking = None,
) -> None:
    """Run a whole study on this machine, as the very pipeline a cluster runs; run it again to go on after a stop.

    \b
    Example:
      playscale study run studies/smoke.yaml --out out/smoke
    """
    from playscale.local_study import run_study

    del runner  # one so far
    run_study(spec, out, tracking_uri)


def compile_pipelines(
    out: Annotated[Path, typer.Option(help="Directory for the YAML.")] = Path("pipelines/compiled"),
    image: Annotated[str | None, typer.Option(help="Image the components run in.")] = None,
) -> None:
    """Write the pipelines as YAML for Kubeflow Pipelines.

    \b
    Example:
      playscale compile --out compiled --image registry.example.org/playscale:0.1.0
    """
    if image:
        os.environ["PLAYSCALE_IMAGE"] = image
    from pipelines.compile import compile_study

    typer.echo(compile_study(out))
