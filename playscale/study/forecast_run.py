"""Forecasting agents on this machine: what would be done, and the pipeline that does it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from playscale.progress import TaskProgress
from playscale.scaling.cells import Target
from playscale.scaling.ledger import Entry
from playscale.storage.files import local_path, locked, read_text
from playscale.storage.storage import is_s3
from playscale.storage.sync import workspace
from playscale.study.context import FORECASTS, StudyContext
from playscale.study.forecast_plan import ForecastPlan
from playscale.study.forecast_steps import MADE, NEEDS, Question, deliver
from playscale.study.local_run import LocalPipeline, LocalStudy, StudyProgress
from playscale.study.spec import parse_spec
from playscale.study.study_process import at_work
from playscale.tracking.ledger_table import LEDGER, LedgerTable

OPTIONS = {"budget": "--budget", "targets": "--for", "method": "--method", "seeds": "--seeds", "episodes": "--episodes"}
"""Options of the command by their names in `Asked.of`."""


@contextmanager
def opened(spec_path: Path, out: str | None, options: Mapping[str, Any], *, store: bool = False) -> Iterator[Question]:
    """Yield what is asked of a study, to be looked at: in S3 nothing is changed, unless with `store`.

    ValueError: there is no such study, or an option is wrong.
    """
    spec = parse_spec(read_text(spec_path), str(spec_path))
    uri = out if out is not None and is_s3(out) else str(local_path(out or f"out/{spec.name}").resolve())
    with workspace(uri, *NEEDS, *MADE, store=store) as folder:
        planned = folder / "spec.yaml"
        if planned.is_file() and (other := parse_spec(read_text(planned), str(planned)).name) != spec.name:
            raise ValueError(f"{uri}: holds the study {other!r}, not {spec.name!r}")
        yield Question.of(StudyContext(spec, uri, folder, ""), options)


@dataclass(frozen=True)
class ForecastResult:
    """The entries of the forecasts as they ended, and the tasks that failed on the way."""

    entries: Sequence[Entry]
    failed: Sequence[TaskProgress]

    @property
    def complaint(self) -> str:
        """Return in one line what keeps forecasts from being scored; "" where all of them are."""
        if not self.entries:
            return "nothing of this is in the ledger: it or the study's points were replaced meanwhile; run it again"
        void = [
            f"{entry.id} ({entry.target}) is void: {entry.reason}" for entry in self.entries if entry.state == "void"
        ]
        still = [entry.id for entry in self.entries if entry.state == "open"]
        tasks = "; ".join(f"{task.task}: {task.what if task.state == 'failed' else 'killed'}" for task in self.failed)
        opened = [f"{tasks or 'agents are missing'}; {', '.join(still)} stays open: the same command goes on"]
        return "; ".join([*void, *(opened if still else [])])


@dataclass(frozen=True)
class LocalForecast:
    """Forecasts of a study on this machine.

    Attributes:
        study: The study.
        options: What is to be forecast: see `Asked.of`.
        question: The same, asked of the study as it was opened.
    """

    study: LocalStudy
    options: Mapping[str, Any]
    question: Question

    @property
    def command(self) -> str:
        """The command that goes on with the forecasts, from any directory."""
        words = [word for name, flag in OPTIONS.items() if self.options[name] for word in (flag, self.options[name])]
        include = ["--include-forecasts"] if self.options["include_forecasts"] else []
        return self.study.command_of("forecast", *words, *include)

    @property
    def pipeline(self) -> LocalPipeline:
        arguments = (*self.study.arguments, "forecast", json.dumps(dict(self.options)))
        return LocalPipeline(self.study.folder / FORECASTS, arguments, last="score")

    def run(self, on_progress: Callable[[StudyProgress], None]) -> ForecastResult:
        """Register the forecasts, train and evaluate their agents, and score them. Run again, it resumes.

        Raises:
            ValueError: The directory is in use, or a step found bad input.
            RuntimeError: A step failed, and there is no score without it.
        """
        with locked(self.study.folder, "study"):
            if self._done():
                deliver(self.question, self.study.tracking_uri)  # a kill may have come before MLflow had the score
                return ForecastResult(self._entries(), [])
            with at_work(self.pipeline.folder, self.study.uri, self.command):
                failed = self.pipeline.run(on_progress, len(self.question.asked.seeds))
            with workspace(self.study.uri, LEDGER, store=False) as folder:  # the pipeline has written to it
                ended = replace(self.question, study=replace(self.question.study, folder=folder))
                return ForecastResult(list(ended.entries().values()), failed)

    def void(self, reason: str) -> ForecastResult:
        """Void the forecasts that are asked for and still open; they stay listed, with the reason.

        Raises:
            ValueError: The directory is in use, or nothing that is asked for is open.
        """
        with locked(self.study.folder, "study"):
            still = [entry for entry in self._entries() if entry.state == "open"]
            if not still:
                raise ValueError("--void: no forecast of this is open")
            for entry in still:
                LedgerTable.beside(self.question.study.folder).void(entry.id, reason)
            deliver(self.question, self.study.tracking_uri)
            return ForecastResult(self._entries(), [])

    def _done(self) -> bool:
        """Return whether everything that is asked was forecast before, and is scored or void."""
        before = self.question.entries()
        if not before or any(entry.state == "open" for entry in before.values()):
            return False
        return set(before) >= set(self.question.asked.targets or self.question.plan().recommended)

    def _entries(self) -> list[Entry]:
        """Return the forecasts that are asked for, as they stand in what was opened."""
        return list(self.question.entries().values())


def registered(question: Question) -> tuple[ForecastPlan, dict[Target, Entry]]:
    """Return the plan of what is asked and its forecasts: those that stand already, and those still to register."""
    plan = question.plan()
    before = question.entries()
    return plan, {target: before.get(target, entry) for target, entry in question.forecasts(plan).items()}
