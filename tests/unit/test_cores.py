"""A container's CPU limit, not the machine's cores."""

import os

import pytest

from playscale.processes import usable_cores

BOUND = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("max 100000\n", BOUND),
        (f"{BOUND * 100000 + 900000} 100000\n", BOUND),
    ],
)
def test_the_limit_of_the_container_counts_where_it_is_less(tmp_path, limit, cores):
    path = tmp_path / "cpu.max"
    path.write_text(limit)
    assert usable_cores(path) == cores


def test_without_a_cgroup_the_cores_this_process_is_bound_to_count(tmp_path):
    assert usable_cores(tmp_path / "nothing") == BOUND
