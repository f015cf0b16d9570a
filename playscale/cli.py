"""The verbs. The one place where everything is wired together; nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
train_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train agents: one run through its budgets.")
study_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Whole studies, as pipelines.")
app.add_typer(train_app, name="train")
app.add_typer(study_app, name="study")

TRACKING_URI = "MLFLOW_TRACKING_URI"
Out = Annotated[Path, typer.Option(help="Directory to write.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes (default: one per core).")]
Tracking = Annotated[str | None, typer.Option(help=f"MLflow server or sqlite:/// file (default: ${TRACKING_URI}).")]
Experiment = Annotated[str | None, typer.Option(help="Also log to this MLflow experiment.")]


class Core(StrEnum):
    lstm = "lstm"
    transformer = "transformer"


class Precision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Runner(StrEnum):
    subprocess = "subprocess"


@app.callback()
def playscale() -> None:
    """Playscale: scaling laws for game-playing agents.

    The way of the data: collect, prepare, train, evaluate, fit; `study run` does all of it.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)


@app.command()
def collect(
    out: Out,
    game: Annotated[str, typer.Option(help="The game.")] = "nethack",
    games: Annotated[int, typer.Option(min=1, help="How many games the expert plays.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Game i is played with seed SEED + i.")] = 0,
    max_steps: Annotated[int, typer.Option(min=1, help="A game is cut after this many actions.")] = 5000,
    workers: Workers = None,
) -> None:
    """Let the game's expert play, and leave the games as NLD-AA has them.

    \b
    Example:
      playscale collect --game nethack --games 4 --max-steps 400 --out games
    """
    from playscale.console import progress
    from playscale.rollout.collect import collect as run

    with progress("collect") as report:
        run(game, games, out, seed=seed, workers=workers or _cores(), max_steps=max_steps, progress=report)
    typer.echo(f"{games} games of {game} in {out}")


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="A directory of recordings in NLD-AA layout.")],
    out: Annotated[str, typer.Option(help="Directory, or s3://BUCKET/PREFIX, to write.")],
    game: Annotated[str, typer.Option(help="The game that was recorded.")] = "nethack",
    workers: Workers = None,
) -> None:
    """Turn recorded games into a corpus: shards to stream from, split by game into train and dev.

    \b
    Example:
      playscale prepare games --out corpus
    """
    from playscale.console import progress
    from playscale.corpus.prepare import prepare as run

    with progress("prepare") as report:
        corpus = run(source, out, game=game, workers=workers or _cores(), progress=report)
    typer.echo(corpus.summary())


@train_app.command("bc")
def train_bc(
    corpus: Annotated[str, typer.Option(help="The corpus to imitate.")],
    size: Annotated[str, typer.Option(help="Model size: 10k ... 500M parameters.")],
    budgets: Annotated[str, typer.Option(help="Compute budgets in training FLOPs, comma-separated.")],
    out: Out,
    core: Annotated[Core, typer.Option(help="The recurrent core.")] = Core.lstm,
    seed: Annotated[int, typer.Option(help="Of the initial weights and the order of games.")] = 0,
    batch: Annotated[int | None, typer.Option(min=1, help="Games side by side in a batch. Default: by size.")] = None,
    unroll: Annotated[int | None, typer.Option(min=1, help="Transitions of each in a batch. Default: by size.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default: by model size.")] = None,
    cooldown: Annotated[float, typer.Option(help="Share of each budget spent on a linear cooldown branch.")] = 0.0,
    precision: Annotated[Precision, typer.Option(help="auto: bf16 on CUDA, else fp32.")] = Precision.auto,
    compile_: Annotated[bool, typer.Option("--compile", help="Compile what precedes the core (for a GPU).")] = False,
    dev_samples: Annotated[int, typer.Option(min=1, help="Transitions that dev loss is taken on.")] = 8192,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    experiment: Experiment = None,
    tracking_uri: Tracking = None,
) -> None:
    """Behavioural cloning: one model, a checkpoint and a row of OUT/points.csv at each budget.

    \b
    Example:
      playscale train bc --corpus corpus --size 10k --budgets 5e9,1e10 --out train-10k
    On several GPUs:
      torchrun --nproc-per-node 2 -m playscale.cli train bc ...
    """
    from playscale.console import points_table, progress, show
    from playscale.training.bc import train_bc as run
    from playscale.training.config import TrainConfig
    from playscale.training.group import first_process

    values = {
        "size": size,
        "budgets": sorted(_numbers(budgets, "--budgets")),
        "core": core.value,
        "seed": seed,
        "batch": batch,
        "unroll": unroll,
        "learning_rate": learning_rate,
        "cooldown": cooldown,
        "precision": precision.value,
        "compile": compile_,
        "dev_samples": dev_samples,
        "device": device,
    }
    config = TrainConfig.model_validate(values)
    if not first_process():  # of several under torchrun, one tells and tracks
        run(corpus, out, config)
        return
    with progress("train") as report:
        if experiment:
            from playscale.steps import train_tracked

            logged = _experiment(experiment, tracking_uri)
            points = train_tracked(logged, config.run_name, corpus, out, config, report)
        else:
            points = run(corpus, out, config, progress=report)
    show(points_table(points))


