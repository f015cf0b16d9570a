"""The commands under test, the inputs that they share, and their undisturbed runs."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from .processes import Interpreter, Started
from .snapshot import Snapshot, differences, snapshot
from .warm import Warm

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"
OUT = "out"  # every command's --out, below the folder that it runs in
PATIENCE = 600.0  # seconds after which a command hangs; undisturbed they take 5 to 30

POLICY = ("--size", "10k", "--batch", "4", "--unroll", "8")
BC = ("train", "bc", "--corpus", "{inputs}/corpus", *POLICY, "--dev-samples", "512", "--out", OUT)
CLONE = (*BC, "--budgets", "1.5e8,3e8", "--cooldown", "0.2", "--save-seconds", "0.05")
PLAY = ("train", "impala", "--game", "recall", *POLICY, "--max-steps", "60", "--actors", "1")
IMPALA = (*PLAY, "--budgets", "1e8,2e8", "--save-seconds", "0.2", "--out", OUT)
CLONES = ("{inputs}/clone/checkpoints/1.5e+08", "{inputs}/clone/checkpoints/3e+08", "--corpus", "{inputs}/corpus")
EVALUATE = ("evaluate", *CLONES, "--episodes", "6", "--max-steps", "60", "--workers", "1", "--out", OUT)
LOG = ("--experiment", "kept", "--tracking-uri", "sqlite:///mlflow.db")
STUDY = {
    "name": "tiny",
    "game": "recall",
    "sizes": ["10k"],
    "budgets": [1e8, 2e8],
    "held_out": [3e8],
    "source": {"collect": {"games": 12, "max_steps": 90}},
    "training": {"batch": 4, "unroll": 8, "dev_samples": 512, "save_seconds": 0.1},
    "evaluate": {"episodes": 3, "max_steps": 60},
    "forecast": [1e9],
}


@dataclass(frozen=True)
class Command:
    """A command line of playscale.

    Attributes:
        arguments: The command line; {inputs} stands for the folder of shared inputs.
        moments: Patterns below the folder that it runs in; when a file of such a name appears is a moment to strike.
        exact: Its results are equal bit by bit after a kill; otherwise rows and budgets are, and nothing is doubled.
        workers: It has processes beside the first.
        share: Of all kill trials, by weight.
    """

    arguments: tuple[str, ...]
    moments: tuple[str, ...]
    exact: bool = True
    workers: bool = True
    share: int = 1

    def compared(self, found: Snapshot) -> Any:
        """Return the part of a snapshot that a killed and repeated run must share with an undisturbed one."""
        return found if self.exact else _played(found)


STORE = ("mlflow.db", "mlflow.db-*", "**/mlflow.db*")
SAVES = ("out/run.json", "out/resume/*", "out/resume-*/*", "out/checkpoints/*", "out/.*.partial", "out/*/.*.partial")
COMMANDS = {
    "collect": Command(
        ("collect", "--game", "recall", "--games", "24", "--workers", "2", "--out", OUT),
        ("out/.playing/*", "out/game-*", "out/collect.json", "out/.*.partial"),
        share=5,
    ),
    "collect nethack": Command(
        ("collect", "--games", "3", "--max-steps", "300", "--workers", "2", "--out", OUT),
        ("out/.playing/*", "out/game-*", "../tmp/nle*"),
        share=3,
    ),
    "prepare": Command(
        ("prepare", "{inputs}/games", "--game", "recall", "--workers", "2", "--out", OUT),
        (".out*", ".out*/shard-*", "out/*"),
        share=5,
    ),
    "train bc": Command(CLONE, SAVES, workers=False, share=7),
    "train bc --experiment": Command((*CLONE, *LOG), (*STORE, *SAVES), workers=False, share=5),
    "train impala": Command(IMPALA, SAVES, exact=False, share=5),
    "train impala --experiment": Command((*IMPALA, *LOG), (*STORE, *SAVES), exact=False, share=3),
    "evaluate": Command(EVALUATE, ("out/*", "out/*/recordings/*", "out/*/evaluation.json"), share=5),
    "evaluate --experiment": Command((*EVALUATE, *LOG), (*STORE, "out/*/evaluation.json"), share=4),
    "fit": Command(
        ("fit", "{inputs}/points.csv", "--forecast", "1e13", "--out", OUT),
        (".out*", "out", "out/fit.json", "out/figures/*"),
        workers=False,
        share=4,
    ),
    "reproduce": Command(
        ("reproduce", "{inputs}/points.csv", "--out", OUT), ("out", "out/*", "out/*/*"), workers=False, share=3
    ),
    "study run": Command(
        ("study", "run", "{inputs}/study.yaml", "--out", OUT),
        (
            "out/mlflow.db*", "out/.mlflow*", "out/plan.json", "out/corpus/*", "out/train/*/resume/*", "out/progress/*",
            "out/evaluate/*/*", "out/points.csv", "out/fit.json", "out/mlartifacts/*", "../tmp/kfp*",
        ),
        share=5,
    ),
}  # fmt: skip


def _played(found: Snapshot) -> Snapshot:
    """Return what is the same in two IMPALA runs: files, rows without measurements, logged steps once each.

    Samples are measured too: interactions with the game, so without the frames that end an episode, of new games.
    """
    kept: Snapshot = {name: "" for name in found if not name.startswith(("out/resume/", "mlflow.db"))}
    header, *rows = [line.split(",") for line in found["out/points.csv"].splitlines()]
    known = ("game", "method", "run", "seed", "size", "flops", "params", "split")
    kept["out/points.csv"] = [{name: row[header.index(name)] for name in known} for row in rows]
    steps = [int(row["step"]) for row in found["out/curve.csv"]]
    kept["steps of curve.csv that go back"] = [b for a, b in itertools.pairwise(steps) if b <= a]
    kept["last step of curve.csv"] = steps[-1]
    if (logged := found.get("mlflow.db")) is not None:
        kept["doubled"] = logged["doubled"]
        kept["runs"] = {
            name: (run["status"], run["parent"], run["params"].get("budgets")) for name, run in logged["runs"].items()
        }
    return kept


@dataclass(frozen=True)
class Undisturbed:
    """A command's runs that nothing disturbs: what they left, how long they took cold and warm, the bytes written."""

    found: Any
    seconds: float
    warm_seconds: float
    bytes: int


