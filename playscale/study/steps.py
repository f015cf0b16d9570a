"""The steps of a study. Each is called by a component, and works in the study's directory OUT.

    OUT/games  OUT/corpus  OUT/spec.yaml  OUT/plan.json  OUT/train/<run>/  OUT/evaluate/<run>/  OUT/points.csv
    OUT/fit.json  OUT/figures/  OUT/report.html  OUT/progress/<task>.json  OUT/mlflow.db (unless there is a server)
    OUT/tracking/<run>.spool  entries that a tracking server has not taken yet

OUT may be s3://BUCKET/PREFIX: each step then works in a temporary copy of the files that it needs (storage/sync.py).
Every function takes and returns plain text, as a pipeline passes it, and can be run again: finished work is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from playscale.processes.cores import usable_cores
from playscale.progress import ProgressFile
from playscale.storage.files import atomic_file, atomic_files, read_document, write_document, write_json
from playscale.storage.s3 import S3Storage
from playscale.storage.storage import is_s3
from playscale.storage.sync import NO_FILES, patient_reads, read_patiently
from playscale.study.context import FORECASTS, REFERENCES, StudyContext, cell, study_step
from playscale.study.groups import for_each, grouped, members

if TYPE_CHECKING:
    from playscale.training.distributed import Group

SPEC = "spec.yaml"  # the study's specification, as the first plan read it


def collect(spec: str, out: str) -> str:
    """Let the game's expert play, if the study says so. Return the directory of recordings; "" if there is none."""
    from playscale.rollout.collect import collect as collect_games

    with study_step("collect", spec, out, "games/*") as (study, progress):
        source = study.spec.source
        if source is None or source.collect is None:
            return (source and source.games) or ""
        with progress.timed("play"):
            collect_games(
                study.spec.game,
                source.collect.games,
                study.folder / "games",
                seed=source.collect.seed,
                workers=usable_cores(),
                max_steps=source.collect.max_steps,
                progress=progress,
            )
        return study.uri_of("games")


def prepare(spec: str, games: str, out: str) -> str:
    """Convert recordings into a corpus, unless the study has one. Return the corpus's URI; "" if there is none."""
    from playscale.corpus.corpus import Corpus
    from playscale.corpus.prepare import prepare as prepare_corpus

    with study_step("prepare", spec, out, NO_FILES) as (study, progress):
        if study.spec.source is None:
            return ""
        if study.spec.source.corpus:
            return str(Corpus.open(study.spec.source.corpus).uri)
        with progress.timed("decode"):
            return str(prepare_corpus(games, study.uri_of("corpus"), game=study.spec.game, progress=progress).uri)


def plan(
    spec: str, corpus: str, out: str, tracking_uri: str, trained: Sequence[str] | None = None, together: int = 1
) -> list[str]:
    """Plan the grid: the cells that are trained, and the others with their reason. Return the runs to train now.

    With `together`, groups of so many runs are returned in place of runs: see groups.py. The references are none of
    them.

    Called first without `trained`, it writes OUT/plan.json, which also holds the corpus's URI, and returns all runs but
    those whose teachers are clones of this study. Called again with the list of runs that were `trained`, it writes the
    others' teachers into the plan and returns these runs and the references, a run with nothing to train: so there
    always is one. The first call creates the study's MLflow experiment. ValueError: another study has one of its name.
    """
    if trained is not None:
        from playscale.study.teachers import choose_teachers

        with study_step("plan-taught", spec, out, "plan.json", "train/*/points.csv") as (study, progress):
            planned = study.plan()
            kickstarted = choose_teachers(planned["runs"], study.folder / "train", study.uri_of("train"))
            write_document(study.folder / "plan.json", planned)
            progress(f"{len(kickstarted)} runs have a teacher", 1.0)
            return [*grouped(kickstarted, together), REFERENCES]
    from playscale.corpus.bigram import bigram_cross_entropy
    from playscale.corpus.corpus import Corpus
    from playscale.study.plan import plan_study

    with study_step("plan", spec, out, "plan.json", "study.json", tracking_uri=tracking_uri) as (study, progress):
        with progress.timed("plan"):
            expert_play = Corpus.open(corpus) if corpus else None
            grid = plan_study(study.spec, expert_play)
            bigram = bigram_cross_entropy(expert_play) if expert_play else None
            baseline = {"corpus": str(expert_play.uri) if expert_play else None, "bigram_dev_loss": bigram}
            baseline["episodes"] = study.spec.evaluate.episodes
        with progress.timed("tracking"):
            study.tracking.prepare(study.owner(), resumed=(study.folder / "plan.json").is_file())
        with atomic_file(study.folder / SPEC, "w") as file:
            file.write(spec)
        write_document(study.folder / "plan.json", grid.to_dict() | baseline)
        progress(grid.summary(), 1.0)
        return grouped([name for name, run in grid.runs.items() if not run.teacher_is_clone_of_study], together)


