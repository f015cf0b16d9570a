"""Weights shared between processes: a reader sees one version whole, however fast the writer is."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from playscale.rollout.shared_weights import SharedWeights

COUNT = 300_000
WRITER = """
import itertools
import sys
import pytest
import torch
from playscale.rollout.shared_weights import SharedWeights
torch.set_num_threads(1)
count, fd = map(int, sys.argv[1:])
weights = SharedWeights(count, fd)
print("ready", flush=True)
for version in itertools.count(1):
    # In two tensors, as a policy's parameters are; version 0 is the parent's.
    assert weights.publish([torch.full((2, count // 4), float(version)), torch.full((count // 2,), float(version))]) == version
"""  # noqa: E501


def module(count=COUNT):
    parts = nn.ParameterList([torch.empty(count // 4, 3), torch.empty(count - count // 4 * 3)])
    assert sum(p.numel() for p in parts) == count
    return parts


def the_value(policy):
    """The one value that all its parameters have."""
    lows, highs = zip(*(part.detach().aminmax() for part in policy), strict=True)
    assert min(lows) == max(highs), "a mixture of versions"
    return int(lows[0])


@pytest.mark.slow
def test_a_reader_never_sees_a_mixture_of_versions():
    """Another process writes as fast as it can until this one has read 20 versions."""
    weights, policy = SharedWeights(COUNT), module()
    weights.publish([torch.zeros(COUNT)])
    command = [sys.executable, "-c", WRITER, str(COUNT), str(weights.fd)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, pass_fds=[weights.fd], stdout=subprocess.PIPE, env=environment) as writer:
        writer.stdout.readline()
        known = -1
        try:
            for _ in range(20):
                while (found := weights.load(policy, known)) == known:
                    assert writer.poll() is None
                assert the_value(policy) == found > known
                known = found
        finally:
            writer.kill()
    weights.close()


class Slow:
    """The two copies, for a reader who is overtaken `times` by two whole versions in the middle of his reading."""

    def __init__(self, weights, times):
        self.copies, self.writer, self.left = weights._copies, SharedWeights(COUNT, os.dup(weights.fd)), times

    def __getitem__(self, number):
        self.number = number
        return self

    def clone(self):
        half = self.copies[self.number][: COUNT // 2].clone()
        if self.left:
            self.left -= 1
            for _ in range(2):
                self.writer.publish([torch.full((COUNT,), float(self.writer._versions[1]) + 1)])
        return torch.cat((half, self.copies[self.number][COUNT // 2 :]))


def test_a_reader_who_was_overtaken_reads_again():
    weights, policy = SharedWeights(COUNT), module()
    weights.publish([torch.zeros(COUNT)])
    weights._copies = Slow(weights, times=3)
    assert weights.load(policy, -1) == 6
    assert the_value(policy) == 6
    weights.close()


def test_reader_loads_new_versions_alone():
    weights, policy = SharedWeights(COUNT), module()
    assert weights.load(policy, -1) == -1, "nothing was published"
    assert weights.publish([torch.ones(COUNT)]) == 0
    assert weights.load(policy, -1) == 0
    with torch.no_grad():
        policy[0].fill_(7)
    assert weights.load(policy, 0) == 0
    assert policy[0].unique().tolist() == [7], "the known version is not read again"
    for _ in range(2):
        weights.publish([torch.full((COUNT,), 3.0)])
    assert weights.load(policy, 0) == 2
    assert the_value(policy) == 3
    weights.close()
