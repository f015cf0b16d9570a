"""What the verbs share: options of the same name mean the same, and are read the same way."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from playscale.tracking.client import TrackingClient

TRACKING_URI = "MLFLOW_TRACKING_URI"
SPOOL = "tracking.spool"  # in --out: what a tracking server has not taken yet
Out = Annotated[str, typer.Option(help="Directory, or s3://BUCKET/PREFIX, to write.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes (default: one per core).")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Tracking = Annotated[str | None, typer.Option(help=f"MLflow server or sqlite:/// file (default: ${TRACKING_URI}).")]
Experiment = Annotated[str | None, typer.Option(help="Also log to this MLflow experiment.")]


class Core(StrEnum):
    lstm = "lstm"
    transformer = "transformer"


class Precision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


def numbers(text: str, option: str) -> list[float]:
    """A comma-separated list; ValueError, which names the option, when it is none."""
    try:
        return [float(part) for part in text.split(",") if part]
    except ValueError as error:
        raise ValueError(f"{option}: {text!r} is not a comma-separated list of numbers such as 1e11,3e11") from error


def logbook(name: str, tracking_uri: str | None) -> TrackingClient:
    """The experiment at the tracking server that was named, else at $MLFLOW_TRACKING_URI, else in ./mlflow.db."""
    from playscale.tracking.client import TrackingClient

    return TrackingClient(name, tracking_uri or os.environ.get(TRACKING_URI) or "sqlite:///mlflow.db")