def train(spec: str, run: str, out: str, tracking_uri: str) -> str:
    """Train one model through its budgets, or those of a group. Return the directory of its checkpoints.

    It is "" for the references, and that of all runs for a group. RuntimeError: some runs of a group failed. Under
    torchrun the processes share each batch, in the directory that the first one works in; it alone does the rest.
    """
    if run == REFERENCES:
        return ""
    if len(runs := members(run)) > 1:
        for_each(runs, "train", out, lambda one: train(spec, one, out, tracking_uri))
        return f"{out.rstrip('/')}/train"
    from playscale.processes.signals import stoppable
    from playscale.training.distributed import process_group
    from playscale.training.trainer import train as train_model

    with process_group() as group:
        if group.local_size != group.size:
            raise ValueError("a run of a study is trained on the GPUs of one machine, whose processes share its files")
        if group.first:
            return _train_run(spec, run, out, tracking_uri, group)
        with stoppable(), patient_reads():
            train_model(*group.share(None))
        return ""


def _train_run(spec: str, run: str, out: str, tracking_uri: str, group: Group) -> str:
    """Train one model in the study's directory, with the other processes of the group; return that of checkpoints."""
    from playscale.config import TrainConfig
    from playscale.study.tracked_runs import log_points, start_run
    from playscale.tracking.tracker import TimedTracker
    from playscale.training.trainer import train as train_model

    needs = ("plan.json", f"train/{run}/*", f"tracking/{run}.*")
    with study_step(f"train-{run}", spec, out, *needs, tracking_uri=tracking_uri) as (study, progress):
        plan = study.plan()
        config = TrainConfig.model_validate(plan["runs"][run])
        folder = study.folder / "train" / run
        seconds_before = _seconds_of_saves(folder)
        with progress.timed("tracking"), study.tracking.open(study.queue_file(run)) as experiment:
            record = start_run(experiment, config, plan["corpus"])
            with progress.timed("train"):
                tracker = TimedTracker(record, progress.timed)
                group.share((config, folder, plan["corpus"]))
                points = train_model(config, folder, plan["corpus"], tracker, progress, progress.log)
            log_points(experiment, study.labelled(points), folder, study.spec.played)
            record.finish()
        progress.move(_seconds_of_saves(folder) - seconds_before, "train", "saves")
        return study.uri_of("train", run, "checkpoints")


def _seconds_of_saves(folder: Path) -> float:
    """Return the seconds that a run has spent on saves, up to its last one."""
    from playscale.agents.checkpoint import load_checkpoint
    from playscale.training.run_state import latest

    save = latest(folder / "resume")
    return 0.0 if save is None else float(load_checkpoint(save).meta["seconds"]["save"])


