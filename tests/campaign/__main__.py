"""Run the fault campaign: `python -m tests.campaign --help`."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from . import disk, inputs, kills
from .commands import Bench, Outcome, guarded

Case = tuple[str, str, str, Callable[[], Outcome]]
COUNTS = {"kills": 104, "inputs": 504, "disk": 24}


def cases(bench: Bench, seed: int, kind: str, count: int) -> Iterator[Case]:
    """Yield the cases of a kind: name, subject, what is done, and what runs it."""
    if kind == "kills":
        for trial in kills.trials(seed, count):
            yield trial.case, trial.command, trial.what, partial(kills.run_trial, bench, trial)
    elif kind == "inputs":
        shared = inputs.Inputs(bench)
        for case in inputs.input_cases(seed, count):
            yield case.case, case.reader, "", partial(inputs.run_case, shared, case)
    elif not disk.mountable():
        print("disk: no small file system can be mounted here: these cases are left out", flush=True)
    else:
        for full in disk.full_disks(seed, count):
            yield full.case, full.command, full.where, partial(disk.run_full, bench, full)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases, two at a time; print each and a table; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of all cases (default: 0)")
    parser.add_argument("--minutes", type=float, default=60, help="begin no case after so many minutes (default: 60)")
    parser.add_argument("--only", choices=COUNTS, help="kills, inputs or disk alone")
    parser.add_argument("--case", action="append", help="this case alone, such as kills:17; repeatable")
    parser.add_argument("--count", type=int, help=f"cases of each kind (default: {COUNTS})")
    parser.add_argument("--jobs", type=int, default=2, help="cases at once (default: 2)")
    parser.add_argument(
        "--keep", type=Path, help="folder to work in; failed cases stay there (default: a temporary one)"
    )
    given = parser.parse_args(arguments)
    disk.unmount_at(signal.SIGTERM, signal.SIGHUP)
    folder = given.keep or Path(tempfile.mkdtemp(prefix="campaign-"))
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder.resolve())
    kinds = [given.only] if given.only else list(COUNTS)
    if given.case:
        kinds = sorted({name.partition(":")[0] for name in given.case})
    wanted = mixed([list(cases(bench, given.seed, kind, given.count or COUNTS[kind])) for kind in kinds])
    if given.case:
        wanted = [case for case in wanted if case[0] in given.case]
    deadline = time.monotonic() + 60 * given.minutes
    outcomes = list(run(bench, wanted, given.jobs, deadline))
    print(table(outcomes))
    failed = [outcome for outcome in outcomes if outcome.faults]
    for outcome in failed:
        print(f"\n{outcome.case} {outcome.subject}: {outcome.what}")
        print(*(f"    {fault}" for fault in outcome.faults), sep="\n")
        print(f"    again: python -m tests.campaign --seed {given.seed} --case {outcome.case} --keep out/campaign")
    late = f", {len(wanted) - len(outcomes)} not begun: the time was up" if len(outcomes) < len(wanted) else ""
    print(f"\n{len(outcomes)} cases, {len(failed)} failed{late}; seed {given.seed}, folder {folder}")
    return int(bool(failed))


def mixed(lists: Sequence[Sequence[Case]]) -> list[Case]:
    """Return the cases of all kinds in one order, so that each part of it has its share of each kind."""
    placed = [(index / len(each), case) for each in lists for index, case in enumerate(each)]
    return [case for _, case in sorted(placed, key=lambda one: one[0])]


def run(bench: Bench, wanted: Sequence[Case], jobs: int, deadline: float) -> Iterator[Outcome]:
    """Yield the outcomes of the cases, in their order, a few running at once; print each when it has ended."""
    began = time.monotonic()

    def one(case: Case) -> Outcome | None:
        if time.monotonic() > deadline:
            return None
        started = time.monotonic()
        outcome = guarded(*case)
        seconds, total = time.monotonic() - started, (time.monotonic() - began) / 60
        state = "FAILED" if outcome.faults else "ok"
        told = f"{outcome.subject:26} {outcome.what}: {outcome.ended} ({seconds:.0f} s)"
        print(f"{total:5.1f} min  {state:6} {outcome.case:10} {told}", flush=True)
        for fault in outcome.faults:
            print(f"                  {fault}", flush=True)
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        bench.prepare({subject for _, subject, _, _ in wanted}, pool)
        yield from (outcome for outcome in pool.map(one, wanted) if outcome is not None)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes by subject as text."""
    lines = [f"\n{'':30}{'cases':>7}{'failed':>8}  how they ended"]
    for kind, subject in sorted({(o.case.partition(":")[0], o.subject) for o in outcomes}):
        rows = [o for o in outcomes if (o.case.partition(":")[0], o.subject) == (kind, subject)]
        ended = ", ".join(f"{ended} {times}" for ended, times in Counter(o.ended for o in rows).most_common())
        lines.append(f"{kind + ' ' + subject:30}{len(rows):7}{sum(bool(o.faults) for o in rows):8}  {ended}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
