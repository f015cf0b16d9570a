"""MLflow's SQLite store: made whole or not at all, wherever it lies, and nothing else is overwritten."""

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from sqlalchemy import create_engine

from playscale.storage import files
from playscale.tracking.client import TrackingClient
from playscale.tracking.mlflow_tracker import MlflowExperiment
from playscale.tracking.sqlite_store import make_store
from playscale.tracking.store import store_errors
from playscale.tracking.uris import sqlite_uri


def make_unfinished_store(file):
    """Leave what MLflow leaves when it is killed in its first migrations."""
    engine = create_engine(sqlite_uri(file))
    InitialBase.metadata.create_all(engine)
    engine.dispose()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE _alembic_tmp_latest_metrics (key)")
        database.execute("CREATE TABLE alembic_version (version_num)")
        database.commit()
    file.with_name(file.name + "-journal").write_bytes(b"of the killed process")


def test_an_unfinished_store_is_made_anew(tmp_path):
    make_unfinished_store(tmp_path / "m.db")
    experiment = MlflowExperiment("study", sqlite_uri(tmp_path / "m.db"))
    assert experiment.runs("point") == []
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(("m.db-", "."))} == {"m.db"}


def test_an_empty_file_becomes_a_store(tmp_path):
    (tmp_path / "m.db").touch()
    assert MlflowExperiment("study", sqlite_uri(tmp_path / "m.db")).id == "1"


def test_a_failure_while_the_store_is_made_leaves_none(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        MlflowExperiment("study", sqlite_uri(tmp_path / "m.db"))
    assert [path.name for path in tmp_path.iterdir()] == [".m.db.lock"]
    monkeypatch.undo()
    assert MlflowExperiment("study", sqlite_uri(tmp_path / "m.db")).id == "1"


def test_a_store_that_holds_runs_is_left_alone(tmp_path):
    experiment = MlflowExperiment("study", sqlite_uri(tmp_path / "m.db"))
    run = experiment.start("run", "a")
    make_store(tmp_path / "m.db")
    assert experiment.client.get_run(run.id).info.run_name == "a"


def test_a_database_of_something_else_is_left_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / "m.db")) as database:
        database.execute("CREATE TABLE games (name)")
        database.commit()
    make_store(tmp_path / "m.db")
    with closing(sqlite3.connect(tmp_path / "m.db")) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("games",)]


def log_a_run(file, name):
    with TrackingClient("study", sqlite_uri(file)).open(file.with_name("spool")) as experiment:
        experiment.start("run", name).finish()


