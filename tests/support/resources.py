"""Resources of the machine that some tests need, and the data that tests read."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "tests" / "data" / "published"
RECORDINGS = ROOT.parent / "shared" / "nld-aa-mini"  # 76 MB of games in NLD-AA layout


def need(resource, description, variable="PLAYSCALE_REQUIRE_CLUSTER"):
    """Return the resource. If it is absent, skip the test, or fail it where the environment sets `variable`."""
    if not resource:
        if os.environ.get(variable):
            pytest.fail(f"{variable} is set, but there is no {description}")
        pytest.skip(f"no {description} on this machine")
    return resource


def need_recordings():
    """Return the folder of recorded games beside the checkout; see `need`."""
    return need(RECORDINGS if RECORDINGS.is_dir() else None, "../shared/nld-aa-mini", "PLAYSCALE_REQUIRE_SHARED")


def need_browser():
    """Return the path of Chromium; see `need`."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return need(next(filter(None, map(shutil.which, names)), None), "chromium", "PLAYSCALE_REQUIRE_BROWSER")
