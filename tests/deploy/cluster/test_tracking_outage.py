"""Training while MLflow's server is down, killed, slow or lying: a real server on PostgreSQL, a real training run."""

import itertools
import statistics

import pytest
import toy_game
from faulty_proxy import faulty
from mlflow_server import wait_until
from toy_command import ToyCommand

from playscale.corpus.corpus import Corpus
from playscale.corpus.prepare import prepare
from playscale.points import Point, read_curve, read_points
from playscale.tracking.client import TrackingClient
from playscale.tracking.mlflow_tracker import MlflowExperiment

BATCH, UNROLL = 4, 8
BUDGETS = "2e9,8e9"
FAULTS = ("refused", "unanswered", "cut", "late", "busy")
CURVES = ("train_loss", "grad_norm", "learning_rate", "samples_per_second", "flops")


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    toy_game.register(monkeypatch)
    games = toy_game.record_games(tmp_path / "games", 24)
    return Corpus.open(prepare(games, tmp_path / "corpus", game="recall", workers=1, dev_fraction=0.2).uri)


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # of this process's own questions
    return ToyCommand(tmp_path, OMP_NUM_THREADS="1")


def arguments(name, corpus, server):
    made = ("--corpus", corpus.uri, "--size", "10k", "--budgets", BUDGETS, "--batch", BATCH, "--unroll", UNROLL)
    return ("train", "bc", *made, "--dev-samples", 512, "--out", name, "--experiment", name, "--tracking-uri", server)


def reports(folder):
    return len(read_curve(folder / "curve.csv"))


def training_on_without(server, wanted, folder, command, corpus):
    """A training run whose server was killed after ten reports, when it has made so many."""
    process = command.popen(*arguments(folder.name, corpus, server.url))
    wait_until(lambda: reports(folder) >= 10 or process.poll() is not None, 120, "no reports")
    server.kill()
    wait_until(lambda: reports(folder) >= wanted or process.poll() is not None, 240, "training stands still")
    return process


def check_everything_is_there_once(server, name, folder):
    """Every report, point, parameter and artifact of the run in `folder`; how many entries of curves that are."""
    experiment = MlflowExperiment(name, server.url, create=False)
    (run,) = experiment.runs("run")
    assert run.info.status == "FINISHED"
    curve = read_curve(folder / "curve.csv")
    wanted = [int(row["step"]) * BATCH * UNROLL for row in curve]
    found = 0
    for metric in CURVES:
        steps = [value.step for value in experiment.client.get_metric_history(run.info.run_id, metric)]
        assert steps == wanted, f"{metric}: {len(steps)} of {len(wanted)}"
        found += len(steps)
    dev = [value.step for value in experiment.client.get_metric_history(run.info.run_id, "dev_loss")]
    assert dev == sorted(set(dev))
    assert len(dev) >= 2
    assert run.data.params["batch"] == str(BATCH)
    assert len(run.inputs.dataset_inputs) == 1
    rows = read_points(folder / "points.csv")
    assert sorted(map(repr, experiment.points())) == sorted(map(repr, rows))
    points = experiment.runs("point")
    assert len(points) == len(rows) == 2
    for point in points:
        assert point.info.status == "FINISHED"
        assert point.data.tags["mlflow.parentRunId"] == run.info.run_id
        assert len(experiment.client.get_metric_history(point.info.run_id, "dev_loss")) == 1
        kept = {item.path.split("/")[-1] for item in experiment.client.list_artifacts(point.info.run_id, "checkpoint")}
        (checkpoint,) = (c for c in (folder / "checkpoints").iterdir() if float(c.name) == point.data.metrics["flops"])
        assert kept == {path.name for path in checkpoint.iterdir()}
    return found + len(dev)


def longest_wait(server, name):
    """Seconds between two reports of the training loop: the longest, and the median."""
    experiment = MlflowExperiment(name, server.url, create=False)
    (run,) = experiment.runs("run")
    times = [value.timestamp / 1000 for value in experiment.client.get_metric_history(run.info.run_id, "train_loss")]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    return max(gaps), statistics.median(gaps)


def test_a_server_that_is_killed_and_comes_back_costs_nothing(server, corpus, command, tmp_path, capsys):
    folder = tmp_path / "outage"
    process = training_on_without(server, 60, folder, command, corpus)
    assert process.poll() is None, command.said
    waiting = (folder / "tracking.spool").read_bytes().count(b"\n")
    server.start()
    assert process.wait(300) == 0, command.said
    found = check_everything_is_there_once(server, "outage", folder)
    longest, usual = longest_wait(server, "outage")
    assert longest < 2.0 + 3 * usual
    assert not list(folder.glob("tracking.spool*"))
    assert "does not answer" in command.said
    assert "answers again" in command.said
    with capsys.disabled():
        print(
            f"\nserver killed: {waiting} entries written by then, {found} values of curves there, 0 lost; "
            f"longest time between two reports {longest:.2f} s (median {usual:.2f} s)"
        )


