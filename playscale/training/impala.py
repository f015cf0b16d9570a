"""IMPALA: one model trained by reinforcement through its compute budgets, each one's checkpoint an isoFLOP cell.

ActorPool play in processes of their own with weights a few updates old; the learner corrects for that with V-trace
(Espeholt et al., arXiv 1802.01561). With a teacher the run is kickstarted (Schmitt et al., arXiv 1803.03835).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from playscale.agents.checkpoint import WEIGHTS, load_policy
from playscale.agents.flops import forward_flops
from playscale.agents.policy import Policy, PolicyConfig, build_policy
from playscale.agents.restrict import restrict
from playscale.agents.sizing import config_for_size
from playscale.config import Reinforcement, TrainConfig
from playscale.games.game import Game, get_game
from playscale.points import Point
from playscale.processes import usable_cores
from playscale.rollout.actor_pool import ActorPool
from playscale.tracking.tracker import Tracker
from playscale.training.batches import Batch, batches
from playscale.training.cells import train_run
from playscale.training.distributed import Group, process_group
from playscale.training.experience import Experience
from playscale.training.impala_learner import ImpalaLearner
from playscale.training.optimization import compile_features, keep_freed_memory, resolve_device, resolve_precision
from playscale.training.run import CellUsage, Run
from playscale.training.run_state import RunState
from playscale.training.teacher import Teacher
from playscale.training.trainer import Method

REPORTS = 200
"""Reports a run: returns are noisier than losses."""


@dataclass(frozen=True)
class TeacherCheckpoint:
    """A teacher's checkpoint. `training_flops`: what it took to train, 0 where its checkpoint does not say."""

    uri: str
    digest: str
    policy: Policy
    training_flops: float

    @classmethod
    def load(cls, uri: str, game: Game) -> TeacherCheckpoint:
        """Limited to the actions of `game`. ValueError: no checkpoint, damaged, or of a game that lacks them."""
        policy, checkpoint = load_policy(uri)
        point = checkpoint.meta.get("point") or {}
        return cls(uri, checkpoint.digests[WEIGHTS], restrict(policy, game), float(point.get("flops") or 0))

    @cached_property
    def forward_flops(self) -> int:
        return forward_flops(self.policy)


