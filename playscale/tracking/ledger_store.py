"""The ledger in MLflow: the experiment playscale-ledger, one run a forecast, updated when it is scored or void.

A run holds the events of its forecast as they are in the table, and their values by name, for people: both are checked.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mlflow.entities import Run

from playscale.scaling.ledger import SCORED, Entry, Event, Ledger, check, compare, in_chain
from playscale.tracking.client import TrackingClient
from playscale.tracking.mlflow_tracker import MlflowExperiment, NoExperimentError
from playscale.tracking.tracker import RunIdentity

EXPERIMENT = "playscale-ledger"
KIND = "forecast"
REGISTERED, ENDED = "registered", "ended"  # params that hold the events; each is written last, when all else is there
PARAMS = ("ledger", "game", "method", "target", "law", "at", "time", "version", "points", "corpus", "retrospective")
METRICS = ("flops", "params", "samples", "value", "low", "high", "plain_value")
SCORES = ("error", "rank", "crps", "plain_crps")


@dataclass(frozen=True)
class LedgerStore:
    """The ledgers at one tracking server or store."""

    client: TrackingClient

    @classmethod
    def at(cls, uri: str) -> LedgerStore:
        """Return the store at a tracking URI."""
        return cls(TrackingClient(EXPERIMENT, uri))

    def deliver(self, ledger: Ledger, names: Collection[str]) -> None:
        """Write the events of these forecasts to MLflow, those that it lacks; again is as well as once.

        Raises:
            ValueError: the server refuses it.
            RuntimeError: the server stays away; the table has the events, and the same call delivers them.
        """
        for name in names:
            self.client.query(partial(self._deliver, ledger, name))

    def _deliver(self, ledger: Ledger, name: str, experiment: MlflowExperiment) -> None:
        entry = ledger.entries[name]
        events = {str(event["event"]): event for event in ledger.events if event.get("id") == name}
        known = experiment.find(KIND, name, _identity(entry).digest)
        params = experiment.client.get_run(known.id).data.params if known else {}
        ends = ENDED not in params and entry.state != "open"
        if REGISTERED in params and not ends:
            return
        run = experiment.start(KIND, name, _identity(entry))
        if REGISTERED not in params:
            opened = replace(entry, state="open", outcome=None)
            run.log_values(_metrics(opened))
            run.log_params({**_params(opened), REGISTERED: json.dumps(events["registered"], sort_keys=True)})
        if ends:
            run.log_values(_metrics(entry))
            run.log_params({**_params(entry), ENDED: json.dumps(events[entry.state], sort_keys=True)})
        run.finish()

    def runs(self) -> list[Run]:
        """Return the run of every forecast, oldest first; none where there is no ledger."""
        try:
            return self.client.query(lambda experiment: experiment.runs(KIND), create=False)
        except NoExperimentError:
            return []

    def ledgers(self) -> dict[str, Ledger]:
        """Return every ledger that is kept there, by id."""
        events: dict[str, list[Event]] = {}
        for run in self.runs():
            for event in _events(run):
                events.setdefault(str(event.get("ledger", "")), []).append(event)
        return {name: in_chain(name, own) for name, own in events.items()}

    def check(self, ledger: Ledger | None = None) -> list[str]:
        """Return what is wrong: in the chains in MLflow, in a run's own values, and against the table of a ledger.

        Args:
            ledger: the ledger in a table, which is checked, too; without it all ledgers in MLflow.
        """
        runs = self.runs()
        if ledger is None:
            found = [text for own in self.ledgers().values() for text in check(own)]
            return found + [text for run in runs for text in _differences(run)]
        own = [run for run in runs if ledger.id in {run.data.params.get("ledger"), *_ledgers_of(run)}]
        stored = [event for run in own for event in _events(run)]
        return check(ledger) + compare(ledger, stored) + [text for run in own for text in _differences(run)]


def _identity(entry: Entry) -> RunIdentity:
    return RunIdentity(f"{entry.ledger}/{entry.id}")


def _params(entry: Entry) -> dict[str, str]:
    """Return what a run shows as params: what was registered, once it has ended how."""
    ended = {} if entry.state == "open" else {"state": entry.state, "ended_time": entry.ended, "reason": entry.reason}
    values = {name: getattr(entry, name) for name in PARAMS} | ended
    return {name: str(value) for name, value in values.items() if value != ""}


def _metrics(entry: Entry) -> dict[str, float]:
    names = METRICS if entry.state != "scored" else (*METRICS, *SCORED, *SCORES)
    values = {name: getattr(entry, name) for name in names}
    return {name: float(value) for name, value in values.items() if value is not None}


def _events(run: Run) -> list[Event]:
    """Return the events that a run holds; one that cannot be read is an event that `check` names."""
    found: list[Event] = []
    for name in (REGISTERED, ENDED):
        if name in run.data.params:
            try:
                event = json.loads(run.data.params[name])
            except ValueError:
                event = None
            found.append(event if isinstance(event, dict) else {"event": "unread", "id": run.info.run_name})
    return found


def _ledgers_of(run: Run) -> set[Any]:
    return {event.get("ledger") for event in _events(run)}


def _differences(run: Run) -> list[str]:
    """Return what a run shows and its events do not say."""
    entries = Ledger("", tuple(_events(run))).entries
    entry = next(iter(entries.values()), None)
    if entry is None:
        return [f"the MLflow run {run.info.run_name} is no forecast that can be read"]
    said: Mapping[str, Any] = {**_params(entry), **_metrics(entry)}
    shown = {**run.data.params, **run.data.metrics}
    return [
        f"{entry.id}: MLflow shows {name} {shown.get(name, 'missing')}; its event says {said.get(name, 'nothing')}"
        for name in sorted(said.keys() | (shown.keys() & {*PARAMS, *METRICS, *SCORED, *SCORES}))
        if said.get(name) != shown.get(name)
    ]
