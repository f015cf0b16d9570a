"""What a process says of itself is what somebody who scrapes it sees."""

import re
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests
import s3_server
import torch
from toy_run import config

from playscale.agents.device import resolve_device
from playscale.tracking import monitor, prometheus
from playscale.tracking.monitor import CATALOGUE, count, describe, gauge, watched
from playscale.tracking.prometheus import PORT, served
from playscale.training.metrics import PEAK, peak_flops
from playscale.training.trainer import train

pytestmark = pytest.mark.usefixtures("forked_workers")

DOCS = Path(__file__).parents[3] / "docs" / "monitoring.md"


def scrape(port):
    """Every sample of a process: value by name and labels."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def of(samples, name):
    """The values of a metric, whatever its labels."""
    return [value for key, value in samples.items() if key.split("{")[0] == f"playscale_{name}"]


@pytest.fixture
def port(monkeypatch):
    found = s3_server.free_port()
    monkeypatch.setenv(PORT, str(found))
    return found


def test_counters_gauges_and_labels(port):
    with served(study="s", task="train"):
        describe(run="r", method="bc")
        count("samples", 32)
        count("samples", 32)
        count("training_seconds", 1.5, "data")
        gauge("train_loss", 0.5)
        queue = [1, 2]
        with watched("read_ahead_batches", lambda: len(queue)):
            seen = scrape(port)
            queue.pop()
            assert of(scrape(port), "read_ahead_batches") == [1]
            with watched("read_ahead_batches", lambda: 7):
                assert of(scrape(port), "read_ahead_batches") == [7]
            assert of(scrape(port), "read_ahead_batches") == [1]
        labels = 'method="bc",run="r",study="s",task="train"'
        assert seen[f"playscale_samples_total{{{labels}}}"] == 64
        assert seen['playscale_training_seconds_total{method="bc",part="data",run="r",study="s",task="train"}'] == 1.5
        assert of(seen, "read_ahead_batches") == [2]
        assert of(seen, "train_loss") == [0.5]
        assert abs(of(seen, "task_start_timestamp_seconds")[0] - time.time()) < 60
        assert of(scrape(port), "read_ahead_batches") == [0]
        assert of(seen, "errors_total") == [0] * len(CATALOGUE["errors"].values)
        assert "process_resident_memory_bytes" in seen
        assert not [name for name in seen if "_created" in name]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_labels_of_earlier_work_are_gone(port):
    describe(run="earlier", method="bc")
    with served(task="train"):
        assert 'playscale_samples_total{method="",run="",study="",task="train"}' in scrape(port)


def test_nothing_is_served_unless_asked_for(monkeypatch):
    monkeypatch.delenv(PORT, raising=False)
    before = threading.active_count()
    with served(task="train"):
        count("samples")
        assert threading.active_count() == before


def test_a_busy_port_stops_nobody(port, caplog):
    with socket.create_server(("0.0.0.0", port)), served(task="train"):  # noqa: S104
        count("samples", 3)
        (other,) = map(int, re.findall(r"on port (\d+) instead", caplog.text))
        assert other > port
        assert of(scrape(other), "samples_total") == [3]


def test_no_port_at_all_is_a_warning(port, monkeypatch, caplog):
    monkeypatch.setattr(prometheus, "MAX_PORTS", 1)
    with socket.create_server(("0.0.0.0", port)), served(task="train"):  # noqa: S104
        count("samples")
    assert "no free port" in caplog.text


@pytest.mark.parametrize("value", ["http", "0", "70000", "-1"])
def test_a_port_that_is_none(monkeypatch, value):
    monkeypatch.setenv(PORT, value)
    with pytest.raises(ValueError, match="PLAYSCALE_METRICS_PORT: '.*' is no port"), served():
        pass


def test_processes_of_torchrun_count_on(port, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with served():
        scrape(port + 1)


def test_a_failure_is_counted_and_stays_for_a_last_scrape(port):
    seen = {}

    def watch():
        with suppress(OSError):  # the process is gone
            while True:
                seen.update(scrape(port))
                time.sleep(0.2)

    def fail():
        with served(task="train"):
            thread.start()
            while not seen:
                time.sleep(0.02)
            raise ValueError("planted")

    thread = threading.Thread(target=watch)
    with pytest.raises(ValueError, match="planted"):
        fail()
    thread.join()
    assert seen['playscale_errors_total{kind="user",method="",run="",study="",task="train"}'] == 1


def test_a_process_that_nobody_scrapes_does_not_wait(port, monkeypatch):
    monkeypatch.setattr("playscale.tracking.prometheus.LINGER", 1e6)  # if it did, the test would not end
    with pytest.raises(ValueError, match="planted"), served():
        raise ValueError("planted")


def test_a_run_tells_of_its_steps_actors_and_saves(port, recall, tmp_path, monkeypatch):
    monkeypatch.setenv(PEAK, "1e12")
    run = config(10, 20)
    with served(study="s", task="train"):
        train(run, tmp_path / "run")
        seen = scrape(port)
    assert of(seen, "samples_total") == [20 * run.samples_per_step]
    assert of(seen, "model_flops_total") == [pytest.approx(run.budgets[1])]
    assert of(seen, "environment_steps_total")[0] > 0
    assert of(seen, "episodes_total")[0] > 0
    assert sum(of(seen, "actor_time_ratio")) == pytest.approx(1)
    assert 0 < of(seen, "model_flops_utilization_ratio")[0] < 1
    assert len(of(seen, "policy_lag_updates")) == 1
    assert all(f'run="{run.run_name}"' in name for name in seen if name.startswith("playscale_"))
    assert time.time() - of(seen, "checkpoint_timestamp_seconds")[0] < 60


def test_the_peak_of_a_device(monkeypatch):
    monkeypatch.delenv(PEAK, raising=False)
    assert peak_flops(resolve_device("cpu")) is None
    names = {
        "NVIDIA H100 80GB HBM3": 989e12, "Tesla V100-SXM2-16GB": 125e12, "NVIDIA A100-SXM4-80GB": 312e12,
        "NVIDIA GeForce RTX 4090": 165e12, "AMD Instinct MI300X": 1307e12, "Quadro P400": None,
    }  # fmt: skip
    for name, peak in names.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_flops(torch.device("cuda")) == peak
    monkeypatch.setenv(PEAK, "fast")
    with pytest.raises(ValueError, match="PLAYSCALE_PEAK_FLOPS: 'fast' is no number of FLOP/s"):
        peak_flops(torch.device("cpu"))


def test_the_docs_list_every_metric_with_its_type():
    listed = dict(re.findall(r"^\| `(playscale_[a-z_]+)` \| (counter|gauge) \|", DOCS.read_text(), re.MULTILINE))
    assert listed == {
        f"playscale_{name}{'_total' * (metric.kind == 'counter')}": metric.kind for name, metric in CATALOGUE.items()
    }


def test_names_follow_the_conventions():
    for name, metric in CATALOGUE.items():
        assert not name.endswith("_total")
        assert not re.search(r"_(ms|milliseconds|kb|mb|percent)$", name)
        assert bool(metric.label) == bool(metric.values)
        assert metric.help.endswith(".")
    assert monitor.LABELS == ("study", "task", "run", "method")
