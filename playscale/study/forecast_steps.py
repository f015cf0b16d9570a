"""The steps of forecasting agents. Each is called by the component `forecast`, and works in the study's directory OUT.

    OUT/ledger.jsonl       the forecasts, and what came of them
    OUT/forecasts/<name>/  the agents of one budget and one set of points, in a directory like a study's: plan.json,
                           train/<run>/, evaluate/<run>/, which the study's own steps fill

A forecast is registered before its agent is trained, and is found again by what it forecasts and from which points: so
the steps can be run again after a stop at any moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from playscale import __version__
from playscale.config import IMITATING_METHODS, budget_name
from playscale.corpus.corpus import Corpus
from playscale.points import Point, Reference, read_points
from playscale.scaling.cells import TARGETS, Target
from playscale.scaling.ledger import Entry, points_digest
from playscale.scaling.registration import open_entries
from playscale.storage.files import canonical, checksum, read_document, read_json, write_document
from playscale.study.context import (
    FORECASTS,
    REFERENCES,
    StudyContext,
    default_tracking_uri,
    measured,
    study_step,
)
from playscale.study.forecast_plan import Asked, ForecastPlan, is_known, plan_forecast, points_to_fit
from playscale.tracking.ledger_table import LEDGER, LedgerTable

NEEDS = ("plan.json", "spec.yaml", "points.csv", LEDGER, f"evaluate/{REFERENCES}/references.json")
MADE = tuple(f"{FORECASTS}/*/{name}" for name in ("plan.json", "points.csv", "nonfinite.json"))
"""What the agents have left, by the patterns of names in S3, in which * matches slashes, too."""


class ForecastRuns(NamedTuple):
    """The directory of a forecast's agents, and the names of their runs."""

    folder: str
    runs: list[str]


@dataclass(frozen=True)
class Question:
    """The question of a forecast, and what its answer rests on.

    Attributes:
        study: The study.
        asked: What is to be forecast.
        table: The study's points.
        points: Those to fit.
        corpus: The expert play that clones learn from; None for a method that plays.
    """

    study: StudyContext
    asked: Asked
    table: Sequence[Point]
    points: Sequence[Point]
    corpus: Corpus | None

    @classmethod
    def of(cls, study: StudyContext, options: Mapping[str, Any]) -> Question:
        """Read the study's points. ValueError: there are none, or an option is wrong."""
        asked = Asked.of(study.spec, options)
        path = study.folder / "points.csv"
        if not path.is_file():
            raise ValueError(f"{study.uri}: there are no points of a study; run it first: playscale study run")
        table = read_points(path)
        uri = study.plan()["corpus"] if asked.method in IMITATING_METHODS else None
        return cls(study, asked, table, points_to_fit(table, asked), Corpus.open(uri) if uri else None)

    @property
    def name(self) -> str:
        """Name of the directory of the agents: by the budget, the method and what the forecast rests on."""
        rests_on = [self.asked.method, points_digest(self.points), self.corpus.digest if self.corpus else ""]
        return f"{budget_name(self.asked.budget)}-{checksum(canonical(rests_on))[:8]}"

    @property
    def folder(self) -> Path:
        return self.study.folder / FORECASTS / self.name

    def entries(self) -> dict[Target, Entry]:
        """Return the newest forecast of each target that was registered before."""
        registered = LedgerTable.beside(self.study.folder).read().entries.values()
        points, corpus = points_digest(self.points), self.corpus.digest if self.corpus else ""
        of = self.points[0].game, self.asked.method, "budget", self.asked.budget, points, corpus
        found: dict[Target, Entry] = {}
        for target in self.asked.targets or TARGETS:
            own = [e for e in registered if e.target == target and _rests_on(e) == of]
            if own:
                found[target] = own[-1]
        return found

    def plan(self) -> ForecastPlan:
        """Fit the laws, and plan the agents; those of registered forecasts have the sizes that were registered."""
        path = self.study.folder / "evaluate" / REFERENCES / "references.json"
        rows = read_document(path, list[Reference], "run the study again") if path.is_file() else []
        references = [Reference(**row) for row in rows]
        registered = {target: entry.params for target, entry in self.entries().items() if entry.params}
        return plan_forecast(self.study.spec, self.table, references, self.asked, self.corpus, registered)

    def forecasts(self, plan: ForecastPlan) -> dict[Target, Entry]:
        """Return the forecasts of a plan as they are registered."""
        corpus = self.corpus.digest if self.corpus else ""
        made = {entry.target: entry for entry in open_entries(plan.fit, version=__version__, corpus=corpus)}
        known = is_known(self.table, self.asked)
        return {
            target: replace(
                made[target],
                params=one.params,
                samples=one.forecast.samples or plan.cell_of(target).samples,
                retrospective=known,
            )
            for target, one in plan.recommended.items()
        }


def _rests_on(entry: Entry) -> tuple[Any, ...]:
    """Return what a forecast is of, and from which points, whatever version of this package made it."""
    return entry.game, entry.method, entry.at, entry.flops, entry.points, entry.corpus


