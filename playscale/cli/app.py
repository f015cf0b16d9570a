"""The command line. Heavy packages are imported inside the commands that need them."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from playscale import __version__
from playscale.cli.bench import bench
from playscale.cli.data import collect, prepare
from playscale.cli.design import design
from playscale.cli.evaluate import evaluate
from playscale.cli.forecast import study_forecast
from playscale.cli.laws import fit, reproduce
from playscale.cli.ledger import ledger_app
from playscale.cli.options import echo
from playscale.cli.study import (
    compile_pipelines,
    study_fit,
    study_list,
    study_logs,
    study_run,
    study_status,
    study_submit,
)
from playscale.cli.study_plan import study_plan
from playscale.cli.tracking import deliver
from playscale.cli.train import train_bc, train_impala
from playscale.cli.watch import watch
from playscale.config import explain
from playscale.processes.signals import Stopped, fill_standard_descriptors, stoppable
from playscale.report.text import printable
from playscale.storage.files import is_input_error

EXTRAS = {
    "train": ("torch", "nle", "gymnasium", "safetensors", "zstandard"),
    "tracking": ("mlflow", "prometheus_client", "requests", "sqlalchemy"),
    "kubeflow": ("kfp", "kfp_server_api", "docker"),
    "s3": ("boto3", "botocore"),
}
"""Modules that the extras in pyproject.toml bring."""
WORDING = {
    "Value error, ": "",
    "Input should be ": "must be ",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}
"""Plain words for those of typer."""
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's, which typer holds a copy of and does not export

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
app.command()(watch)
app.command()(fit)
app.command()(design)
app.command()(reproduce)
app.add_typer(study_app, name="study")
study_app.command("plan")(study_plan)
study_app.command("run")(study_run)
study_app.command("submit")(study_submit)
study_app.command("status")(study_status)
study_app.command("list")(study_list)
study_app.command("logs")(study_logs)
study_app.command("fit")(study_fit)
study_app.command("forecast")(study_forecast)
tracking_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What waits for a tracking server.")
app.add_typer(tracking_app, name="tracking")
tracking_app.command("deliver")(deliver)
app.add_typer(ledger_app, name="ledger")
app.command("compile")(compile_pipelines)
app.command()(bench)


def _print_version(value: bool) -> None:
    if value:
        echo(f"playscale {__version__}")
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
    for name in ("alembic", "matplotlib", "torch"):  # torch and matplotlib report on their caches
        logging.getLogger(name).setLevel(logging.WARNING)


def main() -> None:
    """Run the command line. Bad input is one line on stderr and exit code 2, a failure one line and exit code 1.

    SIGTERM and SIGINT end it with exit code 143 and 130.
    """
    fill_standard_descriptors()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's is not installed here, and would end the import
    try:
        with stoppable():
            code = app(standalone_mode=False)
    except Stopped as stop:
        _fail(str(stop), 128 + stop.number)
    except UsageError as error:
        _fail(_usage(error), 2)
    except ModuleNotFoundError as error:
        _fail(_missing_extra(error), 2)
    except ValidationError as error:
        _fail(explain(error), 2)
    except ValueError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(_system_error(error), 2 if is_input_error(error) else 1)
    except RuntimeError as error:
        _fail(str(error), 1)
    else:
        sys.exit(code)


def _usage(error: Any) -> str:
    """Return click's message of a wrong command line, and where to read on; the help of a group called alone."""
    message: str = error.format_message()
    for theirs, ours in WORDING.items():
        message = message.replace(theirs, ours)
    if error.ctx is None or "\n" in message:
        return message
    return f"{message.rstrip('.')}; see {error.ctx.command_path} --help"


def _missing_extra(error: ModuleNotFoundError) -> str:
    """Return what to install for a module that an extra of the package brings; raise the error for any other module."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return f"{sys.argv[1]} needs the extra {extra}: pip install 'playscale[{extra}]'"
    raise error


def _system_error(error: OSError) -> str:
    """Return the path and the reason of an error of the operating system."""
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _fail(text: str, code: int) -> NoReturn:
    if os.environ.get("PLAYSCALE_TRACEBACK"):
        traceback.print_exc()
    is_help = text.startswith("Usage: ")
    sys.stderr.write(f"{text}\n" if is_help else f"playscale: {printable(' '.join(text.split()))}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
