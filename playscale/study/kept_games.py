"""The recorded games of a study, of an evaluation or in a single file, and their replays with the agent's decisions."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from playscale.config import budget_name
from playscale.corpus.prepare import CRASHES
from playscale.games.game import GAMES, Game, Metadata, Recording, get_game
from playscale.processes.cores import usable_cores
from playscale.processes.worker import WorkerDiedError, run_tasks
from playscale.report.replay import Replay, ScreenChanges
from playscale.rollout.decisions import DecisionReader
from playscale.rollout.episode import Episode
from playscale.rollout.evaluation import Evaluation, read_evaluation
from playscale.rollout.evaluation_pool import recording_name
from playscale.storage.files import path_below

ROLES = ("best", "median", "worst")
EVALUATIONS = ("", "[!.]*/", "[!.]*/[!.]*/", "evaluate/[!.]*/[!.]*/", "forecasts/[!.]*/evaluate/[!.]*/[!.]*/")
"""Where evaluations lie below the directory of an evaluation, of several, or of a study."""
BLOCK = 640  # transitions decoded at once
Result = TypeVar("Result")


class NoTerminalError(ValueError):
    """A game has no terminal to show."""


@dataclass(frozen=True)
class RecordedPlay:
    """The play behind a recorded game: its episode, and the evaluation that it belongs to."""

    episode: Episode
    evaluation: Evaluation


@dataclass(frozen=True)
class KeptGame:
    """A recorded game, and what is known of the agent that played it.

    agent: name of the agent, or of the file
    game: rules by which it is decoded
    path: the file of the recording, or the directory that the game recorded it in
    roles: which of its agent's games it is: best, median, worst; empty for a file alone
    play: how it was played; None for a file alone
    checkpoints: where the agent's checkpoint may lie
    is_chosen: the checkpoint is the user's choice, perhaps another agent's than the one that played
    metadata: what the recording says of the game, where nothing else does
    """

    agent: str
    game: Game
    path: Path
    roles: tuple[str, ...] = ()
    play: RecordedPlay | None = None
    checkpoints: tuple[str, ...] = ()
    is_chosen: bool = False
    metadata: Metadata = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The game among those of its agent: "best and median: 120"."""
        name = " and ".join([", ".join(self.roles[:-1]), self.roles[-1]] if len(self.roles) > 1 else self.roles)
        return name or "game" if self.play is None else f"{name}: {self.play.episode.score:,.0f}"

    @property
    def title(self) -> str:
        return f"{self.agent}, {self.label}" if self.roles else self.agent

    @property
    def point(self) -> Mapping[str, Any]:
        """The row of the points table that the agent belongs to; empty if it belongs to none."""
        return {} if self.play is None else self.play.evaluation.point or {}

    @property
    def run(self) -> str:
        return str(self.point.get("run") or self.agent)

    @property
    def budget(self) -> float | None:
        """The budget of the checkpoint, which is its name, else the training FLOPs of its point."""
        for place in self.checkpoints:
            with suppress(ValueError):
                return float(Path(place).name)
        return float(self.point["flops"]) if self.point else None

    @property
    def caption(self) -> str:
        """The episode, and the other ones of the agent."""
        if self.play is None:
            return "; ".join([self.game.name, *filter(None, [_said(self.metadata)])])
        one, others = self.play.episode, self.play.evaluation
        end = "ended by the game" if one.terminated else "cut at the step limit"
        said = ", ".join([f"{self.game.name}, seed {one.seed}, {one.length:,} steps", end])
        mean = f"the agent's mean return is {others.return_mean:,.1f} in {len(others.episodes):,} episodes"
        return "; ".join([said, *filter(None, [_said(one.metadata)]), mean])


def _said(metadata: Metadata) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in metadata.items() if value is not None)


def kept_games(folder: Path, place: str) -> list[KeptGame]:
    """Return the games that evaluations below a directory kept, by agent.

    Args:
        folder: Directory of an evaluation, of several, or of a study.
        place: Its name for the user: the directory, or s3://BUCKET/PREFIX.

    Raises:
        ValueError: An evaluation is damaged.
    """
    paths = {path for pattern in EVALUATIONS for path in folder.glob(f"{pattern}evaluation.json")}
    evaluations = {path.parent: read_evaluation(path) for path in sorted(paths)}
    names = Counter(evaluation.name for evaluation in evaluations.values())
    found: list[KeptGame] = []
    for own, evaluation in evaluations.items():
        agent = evaluation.name if names[evaluation.name] == 1 else own.relative_to(folder).as_posix()
        places = tuple(_places(evaluation, own, folder, place))
        found += [replace(game, agent=agent, checkpoints=places) for game in _games_of(own, evaluation)]
    return found


