"""Evaluate agents: each plays seeded episodes, every started one to its end.

OUT/<name>/evaluation.json              everything about the agent's episodes
OUT/<name>/recordings/episode-NNNNN/    the best, the median and the worst game, as the game records them
OUT/points.csv                          the checkpoints' rows of the points table, returns filled in
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from playscale.agents.checkpoint import WEIGHTS, Checkpoint, load_policy
from playscale.agents.device import resolve_device
from playscale.agents.policy import Policy, restrict
from playscale.config import EVALUATION_SEED
from playscale.games.game import Game, get_game
from playscale.points import Point, from_row, in_order, write_points
from playscale.rollout.agent import Agent
from playscale.rollout.env_pool import PLAYING, play_folder
from playscale.rollout.episode import Episode, SeedRanges, common_seeds
from playscale.rollout.evaluation import EvalSettings, Evaluation, read_evaluation, write_evaluation
from playscale.rollout.evaluation_pool import EvalJob, EvalProgress, play_jobs, recording_name
from playscale.rollout.evaluation_worker import Load
from playscale.storage.files import locked
from playscale.tracking.tracker import Spent, not_timed

Progress = Callable[[str, float], None]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalCandidate:
    """An agent to evaluate, or the game's expert.

    name: of its directory
    load: makes the agent from a device's name, in another process (it is pickled); None is the game's expert
    game: what it plays
    checkpoint, digest: path of its checkpoint and hash of its contents; empty when it is no checkpoint
    point: the checkpoint's row of the points table
    train_seeds: seeds of the games that it may have learned from, as far as they are known
    """

    name: str
    load: Load | None
    game: str
    checkpoint: str = ""
    digest: str = ""
    point: dict[str, Any] | None = None
    train_seeds: SeedRanges = ()


def evaluate(
    checkpoints: Sequence[Path],
    episodes: int,
    out: Path,
    *,
    max_steps: int,
    workers: int,
    seed: int = EVALUATION_SEED,
    device: str = "auto",
    temperature: float = 1.0,
    game: str | None = None,
    progress: Progress | None = None,
    spent: Spent = not_timed,
) -> list[Evaluation]:
    """Evaluate checkpoints of one game, each on the same episodes.

    An evaluation that `out` already holds, of the same weights in the same game with the same settings, is kept.
    OUT/points.csv has a row for each evaluation of a checkpoint that `out` holds in the end.

    Args:
        checkpoints: Checkpoint directories.
        episodes: Number of episodes of each.
        out: Directory of the results; see the module.
        max_steps: An episode is truncated after so many steps.
        workers: Number of processes that step environments.
        seed: Seed of the first episode; episode i has seed `seed` + i.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        temperature: Of the softmax that actions are sampled from; 0 takes the most likely action.
        game: What the agents play instead of their own game, restricted to its actions (agents/policy.py) where they
            have more; they may then be of different games.
        progress: Called with a text and the fraction done (0 to 1).
        spent: Times the seconds until the first steps are reported as `starting`, those after it as `play`.

    Returns:
        The evaluations, in the order of the checkpoints.

    Raises:
        ValueError: No checkpoint at a path, checkpoints of different games, one that cannot play the game, an agent
            whose logits are not finite, a setting out of range, or another evaluation that is writing to `out`.
        OSError: `out` cannot be written.
        WorkerError: A worker process failed.
    """
    if not checkpoints:
        raise ValueError("no checkpoint to evaluate: give at least one checkpoint directory")
    settings = EvalSettings(episodes, max_steps, seed, temperature)
    candidates = checkpoint_candidates([Path(path) for path in checkpoints], game)
    played = get_game(candidates[0].game)
    with locked(out, "evaluation"):
        earlier = evaluations_in(out, [candidate.name for candidate in candidates])
        candidates = [_beside(candidate, earlier) for candidate in candidates]
        evaluations = evaluate_candidates(
            played, candidates, settings, out, workers=workers, device=device, progress=progress, spent=spent
        )
        there = [one for one in earlier if one.name not in {new.name for new in evaluations}]
        of_agent = {(one.digest, one.game): one for one in [*there, *evaluations]}
        points = [point for evaluation in of_agent.values() if (point := point_of(evaluation)) is not None]
        if points:
            write_points(in_order(points), out / "points.csv")
    return evaluations


def _beside(candidate: EvalCandidate, earlier: Sequence[Evaluation]) -> EvalCandidate:
    """Return a candidate under a name of its own where the evaluation of that name is another run's."""
    owners = {one.name: (one.point or {}).get("digest") for one in earlier}
    owner, own = owners.get(candidate.name), (candidate.point or {}).get("digest")
    return replace(candidate, name=_with_digest(candidate)) if owner and own and owner != own else candidate


