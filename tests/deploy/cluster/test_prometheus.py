"""A real Prometheus scrapes a real study, which outlives an outage of its MLflow server; rules by promtool."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import requests
import s3_server
import toy_game
import yaml
from mlflow_server import wait_until
from resources import need
from toy_command import ToyCommand

from playscale.points import read_points, to_row
from playscale.tracking.mlflow_tracker import MlflowExperiment

FILES = Path(__file__).parents[3] / "charts" / "playscale" / "files"
PORTS = 16
NOT_HERE = {"Does it fit into the GPU's memory?"}  # its metric comes from a CUDA device
SPEC = {
    "name": "watched",
    "game": "recall",
    "method": ["bc", "impala"],
    "sizes": ["10k"],
    "seeds": [7],
    "budgets": [1e9, 2e9],
    "held_out": [4e9],
    "training": {"batch": 4, "unroll": 8, "dev_samples": 512},
    "evaluate": {"episodes": 64, "max_steps": 60},
    "rl": {"max_steps": 60, "actors": 1, "discount": 0.9},
}


class Prometheus:
    """One that scrapes the ports from `port` on, four times a second."""

    def __init__(self, folder, port):
        self.url = f"http://127.0.0.1:{s3_server.free_port()}"
        targets = [f"127.0.0.1:{number}" for number in range(port, port + PORTS)]
        config = {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
            "scrape_configs": [{"job_name": "playscale", "static_configs": [{"targets": targets}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._process = subprocess.Popen(
            [
                shutil.which("prometheus"), f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address={self.url.removeprefix('http://')}",
                "--log.level=warn",
            ]
        )  # fmt: skip
        wait_until(self._ready, 60, "Prometheus did not start")

    def _ready(self):
        try:
            return requests.get(f"{self.url}/-/ready", timeout=2).ok
        except requests.RequestException:
            return False

    def range(self, query, start, end):
        """The series of a query over a time (unix seconds)."""
        asked = {"query": query, "start": start, "end": end, "step": "1"}
        answer = requests.get(f"{self.url}/api/v1/query_range", params=asked, timeout=60).json()
        assert answer["status"] == "success", f"{query}: {answer}"
        return answer["data"]["result"]

    def close(self):
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture(scope="module")
def watched(server, tmp_path_factory):
    """A study while Prometheus looks on and MLflow is away for a while: its folder, Prometheus, begin and end."""
    need(shutil.which("prometheus"), "Prometheus (apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("watched")
    port = s3_server.free_port()
    games = toy_game.record_games(folder / "games", 200)
    (folder / "watched.yaml").write_text(yaml.safe_dump(SPEC | {"source": {"games": str(games)}}))
    prometheus = Prometheus(folder, port)
    command = ToyCommand(
        folder, MLFLOW_TRACKING_URI=server.url, PLAYSCALE_METRICS_PORT=str(port), PLAYSCALE_PEAK_FLOPS="1e11"
    )
    begin = time.time()
    process = command.popen("study", "run", "watched.yaml", "--out", "out")
    out = folder / "out"
    wait_until(lambda: list(out.glob("train/*/curve.csv")) or process.poll() is not None, 240, "nothing trains")
    server.kill()
    wait_until(lambda: list(out.glob("evaluate/bc*/*/evaluation.json")) or process.poll() is not None, 240, "no games")
    server.start()
    log = out / "pipeline.log"
    assert process.wait(400) == 0, command.said + log.read_text()[-4000:]
    yield folder, prometheus, begin, time.time()
    prometheus.close()


def panels():
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def filled(query):
    """A dashboard's query with its variables at All."""
    for name in ("namespace", "study", "run"):
        query = query.replace(f"${name}", ".*")
    return query.replace("$__rate_interval", "3s")


def columns(point):
    """What is filled in of a row: in a CSV a clone's row also has the columns of agents that play, empty."""
    return sorted((name, value) for name, value in to_row(point).items() if value)


def test_every_query_of_the_dashboard_returns_data(watched, capsys):
    _, prometheus, begin, end = watched
    found = {(title, query): len(prometheus.range(filled(query), begin, end)) for title, query in panels()}
    empty = {title for (title, _), series in found.items() if not series}
    assert empty == NOT_HERE
    with capsys.disabled():
        print(f"\n{len(found)} queries of {len({title for title, _ in found})} panels, without data: {sorted(empty)}")
        for (title, _), series in found.items():
            print(f"  {series:3d} series  {title}")


def test_counters_add_up_to_what_was_trained(watched):
    folder, prometheus, begin, end = watched
    rows = {p.run: p for p in read_points(folder / "out" / "points.csv")}
    assert len(rows) == 2
    for run in rows:
        series = prometheus.range(f'max(playscale_samples_total{{run="{run}"}})', begin, end)
        (flops,) = prometheus.range(f'max(playscale_model_flops_total{{run="{run}"}})', begin, end)
        counted = max(float(value) for _, value in flops["values"])
        assert series
        assert 0.8 * 4e9 < counted <= 4e9 * 1.01  # the last reports may come between two scrapes


def test_the_study_is_whole_in_mlflow_after_the_outage(watched, server):
    folder, prometheus, begin, end = watched
    rows = read_points(folder / "out" / "points.csv")
    experiment = MlflowExperiment("watched", server.url, create=False)
    assert sorted(map(columns, experiment.points())) == sorted(map(columns, rows))
    assert len(rows) == 6
    assert all(p.return_mean is not None for p in rows)
    assert not list((folder / "out" / "tracking").glob("*.spool*"))
    (down,) = prometheus.range("min(playscale_tracking_up)", begin, end)
    assert {"0", "1"} <= {value for _, value in down["values"]}


def test_every_metric_of_the_rules_and_the_dashboard_exists():
    from playscale.tracking.monitor import CATALOGUE

    known = {f"playscale_{name}{'_total' * (metric.kind == 'counter')}" for name, metric in CATALOGUE.items()}
    text = (FILES / "dashboard.json").read_text() + (FILES / "rules.yaml").read_text()
    named = set(re.findall(r"playscale_[a-z_]+", text))
    assert named <= known
    assert known - named == {"playscale_parameters", "playscale_device_peak_flops_per_second"}


def test_rules_are_right_and_fire_when_they_should(tmp_path):
    promtool = need(shutil.which("promtool"), "promtool (apt-get install prometheus)")
    subprocess.run([promtool, "check", "rules", FILES / "rules.yaml"], check=True, capture_output=True)
    tests = (Path(__file__).parent / "rules_test.yaml").read_text()
    (tmp_path / "test.yaml").write_text(tests.replace("RULES", str(FILES / "rules.yaml")))
    result = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    alerts = [rule["alert"] for rule in yaml.safe_load((FILES / "rules.yaml").read_text())["groups"][0]["rules"]]
    fired = {
        check["alertname"]
        for case in yaml.safe_load(tests)["tests"]
        for check in case["alert_rule_test"]
        if check["exp_alerts"]
    }
    assert fired == set(alerts)


def test_every_alert_has_its_part_in_the_docs():
    docs = (FILES.parents[2] / "docs" / "monitoring.md").read_text()
    for rule in yaml.safe_load((FILES / "rules.yaml").read_text())["groups"][0]["rules"]:
        assert f"### {rule['alert']}\n" in docs
        assert rule["annotations"]["runbook"].startswith(f"docs/monitoring.md#{rule['alert'].lower()}: ")
        assert {"summary", "description"} < rule["annotations"].keys()
