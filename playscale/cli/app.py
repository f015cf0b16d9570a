"""The command line. Heavy packages are imported inside the commands that need them."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Annotated

import typer
from pydantic import ValidationError

from playscale import __version__
from playscale.cli.bench import bench
from playscale.cli.data import collect, prepare
from playscale.cli.evaluate import evaluate
from playscale.cli.laws import fit, reproduce
from playscale.cli.study import compile_pipelines, study_run, study_submit
from playscale.cli.tracking import deliver
from playscale.cli.train import train_bc, train_impala
from playscale.config import explain
from playscale.processes import Stopped, fill_standard_descriptors, stoppable

EXTRAS = {
    "train": ("torch", "nle", "gymnasium", "safetensors", "zstandard"),
    "tracking": ("mlflow", "prometheus_client", "requests", "sqlalchemy"),
    "kubeflow": ("kfp", "kfp_server_api", "docker"),
    "s3": ("boto3", "botocore"),
}
"""Modules that the extras in pyproject.toml bring."""

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
train_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train one model through its compute budgets."
)
study_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run whole studies as pipelines.")
app.command()(collect)
app.command()(prepare)
app.add_typer(train_app, name="train")
train_app.command("bc")(train_bc)
train_app.command("impala")(train_impala)
app.command()(evaluate)
app.command()(fit)
app.command()(reproduce)
app.add_typer(study_app, name="study")
study_app.command("run")(study_run)
study_app.command("submit")(study_submit)
tracking_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What waits for a tracking server.")
app.add_typer(tracking_app, name="tracking")
tracking_app.command("deliver")(deliver)
app.command("compile")(compile_pipelines)
app.command()(bench)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"playscale {__version__}")
        raise typer.Exit


@app.callback()
def playscale(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find scaling laws for game-playing agents.

    The steps in order: collect, prepare, train, evaluate, fit. `study run` runs them all.

    \b
    Example:
      playscale study run studies/smoke.yaml --out out/smoke
    """
    del version
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def main() -> None:
    """Run the command line. Bad input is one line on stderr and exit code 2, a failure one line and exit code 1.

    SIGTERM and SIGINT end it with exit code 143 and 130.
    """
    fill_standard_descriptors()
    try:
        with stoppable():
            app()
    except Stopped as stop:
        _fail(stop, 128 + stop.number)
    except ModuleNotFoundError as error:
        _fail(_missing_extra(error), 2)
    except (ValueError, OSError) as error:
        _fail(error, 2)
    except RuntimeError as error:
        _fail(error, 1)


def _missing_extra(error: ModuleNotFoundError) -> ValueError:
    """Return what to install for a module that an extra of the package brings; raise the error for any other module."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return ValueError(f"{sys.argv[1]} needs {module}: pip install 'playscale[{extra}]'")
    raise error


def _fail(error: Exception | Stopped, code: int) -> None:
    if os.environ.get("PLAYSCALE_TRACEBACK"):
        traceback.print_exc()
    text = explain(error) if isinstance(error, ValidationError) else str(error)
    sys.stderr.write(f"playscale: {' '.join(text.split())}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
