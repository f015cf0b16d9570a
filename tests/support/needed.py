"""What a test needs of its machine: without it the test is skipped and says why; where CI demands it, it fails."""

import os

import pytest


def need(found, what, demanded="PLAYSCALE_REQUIRE_CLUSTER"):
    """`found`, if it is there; `demanded` is the variable that makes a failure of its absence."""
    if not found:
        if os.environ.get(demanded):
            pytest.fail(f"{demanded} is set, but there is no {what}")
        pytest.skip(f"no {what} on this machine")
    return found
