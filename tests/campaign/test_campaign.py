"""A sample of the fault campaign; all of it: `make campaign`. A case that fails names the command that repeats it."""

import itertools

import pytest
from resources import need

from . import __main__ as campaign
from . import disk
from .commands import Bench

SEED = 0
SAMPLE = {"kills": 6, "inputs": 40, "disk": 4}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # a busy machine is several times slower


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
