"""Fixtures of all tests, the number of parallel workers, and the figures at the end of a run."""

import itertools
import os
import sys
import time
from collections import Counter

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker and its subprocesses have one core: set before torch is imported
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

import forks
import pytest
import s3_server
import toy_game
from resources import need_browser

from playscale.corpus.corpus import Corpus
from playscale.corpus.prepare import prepare

MOST_WORKERS = 8  # each takes up to 2 GB


@pytest.fixture(scope="session")
def cli(tmp_path_factory):
    """Run `playscale ...` in a directory, in a process of its own; returns the completed process."""
    logs = tmp_path_factory.mktemp("cli")

    def run(*arguments, cwd, **environment):
        env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"} | environment
        return forks.run_command(arguments, cwd, env, logs, seconds=1100)

    return run


@pytest.fixture
def main_here(command_here):
    """Run the command line inside this process, in tmp_path (saves the imports); exit code, stderr."""

    def run(*arguments):
        code, _, stderr = command_here(*arguments)
        return code, stderr

    return run


@pytest.fixture
def command_here(tmp_path, monkeypatch, capsys):
    """Run the command line as `main_here` does; exit code, stdout, stderr."""
    from playscale.cli.app import main

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.setattr(sys, "argv", ["playscale", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def forked_workers():
    """Worker processes of this process are forks of one that has imported everything: an import of torch takes 3 s."""
    forks.ensure_server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("playscale.processes.worker.subprocess", forks.ForksOfServer)
        yield


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by playwright."""
    executable = need_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def recall_uri(tmp_path_factory):
    """24 games of Recall, some of them dev games."""
    folder = tmp_path_factory.mktemp("recall")
    with pytest.MonkeyPatch.context() as patch:
        toy_game.register(patch)
        games = toy_game.record_games(folder / "games", 24)
        return prepare(games, folder / "corpus", game="recall", workers=1, dev_fraction=0.2).uri


@pytest.fixture(scope="module")
def registered():
    """The toy game, registered for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        toy_game.register(patch)
        yield


@pytest.fixture
def recall(recall_uri, monkeypatch):
    """The toy game, registered for this test, and a corpus of it."""
    toy_game.register(monkeypatch)
    return Corpus.open(recall_uri)


@pytest.fixture(scope="session")
def s3_root(tmp_path_factory):
    """An S3 server; the folder that holds its buckets, of which there is one, and its endpoint."""
    root = tmp_path_factory.mktemp("s3")
    (root / "bucket").mkdir()
    with s3_server.serve(root) as endpoint:
        yield root, endpoint


@pytest.fixture
def s3(s3_root, tmp_path, monkeypatch):
    """The folder behind s3://bucket; boto3 finds the server, and fetched sections go below tmp_path."""
    root, endpoint = s3_root
    for name, value in s3_server.environment(endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PLAYSCALE_CACHE", str(tmp_path / "kept"))
    return root / "bucket"


def pytest_xdist_auto_num_workers(config):
    """Return the workers of `-n auto`: one a usable core, where xdist counts the cores of the whole machine."""
    from playscale.processes.cores import usable_cores

    return min(usable_cores(), MOST_WORKERS)


def pytest_sessionstart(session):
    session.config.started = time.monotonic()


def pytest_terminal_summary(terminalreporter, config):
    """Print the wall time of a parallel run, the speed of the machine (they differ by a factor of two), long files."""
    if config.getoption("numprocesses", None):
        from playscale.processes.cores import cpu_matmul_rate

        workers, wall, rate = config.option.numprocesses, time.monotonic() - config.started, cpu_matmul_rate() / 1e9
        terminalreporter.write_line(f"{wall:.0f} s with {workers} workers; fp32 matmul here: {rate:.0f} GFLOP/s")
        seconds = Counter()
        for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
            seconds[getattr(report, "nodeid", "").partition("::")[0]] += getattr(report, "duration", 0)
        terminalreporter.write_line(
            "the longest files: " + ", ".join(f"{f} {s:.0f} s" for f, s in seconds.most_common(30))
        )
