"""A study in S3, looked at: nothing is written there, and what changes is fetched again."""

import shutil

import left_study
import pytest
from left_study import BUDGETS, RUNS, point

from playscale.study.status import read_status
from playscale.study.studies import studies_below
from playscale.study.study_files import study_files


@pytest.fixture
def stored(s3):
    """The folder behind s3://bucket/studies/planted, in which a whole study lies."""
    out = s3 / "studies" / "planted"
    left_study.whole(out)
    (out / "progress" / "process").unlink(missing_ok=True)  # a study on a cluster leaves none
    yield out
    shutil.rmtree(s3 / "studies")


def test_study_in_s3_is_looked_at_without_a_write(s3, stored):
    before = left_study.everything(s3)
    with study_files("s3://bucket/studies/planted/") as files:
        files.look()
        status = read_status(files)
    (listed,) = studies_below("s3://bucket/studies")
    assert left_study.everything(s3) == before
    assert (status.state, status.report) == ("finished", "s3://bucket/studies/planted/report.html")
    assert (listed.name, listed.place, listed.state) == ("planted", "s3://bucket/studies/planted", "finished")


@pytest.mark.slow
def test_second_look_sees_what_changed(stored):
    with study_files("s3://bucket/studies/planted") as files:
        files.look()
        (stored / "evaluate" / RUNS[1] / "points.csv").unlink()
        left_study.progress(stored, f"evaluate-{RUNS[1]}", "running")
        files.look()
        status = read_status(files)
    assert status.state == "running"
    assert list(status.now) == [f"evaluate-{RUNS[1]}"]
    assert status.note.endswith("--endpoint URL asks Kubeflow")


@pytest.mark.slow
def test_directory_of_a_study_in_s3_shows_it_with_the_progress_that_is_kept_there(stored, tmp_path):
    shutil.rmtree(stored / "progress")
    left_study.train(stored, RUNS[1], point(RUNS[1], BUDGETS[0]))
    shutil.rmtree(stored / "evaluate" / RUNS[1])
    left_study.process(tmp_path, out="s3://bucket/studies/planted")
    left_study.progress(tmp_path, f"train-{RUNS[1]}", "running")
    with study_files(str(tmp_path)) as files:
        files.look()
        status = read_status(files)
    assert (status.place, status.state) == ("s3://bucket/studies/planted", "running")
    assert list(status.now) == [f"train-{RUNS[1]}"]