def _with_digest(candidate: EvalCandidate) -> str:
    return f"{candidate.name}-{candidate.digest[:8]}"


def evaluations_in(out: Path, played: Collection[str]) -> list[Evaluation]:
    """Return the evaluations in a directory.

    ValueError: one of them is damaged. Those of the names that are `played` now are left out then: they are made anew.
    """
    evaluations = []
    for path in sorted(out.glob("[!.]*/evaluation.json")):
        try:
            evaluations.append(read_evaluation(path))
        except ValueError:
            if path.parent.name not in played:
                raise
    return evaluations


def point_of(evaluation: Evaluation) -> Point | None:
    """Return the row of the points table with its returns; None for an agent without a row."""
    if evaluation.point is None:
        return None
    return replace(
        from_row(evaluation.point),
        return_mean=evaluation.return_mean,
        return_se=evaluation.return_se,
        episodes=evaluation.episode_count,
    )


def evaluate_candidates(
    game: Game,
    candidates: Sequence[EvalCandidate],
    settings: EvalSettings,
    out: Path,
    *,
    workers: int,
    device: str = "auto",
    progress: Progress | None = None,
    spent: Spent = not_timed,
) -> list[Evaluation]:
    """Evaluate agents, or the expert; evaluations that `out` already holds are kept. See evaluate."""
    if workers < 1:
        raise ValueError(f"workers is {workers}: it must be at least 1")
    _check(settings)
    _warn_of_train_seeds(candidates, settings)
    device = str(resolve_device(device))
    done = {c.name: kept for c in candidates if (kept := _finished(out / c.name, game, c, settings)) is not None}
    waiting = {c.name: c for c in candidates if c.name not in done}
    out.mkdir(parents=True, exist_ok=True)
    jobs = [EvalJob(name, c.load, _scratch(out, name) / "recordings") for name, c in waiting.items()]

    def report(job: EvalJob, jobs_progress: EvalProgress) -> None:
        if progress is not None:
            fraction = 1 - (1 - jobs_progress.fraction) * len(waiting) / len(candidates)
            progress(_describe(job, settings.episodes, jobs_progress), fraction)

    try:
        for name in waiting:
            shutil.rmtree(_scratch(out, name), ignore_errors=True)  # left by a run that was killed
        with play_folder(out / PLAYING) as folder:
            finished = play_jobs(
                game, jobs, settings, workers=workers, device=device, on_report=report, spent=spent, folder=folder
            )
            with closing(finished):
                for job in finished:
                    done[job.name] = _write(game, waiting[job.name], job, settings, out)
    finally:
        for name in waiting:
            shutil.rmtree(_scratch(out, name), ignore_errors=True)
    return [done[candidate.name] for candidate in candidates]


def _warn_of_train_seeds(candidates: Sequence[EvalCandidate], settings: EvalSettings) -> None:
    """Say which agents play games that they may have learned from."""
    by_seeds: dict[SeedRanges, list[str]] = {}
    for candidate in candidates:
        if seeds := common_seeds(candidate.train_seeds, settings.seed, settings.episodes):
            by_seeds.setdefault(seeds, []).append(candidate.name)
    for seeds, names in by_seeds.items():
        count = sum(last - first + 1 for first, last in seeds)
        log.warning(
            "%d of %d episodes (seeds %d to %d) may be games that %s learned from: choose another --seed",
            count, settings.episodes, seeds[0][0], seeds[-1][1], ", ".join(names),
        )  # fmt: skip


def _check(settings: EvalSettings) -> None:
    for name, low in (("episodes", 1), ("max_steps", 1), ("seed", 0), ("temperature", 0)):
        value = getattr(settings, name)
        if not low <= value < float("inf"):
            raise ValueError(f"{name} is {value}: it must be at least {low}")