@app.command()
def evaluate(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoint directories.")],
    out: Out,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes for each checkpoint, seeds SEED ... SEED+N-1.")] = 100,
    max_steps: Annotated[int, typer.Option(min=1, help="An episode is cut after this many actions.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first episode.")] = 0,
    temperature: Annotated[float, typer.Option(min=0, help="Of the action distribution; 0 takes the best.")] = 1.0,
    game: Annotated[
        str | None,
        typer.Option(
            help="Play in this task of the game instead of the checkpoint's own, with those actions alone that it has: "
            "nethack/score (NetHackScore-v0's monk), nethack/score/@ (anyone), nethack/challenge/val-dwa-law-fem."
        ),
    ] = None,
    corpus: Annotated[str | None, typer.Option(help="Also show the expert's return in this corpus.")] = None,
    workers: Workers = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    experiment: Experiment = None,
    tracking_uri: Tracking = None,
) -> None:
    """Play trained agents, beside a random policy (and the corpus's expert); returns go to OUT/points.csv.

    \b
    Example:
      playscale evaluate train-10k/checkpoints/* --episodes 4 --max-steps 200 --corpus corpus --out play
      playscale evaluate train-10k/checkpoints/* --game nethack/score --episodes 4 --max-steps 200 --out score
    """
    from playscale.console import evaluations_table, progress, show
    from playscale.corpus.corpus import Corpus
    from playscale.games.game import get_game
    from playscale.rollout.evaluate import evaluate as run
    from playscale.rollout.references import evaluate_random, expert_reference
    from playscale.steps import log_evaluations

    game = get_game(game).name if game else None
    expert = [expert_reference(Corpus.open(corpus), game)] if corpus else []
    workers = workers or _cores()
    with progress("evaluate") as report:
        evaluations = run(
            checkpoints,
            episodes,
            out,
            max_steps=max_steps,
            workers=workers,
            seed=seed,
            device=device,
            temperature=temperature,
            game=game,
            progress=report,
        )
        played = get_game(evaluations[0].game)
        random = evaluate_random(
            played, episodes, out, max_steps=max_steps, workers=workers, seed=seed, progress=report
        )
    if experiment:
        log_evaluations(_experiment(experiment, tracking_uri), evaluations, out)
    show(evaluations_table([evaluation.reference() for evaluation in (*evaluations, random)] + expert))


