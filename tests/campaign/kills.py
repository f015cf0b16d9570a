"""Kill a command, once or several times, and run it again: the results are those of an undisturbed run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .commands import COMMANDS, PATIENCE, Bench, Outcome
from .processes import POLL, Started, shared_memory, temporary_files
from .snapshot import differences

WAYS = {
    "all": "SIGKILL to every process at once",
    "top": "SIGKILL to the first process",
    "child": "SIGKILL to one of the others",
    "TERM": "SIGTERM to the first process",
    "INT": "SIGINT to the process group, as Ctrl-C sends it",
}
ENDS = {"TERM": {143, -signal.SIGTERM}, "INT": {130, -signal.SIGINT}, "all": {-9}, "top": {-9}}
LEAVE = 60.0  # seconds in which the processes of a command whose first one is gone must be gone too
MOST_SHOWN = 4


@dataclass(frozen=True)
class Strike:
    """One kill: in a way, at a fraction of the command's undisturbed duration, or when a file of a name appears."""

    way: str
    fraction: float
    appears: str | None = None

    def __str__(self) -> str:
        when = f"when {self.appears} appears" if self.appears else f"at {self.fraction:.3f} of its time"
        return f"{self.way} {when}"


@dataclass(frozen=True)
class Trial:
    """A command and the kills that it suffers, one a run; after the last it is run to its end.

    `cold`: each run has an interpreter of its own; else it is a fork of a process that has imported everything.
    """

    case: str
    command: str
    strikes: tuple[Strike, ...]
    cold: bool

    @property
    def what(self) -> str:
        return ", then ".join(map(str, self.strikes)) + (", cold" if self.cold else "")


def trials(seed: int, count: int) -> Iterator[Trial]:
    """Draw trials. Every command and every way gets its share; a third aims at events, a quarter kills repeatedly."""
    turns = [name for name, command in COMMANDS.items() for _ in range(command.share)]
    random.Random(f"{seed}/order").shuffle(turns)
    for number in range(count):
        draw = random.Random(f"{seed}/kills/{number}")
        name = turns[number % len(turns)]
        ways = [way for way in WAYS if way != "child" or COMMANDS[name].workers]
        strikes = []
        for _ in range(draw.choice((2, 3)) if number % 4 == 3 else 1):
            appears = draw.choice(COMMANDS[name].moments) if draw.random() < 1 / 3 else None
            strikes.append(Strike(draw.choice(ways), draw.uniform(0.02, 1.0), appears))
        yield Trial(f"kills:{number}", name, tuple(strikes), cold=number % 5 == 4)


def run_trial(bench: Bench, trial: Trial) -> Outcome:
    """Run one trial, and return what is wrong."""
    undisturbed = bench.undisturbed(trial.command)
    seconds = undisturbed.seconds if trial.cold else undisturbed.warm_seconds
    case = bench.folder / trial.case.replace(":", "-")
    shutil.rmtree(case, ignore_errors=True)
    run, temporary = case / "run", case / "tmp"
    before, line = shared_memory(), bench.line(COMMANDS[trial.command].arguments)
    faults, struck, finished = [], 0, False
    for strike in trial.strikes:
        started = bench.start(line, run, temporary, cold=trial.cold)
        hit = _strike(started, strike, seconds, run, random.Random(trial.case))
        code = started.wait(PATIENCE)
        if code is None:
            faults.append(f"after {strike}: hangs for {PATIENCE:.0f} s")
        elif left := started.left_after(LEAVE):
            faults.append(f"after {strike}: processes left: {'; '.join(left)}")
        started.kill_all()
        struck, finished = struck + hit, code == 0
        faults += [f"after {strike}: {fault}" for fault in _faults(code, strike if hit else None, started)]
        if strike.way in ("TERM", "INT") and (left := temporary_files(temporary)):
            faults.append(f"after {strike}: temporary files left: {', '.join(left)}")
    if not finished:
        started = bench.start(line, run, temporary, cold=trial.cold)
        code = started.wait(PATIENCE)
        if code != 0:
            faults.append(f"the rerun ends with {code}: {started.errors()[-300:]}")
        started.kill_all()
        faults += [f"the rerun: {fault}" for fault in _faults(code, None, started)]
    else:
        code = 0
    if code == 0:
        lines = differences(bench.results(trial.command, case), undisturbed.found)
        faults += [*lines[:MOST_SHOWN], *([f"and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else [])]
        faults += [f"temporary file left: {name}" for name in temporary_files(temporary)]
        faults += [f"shared memory left: {name}" for name in _still_there(before)]
    if not faults:
        shutil.rmtree(case, ignore_errors=True)
    return Outcome(trial.case, trial.command, trial.what, f"{struck} kills" if struck else "ended first", tuple(faults))


def _strike(started: Started, strike: Strike, seconds: float, run: Path, draw: random.Random) -> bool:
    """Wait for the moment, then strike; return False when the command ended first."""
    before = set(run.glob(strike.appears)) if strike.appears else set()
    moment = time.monotonic() + strike.fraction * seconds
    while started.wait(0) is None:
        if strike.appears:
            if set(run.glob(strike.appears)) - before:
                break
        elif time.monotonic() >= moment:
            break
        time.sleep(POLL)
    while strike.way == "child" and started.wait(0) is None:
        if others := started.pids()[1:]:
            with suppress(ProcessLookupError):
                os.kill(draw.choice(others), signal.SIGKILL)
            return True
        time.sleep(POLL)
    if started.wait(0) is not None:
        return False
    if strike.way == "all":
        started.kill_all()
    elif strike.way == "INT":
        os.killpg(started.pid, signal.SIGINT)
    else:
        os.kill(started.pid, signal.SIGKILL if strike.way == "top" else signal.SIGTERM)
    return True


def _faults(code: int | None, strike: Strike | None, started: Started) -> Iterator[str]:
    """Yield what is wrong with the end of a run."""
    errors = started.errors()
    if "Traceback (most recent call last)" in errors:
        yield f"traceback: {errors.strip().splitlines()[-1][:200]}"
    if code is None or (strike is None and code == 0):
        return
    allowed = {0, 1} if strike is None or strike.way == "child" else {0, *ENDS[strike.way]}
    if code not in allowed:
        yield f"exit code {code}: {errors[-200:]}"
    if code == 1 and sum(line.startswith("playscale: ") for line in errors.splitlines()) != 1:
        yield f"exit code 1 without its one line: {errors[-200:]}"


def _still_there(before: set[str]) -> set[str]:
    """Return the names in shared memory that were not there before, and stay; other tests come and go."""
    deadline = time.monotonic() + 10
    while (left := shared_memory() - before) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left
