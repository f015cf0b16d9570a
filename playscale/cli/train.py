"""Training: `playscale train bc` and `playscale train impala`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playscale.cli.options import (
    SPOOL,
    Core,
    Device,
    Experiment,
    Out,
    Precision,
    Tracking,
    Workers,
    logbook,
    numbers,
)
from playscale.config import Reinforcement
from playscale.storage.files import local_path
from playscale.storage.storage import is_s3
from playscale.storage.sync import workspace
from playscale.tracking.prometheus import served

if TYPE_CHECKING:
    from playscale.config import TrainConfig

RL = Reinforcement()
Seed = Annotated[int, typer.Option(help="Of the initial weights, and of the order of games.")]
Rate = Annotated[float | None, typer.Option(help="Default: by model size.")]
Cooldown = Annotated[float, typer.Option(help="Share of each budget spent on a linear cooldown branch.")]
AutoPrecision = Annotated[Precision, typer.Option(help="auto: bf16 on CUDA, else fp32.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile what precedes the core (for a GPU).")]


class RewardScale(StrEnum):
    running = "running"
    none = "none"


class Optimizer(StrEnum):
    adam = "adam"
    rmsprop = "rmsprop"


class Start(StrEnum):
    scratch = "scratch"
    teacher = "teacher"


def train_bc(
    corpus: Annotated[str, typer.Option(help="The corpus to imitate.")],
    size: Annotated[str, typer.Option(help="Model size: 10k ... 500M parameters.")],
    budgets: Annotated[str, typer.Option(help="Compute budgets in training FLOPs, comma-separated.")],
    out: Out,
    core: Annotated[Core, typer.Option(help="The recurrent core.")] = Core.lstm,
    seed: Seed = 0,
    batch: Annotated[int | None, typer.Option(min=1, help="Games side by side in a batch. Default: by size.")] = None,
    unroll: Annotated[int | None, typer.Option(min=1, help="Transitions of each in a batch. Default: by size.")] = None,
    learning_rate: Rate = None,
    cooldown: Cooldown = 0.0,
    precision: AutoPrecision = Precision.auto,
    compile_: Compile = False,
    dev_samples: Annotated[int, typer.Option(min=1, help="Transitions that dev loss is taken on.")] = 8192,
    device: Device = "auto",
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
    from playscale.config import TrainConfig

    values = {
        "size": size,
        "budgets": sorted(numbers(budgets, "--budgets")),
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
    _train(out, TrainConfig.model_validate(values), corpus, experiment, tracking_uri)


def train_impala(
    out: Out,
    game: Annotated[
        str,
        typer.Option(
            help="The game, or a task of it, taken as given. The game alone means the task it names for reinforcement: "
            "for nethack that is nethack/score, NetHackScore-v0 with its 23 actions; nethack/challenge has all 121."
        ),
    ] = "nethack",
    size: Annotated[
        str | None,
        typer.Option(help="Model size: 10k ... 500M parameters. Default: the teacher's, where it starts from one."),
    ] = None,
    budgets: Annotated[str, typer.Option(help="Compute budgets in training FLOPs, comma-separated.")] = "",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Instead of budgets: interactions with the game, as one budget.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Checkpoint of a teacher, such as a cloned agent's: a kickstarted run.")
    ] = None,
    start: Annotated[Start, typer.Option(help="Whose weights a kickstarted run begins with.")] = Start.teacher,
    teacher_cost: Annotated[float, typer.Option(help="Of diverging from the teacher, at first.")] = RL.teacher_cost,
    teacher_half_life: Annotated[
        float, typer.Option(help="Interactions in which that cost halves.")
    ] = RL.teacher_half_life,
    value_warmup: Annotated[
        int, typer.Option(help="Interactions that only the value is learned from, before the policy.")
    ] = RL.value_warmup,
    max_steps: Annotated[int, typer.Option(min=1, help="An episode is cut after this many actions.")] = RL.max_steps,
    discount: Annotated[float, typer.Option(help="Of the reward one action later.")] = RL.discount,
    entropy_cost: Annotated[float, typer.Option(help="Of acting predictably.")] = RL.entropy_cost,
    reward_scale: Annotated[
        RewardScale, typer.Option(help="running: divide rewards by the spread of the returns so far.")
    ] = RewardScale.running,
    reward_clip: Annotated[float, typer.Option(help="Largest reward after scaling; 0: any.")] = RL.reward_clip or 0.0,
    optimizer: Annotated[Optimizer, typer.Option(help="The optimizer.")] = Optimizer.adam,
    learning_rate: Rate = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Environments of an actor. Default: by size.")] = None,
    unroll: Annotated[int | None, typer.Option(min=1, help="Steps of each in a batch. Default: by size.")] = None,
    actors: Annotated[int | None, typer.Option(min=1, help="Actor processes. Default: by cores.")] = None,
    workers: Workers = None,
    core: Annotated[Core | None, typer.Option(help="The recurrent core. Default: lstm, or the teacher's.")] = None,
    cooldown: Cooldown = 0.0,
    seed: Seed = 0,
    precision: AutoPrecision = Precision.auto,
    compile_: Compile = False,
    device: Device = "auto",
    experiment: Experiment = None,
    tracking_uri: Tracking = None,
) -> None:
    """Reinforcement learning with IMPALA, from scratch or from a teacher: a checkpoint and a row at each budget.

    \b
    Example:
      playscale train impala --game nethack --size 10k --steps 6000 --out impala-10k
      playscale train impala --teacher train-10k/checkpoints/1e+10 --steps 6000 --out kickstart-10k
    On several GPUs, each with actors of its own:
      torchrun --nproc-per-node 2 -m playscale.cli train impala ...
    """
    from playscale.config import TrainConfig
    from playscale.games.game import get_task

    if (steps is None) == (not budgets):
        raise ValueError("give --budgets, in FLOPs, or --steps, in interactions")
    rl = Reinforcement(
        game=get_task(game).name,
        max_steps=max_steps,
        actors=actors,
        workers=workers,
        discount=discount,
        entropy_cost=entropy_cost,
        reward_scale=reward_scale.value,
        reward_clip=reward_clip or None,
        optimizer=optimizer.value,
        teacher=_absolute(teacher) if teacher else None,
        start=start.value,
        teacher_cost=teacher_cost,
        teacher_half_life=teacher_half_life,
        value_warmup=value_warmup,
    )
    values = _of_teacher(rl, size, core) | {
        "method": "kickstart" if teacher else "impala",
        "rl": rl,
        "seed": seed,
        "batch": batch,
        "unroll": unroll,
        "learning_rate": learning_rate,
        "cooldown": cooldown,
        "precision": precision.value,
        "compile": compile_,
        "device": device,
    }
    values["budgets"] = sorted(numbers(budgets, "--budgets")) or [_budget(steps or 0, values)]
    _train(out, TrainConfig.model_validate(values), None, experiment, tracking_uri)


def _of_teacher(rl: Reinforcement, size: str | None, core: Core | None) -> dict[str, Any]:
    """Size and core: as asked for, else the teacher's where the run starts from it. ValueError without a size."""
    asked = {"size": size, "core": core.value if core else None}
    found = {"size": None, "core": "lstm"}
    if rl.teacher and rl.start == "teacher" and None in asked.values():
        from playscale.agents.checkpoint import load_checkpoint

        policy = load_checkpoint(rl.teacher).config
        found = {"size": policy.size, "core": policy.core}
    values = {name: asked[name] or found[name] for name in asked}
    if values["size"] is None:
        raise ValueError("--size: a run from scratch needs one, such as 100k")
    return values