def evaluate(spec: str, run: str, checkpoints: str, out: str, tracking_uri: str) -> str:
    """Evaluate every checkpoint of a run, of the runs of a group, or the references. Return the directory of results.

    With `checkpoints` of "" the training may have failed, which reports it: what is there is evaluated, if anything is.
    """
    if len(runs := members(run)) > 1:
        for_each(runs, "evaluate", out, lambda one: evaluate(spec, one, "", out, tracking_uri))
        return f"{out.rstrip('/')}/evaluate"
    from playscale.agents.checkpoint import is_checkpoint
    from playscale.rollout.evaluate import evaluate as play
    from playscale.study.tracked_runs import log_evaluations

    needs = ("plan.json", f"train/{run}/checkpoints/*", f"evaluate/{run}/*", f"tracking/{run}.*")
    with study_step(f"evaluate-{run}", spec, out, *needs, tracking_uri=tracking_uri) as (study, progress):
        folder = study.folder / "evaluate" / run
        settings = study.evaluation
        if run == REFERENCES:
            _references(study, folder, progress)
            return study.uri_of("evaluate", run)
        assert checkpoints in {"", study.uri_of("train", run, "checkpoints")}
        saved = sorted(study.folder.glob(f"train/{run}/checkpoints/[!.]*"), key=lambda path: float(path.name))
        budgets = [path for path in saved if checkpoints or is_checkpoint(path)]
        if not budgets and not checkpoints:
            progress("not trained: nothing to evaluate", 1.0)
            return study.uri_of("evaluate", run)
        if not settings.episodes:
            _without_episodes(budgets, folder / "points.csv")
            progress("no episodes: the study asks for the dev loss alone", 1.0)
            return study.uri_of("evaluate", run)
        evaluations = play(
            budgets,
            settings.episodes,
            folder,
            max_steps=settings.max_steps,
            workers=usable_cores(),
            seed=settings.seed,
            device=study.spec.training.device,
            temperature=settings.temperature,
            game=study.spec.played,
            progress=progress,
            spent=progress.timed,
        )
        with progress.timed("tracking"), study.tracking.open(study.queue_file(run)) as experiment:
            log_evaluations(experiment, evaluations, folder, study.labelled)
        progress(f"mean return {evaluations[-1].return_mean:.1f} at the largest budget", 1.0)
        return study.uri_of("evaluate", run)


def _without_episodes(checkpoints: Sequence[Path], table: Path) -> None:
    """Write the points of checkpoints as they are, without a return: the run is through with its evaluation."""
    from playscale.agents.checkpoint import load_checkpoint
    from playscale.points import from_row, in_order, write_points

    write_points(in_order(from_row(load_checkpoint(path).meta["point"]) for path in checkpoints), table)


def _references(study: StudyContext, folder: Path, progress: ProgressFile) -> None:
    """Evaluate a uniformly random policy, and record the return of the corpus's expert if there is a corpus.

    A study without episodes has no returns to compare, and no references.
    """
    from playscale.corpus.corpus import Corpus
    from playscale.games.game import get_game
    from playscale.rollout.references import evaluate_random, expert_reference
    from playscale.study.tracked_runs import run_labels

    settings = study.spec.evaluate
    if not settings.episodes:
        write_json(folder / "references.json", [])
        return
    random = evaluate_random(
        get_game(study.spec.played or study.spec.game),
        settings.episodes,
        folder,
        max_steps=settings.max_steps,
        workers=usable_cores(),
        seed=settings.seed,
        progress=progress,
        spent=progress.timed,
    )
    references = [random.reference()]
    if corpus := study.plan()["corpus"]:
        references.append(expert_reference(Corpus.open(corpus), study.spec.played))
    write_json(folder / "references.json", [{"name": one.name, **one.measured} for one in references])
    with progress.timed("tracking"), study.tracking.open(study.queue_file(REFERENCES)) as experiment:
        for reference in references:
            run = experiment.start("reference", reference.name, labels=run_labels())
            run.log_values(reference.measured)
            run.finish()


class FitResult(NamedTuple):
    """Results of the last step.

    Attributes:
        metrics: Exponents and held-out comparisons by name, for a metrics page.
        page: The report, HTML.
        report: URI of the report.
    """

    metrics: dict[str, float]
    page: str
    report: str


def _needs_of_fit(out: str) -> list[str]:
    """Return the files in S3 that fit() reads or replaces, with undelivered tracking entries those that they name."""
    needs = ["plan.json", "evaluate/*", "train/*/curve.csv", "train/*/points.csv", "tracking/*", "figures/*"]
    needs += [f"{FORECASTS}/*/train/*/points.csv", "ledger.jsonl"]
    if _undelivered(out, "tracking/"):
        needs.append("train/*/checkpoints/*")
    if _undelivered(out, f"{FORECASTS}/"):
        needs.append(f"{FORECASTS}/*")
    return needs


def _undelivered(out: str, prefix: str) -> bool:
    """Return whether tracking entries that no server has taken lie in S3 below a prefix of `out`."""
    return is_s3(out) and any(".spool" in name for name in read_patiently(lambda: S3Storage(out).walk(prefix)))


