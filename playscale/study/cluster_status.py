"""The status of a study, or of a forecast of it, that runs on a cluster."""

from __future__ import annotations

from dataclasses import replace

from playscale.study.cluster_run import ClusterProgress, ClusterStep
from playscale.study.status import StudyStatus


def on_cluster(
    place: str, name: str, budget: str, run_state: str, progress: ClusterProgress, url: str, files: StudyStatus | None
) -> StudyStatus:
    """Return how far a run on a cluster is: its states from there, the rest from the study's files where they are read.

    Args:
        place: The study's directory.
        name: The study's name.
        budget: What the run forecasts for, in FLOPs; "" for one of the study itself.
        run_state: The run's state in Kubeflow.
        progress: Its steps.
        url: The address of its page.
        files: What the study's files say; None where S3 cannot be reached from here.
    """
    states = {"SUCCEEDED": "finished", "FAILED": "failed", "CANCELED": "stopped", "SKIPPED": "stopped"}
    state = states.get(run_state, "running")
    if state == "finished" and progress.failed:  # Kubeflow's state does not depend on every step
        state = "failed"
    status = files or StudyStatus(name, place, state)
    endpoint = url.partition("/#/")[0]
    waits = [f"{step.title} waits: {step.reason}" for step in progress.steps if step.state == "waiting"]
    tasks = {f"{step.component}-{', '.join(step.runs)}".strip("-"): step for step in progress.steps if step.part}
    what = f"forecast of {budget} FLOPs" if budget else ""
    again = f"forecast SPEC --budget {budget}" if budget else "submit SPEC"
    now: dict[str, str] = {}
    for task, step in tasks.items():
        if step.state == "running":  # of several runs in one pod, those that are at work
            own = [f"{step.component}-{run}".strip("-") for run in step.runs or ("",)]
            known = {one: status.now[one] for one in own if one in status.now} or {task: "at work"}
            now |= {one: what + _tries(step) for one, what in known.items()}
    return replace(
        status,
        state=state,
        note="; ".join(filter(None, [what, *waits, url])),
        fraction=1.0 if state == "finished" else progress.fraction,
        parts=progress.parts,
        now=now,
        failed={task: step.reason or "no reason given" for task, step in tasks.items() if step.state == "failed"},
        seconds_left=status.seconds_left if state == "running" else None,
        go_on=""
        if state in {"running", "finished"}
        else f"playscale study {again} --endpoint {endpoint} --out {place}",
    )


def _tries(step: ClusterStep) -> str:
    """Return which try of a step is at work, and why the one before failed; "" for the first."""
    reasons = [pod.reason for pod in step.pods if pod.state == "failed"]
    return f" (try {len(reasons) + 1}; before: {reasons[-1] or 'no reason given'})" if reasons else ""
