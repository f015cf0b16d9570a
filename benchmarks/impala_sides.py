"""The sides of the IMPALA benchmark: whole training runs, started once and held still while another is measured.

A round lets a side take a few optimizer steps, as what was under way when it was held has been so for a long time. Then
it counts the frames of the steps that follow: the peer's are the lines of its logs.tsv, a step of unroll x batch frames
each; ours are the interactions that it logs. Both are counted from one step to another, so that none is counted in
part. Before its first round each side has trained for WARM_UP seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np

from playscale.games.game import get_game
from playscale.rollout.env_pool import EnvPool
from playscale.rollout.episode import Task

from .tree import end, go_on, hold

GAME, PEER_ENV = "nethack/score", "NetHackScore-v0"
MAX_STEPS = 5000  # of an episode: nle's own limit
WARM_UP = 20.0
LEAST = 6  # steps of a round
STARTING = 300.0  # seconds after which a side that has not taken a step will not take one
POLL = 0.01
STEPS = 10**7  # of our run: more than anybody waits for
KEPT = ("interactions", "policy_lag", "actor_share_waiting")


class Mark(NamedTuple):
    """When the learner had taken how many frames, and what else it noted then."""

    time: float
    frames: int
    note: dict[str, float]


@dataclass(frozen=True)
class Entry:
    """Our side: a run of that size, into `out`."""

    out: str
    size: str
    unroll: int
    batch: int
    actors: int


class Training:
    """A training run in processes of its own, whose learner notes its steps in a file.

    settle: steps until everything is used that was under way; measured: the steps of all rounds.
    """

    settle: ClassVar[int]

    def __init__(self, command: Sequence[str], notes: Path, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.notes, self._log = notes, log
        with log.open("wb") as into:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=into, stderr=into)
        self._read = 0
        self.measured: list[Mark] = []

    def marks(self, lines: list[str]) -> list[Mark]:
        raise NotImplementedError

    def warm_up(self) -> None:
        """RuntimeError, with the end of what it said, when it does not begin to learn."""
        give_up = time.monotonic() + STARTING
        while not self._new():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"a side of the IMPALA benchmark did not begin to learn: {self._said()}")
            time.sleep(0.1)
        time.sleep(WARM_UP)
        hold(self._process.pid)

    def rate(self, seconds: float) -> float:
        """Frames/s between the first and the last optimizer step noted within that time. It runs for it alone."""
        go_on(self._process.pid)
        self._steps(self.settle, 0.0)
        marks = self._steps(LEAST, seconds)
        hold(self._process.pid)
        self.measured += marks
        return (marks[-1].frames - marks[0].frames) / (marks[-1].time - marks[0].time)

    def _steps(self, least: int, seconds: float) -> list[Mark]:
        """The steps noted from now on for that time, or longer, until there are so many."""
        self._new()
        marks: list[Mark] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until or len(marks) < least:
            marks += self._new()
            if self._process.poll() is not None:
                raise RuntimeError(f"a side of the IMPALA benchmark ended: {self._said()}")
            time.sleep(POLL)
        return marks

    def end(self) -> None:
        end(self._process.pid)
        self._process.wait()

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-1000:]

    def _new(self) -> list[Mark]:
        """What was noted since the last look, in whole lines."""
        if not self.notes.is_file():
            return []
        with self.notes.open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole)
        return self.marks(whole.splitlines())


Side = TypeVar("Side", bound=Training)


@contextmanager
def running(side: Side) -> Iterator[Side]:
    """A side that has warmed up and is held still; ended afterwards."""
    try:
        side.warm_up()
        yield side
    finally:
        side.end()


class Peer(Training):
    settle = 2  # it has as many buffers as a batch takes

    def __init__(self, folder: Path, unroll: int, batch: int, actors: int) -> None:
        command = [sys.executable, "-m", "nle.agent.agent", "--use_lstm", "--env", PEER_ENV, "--savedir", str(folder)]
        command += ["--num_actors", str(actors), "--batch_size", str(batch), "--unroll_length", str(unroll)]
        command += ["--total_steps", str(10**12), "--disable_checkpoint", "--save_ttyrec_every", "0"]
        self._frames, self._of_a_step = 0, unroll * batch
        super().__init__(command, folder / "latest" / "logs.tsv", folder / "log")

    def marks(self, lines: list[str]) -> list[Mark]:
        found = []
        for line in lines:
            if not line.startswith("#"):
                self._frames += self._of_a_step
                found.append(Mark(time.monotonic(), self._frames, {}))
        return found


class Ours(Training):
    settle = 8  # unrolls: one at each of two actors, what they hand over meanwhile, two in the learner's queue

    def __init__(self, entry: Entry) -> None:
        out = Path(entry.out)
        command = [sys.executable, "-P", "-m", "playscale_benchmarks.impala_sides", json.dumps(asdict(entry))]
        super().__init__(command, out / "notes", out.parent / "ours.log")

    def marks(self, lines: list[str]) -> list[Mark]:
        notes = [json.loads(line) for line in lines]
        return [Mark(note["time"], note["interactions"], note) for note in notes]


class Noting:
    """A tracker that notes the time of each report."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        del samples
        kept = {"time": time.monotonic()} | {name: metrics[name] for name in KEPT}
        self._file.write(json.dumps(kept) + "\n")


