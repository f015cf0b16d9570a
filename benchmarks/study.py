"""Overhead of a study: a whole study with its seconds by part, and the time that a task takes to start.

    python -m benchmarks.study [SPEC] [--games DIR] [--out DIR]

The study runs as `playscale study run SPEC` does (studies/smoke.yaml unless another is named; --games takes the place
of its source); what is printed is its OUT/seconds.json. The start of a task is measured in
alternating rounds: forked from the warm process as in a study, and by a plain interpreter that imports the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from playscale.storage.files import read_json
from playscale.study.local_run import OVERHEAD
from playscale_pipelines.warm import PRELOADED, warm

from .bench import Options, Row
from .rounds import alternate, row

SPEC = Path(__file__).parents[1] / "studies" / "smoke.yaml"
STEPS = "playscale.study.steps"  # running it as a module does nothing: a task without work


def run(options: Options) -> list[Row]:
    """Measure the smallest study's overhead (its tasks last seconds: an upper bound), and starts of tasks a minute."""
    with TemporaryDirectory() as folder:
        return [study(SPEC, options.games, Path(folder) / "study"), starts(options.rounds)]


def study(spec: Path, games: Path | None, out: Path) -> Row:
    """Run a study; return the share of its tasks' seconds that is overhead, in percent, with every part's seconds."""
    settings = yaml.safe_load(spec.read_text(encoding="utf-8"))
    if games is not None:
        settings["source"] = {"games": str(games.resolve())}
    out.mkdir(parents=True, exist_ok=True)
    written = out / "spec.yaml"
    written.write_text(yaml.safe_dump(settings), encoding="utf-8")
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-P", "-m", "playscale.cli", "study", "run", str(written), "--out", str(out)], check=True
    )
    seconds = read_json(out / "seconds.json")
    detail = {"wall_seconds": time.monotonic() - began, "parts": seconds["parts"], "limit": 5.0}
    return Row(
        f"overhead of study {settings['name']}", "% of its tasks' seconds", 100 * seconds["overhead"], detail=detail
    )


def starts(rounds: int) -> Row:
    """Measure how many tasks without work start and end in a minute, one after the other."""
    plain = sys.executable
    with warm():
        forked = sys.executable
        once(forked)  # the first one waits for the warm process's own imports
        rates = alternate({"ours": lambda: 60 / once(forked), "peer": lambda: 60 / once(plain)}, rounds)
    return row("start of a task", "tasks/min", rates["ours"], rates["peer"])


def once(python: str) -> float:
    """Return the seconds of one task: `python`, part of a shell line, runs a module after all imports."""
    code = "; ".join(f"import {module}" for module in PRELOADED)
    line = f"{python} -m {STEPS}" if " " in python else f"{python} -c {code!r}"
    begin = time.monotonic()
    subprocess.run(["sh", "-c", line], check=True, env=os.environ | {"_KFP_RUNTIME": "true"})
    return time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path, nargs="?", default=SPEC)
    parser.add_argument("--games", type=Path, help="recordings to study, in the place of the spec's source")
    parser.add_argument("--out", type=Path, help="where the study goes; a directory that is removed, if not given")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        overhead = study(options.spec, options.games, options.out or Path(folder) / "study")
    for part, seconds in overhead.detail["parts"].items():
        print(f"{part:>15} {seconds:8.1f} s{'  overhead' if part in OVERHEAD else ''}")
    print(f"{overhead.name}: {overhead.ours:.1f} {overhead.unit}; wall {overhead.detail['wall_seconds']:.0f} s")
    tasks = starts(3)
    print(f"{tasks.name}: {tasks.ours:.0f} {tasks.unit}, {tasks.ratio:.0f} times as many as plain interpreters")


if __name__ == "__main__":
    main()
