"""A sample of the fault campaign; all of it: `make campaign`. A case that fails names the command that repeats it."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from resources import need

from . import __main__ as campaign
from . import disk, inputs
from .commands import ROOT, SUPPORT, Bench

SEED = 0
SAMPLE = {"kills": 3, "inputs": 20, "disk": 3}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # a busy machine is several times slower


MOUNTS = """
import signal, sys
from pathlib import Path
from tests.campaign import disk
disk.unmount_at(signal.SIGTERM)
with disk.small_disk(Path(sys.argv[1]), disk.PAGE):
    print("mounted", flush=True)
    signal.pause()
"""


def test_small_disks_of_a_campaign_that_was_stopped_are_unmounted(tmp_path):
    need(disk.mountable(), "right to mount a tmpfs", "PLAYSCALE_REQUIRE_TMPFS")

    def mounted():
        return {part.mountpoint for part in psutil.disk_partitions(all=True)} & {str(p) for p in tmp_path.iterdir()}

    with disk.small_disk(tmp_path / "own", disk.PAGE):
        for name, number in (("TERM", signal.SIGTERM), ("KILL", signal.SIGKILL)):
            command = [sys.executable, "-c", MOUNTS, str(tmp_path / name)]
            environment = os.environ | {"PYTHONPATH": str(SUPPORT)}
            with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as campaign:
                campaign.stdout.readline()
                disk.unmount_left()
                assert mounted() == {str(tmp_path / "own"), str(tmp_path / name)}, "of those that run none"
                campaign.send_signal(number)
            assert campaign.returncode == -number
        assert mounted() == {str(tmp_path / "own"), str(tmp_path / "KILL")}
        disk.unmount_left()
        assert mounted() == {str(tmp_path / "own")}


def test_what_cases_share_is_made_side_by_side(tmp_path, monkeypatch):
    """A thread that waits at the barrier for the other one, which does not come, raises."""
    together = threading.Barrier(2, timeout=20)
    shared = Bench(tmp_path)
    monkeypatch.setattr(Bench, "_inputs", property(lambda bench: together.wait()))
    monkeypatch.setattr(Bench, "undisturbed", lambda bench, name: (bench.line(["plain"]), together.wait()))
    with ThreadPoolExecutor(2) as pool:
        shared.prepare({"collect"}, pool)
    assert not together.broken, "the inputs, and a command without inputs"
    readers = {name: inputs.Reader(lambda *_: together.wait(), (), (), inputs.anything) for name in ("a", "b")}
    monkeypatch.setattr(inputs, "READERS", readers)
    monkeypatch.setattr(inputs.Inputs, "must", lambda *_, **__: None)
    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(inputs.Inputs(shared).base, readers))) == len(readers)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("campaign"))


@pytest.mark.parametrize("kind", SAMPLE)
def test_sample_of_the_campaign_finds_no_fault(bench, kind):
    if kind == "disk":
        need(disk.mountable(), "right to mount a tmpfs", "PLAYSCALE_REQUIRE_TMPFS")
    cases = itertools.islice(campaign.cases(bench, SEED, kind, campaign.COUNTS[kind]), SAMPLE[kind])
    outcomes = list(campaign.run(bench, list(cases), jobs=1, deadline=float("inf")))
    assert len(outcomes) == SAMPLE[kind]
    failed = [f"{one.case} {one.subject}, {one.what}: {'; '.join(one.faults)}" for one in outcomes if one.faults]
    assert not failed, "\n".join([*failed, f"again: python -m tests.campaign --seed {SEED} --case KIND:NUMBER"])
