"""The steps of a study, each wired to the tracker and to its place below the study's directory.

    OUT/games  OUT/corpus  OUT/plan.json  OUT/train/<run>/  OUT/evaluate/<run>/  OUT/points.csv  OUT/fit.json
    OUT/figures/  OUT/report.html  OUT/progress/<task>.json  OUT/mlflow.db (unless there is a tracking server)
    OUT/tracking/<run>.spool  what a tracking server has not taken yet

OUT may be s3://BUCKET/PREFIX: each step then works in a directory of its own (workspace.py) with what it needs of it.
Every function takes and returns plain text, as a pipeline passes it, and can be run again: what is done is not redone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from playscale.processes import follow, usable_cores
from playscale.progress import ProgressFile, reporting
from playscale.storage.files import read_json, write_json
from playscale.storage.s3 import S3Storage
from playscale.storage.storage import is_s3
from playscale.storage.sync import NO_FILES, workspace
from playscale.study.spec import SourceSpec, StudySpec, parse_spec
from playscale.tracking.monitor import describe
from playscale.tracking.prometheus import served

if TYPE_CHECKING:
    from playscale.tracking.client import TrackingClient

SUPERVISOR = "PLAYSCALE_SUPERVISOR"  # the process whose end ends the study's steps
PROGRESS = "PLAYSCALE_PROGRESS"  # where steps say how far they are; default: OUT/progress
REFERENCES = "references"
PER_RUN = ("train", "evaluate")


@dataclass(frozen=True)
class StudyContext:
    """A study and where it happens: `uri` is OUT as it was given, `out` where it lies on this machine.

    tracking_uri: "" for the default
    """

    spec: StudySpec
    uri: str
    out: Path
    tracking_uri: str

    def at(self, *parts: str) -> str:
        """Where something of the study lies, for other steps."""
        return "/".join((self.uri.rstrip("/"), *parts))

    def planned(self) -> dict[str, Any]:
        """What the plan step wrote."""
        planned: dict[str, Any] = read_json(self.out / "plan.json")
        return planned

    @cached_property
    def logbook(self) -> TrackingClient:
        from playscale.tracking.client import TrackingClient

        tracking = self.tracking_uri or default_tracking_uri(self.uri)
        local = tracking.startswith("sqlite:")
        artifacts = (self.out / "mlartifacts").resolve().as_uri() if local else None
        return TrackingClient(self.spec.name, tracking, artifacts, injected=True)

    def spool(self, run: str) -> Path:
        """Where what is logged of a run waits while the tracking server is down, from one step to the next."""
        return self.out / "tracking" / f"{run}.spool"


def default_tracking_uri(out: str | Path) -> str:
    """MLFLOW_TRACKING_URI, else an SQLite file in the study's directory. ValueError: there can be none in S3."""
    if given := os.environ.get("MLFLOW_TRACKING_URI"):
        return given
    if is_s3(out):
        raise ValueError(f"{out}: a study in S3 needs an MLflow server: set MLFLOW_TRACKING_URI or give --tracking-uri")
    return f"sqlite:///{(Path(out) / 'mlflow.db').resolve()}"


@contextmanager
def _step(
    task: str, spec: str, out: str, *wanted: str, tracking_uri: str = ""
) -> Iterator[tuple[StudyContext, ProgressFile]]:
    """A step of the study; `wanted`: what it needs of an OUT in S3, by patterns."""
    if supervisor := os.environ.get(SUPERVISOR):
        follow(int(supervisor))
    kind, _, run = task.partition("-")
    served_as = {"task": kind, "run": run if kind in PER_RUN else ""}
    with served(**served_as), workspace(out, *wanted) as place:
        told = Path(os.environ.get(PROGRESS) or place / "progress")
        with reporting(told, task) as progress:
            work = StudyContext(parse_spec(spec), out, place, tracking_uri)
            describe(study=work.spec.name)
            yield work, progress


def collect(spec: str, out: str) -> str:
    """Let the expert play, if the study asks for it. Returns the directory of recordings, "" where there is none."""
    from playscale.rollout.collect import collect as collect_games

    with _step("collect", spec, out, "games/*") as (work, progress):
        given = work.spec.source or SourceSpec.model_construct()
        source = given.collect
        if source is None:
            return given.games or ""
        with progress.spent("play"):
            collect_games(
                work.spec.game,
                source.games,
                work.out / "games",
                seed=source.seed,
                workers=usable_cores(),
                max_steps=source.max_steps,
                progress=progress,
            )
        return work.at("games")