def test_a_trainer_killed_during_an_outage_loses_nothing(server, corpus, command, tmp_path, capsys):
    folder = tmp_path / "killed"
    process = training_on_without(server, 40, folder, command, corpus)
    process.kill()
    process.wait()
    waiting = len((folder / "tracking.spool").read_bytes().splitlines())
    assert waiting > 10
    assert command.run(*arguments("killed", corpus, server.url), PLAYSCALE_TRACKING_WAIT="2") == 0, command.said
    assert (folder / "points.csv").is_file()
    assert "they wait in" in command.said
    left = (folder / "tracking.spool").read_bytes().count(b"\n")
    server.start()
    assert command.run(*arguments("killed", corpus, server.url)) == 0, command.said
    found = check_everything_is_there_once(server, "killed", folder)
    assert not list(folder.glob("tracking.spool*"))
    with capsys.disabled():
        print(
            f"\ntrainer killed: {waiting} entries in its spool, {left} after a rerun without a server; "
            f"{found} values of curves there, 0 lost, 0 twice"
        )


def test_faults_of_every_kind_lose_and_double_nothing(server, tmp_path, monkeypatch, capsys):
    """One of four requests goes wrong, in five ways: among them answers that are lost and requests that come late."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("PLAYSCALE_TRACKING_WAIT", "400")
    monkeypatch.setattr("playscale.tracking.delivery_queue.LONGEST_PAUSE", 0.2)
    monkeypatch.setattr("playscale.tracking.delivery_queue.FIRST_PAUSE", 0.05)
    files = tmp_path / "files"
    files.mkdir()
    for number in range(5):
        (files / f"{number}.bin").write_bytes(bytes([number]) * 50_000)
    point = Point(game="recall", method="bc", run="model", flops=1e9, params=10_000, samples=500, dev_loss=1.5)
    with (
        faulty(server.url, share=0.25, kinds=FAULTS, seed=1, tolerated=10**9) as (url, proxy),
        TrackingClient("faults", url).open(tmp_path / "spool") as experiment,
    ):
        run = experiment.start("run", "model")
        run.log_params({"batch": 8})
        run.log_dataset("games", "here", "ab" * 16, "training")
        for step in range(1, 121):
            run.log_metrics({"train_loss": 1 / step, "grad_norm": float(step)}, step)
        for flops in (1e9, 2e9, 4e9):
            cell = experiment.log_point(Point(**{**vars(point), "flops": flops}))
            cell.log_artifacts(files, "checkpoint")
        run.finish()
    there = MlflowExperiment("faults", server.url, create=False)
    (model,) = there.runs("run")
    for metric in ("train_loss", "grad_norm"):
        history = there.client.get_metric_history(model.info.run_id, metric)
        assert [value.step for value in history] == list(range(1, 121))
    assert model.info.status == "FINISHED"
    assert model.data.params["batch"] == "8"
    assert sorted(p.flops for p in there.points()) == [1e9, 2e9, 4e9]
    for cell in there.runs("point"):
        assert len(there.client.list_artifacts(cell.info.run_id, "checkpoint")) == 5
        path = there.client.download_artifacts(cell.info.run_id, "checkpoint/4.bin", str(tmp_path))
        assert open(path, "rb").read() == bytes([4]) * 50_000  # noqa: PTH123, SIM115
    assert set(proxy.injected) == set(FAULTS)
    assert not list(tmp_path.glob("spool*"))
    with capsys.disabled():
        print(f"\nfaults made: {dict(proxy.injected)}, {sum(proxy.injected.values())} together; lost: 0, twice: 0")


def test_commands_that_need_the_server_say_so_in_one_line(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("PLAYSCALE_TRACKING_WAIT", "1")
    server.kill()
    logbook = TrackingClient("absent", server.url)
    logbook.prepare()
    with logbook.open(tmp_path / "spool") as experiment:
        experiment.start("run", "model").log_params({"a": 1})
    with pytest.raises(RuntimeError, match=r"does not take the 2 entries that wait in .*spool.*run the same command"):
        logbook.deliver([tmp_path / "spool"])
    with pytest.raises(RuntimeError, match="does not answer .*: run the same command again when it does") as error:
        logbook.query(lambda experiment: experiment.points())
    assert "\n" not in str(error.value)
    server.start()
    monkeypatch.setenv("PLAYSCALE_TRACKING_WAIT", "60")
    logbook.deliver([tmp_path / "spool"])
    (run,) = logbook.query(lambda experiment: experiment.runs("run"))
    assert run.data.params == {"a": "1"}