def forecast(spec: str, out: str, options: Mapping[str, Any], tracking_uri: str) -> ForecastRuns:
    """Register the forecasts, unless they are registered, and plan their agents. Return the runs to train.

    Raises:
        ValueError: There is nothing to forecast, an option is wrong, or the forecast's agents have other seeds.
    """
    with study_step("forecast", spec, out, *NEEDS, *MADE, tracking_uri=tracking_uri) as (study, progress):
        with progress.timed("fit"):
            question = Question.of(study, options)
            plan = question.plan()
        before = question.entries()
        new = {target: one for target, one in question.forecasts(plan).items() if target not in before}
        _check_seeds(question, plan)
        made = LedgerTable.beside(study.folder).register(new.values()) if new else []
        with progress.timed("tracking"):
            deliver(question, tracking_uri)
        entries = before | dict(zip(new, made, strict=True))
        write_document(question.folder / "plan.json", _plan_document(question, plan, entries))
        progress(f"{len(new)} registered, {len(plan.grid.runs)} runs to train", 1.0)
        return ForecastRuns(study.uri_of(FORECASTS, question.name), list(plan.grid.runs))


def deliver(question: Question, tracking_uri: str) -> None:
    """Write the forecasts to MLflow as they stand in the table, those that an earlier try did not, too."""
    from playscale.tracking.ledger_store import LedgerStore

    study = question.study
    store = LedgerStore.at(tracking_uri or default_tracking_uri(study.uri))
    store.deliver(LedgerTable.beside(study.folder).read(), [entry.id for entry in question.entries().values()])


def _planned(folder: Path) -> dict[str, Any]:
    """Return the plan in a directory of agents; {} where none was made."""
    path = folder / "plan.json"
    return read_json(path) if path.is_file() else {}


def _check_seeds(question: Question, plan: ForecastPlan) -> None:
    """Refuse other agents for a forecast than those that were planned when it was registered."""
    runs = _planned(question.folder).get("runs", {}).values()
    seeds = sorted({run["seed"] for run in runs})
    if seeds and seeds != sorted(plan.asked.seeds):
        raise ValueError(f"--seeds: the agents of this forecast have the seeds {','.join(map(str, seeds))}")


def _plan_document(question: Question, plan: ForecastPlan, entries: Mapping[Target, Entry]) -> dict[str, Any]:
    """Return plan.json: that of a study, with the ids of the forecasts by run, and the runs by forecast.

    The forecasts of another target, of which the same was asked before, stay in it.
    """
    earlier = _planned(question.folder)
    runs = {entries[target].id: plan.runs_of(target) for target in plan.recommended}
    runs = {**earlier.get("entries", {}), **runs}
    names = dict.fromkeys(name for each in runs.values() for name in each)
    grid = plan.grid.to_dict()
    return {
        "runs": {**earlier.get("runs", {}), **grid["runs"]},
        "cells": grid["cells"],
        "corpus": str(question.corpus.uri) if question.corpus else None,
        "episodes": earlier.get("episodes", plan.episodes),
        FORECASTS: {name: [entry for entry, own in runs.items() if name in own] for name in names},
        "entries": runs,
        "asked": [entries[target].id for target in plan.recommended],
    }


def score(spec: str, out: str, options: Mapping[str, Any], tracking_uri: str) -> ForecastRuns:
    """Score the forecasts whose agents are trained and evaluated; void those of which an agent diverged.

    Forecasts with agents that are neither stay open. RuntimeError: the ledger has lost a forecast that was registered.
    """
    with study_step("score", spec, out, *NEEDS, *MADE, tracking_uri=tracking_uri) as (study, progress):
        question = Question.of(study, options)
        planned, table = _planned(question.folder), LedgerTable.beside(study.folder)
        if lost := ", ".join(name for name in planned.get("asked", ()) if name not in table.read().entries):
            raise RuntimeError(
                f"{study.uri}/{LEDGER} has lost {lost}, which was registered: another process wrote it at the same "
                "time; run the same command again"
            )
        for target, entry in question.entries().items():
            outcome = _outcome(question, target, planned["entries"][entry.id])
            if entry.state == "open" and outcome.void:
                table.void(entry.id, outcome.void)
            elif entry.state == "open" and not outcome.missing:
                table.score(entry.id, outcome.values, outcome.se)
        with progress.timed("tracking"):
            deliver(question, tracking_uri)
        progress(", ".join(f"{target} {entry.state}" for target, entry in question.entries().items()), 1.0)
        return ForecastRuns(study.uri_of(FORECASTS, question.name), list(planned["runs"]))


class AgentOutcome(NamedTuple):
    """The end of a forecast's agents: the value measured for each seed, and the standard error of one measurement.

    void: why they can never be measured. missing: what is still to be done.
    """

    values: list[float]
    se: float | None
    void: str
    missing: str


def _outcome(question: Question, target: Target, runs: Sequence[str]) -> AgentOutcome:
    folder, planned = question.folder, _planned(question.folder)["runs"]
    values, errors, voids, missing = [], [], [], []
    for run in runs:
        step = "train" if target == "dev_loss" else "evaluate"
        trained, point = (
            measured(folder / one / run / "points.csv", planned[run]).get(question.asked.budget)
            for one in ("train", step)
        )
        nonfinite = folder / "train" / run / "nonfinite.json"
        if trained is None and nonfinite.is_file():
            record = read_json(nonfinite)
            voids.append(f"{run}: {record.get('what')} became {record.get('value')} at step {record.get('step')}")
        elif trained is None:
            missing.append(f"{run} is not trained")
        elif trained.diverged:
            voids.append(f"{run} diverged: {trained.diverged}")
        elif point is None or (value := getattr(point, target)) is None:
            missing.append(f"{run} is not evaluated")
        else:
            values.append(float(value))
            errors.append(point.dev_loss_se if target == "dev_loss" else point.return_se)
    known = [error for error in errors if error is not None]
    se = max(known) if known and target == "return_mean" else None
    return AgentOutcome(values, se, "; ".join(voids), "; ".join(missing))