def _budget(steps: int, values: dict[str, Any]) -> float:
    """The training FLOPs of so many interactions."""
    from playscale.agents.flops import training_flops_per_sample
    from playscale.study.plan import trained_policy

    return float(steps) * training_flops_per_sample(trained_policy(values["size"], values["core"], values["rl"]))


def _absolute(uri: str) -> str:
    return uri if is_s3(uri) else str(local_path(uri).absolute())


def _train(out: str, config: TrainConfig, corpus: str | None, experiment: str | None, tracking_uri: str | None) -> None:
    """Train and show the points. Of several processes under torchrun, one tells and tracks."""
    from playscale.cli.console import points_table, progress, show
    from playscale.training.distributed import first_process
    from playscale.training.method import train

    if not first_process():
        if is_s3(out) and config.cooldown:
            raise ValueError("cooldown: processes that share it need an --out that all of them see, not one in S3")
        with workspace(out, store=False) as folder:  # to see where the run goes on from
            train(folder, config, corpus)
        return
    with served(task="train"), progress("train") as report, workspace(out) as folder:
        if experiment:
            from playscale.study.tracked_runs import train_tracked

            with logbook(experiment, tracking_uri).open(folder / SPOOL) as logged:
                points = train_tracked(logged, config.run_name, corpus, folder, config, report)
        else:
            points = train(folder, config, corpus, progress=report)
    show(points_table(points))
