"""A study on a cluster, as a terminal shows it."""

import io
import re

from rich.console import Console

from playscale.cli import study_console
from playscale.study.cluster_run import ClusterProgress, ClusterStep, StepPod, study_parts


def step(component, run, state, reason=""):
    pods = (StepPod("pod-1", "failed" if state == "failed" else state, reason),) if reason else ()
    return ClusterStep(component, run, state, f"{component} {run}", pods)


def test_terminal_shows_a_line_for_each_part_and_each_failure_once(monkeypatch):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=150, markup=False, highlight=False)
    monkeypatch.setattr(study_console, "plain_console", lambda **_: terminal)
    steps = [
        step("train", "a", "done"),
        step("train", "b", "running"),
        step("train", "c", "waiting", "Unschedulable: 1 Insufficient cpu"),
        step("evaluate", "a", "failed", "OOMKilled (exit code 1)"),
    ]
    with study_console.cluster_progress("smoke", lambda one: [f"the log of {one.title}\x1b"]) as show:
        for _ in range(2):
            show(ClusterProgress(steps, study_parts(3), 61.0))
    shown = re.sub(r"\x1b\[[?\d;]*[A-Za-z]|\r", "", screen.getvalue())
    assert shown.count("1:01 failed evaluate a: OOMKilled (exit code 1)\n    the log of evaluate a?\n") == 1
    last = shown.rpartition("smoke: 1:01, 9 %")[2].splitlines()
    parts = {line.split()[0]: " ".join(line.split()[1:]) for line in last if line.strip()}
    assert list(parts) == ["collect", "prepare", "plan", "train", "evaluate", "references", "fit"]
    assert parts["train"] == "━━━━━━━ 1 of 3 b; c waits: Unschedulable: 1 Insufficient cpu"
    assert parts["evaluate"] == "0 of 3"
