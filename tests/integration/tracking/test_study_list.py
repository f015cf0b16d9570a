"""The studies of a tracking store, listed without a trace in it."""

import left_study
import pytest
from left_study import BUDGETS, RUNS, point

from playscale.study.studies import studies_tracked
from playscale.tracking.mlflow_tracker import MlflowExperiment
from playscale.tracking.tracker import StudyOwner
from playscale.tracking.uris import sqlite_uri


@pytest.mark.slow
def test_studies_of_an_sqlite_store_are_listed_from_a_copy(tmp_path):
    uri = sqlite_uri(tmp_path / "mlflow.db")
    study = MlflowExperiment("smoke", uri, artifacts=(tmp_path / "files").as_uri())
    study.claim(StudyOwner("id", "/out/smoke"), resumed=False)
    for flops in BUDGETS:
        study.log_point(point(RUNS[0], flops, game="nethack"))
    MlflowExperiment("of others", uri).start("other", "run")
    before = left_study.everything(tmp_path)
    assert "mlflow.db-wal" in before  # somebody works with it
    (listed,) = studies_tracked(uri, "smoke")
    assert (listed.name, listed.place, listed.state, listed.points) == ("smoke", "/out/smoke", "not fitted", 2)
    assert listed.best == "dev loss 2.900"
    with pytest.raises(ValueError, match="no MLflow experiment 'smok'"):
        studies_tracked(uri, "smok")
    assert left_study.everything(tmp_path) == before
    study.start("fit", "fit of smoke").finish()
    assert {one.name: one.state for one in studies_tracked(uri)}["smoke"] == "fitted"
