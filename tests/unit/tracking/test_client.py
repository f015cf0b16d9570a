"""What a server has not taken is delivered later, whatever it refused."""

import json

import pytest

from playscale.tracking import client as client_module
from playscale.tracking.client import QUEUE, TrackingClient, deliver_all
from playscale.tracking.mlflow_tracker import MlflowExperiment
from playscale.tracking.uris import sqlite_uri


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The URI of a store that is taken for a server, so that entries go by way of the queue."""
    monkeypatch.setattr(client_module, "is_server", lambda uri: uri.startswith("sqlite"))
    return sqlite_uri(tmp_path / "m.db")


def log(server, folder, name="study"):
    with TrackingClient(name, server).open(folder / QUEUE) as experiment:
        experiment.start("run", "model").log_params({"batch": 8})


def params(server, name="study"):
    return [run.data.params for run in MlflowExperiment(name, server, create=False).runs("run")]


def test_entries_of_a_deleted_experiment_wait_until_it_is_restored(server, tmp_path, caplog):
    there = MlflowExperiment("study", server)
    there.client.delete_experiment(there.id)
    log(server, tmp_path)  # does not wait for the server, as it would during an outage
    assert "refuses a run" in caplog.text
    assert [path.name for path in tmp_path.glob("tracking.*")] == ["tracking.spool.done", "tracking.spool"]
    with pytest.raises(ValueError, match="was deleted; restore it"):
        deliver_all(tmp_path, None, None)
    there.client.restore_experiment(there.id)
    assert deliver_all(tmp_path, None, None) == 2
    assert params(server) == [{"batch": "8"}]
    assert list(tmp_path.glob("tracking.*")) == []


def test_deliver_takes_up_what_was_refused(server, tmp_path):
    entry = {"kind": "run", "name": "model", "call": "log_params", "arguments": {"params": {"batch": "8"}}}
    refused = tmp_path / "tracking" / "model.spool.refused"
    refused.parent.mkdir()
    refused.write_text(
        json.dumps({"reason": "then", "entry": entry | {"to": {"experiment": "s", "uri": server}}}) + "\n"
    )
    assert deliver_all(tmp_path, None, None) == 1
    assert params(server, "s") == [{"batch": "8"}]
    assert list(refused.parent.iterdir()) == []


def test_deliver_names_the_file_of_what_is_refused_again(server, tmp_path):
    entry = {"kind": "run", "name": "model", "call": "nothing", "arguments": {}}
    (tmp_path / QUEUE).write_text(json.dumps(entry) + "\n")
    with pytest.raises(RuntimeError, match=r"some were refused, for the reasons in .*tracking\.spool\.refused"):
        deliver_all(tmp_path, "study", server)
    assert "nothing" in (tmp_path / "tracking.spool.refused").read_text()


def test_entries_of_version_0_1_need_the_name_of_their_experiment(server, tmp_path):
    entry = {"kind": "run", "name": "model", "call": "start", "arguments": {}}
    (tmp_path / QUEUE).write_text(json.dumps(entry) + "\n")
    with pytest.raises(ValueError, match="give --experiment and --tracking-uri"):
        deliver_all(tmp_path, None, None)
    assert deliver_all(tmp_path, "study", server) == 1
    assert params(server) == [{}]


def test_entries_for_another_experiment_are_not_mixed_in(server, tmp_path):
    there = MlflowExperiment("study", server)
    there.client.delete_experiment(there.id)
    log(server, tmp_path)
    with pytest.raises(ValueError, match="entries for the experiment 'study' wait there"):
        log(server, tmp_path, "other")
