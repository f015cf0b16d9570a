"""Evaluation: an agent plays seeded episodes, every started one to its end.

OUT/<name>/evaluation.json              everything about the agent's episodes
OUT/<name>/recordings/episode-NNNNN/    the best, the median and the worst game, as the game records them
OUT/points.csv                          the checkpoints' rows of the points table, returns filled in
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from playscale.agents.checkpoint import WEIGHTS, load_policy
from playscale.agents.policy import Policy, restrict
from playscale.games.game import Game, get_game
from playscale.points import Point, from_row, write_points
from playscale.rollout.agent import Agent, find_device
from playscale.rollout.episode import Episode
from playscale.rollout.evaluation import Evaluation, Settings, read_evaluation
from playscale.rollout.evaluation_pool import EvalJob, EvalProgress, play_entrants, recording_name
from playscale.rollout.evaluation_worker import Load
from playscale.storage.files import write_json
from playscale.tracking.tracker import Spent, not_timed

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class EvalCandidate:
    """Somebody to be evaluated.

    load: makes the agent from a device's name, in another process (it is pickled); None is the game's expert
    """

    name: str
    load: Load | None
    game: str
    checkpoint: str = ""
    digest: str = ""
    point: dict[str, Any] | None = None


def evaluate(
    checkpoints: Sequence[Path],
    episodes: int,
    out: Path,
    *,
    max_steps: int,
    workers: int,
    seed: int = 0,
    device: str = "auto",
    temperature: float = 1.0,
    game: str | None = None,
    progress: Progress | None = None,
    spent: Spent = not_timed,
) -> list[Evaluation]:
    """Evaluate checkpoints of one game, each on the same episodes, seeds `seed` ... `seed` + `episodes` - 1.

    `game`: what they play instead of their own game, restricted to its actions (agents/policy.py) where they have
    more; they may then be of different games.
    An evaluation that `out` already holds, of the same weights in the same game with the same settings, is taken as it
    is. ValueError for what is not a checkpoint, for checkpoints of different games or that cannot play the game asked
    for, and for an agent whose logits are not finite.
    `spent` counts the seconds until the first steps are reported as `starting`, those after it as `play`.
    """
    if not checkpoints:
        raise ValueError("no checkpoint to evaluate: give at least one checkpoint directory")
    settings = Settings(episodes, max_steps, seed, temperature)
    candidates = checkpoint_candidates([Path(path) for path in checkpoints], game)
    played = get_game(candidates[0].game)
    evaluations = evaluate_candidates(
        played, candidates, settings, out, workers=workers, device=device, progress=progress, spent=spent
    )
    points = [point for evaluation in evaluations if (point := point_of(evaluation)) is not None]
    if points:
        write_points(points, out / "points.csv")
    return evaluations


def point_of(evaluation: Evaluation) -> Point | None:
    """The row of the points table with its returns; None for an agent that belongs to none."""
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
    settings: Settings,
    out: Path,
    *,
    workers: int,
    device: str = "auto",
    progress: Progress | None = None,
    spent: Spent = not_timed,
) -> list[Evaluation]:
    """Evaluate agents, or the expert; what `out` holds already is not played again."""
    if workers < 1:
        raise ValueError(f"workers is {workers}: it must be at least 1")
    _check(settings)
    device = find_device(device)
    done = {c.name: found for c in candidates if (found := _finished(out / c.name, game, c, settings)) is not None}
    waiting = {c.name: c for c in candidates if c.name not in done}
    out.mkdir(parents=True, exist_ok=True)
    entrants = [EvalJob(name, c.load, _scratch(out, name) / "recordings") for name, c in waiting.items()]

    def say(entrant: EvalJob, tally: EvalProgress) -> None:
        if progress is not None:
            fraction = 1 - (1 - tally.fraction) * len(waiting) / len(candidates)
            progress(_describe(entrant, settings.episodes, tally), fraction)

    try:
        for name in waiting:
            shutil.rmtree(_scratch(out, name), ignore_errors=True)  # of a run that was killed
        played = play_entrants(game, entrants, settings, workers=workers, device=device, on_report=say, spent=spent)
        with closing(played):
            for entrant in played:
                done[entrant.name] = _keep(game, waiting[entrant.name], entrant, settings, out)
    finally:
        for name in waiting:
            shutil.rmtree(_scratch(out, name), ignore_errors=True)
    return [done[candidate.name] for candidate in candidates]


def _check(settings: Settings) -> None:
    for name, low in (("episodes", 1), ("max_steps", 1), ("seed", 0), ("temperature", 0)):
        value = getattr(settings, name)
        if not low <= value < float("inf"):
            raise ValueError(f"{name} is {value}: it must be at least {low}")


def checkpoint_candidates(paths: Sequence[Path], game: str | None = None) -> list[EvalCandidate]:
    """Candidates with distinct names: run-budget, or the directory's name; where two share it, with the digest.

    They play `game`, or the one that all of them are of. Every checkpoint is read whole, so that a damaged one, or one
    that cannot play the game, is found before anything is played: ValueError.
    """
    task = None if game is None else get_game(game).name
    found: list[EvalCandidate] = []
    for path in paths:
        policy, checkpoint = load_policy(path, "cpu", found[0].game if found and task is None else None)
        if task is not None:
            _restrict(policy, task, path)
        played = task or checkpoint.config.game
        point = checkpoint.meta.get("point")
        owner = (point or {}).get("run") or (point or {}).get("size")
        name = f"{owner}-{path.resolve().name}" if owner else path.resolve().name
        plays = json.dumps([checkpoint.config.to_dict(), checkpoint.digests[WEIGHTS]], sort_keys=True)
        digest = hashlib.sha256(plays.encode()).hexdigest()
        if point and task is not None:
            point = {**point, "game": task}
        found.append(EvalCandidate(name, partial(_load, path, task), played, str(path), digest, point))
    names = [candidate.name for candidate in found]
    distinct: dict[str, EvalCandidate] = {}
    for candidate in found:
        name = candidate.name if names.count(candidate.name) == 1 else f"{candidate.name}-{candidate.digest[:8]}"
        if name in distinct:
            raise ValueError(
                f"{candidate.checkpoint}: the same as {distinct[name].checkpoint}: give each checkpoint once"
            )
        distinct[name] = replace(candidate, name=name)
    return list(distinct.values())


def _load(path: Path, task: str | None, device: str) -> Agent:
    policy, _ = load_policy(path, device)
    return policy if task is None else _restrict(policy, task, path)


def _restrict(policy: Policy, task: str, path: Path) -> Policy:
    try:
        return restrict(policy, get_game(task))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _finished(folder: Path, game: Game, candidate: EvalCandidate, settings: Settings) -> Evaluation | None:
    """The evaluation in `folder`, if it is this candidate's with these settings."""
    path = folder / "evaluation.json"
    if not path.is_file():
        return None
    try:
        found = read_evaluation(path)
    except ValueError:
        return None
    same = (found.game, found.digest, found.settings) == (game.name, candidate.digest, settings)
    return replace(found, point=candidate.point) if same else None