def checkpoint_candidates(paths: Sequence[Path], game: str | None = None) -> list[EvalCandidate]:
    """Make candidates with distinct names: run-budget, or the directory's name; where two share it, with the digest.

    They play `game`, or the game that all of them are of. Every checkpoint is read whole, so that a damaged one, or one
    that cannot play the game, raises ValueError before anything is played.
    """
    task = None if game is None else get_game(game).name
    candidates: list[EvalCandidate] = []
    for path in paths:
        policy, checkpoint = load_policy(path, "cpu", candidates[0].game if candidates and task is None else None)
        if task is not None:
            _restrict(policy, task, path)
        point = checkpoint.meta.get("point")
        owner = (point or {}).get("run") or (point or {}).get("size")
        name = f"{owner}-{path.resolve().name}" if owner else path.resolve().name
        digest = policy_digest(checkpoint)
        if point and task is not None:
            point = {**point, "game": task}
        plays = task or checkpoint.config.game
        load, seeds = partial(_load, path, task), checkpoint.train_seeds
        candidates.append(EvalCandidate(name, load, plays, str(path), digest, point, seeds))
    names = [candidate.name for candidate in candidates]
    distinct: dict[str, EvalCandidate] = {}
    for candidate in candidates:
        name = candidate.name if names.count(candidate.name) == 1 else _with_digest(candidate)
        if name in distinct:
            raise ValueError(
                f"{candidate.checkpoint}: the same as {distinct[name].checkpoint}: give each checkpoint once"
            )
        distinct[name] = replace(candidate, name=name)
    return list(distinct.values())


def policy_digest(checkpoint: Checkpoint) -> str:
    """Return the hash of a policy's architecture and weights by which an evaluation names it."""
    contents = json.dumps([checkpoint.config.to_dict(), checkpoint.digests[WEIGHTS]], sort_keys=True)
    return hashlib.sha256(contents.encode()).hexdigest()


def _load(path: Path, task: str | None, device: str) -> Agent:
    policy, _ = load_policy(path, device)
    return policy if task is None else _restrict(policy, task, path)


def _restrict(policy: Policy, task: str, path: Path) -> Policy:
    try:
        return restrict(policy, get_game(task))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _finished(folder: Path, game: Game, candidate: EvalCandidate, settings: EvalSettings) -> Evaluation | None:
    """Return the evaluation in `folder` if it is this candidate's with these settings."""
    path = folder / "evaluation.json"
    if not path.is_file():
        return None
    try:
        evaluation = read_evaluation(path)
    except ValueError:
        return None
    is_same = (evaluation.game, evaluation.digest, evaluation.settings) == (game.name, candidate.digest, settings)
    seeds = common_seeds(candidate.train_seeds, settings.seed, settings.episodes)
    return replace(evaluation, point=candidate.point, train_seeds=seeds) if is_same else None


def _write(game: Game, candidate: EvalCandidate, job: EvalJob, settings: EvalSettings, out: Path) -> Evaluation:
    """Write the evaluation of a finished job to its directory, whole or not at all."""
    scratch, folder = _scratch(out, job.name), out / job.name
    scratch.mkdir(parents=True, exist_ok=True)
    kept = {role: recording_name(episode.index) for role, episode in _notable(job.episodes)}
    for recording in _folders(scratch / "recordings"):
        if recording.name not in kept.values():
            shutil.rmtree(recording)
    recorded = {recording.name for recording in _folders(scratch / "recordings")}
    evaluation = Evaluation(
        name=job.name,
        game=game.name,
        settings=settings,
        episodes=tuple(job.episodes),
        seconds=job.seconds,
        digest=candidate.digest,
        checkpoint=candidate.checkpoint,
        point=candidate.point,
        train_seeds=common_seeds(candidate.train_seeds, settings.seed, settings.episodes),
        recordings={role: f"recordings/{name}" for role, name in kept.items() if name in recorded},
    )
    write_evaluation(scratch / "evaluation.json", evaluation)
    if folder.exists():
        shutil.rmtree(folder)
    scratch.rename(folder)
    return evaluation


def _notable(episodes: Sequence[Episode]) -> Iterator[tuple[str, Episode]]:
    ranked = sorted(episodes, key=lambda episode: (episode.score, -episode.index))
    yield "best", ranked[-1]
    yield "median", ranked[(len(ranked) - 1) // 2]
    yield "worst", ranked[0]


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def _scratch(out: Path, name: str) -> Path:
    return out / f".{name}.playing"


def _describe(job: EvalJob, episodes: int, progress: EvalProgress) -> str:
    scores = [episode.score for episode in job.episodes]
    mean = f", mean return {sum(scores) / len(scores):.1f}" if scores else ""
    return f"evaluate {job.name}: {len(scores)}/{episodes} episodes{mean}, {progress.steps_per_second:,.0f} steps/s"
