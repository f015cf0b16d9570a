"""A container's CPU limit counts."""

import os

import pytest

from playscale.processes.cores import usable_cores

BOUND = len(os.sched_getaffinity(0))

ONE, HALF, ALL, MANY = "100000 100000", "50000 100000", "max 100000", f"{BOUND * 100000 + 900000} 100000"


@pytest.mark.parametrize(
    ("own", "limits", "cores"),
    [
        (None, {}, BOUND),
        (None, {"cpu.max": ONE}, 1),
        (None, {"cpu.max": HALF}, 1),
        (None, {"cpu.max": ALL}, BOUND),
        (None, {"cpu.max": MANY}, BOUND),
        ("0::/job/step", {"cpu.max": ALL, "job/cpu.max": ONE, "job/step/cpu.max": ALL}, 1),  # of a batch system
        ("0::/job/step", {"job/step/cpu.max": ONE}, 1),
        ("0::/docker/abc", {"cpu.max": ONE}, 1),  # the path is one of the host
        ("4:cpu,cpuacct:/docker/abc", {"cpu": ONE}, 1),
        ("4:cpuacct,cpu:/job", {"cpu/job": ONE, "cpu": "-1 100000"}, 1),
        ("1:cpu:/", {"cpu": "-1 100000"}, BOUND),
        ("3:cpuset:/", {"cpu": "what"}, BOUND),
    ],
)
def test_cpu_limits_of_control_groups_count_where_they_are_less(tmp_path, own, limits, cores):
    if own is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(f"{own}\n9:memory:/other\n")
    for name, text in limits.items():
        path = tmp_path / "sys/fs/cgroup" / name
        if name.endswith("cpu.max"):  # version 2
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        else:
            path.mkdir(parents=True, exist_ok=True)
            for kind, value in zip(("quota", "period"), text.split(), strict=False):
                (path / f"cpu.cfs_{kind}_us").write_text(value + "\n")
    assert usable_cores(tmp_path) == cores
