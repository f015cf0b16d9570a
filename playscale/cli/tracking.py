"""The tracking server: `playscale tracking deliver`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from playscale.cli.options import TRACKING_URI, echo
from playscale.storage.sync import workspace

WAITING = ("tracking*", "points.csv", "fit.json", "report.html", "figures/*", "evaluate/*", "*checkpoints/*", "*.json")
"""The files of a directory in S3 that entries may name."""


def deliver(
    out: Annotated[str, typer.Argument(help="Directory of a study, or --out of train or evaluate; local or in S3.")],
    experiment: Annotated[str | None, typer.Option(help="MLflow experiment. Default: as the entries say.")] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help=f"URI of the MLflow server. Default: ${TRACKING_URI}, else as the entries say."),
    ] = None,
) -> None:
    """Deliver what a tracking server has not taken: it did not answer, or refused the experiment or single entries.

    A rerun of the command that logged it, and the next step of a study, deliver it, too.

    \b
    Example:
      playscale tracking deliver train-10k
    """
    from playscale.tracking.client import deliver_all

    with workspace(out, *WAITING) as folder:
        if not folder.is_dir():
            raise ValueError(f"{out}: no such directory")
        delivered = deliver_all(folder, experiment, tracking_uri or os.environ.get(TRACKING_URI))
    echo(f"{delivered} entries delivered")