@app.command()
def fit(
    points: Annotated[str, typer.Argument(help="A points CSV, or mlflow:EXPERIMENT.")],
    out: Out,
    forecast: Annotated[str, typer.Option(help="Budgets to forecast for, in FLOPs, comma-separated.")] = "",
    forecast_at: Annotated[list[str] | None, typer.Option(help="params=N,samples=D; may be given again.")] = None,
    target_return: Annotated[
        list[str] | None,
        typer.Option(help="Compute at which a return is reached: RETURN or NAME=RETURN; repeatable."),
    ] = None,
    expert_return: Annotated[float | None, typer.Option(help="Mean return of whom the agents imitate.")] = None,
    max_return: Annotated[float | None, typer.Option(help="The largest return that the game allows.")] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU to give hours and energy for: a100, h100, l4, ...")] = None,
    utilisation: Annotated[float, typer.Option(help="Share of its peak FLOP/s that training reaches.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    tracking_uri: Tracking = None,
) -> None:
    """Fit the scaling laws of a points table: OUT/fit.json, OUT/report.html and OUT/figures.

    \b
    Example:
      playscale fit studies/example/points.csv --out laws --forecast 1e13,1e14 \
        --target-return human=127356 --gpu h100 --utilisation 0.3
    """
    from playscale.console import fit_tables, show
    from playscale.points import read_points
    from playscale.report.figures import write_figures
    from playscale.report.report import write_report
    from playscale.scaling.fit import fit as run
    from playscale.scaling.fit import write_fit
    from playscale.scaling.gpu import hardware

    name = points.removeprefix("mlflow:")
    table = (
        _experiment(name, tracking_uri, create=False).points() if points.startswith("mlflow:") else read_points(points)
    )
    result = run(
        table,
        _numbers(forecast, "--forecast"),
        [_pair(text) for text in forecast_at or []],
        seed,
        expert_return=expert_return,
        max_return=max_return,
        target_returns=[_named(text) for text in target_return or []],
        hardware=hardware(gpu, utilisation) if gpu else None,
    )
    out.mkdir(parents=True, exist_ok=True)
    write_fit(result, out / "fit.json")
    write_figures(out / "figures", result.to_dict(), table, ())
    write_report(out / "report.html", result.to_dict(), table, title=f"Scaling laws of {name}")
    show(*fit_tables(result.to_dict()))
    typer.echo(f"report: {out / 'report.html'}")


@app.command()
def reproduce(
    tables: Annotated[list[Path], typer.Argument(help="Points CSVs, as published.")],
    reference: Annotated[
        Path | None,
        typer.Option(help="CSV of published exponents: table,from_flops,target,quantity,at,exponent."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory to write.")] = Path("out/reproduce"),
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Analyse published tables: exponents beside the published ones, all figures on OUT/reproduce.html.

    \b
    Example:
      playscale reproduce studies/example/points.csv --out reproduced
    """
    from playscale.console import progress, reproduction_table, show
    from playscale.report.published import read_published
    from playscale.report.reproduction import reproduce as run
    from playscale.report.reproduction_page import sentences, write_reproductions

    published = read_published(reference) if reference else []
    with progress("reproduce") as report:
        done = run(tables, published, seed=seed, progress=report)
    page = write_reproductions(out, done)
    for one in done:
        show(reproduction_table(one), *sentences(one))
    typer.echo(f"page: {page}")


@study_app.command("run")
def study_run(
    spec: Annotated[Path, typer.Argument(help="The study's spec, YAML; see studies/.")],
    out: Annotated[Path | None, typer.Option(help="Directory of the study (default: out/NAME).")] = None,
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


@app.command("compile")
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


@app.command()
def bench(
    part: Annotated[str, typer.Argument(help="data, train, rollout, fit, impala or all.")] = "all",
    json: Annotated[Path | None, typer.Option(help="Also write the figures here, as JSON.")] = None,
    games: Annotated[Path | None, typer.Option(help="Recorded games, NLD-AA layout (default: collect some).")] = None,
    peer: Annotated[Path | None, typer.Option(help="Where the code of the peer in training lies.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each side is measured, in turns.")] = 5,
    seconds: Annotated[float, typer.Option(help="How long one side is measured in one round.")] = 2.0,
) -> None:
    """Measure ours and the peer in alternating rounds: medians, spreads, ratios; see docs/performance.md.

    \b
    Example:
      playscale bench fit --rounds 1 --json bench.json
    """
    from benchmarks.bench import PARTS, Options
    from benchmarks.bench import bench as run
    from playscale.console import show

    run(PARTS if part == "all" else (part,), Options(games, peer, rounds, seconds), json, show)


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    try:
        app()
    except (ValueError, OSError) as error:
        _fail(error, 2)
    except RuntimeError as error:
        _fail(error, 1)


def _fail(error: Exception, code: int) -> None:
    if os.environ.get("PLAYSCALE_TRACEBACK"):
        traceback.print_exc()
    first = error.errors()[0] if isinstance(error, ValidationError) else None
    text = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
    sys.stderr.write(f"playscale: {' '.join(text.split())}\n")
    sys.exit(code)


def _cores() -> int:
    return os.cpu_count() or 1


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part]
    except ValueError as error:
        raise ValueError(f"{option}: {text!r} is not a comma-separated list of numbers such as 1e11,3e11") from error


def _pair(text: str) -> tuple[float, float]:
    values = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if set(values) != {"params", "samples"}:
        raise ValueError(f"--forecast-at: {text!r} is not of the form params=N,samples=D")
    (params,), (samples,) = (_numbers(values[name], "--forecast-at") for name in ("params", "samples"))
    return params, samples


def _named(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    (number,) = _numbers(value, "--target-return") or [float("nan")]
    return name, number


def _experiment(name, tracking_uri, *, create=True):  # type: ignore[no-untyped-def]
    from playscale.tracking.mlflow_tracker import MlflowExperiment

    return MlflowExperiment(name, tracking_uri or os.environ.get(TRACKING_URI) or "sqlite:///mlflow.db", create=create)


if __name__ == "__main__":
    main()