def _keep(game: Game, candidate: EvalCandidate, entrant: EvalJob, settings: Settings, out: Path) -> Evaluation:
    """Write the entrant's evaluation into its place, whole or not at all."""
    scratch, folder = _scratch(out, entrant.name), out / entrant.name
    scratch.mkdir(parents=True, exist_ok=True)
    kept = {role: recording_name(episode.index) for role, episode in _notable(entrant.episodes)}
    for recording in _folders(scratch / "recordings"):
        if recording.name not in kept.values():
            shutil.rmtree(recording)
    there = {recording.name for recording in _folders(scratch / "recordings")}
    evaluation = Evaluation(
        name=entrant.name,
        game=game.name,
        settings=settings,
        episodes=tuple(entrant.episodes),
        seconds=entrant.seconds,
        digest=candidate.digest,
        checkpoint=candidate.checkpoint,
        point=candidate.point,
        recordings={role: f"recordings/{name}" for role, name in kept.items() if name in there},
    )
    write_json(scratch / "evaluation.json", evaluation.to_dict())
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


def _describe(entrant: EvalJob, episodes: int, tally: EvalProgress) -> str:
    scores = [episode.score for episode in entrant.episodes]
    mean = f", mean return {sum(scores) / len(scores):.1f}" if scores else ""
    return f"evaluate {entrant.name}: {len(scores)}/{episodes} episodes{mean}, {tally.steps_per_second:,.0f} steps/s"