def train(entry: Entry) -> None:
    """The inside of our side: a run that notes each optimizer step."""
    from dataclasses import replace

    from playscale.agents.flops import training_flops_per_sample
    from playscale.agents.sizing import config_for_size
    from playscale.config import Reinforcement, TrainConfig
    from playscale.training import impala

    impala.REPORTS = STEPS  # each step is reported
    out = Path(entry.out)
    out.mkdir(parents=True)
    policy = replace(config_for_size(get_game(GAME), entry.size, "lstm"), value_head=True)
    budget = float(STEPS * entry.unroll * entry.batch * training_flops_per_sample(policy))
    config = TrainConfig(
        method="impala",
        size=entry.size,
        unroll=entry.unroll,
        batch=entry.batch,
        budgets=(budget,),
        save_seconds=1e9,
        rl=Reinforcement(game=GAME, max_steps=MAX_STEPS, actors=entry.actors, workers=entry.actors),
    )
    with (out / "notes").open("w", buffering=1) as file:
        impala.train_impala(out / "run", config, Noting(file))


class Environments:
    """Worker processes that draw actions at random, with no policy and nobody to wait for."""

    def __init__(self, processes: int, slots: int) -> None:
        game: Any = Random()
        self._workers = EnvPool(game, processes, slots, MAX_STEPS, scripted=True)
        self._slots, self._seed = slots, 0

    def __enter__(self) -> Self:
        self._workers.__enter__()
        self._begin(range(self._slots))
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.close()

    def rate(self, seconds: float) -> float:
        """Steps/s; where a game ends, another is begun."""
        steps, start = 0, time.monotonic()
        while (spent := time.monotonic() - start) < seconds:
            answer = self._workers.step(32)
            steps += answer.steps
            self._begin([slot for slot, _ in answer.ended])
        return steps / spent

    def _begin(self, slots: Sequence[int]) -> None:
        if slots:
            self._workers.begin({slot: Task(0, self._seed + i) for i, slot in enumerate(slots)})
            self._seed += len(slots)


class Random:
    """The game, with a player that draws its actions: as much of the game port as an environment worker asks for."""

    def __init__(self) -> None:
        self._game = get_game(GAME)
        self.columns = self._game.columns

    def make_env(self, *arguments: Any) -> Any:
        return self._game.make_env(*arguments)

    def make_expert(self) -> Random:
        return Random()

    def reset(self, seed: int) -> None:
        self._draw = iter(np.random.default_rng(seed).integers(self._game.num_actions, size=MAX_STEPS).tolist())

    def act(self, observation: Any) -> int:
        del observation
        return int(next(self._draw))


if __name__ == "__main__":
    train(Entry(**json.loads(sys.argv[1])))
