"""A study that varies settings, step by step in the toy game: runs, points and laws; without a single episode."""

import json

import pytest
import toy_game
import yaml

from playscale.points import read_points
from playscale.study import steps
from playscale.study.context import REFERENCES
from playscale.tracking.mlflow_tracker import MlflowExperiment
from playscale.tracking.uris import sqlite_uri

SPEC = {
    "name": "varied",
    "game": "recall",
    "sizes": ["10k", "18k"],
    "budgets": [1e8, 2e8],
    "training": {"batch": 4, "unroll": 8, "dev_samples": 256},
    "evaluate": {"episodes": 0},
}
VARY = {"training.learning_rate": [1e-3, 1e-2], "training.batch": [4, 8], "design": "one-at-a-time", "budgets": [1e8]}
RECIPE = {"bc-lstm-10k-s0", "bc-lstm-18k-s0"}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """The study without `vary`, then with it in the same directory: (points, fit) of each, and the directory."""
    folder = tmp_path_factory.mktemp("study")
    out = str(folder / "out")
    with pytest.MonkeyPatch.context() as patch:
        toy_game.register(patch)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        source = {"source": {"games": str(toy_game.record_games(folder / "games", 16))}}
        results = []
        for more in ({}, {"vary": VARY}):
            spec = yaml.safe_dump(SPEC | source | more)
            corpus = steps.prepare(spec, steps.collect(spec, out), out)
            for run in [*steps.plan(spec, corpus, out, ""), REFERENCES]:
                steps.evaluate(spec, run, steps.train(spec, run, out, ""), out, "")
            steps.fit(spec, out, "")
            results.append(
                (read_points(folder / "out" / "points.csv"), json.loads((folder / "out/fit.json").read_text()))
            )
            steps.check(spec, out)
    return *results, folder / "out"


@pytest.mark.slow
def test_runs_of_other_settings_are_runs_and_points_of_their_own(studies):
    (before, _), (points, _), out = studies
    varied = {
        f"{run}-{settings}" for run in RECIPE for settings in ("batch=8", "learning_rate=0.001", "learning_rate=0.01")
    }
    assert {point.run for point in before} == RECIPE
    assert {point.run for point in points} == RECIPE | varied
    assert {path.name for path in (out / "train").iterdir()} == RECIPE | varied
    experiment = MlflowExperiment("varied", sqlite_uri(out / "mlflow.db"), create=False)
    assert {run.info.run_name for run in experiment.runs("run")} == RECIPE | varied
    assert len({(point.run, point.digest) for point in points}) == 8
    for point in points:
        assert point.varied == " ".join(point.run.split("-")[4:])
        assert point.extra["batch"] == ("8" if "batch=8" in point.varied else "4")
        assert float(point.extra["learning_rate"]) > 0
        assert point.return_mean is None
        assert point.dev_loss is not None
        assert not point.varied or point.flops == 1e8


@pytest.mark.slow
def test_recipe_is_not_trained_again_and_the_laws_are_its_own(studies):
    (before, laws), (points, fit), _ = studies
    own = {(p.run, p.flops): p for p in points if not p.varied}
    for point in before:
        assert (point.digest, point.dev_loss) == (
            own[point.run, point.flops].digest,
            own[point.run, point.flops].dev_loss,
        )
    assert {one["setting"] for one in fit.pop("sensitivity")["settings"]} == {"batch", "learning_rate"}
    assert fit == laws


@pytest.mark.slow
def test_study_without_episodes_has_no_warning_of_missing_returns(studies):
    (_, laws), _, out = studies
    assert not [row for row in laws["warnings"] if row["code"] in ("target-absent", "runs-missing")]
    assert not list(out.glob("evaluate/*/*/evaluation.json"))
    assert "Other settings" in (out / "report.html").read_text()
