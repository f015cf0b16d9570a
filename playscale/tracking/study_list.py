"""The studies of a tracking store, read from the runs that they logged."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from mlflow.entities import Experiment, Run
from mlflow.tracking import MlflowClient

from playscale.points import Point
from playscale.tracking.client import without_retries
from playscale.tracking.mlflow_run import KIND, point_of_run
from playscale.tracking.mlflow_tracker import OWNER, STUDY, NoExperimentError, every_page
from playscale.tracking.store import store_errors, usable_uri


class TrackedStudy(NamedTuple):
    """A study that has logged to a tracking store.

    Attributes:
        name: Its name.
        out: Its directory; "" where it left none.
        state: fitted; not fitted; or running or killed, between which a store cannot tell.
        points: Its points.
        changed: Unix time of its last entry.
    """

    name: str
    out: str
    state: str
    points: Sequence[Point]
    changed: float | None


def tracked_studies(uri: str, name: str = "") -> list[TrackedStudy]:
    """Return the studies of a store, or those of one experiment, by name.

    ValueError: there is no such store or experiment. RuntimeError: it does not answer.
    """
    without_retries()
    with store_errors(uri):
        usable = usable_uri(uri, create=False)
        client = MlflowClient(usable) if usable else None
        experiments = [one for one in every_page(client.search_experiments) if name in {"", one.name}] if client else []
        if client is None or (name and not experiments):
            raise NoExperimentError(name, uri)
        found = [
            study for one in experiments for study in _studies(one, every_page(client.search_runs, [one.experiment_id]))
        ]
    return sorted(found, key=lambda study: study.name)


def _studies(experiment: Experiment, runs: Iterable[Run]) -> list[TrackedStudy]:
    """Return the studies of an experiment, which under Kubeflow several may share."""
    by_study: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if KIND in run.data.tags:
            by_study[run.data.tags.get(STUDY, experiment.name)].append(run)
    return [_study(name, own, experiment) for name, own in by_study.items()]


def _study(name: str, runs: Sequence[Run], experiment: Experiment) -> TrackedStudy:
    kinds: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        kinds[run.data.tags[KIND]].append(run)
    points = []
    for run in kinds["point"]:
        with suppress(ValueError):  # one that holds no values yet
            points.append(point_of_run(run, {}))
    out = ""
    with suppress(KeyError, ValueError, TypeError):
        out = str(json.loads(experiment.tags[f"{OWNER}.{name}"])["out"])
    times = [run.info.end_time or run.info.start_time for run in runs]
    at_work = any(run.info.status == "RUNNING" for run in kinds["run"])
    fitted = max((run.info.start_time for run in kinds["fit"]), default=0)
    newest = max((run.info.start_time for run in kinds["point"]), default=0)
    state = "running or killed" if at_work else "fitted" if fitted >= newest and kinds["fit"] else "not fitted"
    return TrackedStudy(name, out, state, points, max(times) / 1000 if times else None)