def test_processes_at_once_share_a_new_store(tmp_path):
    file, names = tmp_path / "m.db", ["a", "b", "c"]
    context = multiprocessing.get_context("fork")  # the imports take longer than the rest
    processes = [context.Process(target=log_a_run, args=(file, name)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    runs = MlflowExperiment("study", sqlite_uri(file), create=False).runs("run")
    assert sorted(run.info.run_name for run in runs) == names


@pytest.mark.parametrize("name", ["a%20?x", "a%2Fb", "a b#c", "é@:"])
def test_a_store_lies_where_its_path_says(tmp_path, name):
    out = tmp_path / name
    artifact = tmp_path / "points.csv"
    artifact.write_text("flops")
    location = (out / "mlartifacts").as_uri()
    with TrackingClient("study", sqlite_uri(out / "mlflow.db"), location).open(out / "spool") as experiment:
        run = experiment.start("fit", "fit")
        run.log_artifacts(artifact, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "points.csv"])
    assert [path.read_text() for path in out.rglob("points.csv")] == ["flops"]
    assert (out / "mlflow.db").is_file()


BAD_URIS = {
    "x": "x: not a tracking server or store; give http",
    "./mlruns": "./mlruns: not a tracking server or store",
    "ftp://x": "ftp://x: not a tracking server or store",
    "foo://bar": "foo://bar: not a tracking server or store",
    "mysql://": "needs the Python package MySQLdb",
    "mysql+nothing://u:secret@h/x": "not the address of a database",
    "postgresql://u:secret@localhost/x": "postgresql://u:",
    "sqlite://": "a store in memory is lost",
    "sqlite": "not a tracking server or store",
    "localhost:5000": "localhost:5000: not a tracking server or store",
    "http://": "not the address of a server",
    "http://[x": "not the address of a server",
    "http://host:port": "not the address of a server",
}


@pytest.mark.parametrize("uri", BAD_URIS)
def test_a_tracking_uri_that_cannot_be_used_is_one_line(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^.*$") as error:
        TrackingClient("study", uri).prepare()
    text = str(error.value)
    assert BAD_URIS[uri] in text
    assert "\n" not in text
    assert "secret" not in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_databricks_without_credentials_is_one_line():
    with pytest.raises(RuntimeError, match=r"^databricks: .*credential.*$"):
        TrackingClient("study", "databricks").prepare()


def test_a_file_that_is_no_database_is_one_line_at_once(tmp_path):
    (tmp_path / "m.db").write_bytes(b"not SQLite" * 1000)
    with pytest.raises(ValueError, match=r"m\.db: cannot be read as an SQLite database \(file is not a database\)"):
        TrackingClient("study", sqlite_uri(tmp_path / "m.db")).prepare()


def test_a_name_that_is_too_long_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="m.db: .*exceeds the maximum length"):
        TrackingClient("x" * 501, sqlite_uri(tmp_path / "m.db")).prepare()


def test_looking_for_an_experiment_makes_no_store(tmp_path):
    with pytest.raises(ValueError, match="no MLflow experiment 'typo' at sqlite:"):
        TrackingClient("typo", sqlite_uri(tmp_path / "m.db")).query(MlflowExperiment.points, create=False)
    assert list(tmp_path.iterdir()) == []


def study(out):
    return TrackingClient("study", sqlite_uri(out / "mlflow.db"), (out / "mlartifacts").as_uri())


def log_file(out, name):
    file = out / f"{name}.txt"
    file.write_text(name)
    with study(out).open(out / "spool") as experiment:
        experiment.start("fit", "fit").log_artifacts(file, "")


def artifacts(out):
    return sorted(path.name for path in (out / "mlartifacts").rglob("*.txt"))


@pytest.mark.parametrize("way", ["moved", "copied"])
def test_a_study_takes_its_artifacts_along(tmp_path, way):
    old, new = tmp_path / "a b", tmp_path / "c%20d"
    old.mkdir()
    log_file(old, "first")
    old.rename(new) if way == "moved" else shutil.copytree(old, new)
    _artifact_repos_cache.clear()  # by the run's id, as no other process has it
    log_file(new, "second")
    assert artifacts(new) == ["first.txt", "second.txt"]
    assert (artifacts(old) == ["first.txt"]) if way == "copied" else not old.exists()
    (run,) = study(new).query(lambda experiment: experiment.runs("fit"))
    listed = study(new).connect().client.list_artifacts(run.info.run_id)
    assert sorted(item.path for item in listed) == ["first.txt", "second.txt"]


def test_a_shared_store_keeps_the_location_that_is_there(tmp_path):
    store = sqlite_uri(tmp_path / "shared.db")
    for name in ("a", "b"):
        (tmp_path / name / "mlartifacts").mkdir(parents=True)
        MlflowExperiment("study", store, artifacts=(tmp_path / name / "mlartifacts").as_uri())
    (experiment,) = MlflowExperiment("study", store).client.search_experiments(filter_string="name = 'study'")
    assert experiment.artifact_location == (tmp_path / "a" / "mlartifacts").as_uri()


def test_a_deleted_experiment_is_refused_with_the_remedy(tmp_path):
    uri = sqlite_uri(tmp_path / "m.db")
    experiment = MlflowExperiment("study", uri)
    experiment.client.delete_experiment(experiment.id)
    with pytest.raises(ValueError, match="'study' at .* was deleted; .*mlflow experiments restore -x 1"):
        TrackingClient("study", uri).prepare()


def test_a_failing_store_is_one_line(tmp_path):
    client = TrackingClient("study", sqlite_uri(tmp_path / "m.db"))
    client.prepare()
    with closing(sqlite3.connect(tmp_path / "m.db")) as database:
        database.execute("ALTER TABLE runs RENAME TO gone")
    with pytest.raises(RuntimeError, match=r"m\.db: no such table: runs$"), client.open(tmp_path / "s") as experiment:
        experiment.start("run", "a")


@pytest.mark.slow
def test_tracking_works_without_a_home_directory(tmp_path):
    code = (
        "import pwd, sys\n"
        "def unknown(_): raise KeyError('uid not found')\n"
        "pwd.getpwuid = unknown\n"  # as for a user that a container's /etc/passwd does not have
        "import playscale.tracking, mlflow.environment_variables"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=tmp_path)


def fill(uri):
    with store_errors(uri), create_engine(uri).connect() as database:
        database.exec_driver_sql("CREATE TABLE kept (text)")
        database.exec_driver_sql("PRAGMA max_page_count = 2")
        database.exec_driver_sql("INSERT INTO kept VALUES (zeroblob(100000))")


def test_a_full_disk_of_an_sqlite_store_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="No space left on device") as full:
        fill(sqlite_uri(tmp_path / "m.db"))
    assert full.value.filename == str(tmp_path / "m.db")
