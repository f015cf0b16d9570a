"""The sides of the IMPALA benchmark: whole training runs, started once and paused while another is measured.

A round first lets a side take a few optimizer steps, since the work in progress when it was held is old. Then it
counts the frames of the steps that follow: the peer's are the lines of its logs.tsv, a step of unroll x batch frames
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
from playscale.rollout.episode import EpisodeSpec

from .tree import end, go_on, hold

GAME, PEER_ENV = "nethack/score", "NetHackScore-v0"
MAX_STEPS = 5000  # of an episode: nle's own limit
WARM_UP = 20.0
LEAST = 6  # steps of a round
STARTING = 300.0  # seconds after which a side that has not taken a step will not take one
POLL = 0.01
STEPS = 10**7  # of our run: never reached
KEPT = ("interactions", "policy_lag", "actor_share_waiting")


class Mark(NamedTuple):
    """Time of an optimizer step, the frames that the learner had taken by then, and the metrics logged."""

    time: float
    frames: int
    note: dict[str, float]


@dataclass(frozen=True)
class OurRun:
    """Settings of our side: a run of that size, into `out`."""

    out: str
    size: str
    unroll: int
    batch: int
    actors: int


class TrainingSide:
    """A training run in processes of its own, whose learner notes its steps in a file.

    settle: steps until all work in progress is used; measured: the steps of all rounds.
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
        """Wait until it learns. RuntimeError, with the end of its log, when it does not begin to."""
        give_up = time.monotonic() + STARTING
        while not self._new():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"a side of the IMPALA benchmark did not begin to learn: {self._log_tail()}")
            time.sleep(0.1)
        time.sleep(WARM_UP)
        hold(self._process.pid)

    def rate(self, seconds: float) -> float:
        """Return frames/s between the first and the last optimizer step within that time; it runs only then."""
        go_on(self._process.pid)
        self._steps(self.settle, 0.0)
        marks = self._steps(LEAST, seconds)
        hold(self._process.pid)
        self.measured += marks
        return (marks[-1].frames - marks[0].frames) / (marks[-1].time - marks[0].time)

    def _steps(self, least: int, seconds: float) -> list[Mark]:
        """Return the steps noted in the next `seconds`, or longer, until there are `least`."""
        self._new()
        marks: list[Mark] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until or len(marks) < least:
            marks += self._new()
            if self._process.poll() is not None:
                raise RuntimeError(f"a side of the IMPALA benchmark ended: {self._log_tail()}")
            time.sleep(POLL)
        return marks

    def end(self) -> None:
        end(self._process.pid)
        self._process.wait()

    def _log_tail(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-1000:]

    def _new(self) -> list[Mark]:
        """Return the steps noted since the last call, whole lines only."""
        if not self.notes.is_file():
            return []
        with self.notes.open(encoding="utf-8") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole)
        return self.marks(whole.splitlines())


AnySide = TypeVar("AnySide", bound=TrainingSide)


@contextmanager
def running(side: AnySide) -> Iterator[AnySide]:
    """Yield a side that has warmed up and is paused; end it afterwards."""
    try:
        side.warm_up()
        yield side
    finally:
        side.end()


class PeerSide(TrainingSide):
    settle = 2  # it has as many buffers as a batch takes

    def __init__(self, folder: Path, unroll: int, batch: int, actors: int) -> None:
        command = [sys.executable, "-m", "nle.agent.agent", "--use_lstm", "--env", PEER_ENV, "--savedir", str(folder)]
        command += ["--num_actors", str(actors), "--batch_size", str(batch), "--unroll_length", str(unroll)]
        command += ["--total_steps", str(10**12), "--disable_checkpoint", "--save_ttyrec_every", "0"]
        self._frames, self._of_a_step = 0, unroll * batch
        super().__init__(command, folder / "latest" / "logs.tsv", folder / "log")

    def marks(self, lines: list[str]) -> list[Mark]:
        marks = []
        for line in lines:
            if not line.startswith("#"):
                self._frames += self._of_a_step
                marks.append(Mark(time.monotonic(), self._frames, {}))
        return marks


class OurSide(TrainingSide):
    settle = 8  # unrolls: one at each of two actors, what they hand over meanwhile, two in the learner's queue

    def __init__(self, entry: OurRun) -> None:
        out = Path(entry.out)
        command = [sys.executable, "-P", "-m", "playscale_benchmarks.impala_sides", json.dumps(asdict(entry))]
        super().__init__(command, out / "notes", out.parent / "ours.log")

    def marks(self, lines: list[str]) -> list[Mark]:
        notes = [json.loads(line) for line in lines]
        return [Mark(note["time"], note["interactions"], note) for note in notes]


class StepRecorder:
    """A tracker that notes the time of each report."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def log_metrics(self, metrics: Mapping[str, float], samples: int) -> None:
        del samples
        kept = {"time": time.monotonic()} | {name: metrics[name] for name in KEPT}
        self._file.write(json.dumps(kept) + "\n")


def train(entry: OurRun) -> None:
    """Train as our side, in its process, and note each optimizer step."""
    from dataclasses import replace

    from playscale.agents.flops import training_flops_per_sample
    from playscale.agents.sizing import config_for_size
    from playscale.config import Reinforcement, TrainConfig
    from playscale.training.impala import Impala
    from playscale.training.trainer import train as run

    Impala.reports = STEPS  # each step is reported
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
    with (out / "notes").open("w", buffering=1, encoding="utf-8") as file:
        run(config, out / "run", tracker=StepRecorder(file))


class Environments:
    """Worker processes that draw actions at random, without a policy to wait for."""

    def __init__(self, processes: int, slots: int) -> None:
        game: Any = RandomGame()
        self._workers = EnvPool(game, processes, slots, MAX_STEPS, scripted=True)
        self._slots, self._seed = slots, 0

    def __enter__(self) -> Self:
        self._workers.__enter__()
        self._begin(range(self._slots))
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.close()

    def rate(self, seconds: float) -> float:
        """Return steps/s; where a game ends, another begins."""
        steps, start = 0, time.monotonic()
        while (spent := time.monotonic() - start) < seconds:
            answer = self._workers.step(32)
            steps += answer.steps
            self._begin([slot for slot, _ in answer.ended])
        return steps / spent

    def _begin(self, slots: Sequence[int]) -> None:
        if slots:
            self._workers.begin({slot: EpisodeSpec(0, self._seed + i) for i, slot in enumerate(slots)})
            self._seed += len(slots)


class RandomGame:
    """The game, with a player that draws its actions: as much of the game port as an environment worker asks for."""

    def __init__(self) -> None:
        self._game = get_game(GAME)
        self.columns = self._game.columns

    def make_env(self, *arguments: Any) -> Any:
        return self._game.make_env(*arguments)

    def make_expert(self) -> RandomGame:
        return RandomGame()

    def reset(self, seed: int) -> None:
        self._draw = iter(np.random.default_rng(seed).integers(self._game.num_actions, size=MAX_STEPS).tolist())

    def act(self, observation: Any) -> int:
        del observation
        return int(next(self._draw))


if __name__ == "__main__":
    train(OurRun(**json.loads(sys.argv[1])))
