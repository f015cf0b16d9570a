"""The studies below a directory and of a tracking store."""

import left_study
import pytest

from playscale.study.studies import studies_below, studies_tracked, tracking_place
from playscale.tracking.uris import sqlite_uri


def test_studies_below_a_directory_are_listed_with_their_state_and_damage(tmp_path):
    left_study.whole(tmp_path / "a" / "done")
    left_study.plan(tmp_path / "b")
    left_study.killed_process(tmp_path / "b")
    left_study.plan(tmp_path / "c")
    (tmp_path / "c" / "plan.json").write_text("{")
    (tmp_path / "no-study" / "deep").mkdir(parents=True)
    found = studies_below(str(tmp_path))
    assert [(study.name, study.state.partition(":")[0]) for study in found] == [
        ("planted", "finished"), ("planted", "stopped"), ("c", "damaged"),
    ]  # fmt: skip
    assert [(study.points, study.planned) for study in found] == [(4, 4), (0, 4), (0, None)]
    assert found[0].best == "dev loss 2.900, return 5.0"
    assert studies_below(str(tmp_path / "b")) == found[1:2]


def test_a_list_of_no_directory_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="none: no such directory"):
        studies_below(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="none.db: no such file"):
        studies_tracked(sqlite_uri(tmp_path / "none.db"))


@pytest.mark.parametrize(
    ("where", "given", "place"),
    [
        ("mlflow:", None, ("sqlite:///mlflow.db", "")),
        ("mlflow:smoke", "http://host:1", ("http://host:1", "smoke")),
        ("sqlite:////a/b.db", None, ("sqlite:////a/b.db", "")),
        ("out", None, None),
        ("s3://bucket/studies", None, None),
    ],
)
def test_a_tracking_store_is_told_from_a_directory(monkeypatch, where, given, place):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_place(where, given) == place


def test_uri_of_no_store_is_refused():
    with pytest.raises(ValueError, match="not a tracking server or store"):
        tracking_place("ftp://host/a", None)
