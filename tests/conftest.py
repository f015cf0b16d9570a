"""Fixtures of all tests, the number of parallel workers, and the figures at the end of a run."""

import os
import subprocess
import sys
import time

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker and its subprocesses have one core: set before torch is imported
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

import pytest
from resources import need_browser

MOST_WORKERS = 8  # each takes up to 2 GB


@pytest.fixture(scope="session")
def cli():
    """Run `playscale ...` in a directory; returns the completed process."""

    def run(*arguments, cwd, **environment):
        command = [sys.executable, "-m", "playscale.cli", *map(str, arguments)]
        env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"} | environment
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=600)

    return run


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


def pytest_xdist_auto_num_workers(config):
    """Return the workers of `-n auto`: one a usable core, where xdist counts the cores of the whole machine."""
    from playscale.processes import usable_cores

    return min(usable_cores(), MOST_WORKERS)


def pytest_sessionstart(session):
    session.config.started = time.monotonic()


def pytest_terminal_summary(terminalreporter, config):
    """Print the wall time of a parallel run beside the speed of the machine: machines differ by a factor of two."""
    if config.getoption("numprocesses", None):
        workers, wall, rate = config.option.numprocesses, time.monotonic() - config.started, matmul_rate() / 1e9
        terminalreporter.write_line(f"{wall:.0f} s with {workers} workers; fp32 matmul here: {rate:.0f} GFLOP/s")


def matmul_rate(size=2048, repeats=12):
    """Return the FLOP/s of an fp32 matrix product on all usable cores, the best of a few; a second or less."""
    import torch

    matrix, seconds = torch.ones(size, size), []
    for _ in range(repeats):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)
