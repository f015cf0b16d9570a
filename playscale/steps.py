"""The steps of a study, each wired to the tracker and to its place below the study's directory.

    OUT/games  OUT/corpus  OUT/plan.json  OUT/train/<run>/  OUT/evaluate/<run>/  OUT/points.csv  OUT/fit.json
    OUT/figures/  OUT/report.html  OUT/progress/<task>.json  OUT/mlflow.db (unless there is a tracking server)

Every function takes and returns plain text, as a pipeline passes it, and can be run again: what is done is not redone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from playscale.lifeline import follow
from playscale.progress import ProgressFile, reporting
from playscale.storage import local_path, read_json, write_json
from playscale.study import StudySpec, parse_spec

if TYPE_CHECKING:
    from playscale.tracking.mlflow_tracker import MlflowExperiment

SUPERVISOR = "PLAYSCALE_SUPERVISOR"  # the process whose end ends the study's steps
REFERENCES = "references"


@dataclass(frozen=True)
class Workplace:
    """A study and where it happens."""

    spec: StudySpec
    out: Path
    tracking_uri: str

    def experiment(self) -> MlflowExperiment:
        from playscale.tracking.mlflow_tracker import MlflowExperiment

        local = self.tracking_uri.startswith("sqlite:")
        artifacts = (self.out / "mlartifacts").resolve().as_uri() if local else None
        return MlflowExperiment(self.spec.name, self.tracking_uri, artifacts=artifacts)


def default_tracking_uri(out: Path) -> str:
    """MLFLOW_TRACKING_URI, else an SQLite file in the study's directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / 'mlflow.db').resolve()}"


@contextmanager
def _step(task: str, spec: str, out: str, tracking_uri: str = "") -> Iterator[tuple[Workplace, ProgressFile]]:
    if supervisor := os.environ.get(SUPERVISOR):
        follow(int(supervisor))
    place = local_path(out)
    with reporting(place / "progress", task) as progress:
        yield Workplace(parse_spec(spec), place, tracking_uri or default_tracking_uri(place)), progress


def collect(spec: str, out: str) -> str:
    """Let the expert play, if the study's source says so. Returns the directory of recordings ("" for a ready corpus)."""
    from playscale.rollout.collect import collect as collect_games

    with _step("collect", spec, out) as (work, progress):
        source = work.spec.source.collect
        if source is None:
            return work.spec.source.games or ""
        games = work.out / "games"
        collect_games(
            work.spec.game,
            source.games,
            games,
            seed=source.seed,
            workers=os.cpu_count() or 1,
            max_steps=source.max_steps,
            progress=progress,
        )
        return str(games)


def prepare(spec: str, games: str, out: str) -> str:
    """Recordings into a corpus, unless the study brings one. Returns the corpus's URI."""
    from playscale.corpus.corpus import Corpus
    from playscale.corpus.prepare import prepare as prepare_corpus

    with _step("prepare", spec, out) as (work, progress):
        if work.spec.source.corpus:
            return str(Corpus.open(work.spec.source.corpus).uri)
        return str(prepare_corpus(games, work.out / "corpus", game=work.spec.game, progress=progress).uri)


def plan(spec: str, corpus: str, out: str) -> list[str]:
    """Which cells of the grid will be trained, and which cannot be. Returns the names of the training runs."""
    from playscale.corpus.bigram import bigram_cross_entropy
    from playscale.corpus.corpus import Corpus
    from playscale.training.plan import plan_grid

    with _step("plan", spec, out) as (work, progress):
        games = Corpus.open(corpus)
        grid = plan_grid(work.spec.game, work.spec.runs(), games)
        write_json(work.out / "plan.json", grid.to_dict() | {"bigram_dev_loss": bigram_cross_entropy(games)})
        progress(grid.summary(), 1.0)
        return list(grid.runs)


def train(spec: str, run: str, corpus: str, out: str, tracking_uri: str) -> str:
    """Train one model through its budgets. Returns the directory of its checkpoints."""
    from playscale.corpus.corpus import Corpus
    from playscale.training.bc import train_bc
    from playscale.training.config import TrainConfig

    with _step(f"train-{run}", spec, out, tracking_uri) as (work, progress):
        config = TrainConfig.model_validate(read_json(work.out / "plan.json")["runs"][run])
        experiment = work.experiment()
        tracker = experiment.start("run", run)
        tracker.log_params(config.model_dump() | {"method": work.spec.method, "game": work.spec.game})
        data = Corpus.open(corpus)
        tracker.log_dataset(work.spec.name, str(data.uri), data.digest, "training")
        folder = work.out / "train" / run
        for point in train_bc(corpus, folder, config, tracker, progress):
            cell = experiment.log_point(point)
            cell.log_artifacts(folder / "checkpoints" / budget_name(point.flops), "checkpoint")
        tracker.finish()
        return str(folder / "checkpoints")


def evaluate(spec: str, run: str, corpus: str, out: str, tracking_uri: str) -> str:
    """Play every checkpoint of a run, or the references (random policy, expert). Returns the directory of the results."""
    with _step(f"evaluate-{run}", spec, out, tracking_uri) as (work, progress):
        folder = work.out / "evaluate" / run
        if run == REFERENCES:
            _evaluate_references(work, corpus, folder, progress)
        else:
            _evaluate_run(work, run, folder, progress)
        return str(folder)