def fit(spec: str, out: str, tracking_uri: str, *, include_forecasts: bool = False) -> FitResult:
    """Fit the laws to the study's points in its experiment; write points.csv, fit.json and the report.

    Runs that failed are left out and named in a warning. Agents of forecasts are held out, unless they are to be
    included.
    """
    from playscale.points import Reference, read_curve, with_forecasts, write_points
    from playscale.report.figures import FIGURE_FILES, write_figures
    from playscale.report.report import write_report
    from playscale.scaling.methods import fits_of
    from playscale.study.agent_card import registered_agents
    from playscale.study.analysis import best_replays, fit_study, headline, study_details, title
    from playscale.study.tracked_runs import log_fit
    from playscale.tracking.client import queue_files
    from playscale.tracking.ledger_table import LedgerTable
    from playscale.tracking.mlflow_tracker import MlflowExperiment

    with patient_reads():
        needs = _needs_of_fit(out)
    with study_step("fit", spec, out, *needs, tracking_uri=tracking_uri) as (study, progress):
        with progress.timed("tracking"):
            study.tracking.deliver(queue_files(study.folder))
            points = study.own_points(study.tracking.query(MlflowExperiment.points))
        if study.spec.played:  # returns in another task are not comparable
            points = [point for point in points if point.game == study.spec.played]
        if not points:
            raise ValueError(
                f"{study.uri}: no point of its runs is in the experiment {study.spec.name!r}: nothing to fit"
            )
        write_points(points, study.folder / "points.csv")
        if include_forecasts:
            points = with_forecasts(points)
        progress(f"fitting {len(points)} points", 0.1)
        lacks, references = study.missing_runs(), []
        if REFERENCES not in lacks:
            measured = study.folder / "evaluate" / REFERENCES / "references.json"
            references = [Reference(**row) for row in read_document(measured, list[Reference], "run the study again")]
        with progress.timed("fit"):
            fitted = fit_study(study.spec, points, references, lacks)
        result = fitted.to_dict()
        curves = {path.parent.name: read_curve(path) for path in sorted(study.folder.glob("train/*/curve.csv"))}
        details = study_details(study.spec, study.plan())
        progress("drawing the figures", 0.5)
        with progress.timed("report"), atomic_files(study.folder, *FIGURE_FILES) as aside:
            fitted.write(aside / "fit.json")
            write_figures(aside / "figures", result, points, references, curves)
            write_report(
                aside / "report.html",
                result,
                points,
                title=title(study.spec),
                replays=best_replays(study.folder / "evaluate"),
                references=references,
                details=details,
                curves=curves,
                ledger=LedgerTable.beside(study.folder).read(),
            )
        metrics = headline(result)
        with progress.timed("tracking"), study.tracking.open(study.queue_file("fit")) as experiment:
            log_fit(experiment, study.spec.name, metrics, study.folder)
            for agent in registered_agents(study.spec, points, references, details):
                experiment.register(agent)
        laws = sum(len(one["power_laws"]) for one in fits_of(result).values())
        refused = queue_files(study.folder)
        left_out = f"; MLflow refused entries, for the reasons in {refused[0]}.refused" if refused else ""
        missing = f"; not in them: {', '.join(lacks)}" if lacks else ""
        progress(f"{len(points)} points, {laws} laws{missing}{left_out}", 1.0)
        report = (study.folder / "report.html").read_text(encoding="utf-8")
        return FitResult(metrics, report, study.uri_of("report.html"))


def check(spec: str, out: str) -> str:
    """Return that the study is whole. RuntimeError: runs are missing, or the laws are not those of all points.

    Kubeflow's state of a pipeline does not depend on steps that run whatever went before them, such as the fit.
    """
    from playscale.points import read_points

    needs = (
        "plan.json",
        "points.csv",
        "train/*/points.csv",
        "evaluate/*.csv",
        f"evaluate/{REFERENCES}/references.json",
    )
    with study_step("check", spec, out, *needs) as (study, progress):
        if lacks := study.missing_runs():
            raise RuntimeError("; ".join(f"{name}: {what}" for name, what in lacks.items()))
        table = study.folder / "points.csv"
        fitted = {cell(point) for point in read_points(table)} if table.is_file() else set()
        if not study.own_cells() <= fitted:
            raise RuntimeError("the laws are not those of all points: the step fit has failed")
        progress(f"{len(fitted)} points, no run is missing", 1.0)
        return progress.last_message
