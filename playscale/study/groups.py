"""Several runs in one step: their names in one text, and the work on them, one run after the other.

A pod takes seconds to start, and so do the imports of its step: runs that are shorter than that are worked on together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from playscale.storage.files import is_input_error
from playscale.storage.sync import NO_FILES, patient_reads, workspace

BETWEEN = ","  # the names of a group
MARKS = "progress/{step}-{run}.begun"  # in the study's directory: a run that a try at a step has begun, and not ended
log = logging.getLogger(__name__)


def members(group: str) -> tuple[str, ...]:
    """Return the names of a group's runs; a run alone is a group of one."""
    return tuple(group.split(BETWEEN)) if group else ()


def grouped(runs: Sequence[str], together: int) -> list[str]:
    """Return groups of at most `together` runs. Runs come by size, on which their time depends: each has all sizes."""
    assert not any(BETWEEN in run for run in runs)
    groups = -(-len(runs) // together)
    return [BETWEEN.join(runs[number::groups]) for number in range(groups)]


def for_each(runs: Sequence[str], step: str, out: str, work: Callable[[str], object]) -> None:
    """Work on runs, one after the other. One that fails does not keep the others from their turn.

    Runs that an earlier try began and did not end come last: where one of them takes the whole pod with it, for want of
    memory, the others are done by then.

    Args:
        runs: Names of the runs.
        step: Name of the step: train or evaluate.
        out: The study's directory, or s3://BUCKET/PREFIX.
        work: Called with the name of a run.

    Raises:
        RuntimeError: Some runs failed. It names them, with the reasons.
    """
    failed = {}
    with patient_reads():
        not_ended = _not_ended(step, out)
    for run in sorted(runs, key=not_ended.__contains__):
        with _begun(step, run, out):
            try:
                work(run)
            except Exception as error:  # whatever it is, the others have their turn
                if not is_input_error(error):
                    log.exception("%s-%s failed", step, run)
                failed[run] = (str(error) or type(error).__name__).split("\n")[0]
    if failed:
        reasons = "; ".join(f"{run}: {reason}" for run, reason in failed.items())
        raise RuntimeError(f"{step}: {len(failed)} of {len(runs)} runs failed: {reasons}")


def _not_ended(step: str, out: str) -> set[str]:
    """Return the runs that earlier tries at a step began and did not end."""
    with workspace(out, MARKS.format(step=step, run="*"), store=False) as folder:
        marks = folder.glob(MARKS.format(step=step, run="*"))
        return {mark.stem.removeprefix(f"{step}-") for mark in marks}


@contextmanager
def _begun(step: str, run: str, out: str) -> Iterator[None]:
    """Mark a run as begun inside. The mark stays where the process is killed, or told to end."""
    name = MARKS.format(step=step, run=run)
    with patient_reads(), workspace(out, NO_FILES) as folder:  # stored when this block ends
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    yield
    with patient_reads(), workspace(out, name) as folder:
        (folder / name).unlink(missing_ok=True)
