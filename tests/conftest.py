"""Shared fixtures: the command line as a user runs it, and a real browser."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from resources import need

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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
    """Chromium, driven by playwright. In CI (PLAYSCALE_REQUIRE_BROWSER) its absence is a failure, elsewhere a skip."""
    need(CHROMIUM, "chromium", "PLAYSCALE_REQUIRE_BROWSER")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()
