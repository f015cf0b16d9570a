"""Training: `playscale train bc` and `playscale train impala`. Most options are the fields of the config models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from playscale.cli.options import (
    Experiment,
    Out,
    Tracking,
    budget_list,
    flag,
    given,
    options_of,
    settings_of,
    tracking_of,
)
from playscale.config import Core, Reinforcement, TrainConfig, Training
from playscale.storage.files import local_path
from playscale.storage.storage import is_s3
from playscale.storage.sync import workspace
from playscale.tracking.prometheus import served

BY_COMMAND = ("method", "rl", "vary", "varied")  # fields that the command or a study decides
NO_DEV_LOSS = ("dev_samples",)
OF_TEACHER = ("start", "teacher_cost", "teacher_half_life")  # fields that a run without a teacher has no use for
REWARD_CLIP: float = Reinforcement.model_fields["reward_clip"].default


@options_of(Training, TrainConfig, exclude=BY_COMMAND)
def train_bc(
    corpus: Annotated[str, typer.Option(help="Corpus of expert play to imitate.")],
    out: Out,
    experiment: Experiment = None,
    tracking_uri: Tracking = None,
    **settings: Any,
) -> None:
    """Train one model by behavioural cloning: a checkpoint and a row of OUT/points.csv at each budget.

    \b
    Example:
      playscale train bc --corpus corpus --size 10k --budgets 5e9,1e10 --out train-10k
    On several GPUs:
      torchrun --nproc-per-node 2 -m playscale.cli train bc ...
    """
    config = settings_of(TrainConfig, settings | _budgets(settings))
    _train(out, config, corpus, experiment, tracking_uri)


@options_of(Training, TrainConfig, Reinforcement, exclude=(*BY_COMMAND, *NO_DEV_LOSS))
def train_impala(
    context: typer.Context,
    out: Out,
    game: Annotated[
        str,
        typer.Option(
            help="Game, or task of a game. A game alone stands for its default task: nethack for nethack/score, "
            "NetHackScore-v0 with its 23 actions; nethack/challenge has all 121 actions."
        ),
    ] = "nethack",
    size: Annotated[
        str | None,
        typer.Option(
            help=f"{TrainConfig.model_fields['size'].description} Default: the teacher's, if the run starts from it."
        ),
    ] = None,
    core: Annotated[
        Core | None, typer.Option(help="Recurrent core of the policy. Default: lstm, or the teacher's.")
    ] = None,
    budgets: Annotated[str, typer.Option(help=TrainConfig.model_fields["budgets"].description)] = "",
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Frames of play to learn from, as one budget; instead of --budgets. The last screen of an "
            "episode is a frame too, so there are a few interactions less.",
        ),
    ] = None,
    reward_clip: Annotated[
        float, typer.Option(min=0, help="Largest absolute reward, after scaling; 0: no limit.")
    ] = REWARD_CLIP,
    experiment: Experiment = None,
    tracking_uri: Tracking = None,
    **settings: Any,
) -> None:
    """Train one model by reinforcement learning (IMPALA), from scratch or from a teacher.

    Writes a checkpoint and a row of OUT/points.csv at each budget.

    \b
    Example:
      playscale train impala --game nethack --size 10k --steps 6000 --out impala-10k
      playscale train impala --teacher train-10k/checkpoints/1e+10 --steps 6000 --out kickstart-10k
    On several GPUs, each with its own actors:
      torchrun --nproc-per-node 2 -m playscale.cli train impala ...
    """
    from playscale.games.game import get_task

    if (steps is None) == (not budgets):
        raise ValueError("give --budgets, in FLOPs, or --steps, in frames")
    for name in OF_TEACHER:
        if given(context, name) and not settings["teacher"]:
            raise ValueError(f"{flag(name)}: only a run with a teacher has one; give --teacher too")
    rl = settings_of(
        Reinforcement,
        {name: value for name, value in settings.items() if name in Reinforcement.model_fields}
        | {"game": get_task(game).name, "reward_clip": reward_clip or None, "teacher": _absolute(settings["teacher"])},
    )
    values = {name: value for name, value in settings.items() if name in TrainConfig.model_fields}
    values |= _size_and_core(rl, size, core) | _budgets(settings | {"budgets": budgets})
    values |= {"method": "kickstart" if rl.teacher else "impala", "rl": rl}
    if steps is not None:
        values["budgets"] = [_budget_of(steps, values)]
    config = settings_of(TrainConfig, values)
    if steps is not None:
        _check_steps(steps, config)
    _train(out, config, None, experiment, tracking_uri)


def _budgets(settings: dict[str, Any]) -> dict[str, list[float]]:
    return {
        "budgets": sorted(budget_list(settings["budgets"], "--budgets")),
        "held_out": sorted(budget_list(settings["held_out"], "--held-out")),
    }


def _size_and_core(rl: Reinforcement, size: str | None, core: str | None) -> dict[str, str]:
    """Return size and core as given, else those of the teacher that the run starts from. ValueError: no size."""
    default_size, default_core = None, "lstm"
    if rl.teacher and rl.start == "teacher" and None in (size, core):
        from playscale.agents.checkpoint import load_checkpoint

        policy = load_checkpoint(rl.teacher).config
        default_size, default_core = policy.size, policy.core
    if not (size or default_size):
        raise ValueError("--size: a run from scratch needs one, such as 100k")
    return {"size": size or str(default_size), "core": core or default_core}


def _budget_of(steps: int, values: dict[str, Any]) -> float:
    """Return the training FLOPs of a number of frames."""
    from playscale.agents.flops import training_flops_per_sample
    from playscale.study.plan import trained_policy

    return float(steps) * training_flops_per_sample(trained_policy(values["size"], values["core"], values["rl"]))


def _check_steps(steps: int, config: TrainConfig) -> None:
    """Raise ValueError when a number of frames is too few for a cell: see plan_cells, which knows FLOPs only."""
    from playscale.training.schedule import MIN_STEPS

    if round(steps / config.samples_per_step) < MIN_STEPS:
        raise ValueError(
            f"--steps: {steps:,} are fewer than {MIN_STEPS} optimizer steps of {config.batch} x {config.unroll} "
            f"frames: give at least {MIN_STEPS * config.samples_per_step:,}, or a smaller --batch or --unroll"
        )


def _absolute(uri: str | None) -> str | None:
    if not uri:
        return None
    return uri if is_s3(uri) else str(local_path(uri).absolute())


def _train(out: str, config: TrainConfig, corpus: str | None, experiment: str | None, tracking_uri: str | None) -> None:
    """Train and print the points. Under torchrun only the first process prints and logs."""
    from playscale.cli.console import points_table, progress, show
    from playscale.training.distributed import first_process
    from playscale.training.trainer import check, train

    if not first_process():
        if is_s3(out) and config.cooldown:
            raise ValueError("cooldown: processes that share it need an --out that all of them see, not one in S3")
        with workspace(out, store=False) as folder:  # holds the state that the run resumes from
            train(config, folder, corpus)
        return
    if experiment:
        check(config, corpus)  # before an experiment is made
    tracking = tracking_of(experiment, tracking_uri)
    with served(task="train"), progress("train") as report, workspace(out) as folder:
        if tracking:
            from playscale.study.tracked_runs import log_points, start_run
            from playscale.tracking.client import QUEUE

            with tracking.open(folder / QUEUE) as logged:
                record = start_run(logged, config, corpus)
                points = train(config, folder, corpus, record, report)
                log_points(logged, points, folder)
                record.finish()
        else:
            points = train(config, folder, corpus, progress=report)
    show(points_table(points))
