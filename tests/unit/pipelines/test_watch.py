"""Watch a submitted study."""

import signal
from pathlib import Path

import pytest
from kfp_server import Backend, kfp_server

from playscale.processes.signals import Stopped
from playscale.study.spec import read_spec
from playscale_pipelines.submit import reach
from playscale_pipelines.watch import watch

SMOKE = Path(__file__).parents[3] / "studies" / "smoke.yaml"


def test_watching_that_is_stopped_says_that_the_run_goes_on():
    def stop(progress):
        raise Stopped(signal.SIGINT)

    with (
        kfp_server(Backend()) as url,
        pytest.raises(Stopped, match=f"SIGINT; the run goes on: {url}/#/runs/details/run-1"),
    ):
        watch(reach(url), "run-1", read_spec(SMOKE), stop)


def test_fractions_rise_to_one():
    seen = []
    with kfp_server(Backend()) as url:
        watch(reach(url), "run-1", read_spec(SMOKE), lambda progress: seen.append(progress.fraction))
    assert seen == sorted(seen)
    assert (seen[0], seen[-2], seen[-1]) == (0.0, 2 / 11, 1.0)