def prepare(spec: str, games: str, out: str) -> str:
    """Recordings into a corpus, unless the study brings one. Returns the corpus's URI, "" where there is none."""
    from playscale.corpus.corpus import Corpus
    from playscale.corpus.prepare import prepare as prepare_corpus

    with _step("prepare", spec, out, NO_FILES) as (work, progress):
        if work.spec.source is None:
            return ""
        if work.spec.source.corpus:
            return str(Corpus.open(work.spec.source.corpus).uri)
        with progress.spent("decode"):
            return str(prepare_corpus(games, work.at("corpus"), game=work.spec.game, progress=progress).uri)


def plan(spec: str, corpus: str, out: str, tracking_uri: str, trained: Sequence[str] | None = None) -> list[str]:
    """Which cells of the grid will be trained, and which cannot be. Returns the names of the runs whose turn it is.

    Those are at first all but the ones whose teachers are clones of this study. Once these are `trained` (that there is
    a list says so), it is the turn of the others: each gets its teacher, which the plan then names. Last come the
    references, as a run that has nothing to train: so that there always is one.
    The plan also holds the corpus's URI, for the steps after it. The study's MLflow experiment is made here, where
    nothing runs beside it: two processes that make an SQLite store at once trip over each other.
    """
    from playscale.corpus.bigram import bigram_cross_entropy
    from playscale.corpus.corpus import Corpus
    from playscale.study.plan import choose_teachers, plan_grid

    if trained is not None:
        with _step("plan-taught", spec, out, "plan.json", "train/*/points.csv") as (work, progress):
            planned = work.planned()
            taught = choose_teachers(planned["runs"], work.out / "train", work.at("train"))
            write_json(work.out / "plan.json", planned)
            progress(f"{len(taught)} runs have a teacher", 1.0)
            return [*taught, REFERENCES]
    with _step("plan", spec, out, NO_FILES, tracking_uri=tracking_uri) as (work, progress):
        with progress.spent("plan"):
            games = Corpus.open(corpus) if corpus else None
            grid = plan_grid(work.spec.game, work.spec.runs(), games)
            bigram = bigram_cross_entropy(games) if games else None
            baseline = {"corpus": str(games.uri) if games else None, "bigram_dev_loss": bigram}
        write_json(work.out / "plan.json", grid.to_dict() | baseline)
        with progress.spent("tracking"):
            work.logbook.prepare()
        progress(grid.summary(), 1.0)
        return [name for name, run in grid.runs.items() if not run.teacher_is_clone_of_study]


def train(spec: str, run: str, out: str, tracking_uri: str) -> str:
    """Train one model through its budgets. Returns the directory of its checkpoints, "" for the references."""
    if run == REFERENCES:
        return ""
    from playscale.config import TrainConfig
    from playscale.study.tracked_runs import train_tracked

    needs = ("plan.json", f"train/{run}/*", f"tracking/{run}.*")
    with _step(f"train-{run}", spec, out, *needs, tracking_uri=tracking_uri) as (work, progress):
        planned = work.planned()
        config = TrainConfig.model_validate(planned["runs"][run])
        folder = work.out / "train" / run
        saved = _seconds_of_saves(folder)
        with progress.spent("tracking"), work.logbook.open(work.spool(run)) as experiment:
            train_tracked(
                experiment, run, planned["corpus"], folder, config, progress, progress.spent, played=work.spec.played
            )
        progress.move(_seconds_of_saves(folder) - saved, "train", "saves")
        return work.at("train", run, "checkpoints")


def _seconds_of_saves(folder: Path) -> float:
    """What a run has spent on saves up to its last one."""
    from playscale.agents.checkpoint import load_checkpoint
    from playscale.training.run_state import latest

    save = latest(folder / "resume")
    return 0.0 if save is None else float(load_checkpoint(save).meta["seconds"]["save"])


def evaluate(spec: str, run: str, checkpoints: str, out: str, tracking_uri: str) -> str:
    """Play every checkpoint of a run, or the references (random policy, expert). Returns the results' directory."""
    from playscale.rollout.evaluate import evaluate as play
    from playscale.study.tracked_runs import log_evaluations

    needs = ("plan.json", f"train/{run}/checkpoints/*", f"evaluate/{run}/*", f"tracking/{run}.*")
    with _step(f"evaluate-{run}", spec, out, *needs, tracking_uri=tracking_uri) as (work, progress):
        folder = work.out / "evaluate" / run
        asked = work.spec.evaluate
        if run == REFERENCES:
            _references(work, folder, progress)
            return work.at("evaluate", run)
        assert checkpoints == work.at("train", run, "checkpoints")
        budgets = sorted((work.out / "train" / run / "checkpoints").iterdir(), key=lambda path: float(path.name))
        evaluations = play(
            budgets,
            asked.episodes,
            folder,
            max_steps=asked.max_steps,
            workers=usable_cores(),
            seed=asked.seed,
            device=work.spec.training.device,
            temperature=asked.temperature,
            game=work.spec.played,
            progress=progress,
            spent=progress.spent,
        )
        with progress.spent("tracking"), work.logbook.open(work.spool(run)) as experiment:
            log_evaluations(experiment, evaluations, folder)
        progress(f"mean return {evaluations[-1].return_mean:.1f} at the largest budget", 1.0)
        return work.at("evaluate", run)


