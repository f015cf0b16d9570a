"""What version 0.2 wrote before runs had digests is read, and continued to the same results."""

import json
from dataclasses import replace

import made_by_0_2
import pytest
import toy_game

from playscale.agents.checkpoint import load_policy
from playscale.corpus.corpus import Corpus
from playscale.corpus.prepare import prepare
from playscale.points import from_row, read_points
from playscale.rollout.evaluate import evaluate
from playscale.study import steps
from playscale.study.context import StudyContext
from playscale.study.spec import parse_spec
from playscale.tracking.mlflow_tracker import DIGEST, MlflowExperiment
from playscale.training.run_state import latest, saved_step
from playscale.training.trainer import train

pytestmark = pytest.mark.usefixtures("forked_workers")

NUMBERS = ("flops", "params", "samples", "dev_loss", "dev_loss_se", "return_mean", "return_se", "episodes")


@pytest.fixture
def old(tmp_path, monkeypatch):
    toy_game.register(monkeypatch)
    found = toy_game.Recall.find_recordings
    without_seeds = lambda self, source: ([replace(r, metadata={}) for r in found(self, source)[0]], [])  # noqa: E731
    monkeypatch.setattr(toy_game.Recall, "find_recordings", without_seeds)  # as the toy game was then
    return made_by_0_2.unpack(tmp_path)


def assert_same(points, expected):
    """The same rows. Another processor sums in another order, so numbers agree to four digits."""
    expected = [from_row(row) for row in expected]
    key = lambda point: (point.run, point.flops)  # noqa: E731
    points, expected = sorted(points, key=key), sorted(expected, key=key)
    for name in ("game", "method", "run", "seed", "size", "split"):
        assert [getattr(point, name) for point in points] == [getattr(point, name) for point in expected]
    for name in NUMBERS:
        values, then = ([getattr(point, name) for point in table] for table in (points, expected))
        assert [value is None for value in values] == [value is None for value in then], name
        assert [v for v in values if v is not None] == pytest.approx([v for v in then if v is not None], rel=1e-4), name


def expected(old, name):
    return json.loads((old / "expected.json").read_text())[name]


def test_corpus_is_read_and_kept(old):
    corpus = Corpus.open(old / "corpus")
    assert (len(corpus.games), corpus.digest) == (8, json.loads((old / "corpus" / "corpus.json").read_text())["digest"])
    before = (old / "corpus" / "corpus.json").stat().st_mtime_ns
    assert prepare(old / "games", old / "corpus", game="recall", workers=1, dev_fraction=0.25).digest == corpus.digest
    assert (old / "corpus" / "corpus.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(("name", "settings"), [("done", {}), ("half", {}), ("cooldown", {"cooldown": 0.4})])
def test_cloning_run_is_continued_to_the_same_rows(old, name, settings):
    points = train(made_by_0_2.config(**settings), old / name, str(old / "corpus"))
    assert_same(points, expected(old, name))
    assert points == read_points(old / name / "points.csv")
    assert len({point.digest for point in points} - {""}) == 1


def test_finished_run_takes_another_budget(old):
    config = made_by_0_2.config()
    longer = config.model_copy(update={"budgets": (*config.budgets, 1.25 * config.budgets[-1])})
    points = train(longer, old / "done", str(old / "corpus"))
    assert_same(points[:2], expected(old, "done"))
    assert len(points) == 3


def test_impala_run_is_continued_with_the_same_budgets(old):
    step = saved_step(latest(old / "impala" / "resume"))
    points = train(made_by_0_2.impala(), old / "impala", None)
    then = expected(old, "impala")
    assert [(p.run, p.flops, p.samples) for p in points] == [(r["run"], r["flops"], r["samples"]) for r in then]
    assert saved_step(latest(old / "impala" / "resume")) > step > 0


def test_evaluation_is_kept_and_its_checkpoints_play(old):
    checkpoints = sorted((old / "done" / "checkpoints").iterdir())
    assert all(load_policy(path)[1].meta["point"] for path in checkpoints)
    files = {path: path.stat().st_mtime_ns for path in old.glob("scores/*/evaluation.json")}
    assert len(files) == 2
    evaluate(checkpoints, 2, old / "scores", max_steps=40, workers=1)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert_same(read_points(old / "scores" / "points.csv"), expected(old, "scores"))


def test_stopped_study_is_finished_with_the_same_points(old, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    spec, out = (old / "study.yaml").read_text(), str(old / "study")
    experiment = MlflowExperiment("small", f"sqlite:///{out}/mlflow.db", create=False)
    experiment.log_point(from_row(expected(old, "study")[0] | {"digest": "of another study"}))
    assert steps.prepare(spec, str(old / "games"), out) == f"{out}/corpus"
    runs = steps.plan(spec, f"{out}/corpus", out, "")
    for run in runs:
        steps.evaluate(spec, run, steps.train(spec, run, out, ""), out, "")
    steps.evaluate(spec, steps.REFERENCES, "", out, "")
    assert len(experiment.points()) == 5
    points = StudyContext(parse_spec(spec), out, old / "study", "").own_points(experiment.points())
    assert_same(points, expected(old, "study"))
    trained = [run for run in experiment.runs("run") if run.data.tags[DIGEST] != "of another study"]
    assert {run.info.run_name: run.data.tags[DIGEST] for run in trained} == {p.run: p.digest for p in points}
    assert len(trained) == len(runs) == 2