def _games_of(folder: Path, evaluation: Evaluation) -> Iterator[KeptGame]:
    """Yield the games that one evaluation kept, each once."""
    episodes = {recording_name(episode.index): episode for episode in evaluation.episodes}
    roles: dict[str, list[str]] = {}
    for role in ROLES:
        if role in evaluation.recordings:
            roles.setdefault(evaluation.recordings[role], []).append(role)
    for name, own in roles.items():
        path = path_below(folder, name)
        if path.is_dir() and path.name in episodes:
            yield KeptGame(
                agent=evaluation.name,
                game=get_game(evaluation.game),
                path=path,
                roles=tuple(own),
                play=RecordedPlay(episodes[path.name], evaluation),
                checkpoints=(evaluation.checkpoint,) if evaluation.checkpoint else (),
            )


def _places(evaluation: Evaluation, folder: Path, below: Path, place: str) -> Iterator[str]:
    """Yield where the checkpoint may be: where it was, and where the study has it that was moved since."""
    if not evaluation.checkpoint:
        return
    yield evaluation.checkpoint
    run, name = (evaluation.point or {}).get("run"), Path(evaluation.checkpoint).name
    parts = folder.relative_to(below).parts
    if run and "evaluate" in parts:
        study = parts[: parts.index("evaluate")]
        yield "/".join([place.rstrip("/"), *study, "train", str(run), "checkpoints", name])


def recorded_game(path: Path, game: str | None, checkpoint: str | None) -> KeptGame:
    """Return the game in a file, with what the evaluation knows that the file is of, if it is of one.

    Args:
        path: The recording.
        game: Name of the game; by default that of the evaluation, of the checkpoint, or the first that is known.
        checkpoint: The checkpoint of the agent that played; by default that of the evaluation.

    Raises:
        ValueError: There is no such game, the checkpoint is none, or the evaluation is damaged.
    """
    folder = path.resolve().parent.parent.parent
    if (folder / "evaluation.json").is_file():
        kept = _games_of(folder, read_evaluation(folder / "evaluation.json"))
        found = [one for one in kept if one.path == path.resolve().parent]
        if found:
            kept_game = replace(found[0], path=path, game=get_game(game) if game else found[0].game)
            return replace(kept_game, checkpoints=(checkpoint,), is_chosen=True) if checkpoint else kept_game
    if checkpoint is None:
        return KeptGame(path.name, get_game(game or next(iter(GAMES))), path)
    from playscale.agents.checkpoint import load_checkpoint

    name = game or load_checkpoint(checkpoint).config.game
    return KeptGame(path.name, get_game(name), path, checkpoints=(checkpoint,), is_chosen=True)


def recorded_games(folder: Path, game: str | None) -> list[KeptGame]:
    """Return the games recorded below a directory, by default of the first game known; ValueError: there is none."""
    played = get_game(game or next(iter(GAMES)))
    recordings, _ = played.find_recordings(folder)
    return [KeptGame(one.key, played, one.paths[0], metadata=one.metadata) for one in recordings]


def choose(
    games: Sequence[KeptGame], run: str | None = None, budget: float | None = None, which: str | None = None
) -> list[KeptGame]:
    """Return the games of a run, at a budget and of a role, as far as each is given; ValueError: there is none."""
    if run is not None and run not in (known := sorted({game.run for game in games})):
        raise ValueError(f"--run: no kept game of {run!r}; there are those of {', '.join(known)}")
    games = [game for game in games if run in (None, game.run)]
    budgets = sorted({game.budget for game in games if game.budget is not None})
    if budget is not None and budget not in budgets:
        raise ValueError(f"--budget: no kept game at {budget_name(budget)}; there are {_listed(budgets)}")
    games = [game for game in games if budget in (None, game.budget)]
    found = [game for game in games if which is None or which in game.roles]
    if not found:
        raise ValueError(f"--which: no game was kept as the {which}")
    return found


def _listed(budgets: Sequence[float]) -> str:
    return ", ".join(map(budget_name, budgets)) or "none with a budget"


@dataclass(frozen=True)
class _GameToRead:
    """A game to decode; `games`: the registry of the parent, which may know more than are built in."""

    kept: KeptGame
    device: str
    threads: int
    then: Callable[[Replay], Any]
    games: dict[str, str] = field(default_factory=lambda: dict(GAMES))