def _references(work: StudyContext, folder: Path, progress: ProgressFile) -> None:
    """How a uniformly random policy does, and the corpus's expert where there is a corpus, beside the agents."""
    from playscale.corpus.corpus import Corpus
    from playscale.games.game import get_game
    from playscale.rollout.references import evaluate_random, expert_reference

    asked = work.spec.evaluate
    random = evaluate_random(
        get_game(work.spec.played or work.spec.game),
        asked.episodes,
        folder,
        max_steps=asked.max_steps,
        workers=usable_cores(),
        seed=asked.seed,
        progress=progress,
        spent=progress.spent,
    )
    references = [random.reference()]
    if corpus := work.planned()["corpus"]:
        references.append(expert_reference(Corpus.open(corpus), work.spec.played))
    write_json(folder / "references.json", [{"name": one.name, **one.measured} for one in references])
    with progress.spent("tracking"), work.logbook.open(work.spool(REFERENCES)) as experiment:
        for reference in references:
            run = experiment.start("reference", reference.name)
            run.log_values(reference.measured)
            run.finish()


class Fitted(NamedTuple):
    """What the last step leaves: single figures for a metrics page, the report (HTML) and where it lies."""

    metrics: dict[str, float]
    page: str
    report: str


def _needs_of_fit(out: str) -> list[str]:
    """Of an OUT in S3: also what a tracking server still has to be told, and the files that it still has to get."""
    needs = ["plan.json", "evaluate/*", "train/*/curve.csv", "tracking/*"]
    if is_s3(out) and any(name.endswith(".spool") for name in S3Storage(out).walk("tracking/")):
        needs.append("train/*/checkpoints/*")
    return needs


def fit(spec: str, out: str, tracking_uri: str) -> Fitted:
    """Fit the laws to all points that the study's experiment holds; write points.csv, fit.json and the report."""
    from playscale.points import Reference, read_curve, write_points
    from playscale.report.figures import write_figures
    from playscale.report.report import write_report
    from playscale.scaling.methods import fits_of
    from playscale.study.analysis import best_replays, fit_study, headline, study_details, title
    from playscale.tracking.mlflow_tracker import MlflowExperiment

    with _step("fit", spec, out, *_needs_of_fit(out), tracking_uri=tracking_uri) as (work, progress):
        with progress.spent("tracking"):
            work.logbook.deliver(sorted(work.out.glob("tracking/*.spool")))
            points = work.logbook.ask(MlflowExperiment.points)
        if work.spec.played:  # others were played in another task: no axis of theirs is one of these
            points = [point for point in points if point.game == work.spec.played]
        write_points(points, work.out / "points.csv")
        progress(f"fitting {len(points)} points", 0.1)
        references = [Reference(**row) for row in read_json(work.out / "evaluate" / REFERENCES / "references.json")]
        with progress.spent("fit"):
            fitted = fit_study(work.spec, points, references)
        fitted.write(work.out / "fit.json")
        result = fitted.to_dict()
        curves = {path.parent.name: read_curve(path) for path in sorted(work.out.glob("train/*/curve.csv"))}
        progress("drawing the figures", 0.5)
        report = work.out / "report.html"
        with progress.spent("report"):
            write_figures(work.out / "figures", result, points, references, curves)
            write_report(
                report,
                result,
                points,
                title=title(work.spec),
                replays=best_replays(work.spec.played or work.spec.game, work.out / "evaluate"),
                references=references,
                details=study_details(work.spec, work.planned()),
                curves=curves,
            )
        metrics = headline(result)
        with progress.spent("tracking"), work.logbook.open(work.spool("fit")) as experiment:
            run = experiment.start("fit", f"fit of {work.spec.name}")
            run.log_values(metrics)
            for path in ("points.csv", "fit.json", "report.html", "figures"):
                run.log_artifacts(work.out / path, "figures" if path == "figures" else "")
            run.finish()
        laws = sum(len(one["power_laws"]) for one in fits_of(result).values())
        progress(f"{len(points)} points, {laws} laws", 1.0)
        return Fitted(metrics, report.read_text(encoding="utf-8"), work.at("report.html"))
