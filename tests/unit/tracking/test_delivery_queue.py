"""Entries on disk: in order, once, whatever kills the process or harms the files."""

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException

from playscale.tracking import delivery_queue
from playscale.tracking.delivery_queue import DeliveryQueue, QueueFile, transient
from playscale.tracking.queued_tracker import MlflowDelivery


def drain(queue):
    entries = []
    while (entry := queue.first()) is not None:
        entries.append(entry["n"])
        queue.remove()
    return entries


def test_entries_come_in_order_and_the_files_go_when_none_waits(tmp_path):
    queue = QueueFile(tmp_path / "a" / "spool")
    for n in range(3):
        queue.append({"n": n})
    assert len(queue) == 3
    assert queue.first() == queue.first() == {"n": 0}
    assert drain(queue) == [0, 1, 2]
    queue.append({"n": 3})
    assert drain(queue) == [3]
    queue.close()
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.slow
def test_waiting_entries_are_delivered_by_the_next_process(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from playscale.tracking.delivery_queue import QueueFile\n"
        "queue = QueueFile(Path(sys.argv[1]))\n"
        "for n in range(5): queue.append({'n': n})\n"
        "queue.remove(); queue.remove()\n"
        "os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "spool"
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    queue = QueueFile(path)
    assert len(queue) == 3
    assert drain(queue) == [2, 3, 4]


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path):
    path = tmp_path / "spool"
    path.write_bytes(b'{"n": 0}\n{"n": 1')
    queue = QueueFile(path)
    queue.append({"n": 2})
    assert drain(queue) == [0, 2]


@pytest.mark.parametrize("mark", [b"", b"garbage", b"00000000000000000004", b"00000000000000009999"])
def test_a_harmed_mark_delivers_everything_once_more(tmp_path, mark):
    (tmp_path / "spool").write_bytes(b'{"n": 0}\n{"n": 1}\n')
    (tmp_path / "spool.done").write_bytes(mark)
    assert drain(QueueFile(tmp_path / "spool")) == [0, 1]


def test_queue_is_delivered_by_one_process_at_a_time(tmp_path):
    queue = QueueFile(tmp_path / "spool")
    with pytest.raises(ValueError, match="another process is logging there"):
        QueueFile(tmp_path / "spool")
    queue.append({})
    queue.close()
    assert len(QueueFile(tmp_path / "spool")) == 1


class Server:
    """Takes entries; while `down` it answers with that error."""

    def __init__(self):
        self.taken, self.down = [], None
        self.asked = threading.Event()

    def __call__(self, entry):
        self.asked.set()
        if self.down is not None:
            raise self.down
        if entry.get("bad"):
            raise RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "never right"})
        self.taken.append(entry["n"])


UNREACHABLE = MlflowException("API request failed")


def test_an_outage_holds_nothing_up_and_loses_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(delivery_queue, "LONGEST_PAUSE", 0.01)
    server = Server()
    server.down = UNREACHABLE
    queue = DeliveryQueue(tmp_path / "spool", server, "http://there")
    for n in range(100):
        queue.put({"n": n})
    assert server.asked.wait(10)
    assert len(queue) == 100
    server.down = None
    assert queue.close(20) == 0
    assert server.taken == list(range(100))
    assert list(tmp_path.iterdir()) == []
    said = [record.getMessage() for record in caplog.records]
    assert sum("does not answer" in line for line in said) == 1
    assert sum("answers again: the 100 entries" in line for line in said) == 1


def test_undelivered_entries_wait_for_the_next_delivery(tmp_path, caplog):
    server = Server()
    server.down = UNREACHABLE
    queue = DeliveryQueue(tmp_path / "spool", server, "http://there")
    queue.put({"n": 1})
    assert queue.close(0.1) == 1
    assert "has not taken 1 entries: they wait in" in caplog.text
    server.down = None
    again = DeliveryQueue(tmp_path / "spool", server, "http://there")
    again.put({"n": 2})
    assert again.close(10) == 0
    assert server.taken == [1, 2]


def test_refused_entries_are_kept_aside_and_hold_up_no_other(tmp_path, caplog):
    server = Server()
    queue = DeliveryQueue(tmp_path / "spool", server, "http://there")
    for entry in ({"n": 1}, {"n": 2, "bad": True}, {"n": 3}):
        queue.put(entry)
    assert queue.close(10) == 0
    assert server.taken == [1, 3]
    assert '"bad": true' in (tmp_path / "spool.refused").read_text()
    assert "cannot take an entry" in caplog.text


def test_a_damaged_line_is_refused(tmp_path):
    (tmp_path / "spool").write_bytes(b'{"n": 1}\nnonsense\n{"n": 3}\n')
    server = Server()
    assert DeliveryQueue(tmp_path / "spool", server, "http://there").close(10) == 0
    assert server.taken == [1, 3]
    assert (tmp_path / "spool.refused").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("error", "later"),
    [
        (MlflowException("API request failed with exception"), True),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "x"}), True),
        (RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "x"}), False),
        (requests.ConnectionError("refused"), True),
        (OSError("another store's"), True),
        (FileNotFoundError("gone"), False),
        (KeyError("call"), False),
    ],
)
def test_errors_that_may_pass_are_those_of_networks_and_servers(error, later):
    assert transient(error) is later


@pytest.mark.parametrize("folder", ["tracking", "."])
def test_an_entry_delivers_files_of_its_own_directory_alone(tmp_path, folder):
    """The queue of a study in S3 comes from the bucket."""
    seen = []
    run = SimpleNamespace(log_artifacts=lambda path, folder: seen.append(path))
    queue_folder = tmp_path / "out" / folder
    deliver = MlflowDelivery(lambda: SimpleNamespace(find=lambda *_: run), queue_folder)

    def entry(path):
        return {"kind": "run", "name": "a", "call": "log_artifacts", "arguments": {"path": path, "folder": ""}}

    own = os.path.relpath(tmp_path / "out" / "points.csv", queue_folder)
    deliver(entry(own))
    assert seen == [tmp_path / "out" / "points.csv"]
    for path in ("/etc/passwd", f"../{own}", "../../../etc/passwd"):
        with pytest.raises(ValueError, match="is no name of a file below a folder") as raised:
            deliver(entry(path))
        assert not transient(raised.value)