class Bench:
    """A folder to work in, the shared inputs there, and the undisturbed run of each command, made when first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs: dict[str, Undisturbed] = {}
        self._locks = {name: threading.Lock() for name in COMMANDS}
        self._making = threading.Lock()
        self._own = threading.local()

    def start(self, line: Sequence[str], folder: Path, temporary: Path, *, cold: bool = False) -> Started:
        """Start `playscale ...` in a folder: `cold` in an interpreter, else in a fork of this thread's warm process."""
        if cold:
            return Interpreter(line, folder, self.environment, temporary)
        return self.warm.start(line, folder, temporary)

    @property
    def warm(self) -> Warm:
        """The warm process of this thread; it ends with the campaign."""
        if not hasattr(self._own, "warm"):
            self._own.warm = Warm(self.environment, ROOT)
        return self._own.warm

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """The environment of every command: it knows the toy game, uses one thread, and has a home of its own."""
        import toy_game

        for name in ("site", "home"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PLAYSCALE_", "AWS_"))
        }
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        return {
            **kept,
            **threads,
            "PYTHONPATH": toy_game.python_path(self.folder / "site"),
            "HOME": str(self.folder / "home"),
        }

    @property
    def inputs(self) -> Path:
        """The shared inputs, made by the thread that needs them first."""
        with self._making:
            return self._inputs

    @cached_property
    def _inputs(self) -> Path:
        """Games, corpus, clone (a finished run of `train bc`), points.csv, study.yaml."""
        import toy_game

        inputs = self.folder / "inputs"
        toy_game.record_games(inputs / "games", 24)
        shutil.copyfile(ROOT / "studies" / "example" / "points.csv", inputs / "points.csv")
        (inputs / "study.yaml").write_text(yaml.safe_dump(STUDY))
        for arguments, name in (
            (("prepare", "{inputs}/games", "--game", "recall", "--workers", "1", "--out", OUT), "corpus"),
            ((*BC, "--budgets", "1.5e8,3e8"), "clone"),
        ):
            made = self.folder / f"make-{name}"
            self.must(arguments, made, inputs)
            (made / "run" / OUT).rename(inputs / name)
        return inputs

    def must(self, arguments: tuple[str, ...], case: Path, inputs: Path | None = None, *, cold: bool = False) -> float:
        """Run a command undisturbed in case/run; return the seconds. RuntimeError: it fails."""
        began = time.monotonic()
        started = self.start(self.line(arguments, inputs), case / "run", case / "tmp", cold=cold)
        if started.wait(PATIENCE) != 0:
            raise RuntimeError(f"{' '.join(arguments)} fails undisturbed:\n{started.errors()[-3000:]}")
        return time.monotonic() - began

    def line(self, arguments: tuple[str, ...], inputs: Path | None = None) -> list[str]:
        """Return a command line with the inputs filled in."""
        return [
            argument.format(inputs=inputs or self.inputs) if "{" in argument else argument for argument in arguments
        ]

    def prepare(self, names: set[str], pool: ThreadPoolExecutor) -> None:
        """Let the pool make the shared inputs and the undisturbed runs of those of the names that are commands.

        Those that need no inputs come first, then the longest. The cases may follow at once: one that needs what is
        still being made waits for it. What fails is made again by each case that needs it, and fails there.
        """
        self.environment  # noqa: B018 - once, not once a thread
        pool.submit(lambda: self.inputs)

        def order(name: str) -> tuple[bool, bool, bool]:
            return "{" in "".join(COMMANDS[name].arguments), name != "study run", "--exp" not in name

        for name in sorted(names & COMMANDS.keys(), key=order):
            pool.submit(self.undisturbed, name)

    def undisturbed(self, name: str) -> Undisturbed:
        """Return the undisturbed run of a command."""
        with self._locks[name]:
            if name not in self._runs:
                folders = [self.folder / f"undisturbed-{way}" / name.replace(" ", "-") for way in ("cold", "warm")]
                self.warm  # noqa: B018 - so that its start is not part of the time
                seconds = [
                    self.must(COMMANDS[name].arguments, folder, cold=cold)
                    for folder, cold in zip(folders, (True, False), strict=True)
                ]
                found, again = (self.results(name, folder) for folder in folders)
                if lines := differences(again, found):
                    raise RuntimeError(f"{name} ends otherwise when it is run again: {'; '.join(lines)}")
                case = folders[0]
                size = sum(path.stat().st_size for path in (case / "run").rglob("*") if path.is_file())
                self._runs[name] = Undisturbed(found, *seconds, size)
            return self._runs[name]

    def results(self, name: str, case: Path) -> Any:
        """Return what a command left in case/run, in the form that is compared."""
        return COMMANDS[name].compared(snapshot(case / "run", str(case / "run")))


@dataclass(frozen=True)
class Outcome:
    """The end of a case.

    Attributes:
        case: Its name, KIND:NUMBER.
        subject: What was under test: a row of the table.
        what: What was done to it.
        ended: How it ended, in a few words: a column of the table.
        faults: What is wrong, one line each; none: the case passed.
    """

    case: str
    subject: str
    what: str
    ended: str
    faults: tuple[str, ...] = ()


def guarded(case: str, subject: str, what: str, run: Callable[[], Outcome]) -> Outcome:
    """Return the outcome of a case, that of an error of the campaign itself too."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - the other cases go on
        print(f"{case}: {error!r}", file=sys.stderr)
        return Outcome(case, subject, what, "error", (f"the campaign itself failed: {error!r}",))