def replays(
    games: Sequence[KeptGame],
    then: Callable[[Replay], Result],
    *,
    device: str,
    workers: int,
    progress: Callable[[str, float], None],
) -> Generator[Result]:
    """Yield what `then`, a function of a module, makes of the replay of each game, in order.

    Each is decoded in a worker process: damaged data can crash the decoder.

    Args:
        games: The games.
        then: Called in the worker.
        device: Of the policies that the agents' decisions are read with, as torch names it.
        workers: Processes at most.
        progress: Called with a text and the fraction done (0 to 1).

    Raises:
        ValueError: A recording is damaged, or its game has no terminal.
        OSError: A recording cannot be read.
        WorkerError: A worker failed in any other way.
    """
    workers = min(workers, len(games)) if device == "cpu" else 1
    tasks = [_GameToRead(game, device, max(1, usable_cores() // workers), then) for game in games]
    done: dict[int, Result] = {}
    following = 0
    with closing(run_tasks(_work, tasks, workers, quiet=True)) as results:
        for count, (index, result) in enumerate(results, 1):
            if isinstance(result, WorkerDiedError) and -result.exit_code in CRASHES:
                raise ValueError(f"{games[index].path}: damaged: the decoder crashed on it") from result
            if isinstance(result, Exception):
                raise result
            done[index] = result
            progress(f"{count} of {len(games)} games read", count / len(games))
            while following in done:
                yield done.pop(following)
                following += 1


def _work(task: _GameToRead) -> Any:
    import torch

    GAMES.update(task.games)
    torch.set_num_threads(task.threads)
    try:
        found = replay_of(task.kept, task.device)
    except ValueError as error:
        raise ValueError(f"{task.kept.path}: {error}") from error
    return task.then(found)


def replay_of(kept: KeptGame, device: str | None = None, most: int | None = None) -> Replay:
    """Decode a game, or its first `most` screens; with a device also the agent's decisions, if its checkpoint is there.

    ValueError: the recording is damaged. NoTerminalError: its game has no terminal.
    """
    reader, note = _reader(kept, device) if device else (None, "")
    columns: dict[str, list[Any]] = {"score": [], "depth": [], "action": []}

    def screens() -> Iterator[tuple[Any, Any, Any]]:
        start, end = _first_step(kept) if reader else 0, sys.maxsize if most is None else most
        for whole_block in kept.game.decode(_recording(kept), BLOCK):
            block = {name: array[max(0, start) : max(0, end)] for name, array in whole_block.items()}
            start, end = start - len(whole_block["action"]), end - len(whole_block["action"])
            if not len(block["action"]):
                continue
            shown = kept.game.terminal(block)
            if shown is None:
                raise NoTerminalError(f"{kept.game.name} has no terminal to show")
            columns["score"].append(block["score"])
            columns["action"].append(block["action"])
            columns["depth"] += [] if shown.depth is None else [shown.depth]
            if reader is not None:
                reader.read(block)
            yield shown[:3]

    changes = ScreenChanges.of(screens())
    whole = {name: np.concatenate(parts) if parts else None for name, parts in columns.items()}
    return Replay(
        kept.title,
        kept.caption + note,
        changes,
        actions=kept.game.actions,
        decisions=reader.decisions() if reader else None,
        **whole,
    )


def _first_step(kept: KeptGame) -> int:
    """Return the transition at which the agent began: those before it are keys that the environment pressed itself.

    They can be counted where the step limit cut the game, since all others are the agent's then; else they count as 0.
    """
    if kept.play is None or kept.play.episode.terminated:
        return 0
    recorded = sum(len(block["action"]) for block in kept.game.decode(_recording(kept), BLOCK))
    return max(0, recorded - kept.play.episode.length)


def _recording(kept: KeptGame) -> Recording:
    if not kept.path.is_dir():
        return Recording(kept.path.name, (kept.path,), {})
    (recording,), _ = kept.game.find_recordings(kept.path)
    return recording


def _reader(kept: KeptGame, device: str) -> tuple[DecisionReader | None, str]:
    """Return what reads the agent's decisions; where its checkpoint is not known or not there, None and a note.

    ValueError: the checkpoint that the user chose is none, or cannot play the game.
    """
    from playscale.agents.checkpoint import load_policy
    from playscale.agents.policy import restrict
    from playscale.rollout.evaluate import policy_digest

    reason = ""
    played = None if kept.play is None else kept.play.evaluation
    for place in kept.checkpoints:
        try:
            policy, checkpoint = load_policy(place, device)
            if played is not None and not kept.is_chosen and policy_digest(checkpoint) != played.digest:
                raise ValueError(f"{place}: not the checkpoint that played this game")
            if policy.config.game != kept.game.name:
                policy = restrict(policy, kept.game)
        except (ValueError, OSError) as error:
            if kept.is_chosen:
                raise
            reason = reason or str(error)
        else:
            return DecisionReader(policy, 1.0 if played is None else played.settings.temperature), ""
    return None, f"; without the agent's decisions: {reason}" if reason else ""