def train_impala(
    out: Path,
    config: TrainConfig,
    tracker: Tracker | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[Point]:
    """Train one model through the config's budgets; the points, by budget, as also written to OUT/points.csv.

    Run again with the same OUT, it goes on from its last save (the games that were going on begin anew); a finished run
    answers at once. ValueError: a budget too small or already passed, OUT holding another run, no such game, device or
    teacher, a damaged save. NonFiniteError: the loss ran away; the last good save stays. WorkerError: actors fail again
    and again. Under torchrun every process has a share of a batch's environments, played by actors of its own.
    """
    assert config.rl is not None
    asked, game = config.rl, get_game(config.rl.game)
    with process_group() as group, ExitStack() as stack:
        group.columns(config.batch)
        device = group.device(resolve_device(config.device))
        if device.type == "cpu":
            keep_freed_memory()
        mentor = TeacherCheckpoint.load(asked.teacher, game) if asked.teacher else None
        run = _run(Path(out), config, game, mentor)
        return train_run(
            run,
            group,
            device,
            lambda: _method(run, mentor, device, group, stack),
            reports=REPORTS,
            dev_steps=frozenset(),
            tracker=tracker,
            progress=progress,
        )


def _run(out: Path, config: TrainConfig, game: Game, mentor: TeacherCheckpoint | None) -> Run:
    assert config.rl is not None
    policy = policy_config(config, game)
    source: dict[str, Any] = {"game": {"uri": game.name, "digest": game.name}}
    start: Callable[[torch.device], Policy] = lambda device: build_policy(policy, device)  # noqa: E731
    if mentor is not None:
        source["teacher"] = {"uri": mentor.uri, "digest": mentor.digest}
        if config.rl.start == "teacher":
            pupil = restrict(mentor.policy, game, value_head=True)
            if pupil.config.size != config.size or pupil.config.core != config.core:
                raise ValueError(
                    f"{mentor.uri}: a teacher of size {pupil.config.size} ({pupil.config.core}); a run that starts "
                    f"from it has that size and core, not {config.size} ({config.core}); or start from scratch"
                )
            policy = pupil.config
            start = lambda device: restrict(mentor.policy, game, value_head=True).to(device).train()  # noqa: E731
    per_sample = forward_flops(policy)
    return Run(
        out,
        config,
        policy,
        source=source,
        seen=lambda state: _seen(state, config, per_sample, mentor),
        start=start,
        recurrent=lambda _: {},
        optimizer=config.rl.optimizer,
    )


def policy_config(config: TrainConfig, game: Game) -> PolicyConfig:
    """The policy of that size, with a value head."""
    return replace(config_for_size(game, config.size, config.core), value_head=True)


def _seen(state: RunState, config: TrainConfig, per_sample: int, mentor: TeacherCheckpoint | None) -> CellUsage:
    """Interactions, and the compute beside the learner's: acting (a forward pass a frame), the teacher's training and
    its forward passes, and the total of learner and teacher.
    """
    assert config.rl is not None
    frames = state.step * config.samples_per_step
    asking = frames * mentor.forward_flops if mentor and config.rl.teacher_cost else 0
    teacher = asking + (mentor.training_flops if mentor else 0.0)
    extra = {
        "flops_acting": float(frames * per_sample),
        "flops_teacher": teacher,
        "flops_total": 3.0 * frames * per_sample + teacher,
        "episodes_trained": float(state.tally.episodes),
    }
    if state.tally.return_mean is not None:
        extra["train_return"] = state.tally.return_mean
    return CellUsage(state.tally.interactions, extra)


def _method(run: Run, mentor: TeacherCheckpoint | None, device: torch.device, group: Group, stack: ExitStack) -> Method:
    """ActorPool that live as long as `stack`; from stretch to stretch of the run they just get other weights.

    Their experience is told by each learner which state it trains: the run's, or that of a cooldown branch.
    """
    config, asked = run.config, run.config.rl
    assert asked is not None
    precision = resolve_precision(config.precision, device)
    made: list[tuple[ActorPool, Experience, Iterator[Batch], Teacher | None]] = []

    def learner(state: RunState) -> ImpalaLearner:
        if not made:
            count, workers = crew(asked, device, group)
            actors = stack.enter_context(
                ActorPool(
                    run.policy,
                    actors=count,
                    workers=workers,
                    environments=config.batch // group.size,
                    unroll=config.unroll,
                    max_steps=asked.max_steps,
                    device=str(device),
                    seed=(config.seed, group.rank, state.step),
                )
            )
            experience = Experience(actors, asked.discount)
            read = stack.enter_context(closing(batches(experience.stream(), device, ahead=1)))
            stack.callback(actors.stop)  # before the thread that reads ahead is waited for: it waits for actors
            teacher = Teacher(mentor.policy, device, precision) if mentor and asked.teacher_cost else None
            made.append((actors, experience, read, teacher))
        actors, experience, _, teacher = made[0]
        if config.compile:
            compile_features(state.policy, device)
        return ImpalaLearner(state, asked, config.clip_norm, actors, experience, teacher, device, precision, group)

    def unrolls(_: RunState) -> AbstractContextManager[Iterator[Batch]]:
        experience, read, teacher = made[0][1:]
        return nullcontext(experience.own(read, teacher))

    return Method(unrolls, learner)


def crew(asked: Reinforcement, device: torch.device, group: Group) -> tuple[int, int]:
    """How many actors this process has, and how many environment processes each of them.

    While one actor's environments step, another's policy thinks, so there are two at least. Beyond that, on a CPU, one
    for each core but the learner's; a GPU is shared, and its cores are for environments.
    """
    cores = max(1, usable_cores() // group.size)
    actors = asked.actors or (2 if device.type == "cuda" else max(2, cores - 1))
    workers = asked.workers or (cores if device.type == "cuda" else actors)
    return actors, max(1, workers // actors)
