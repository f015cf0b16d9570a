"""The ledger: every forecast that was registered, and what came of it.

A ledger is a list of events, only ever appended to: a forecast is registered, and later scored or void. Each event
names the digest of the one before it and has a digest of its own, so that no event can be changed, removed, inserted or
moved without `check` finding it. Somebody who writes all of it anew, everywhere it is kept, cannot be found: who wants
to be sure keeps the last digest elsewhere.

Errors and scores are of logarithms: of the dev loss, or of the return above its offset.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from playscale.points import Point, to_row
from playscale.scaling.bound import TOO_FAR
from playscale.scaling.powerlaw import LEVEL, LEVELS
from playscale.storage.files import canonical, checksum

FINE = 2000  # steps in which the CRPS is summed

State = Literal["open", "scored", "void"]
At = Literal["budget", "cell"]
Event = dict[str, Any]
"""registered: the fields of REGISTERED; scored: of SCORED; void: of VOID. All have `event`, `ledger` (the id of the
ledger), `before` and `digest`."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One forecast and what came of it.

    Attributes:
        id: of the question, see `question`; one that is asked again after it was void has a number behind it.
        law: name of the law that forecasts.
        at: "budget": the best agent of `flops`, where params and samples are recommended; "cell": the agent of that
            size and data.
        offset: from which returns are counted.
        low, high: prediction interval of `level`; None: without that end.
        quantiles: of the predictive distribution at LEVELS, rising; () without one.
        plain_value, plain_low, plain_high, plain_quantiles: the same of a power law through the best cells.
        time: of registration, UTC, ISO 8601. version: of Playscale.
        points: digest of the points fitted (`points_digest`); corpus: digest of the corpus, "" where unknown.
        retrospective: the outcome was known to somebody when it was registered.
        outcome: mean over `seeds` agents; outcome_se: its standard error; seed_sd: standard deviation between them.
        ended: time of the score or of the voiding; reason: why it is void.
        ledger: id of the ledger; before: digest of the event before its registration; digest: of its last event.
    """

    id: str = ""
    game: str
    method: str
    target: str
    law: str
    at: At = "budget"
    flops: float
    params: float | None
    samples: float | None
    offset: float = 0.0
    value: float
    low: float | None = None
    high: float | None = None
    level: float = LEVEL
    quantiles: tuple[float, ...] = ()
    plain_value: float | None = None
    plain_low: float | None = None
    plain_high: float | None = None
    plain_quantiles: tuple[float, ...] = ()
    time: str = ""
    version: str = ""
    points: str
    corpus: str = ""
    retrospective: bool = False
    state: State = "open"
    outcome: float | None = None
    outcome_se: float | None = None
    seeds: int | None = None
    seed_sd: float | None = None
    ended: str = ""
    reason: str = ""
    ledger: str = ""
    before: str = ""
    digest: str = ""

    @property
    def kind(self) -> str:
        """Return the kind of law: its name without the window or the frontier that it was fitted to."""
        return self.law.partition(",")[0]

    @property
    def inside(self) -> bool | None:
        """Tell whether the outcome lies in the interval; None without an outcome or an interval.

        Where both ends of the interval are too far to be given, by the rank.
        """
        inside, rank = _inside(self.outcome, self.low, self.high), self.rank
        return abs(2 * rank - 1) <= self.level if inside is None and rank is not None else inside

    @property
    def plain_inside(self) -> bool | None:
        return _inside(self.outcome, self.plain_low, self.plain_high)

    @property
    def error(self) -> float | None:
        """Return ln(outcome / forecast), of what is above the offset; None without an outcome."""
        return None if self.outcome is None else self._log(self.outcome) - self._log(self.value)

    @property
    def plain_error(self) -> float | None:
        if self.outcome is None or self.plain_value is None:
            return None
        return self._log(self.outcome) - self._log(self.plain_value)

    @property
    def seed_error(self) -> float | None:
        """Return the standard error of ln(outcome) that the seeds' scatter leaves; None with one seed."""
        if self.outcome is None or self.seed_sd is None or not self.seeds or self.outcome <= self.offset:
            return None
        return self.seed_sd / math.sqrt(self.seeds) / (self.outcome - self.offset)

    @property
    def seed_share(self) -> float | None:
        """Return the share of an agent's squared error that is its seed's, 0 to 1; None with one seed.

        The rest is the law's: the squared error of the mean, less what the scatter of the seeds leaves in that.
        """
        if self.error is None or self.seed_error is None or self.seeds is None:
            return None
        scatter = self.seeds * self.seed_error**2
        whole = scatter + max(self.error**2 - self.seed_error**2, 0.0)
        return scatter / whole if whole > 0 else None

    @property
    def rank(self) -> float | None:
        """Return the share of the predictive distribution below the outcome: 0 and 1 beyond its outer quantiles."""
        if self.outcome is None or not self.quantiles:
            return None
        return float(np.interp(self._log(self.outcome), self._logs(self.quantiles), LEVELS, left=0.0, right=1.0))

    @property
    def crps(self) -> float | None:
        """Return the continuous ranked probability score; without a distribution that of a point, |error|."""
        return self._crps(self.value, self.quantiles)

    @property
    def plain_crps(self) -> float | None:
        return None if self.plain_value is None else self._crps(self.plain_value, self.plain_quantiles)

    def _crps(self, value: float, quantiles: tuple[float, ...]) -> float | None:
        """Integrate the pinball loss over all levels (Gneiting and Raftery 2007, section 4.2).

        Between the levels that are kept quantiles are interpolated, beyond them they are the outermost.
        """
        if self.outcome is None:
            return None
        outcome = self._log(self.outcome)
        if not quantiles:
            return abs(outcome - self._log(value))
        level = (np.arange(FINE) + 0.5) / FINE
        at = np.interp(level, LEVELS, self._logs(quantiles))
        return float(np.mean(2 * ((outcome < at) - level) * (at - outcome)))

    def _log(self, value: float) -> float:
        """Return ln(value - offset), at most a factor 1,000 below the forecast's: also of what has no logarithm."""
        least = math.log(self.value - self.offset) - TOO_FAR if self.value > self.offset else -TOO_FAR
        return max(math.log(value - self.offset), least) if value > self.offset else least

    def _logs(self, values: Sequence[float]) -> np.ndarray:
        return np.array([self._log(value) for value in values])


ENTRY = TypeAdapter(Entry)
CHAIN = ("ledger", "before", "digest")
SCORED = ("outcome", "outcome_se", "seeds", "seed_sd")
QUESTION = ("game", "method", "target", "at", "flops", "version", "points", "corpus", "retrospective")
OWN = ("state", "ended", "reason", *SCORED, *CHAIN)
REGISTERED = tuple(f.name for f in fields(Entry) if f.name not in OWN)


def _inside(outcome: float | None, low: float | None, high: float | None) -> bool | None:
    if outcome is None or (low is None and high is None):
        return None
    return (low is None or low <= outcome) and (high is None or outcome <= high)


def question(entry: Entry) -> str:
    """Return the id of what a forecast is of: a question asked again of the same points has the same id.

    So a forecast that is registered twice, after a kill say, is one; and the first answer stands.
    """
    asked = [getattr(entry, name) for name in QUESTION]
    return checksum(canonical([*asked, *([entry.params, entry.samples] if entry.at == "cell" else [])]))[:10]


def points_digest(points: Iterable[Point]) -> str:
    """Return a digest of the points that a fit takes, in whatever order they are, and whatever columns are empty."""
    rows = [
        {key: value for key, value in to_row(p).items() if value not in (None, "")} for p in points if not p.held_out
    ]
    return checksum(b"\n".join(sorted(map(canonical, rows))))


@dataclass(frozen=True)
class Ledger:
    """A ledger: its id and its events, oldest first."""

    id: str
    events: tuple[Event, ...] = ()

    @property
    def last(self) -> str:
        """Return the last digest: who has it can tell that nothing before it was changed."""
        return str(self.events[-1].get("digest", "")) if self.events else ""

    @property
    def entries(self) -> dict[str, Entry]:
        """Return every entry by id, in the order of registration; events that cannot be read are left out."""
        found: dict[str, Entry] = {}
        for event in self.events:
            one = found.get(str(event.get("id")))
            if event.get("event") == "registered" and one is None:
                if entry := _registered(event):
                    found[entry.id] = entry
            elif event.get("event") in ("scored", "void") and one is not None:
                found[one.id] = _ended(one, event)
        return found

    def entry(self, name: str) -> Entry:
        """Return the entry of an id, of the beginning of one, or the only one of TARGET@FLOPS: dev_loss@1e13.

        Raises:
            ValueError: there is none, or several.
        """
        found = [
            entry for entry in self.entries.values() if name and (entry.id.startswith(name) or _is_of(entry, name))
        ]
        exact = [entry for entry in found if entry.id == name]
        if len(found) > 1 and not exact:
            raise ValueError(f"{name}: several forecasts, {', '.join(entry.id for entry in found)}; give the id of one")
        if not found:
            raise ValueError(f"{name}: no such forecast is registered; `playscale ledger` lists them")
        return (exact or found)[0]


def _is_of(entry: Entry, name: str) -> bool:
    """Tell whether an entry is of the budget in TARGET@FLOPS."""
    target, _, flops = name.partition("@")
    try:
        return entry.target == target and entry.at == "budget" and math.isclose(entry.flops, float(flops), rel_tol=1e-6)
    except ValueError:
        return False


def digest_of(event: Mapping[str, Any]) -> str:
    """Return the digest of an event: of all of it, the digest of the event before included."""
    return checksum(canonical({name: value for name, value in event.items() if name != "digest"}))


def _appended(ledger: Ledger, kind: str, values: Mapping[str, Any]) -> Ledger:
    event = {"event": kind, "ledger": ledger.id, **values, "before": ledger.last}
    event = json.loads(canonical(event))  # as it is read back
    return replace(ledger, events=(*ledger.events, {**event, "digest": digest_of(event)}))


def register(ledger: Ledger, forecast: Entry, time: str) -> tuple[Ledger, Entry]:
    """Register a forecast, unless its question is registered and not void; return the ledger and the entry.

    Raises:
        ValueError: a number of the forecast is none.
    """
    name = question(forecast)
    known = [e for e in ledger.entries.values() if e.id == name or e.id.startswith(f"{name}-")]
    standing = next((entry for entry in known if entry.state != "void"), None)
    if standing:
        return ledger, standing
    _check(forecast)
    name = f"{name}-{len(known) + 1}" if known else name
    values = {key: value for key, value in asdict(replace(forecast, id=name, time=time)).items() if key in REGISTERED}
    ledger = _appended(ledger, "registered", values)
    return ledger, ledger.entries[name]


def score(
    ledger: Ledger, name: str, outcomes: Sequence[float], time: str, se: float | None = None, seeds: int = 1
) -> tuple[Ledger, Entry]:
    """Score a forecast by what was measured; the same score again changes nothing.

    Args:
        ledger: the ledger.
        name: id of the forecast.
        outcomes: what was measured, of one agent a seed.
        time: UTC, ISO 8601.
        se: standard error of a single measurement; with several outcomes their own scatter counts too.
        seeds: how many agents a single outcome is the mean of.

    Raises:
        ValueError: no such forecast; it is void or has another score; a value is no number that can be measured.
    """
    entry = ledger.entry(name)
    values = [float(value) for value in outcomes]
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"{entry.id}: an outcome is a number, and at least one")
    if entry.target == "dev_loss" and min(values) <= 0:
        raise ValueError(f"{entry.id}: a dev loss of {min(values):g} is none; it is above zero")
    if se is not None and not (math.isfinite(se) and se >= 0):
        raise ValueError(f"{entry.id}: a standard error of {se:g} is none; it is at least zero")
    count, sd = len(values), float(np.std(values, ddof=1)) if len(values) > 1 else None
    errors = [error / math.sqrt(count) for error in (se, sd) if error is not None]
    scored = {"outcome": float(np.mean(values)), "outcome_se": max(errors, default=None)}
    scored |= {"seeds": max(count, seeds), "seed_sd": sd}
    if entry.state == "void":
        raise ValueError(f"{entry.id} is void ({entry.reason}) and cannot be scored; register it again")
    if entry.state == "scored":
        if all(getattr(entry, key) == value for key, value in scored.items()):
            return ledger, entry
        raise ValueError(f"{entry.id} has a score already: an outcome of {entry.outcome:g}, at {entry.ended}")
    ledger = _appended(ledger, "scored", {"id": entry.id, **scored, "time": time})
    return ledger, ledger.entries[entry.id]


def void(ledger: Ledger, name: str, reason: str, time: str) -> tuple[Ledger, Entry]:
    """Void a forecast that cannot be scored, as of a run that diverged; it stays listed, with the reason.

    Raises:
        ValueError: no such forecast; it is scored; no reason is given.
    """
    entry, reason = ledger.entry(name), " ".join(reason.split())
    if not reason:
        raise ValueError(f"{entry.id}: a forecast is void for a reason; give one")
    if entry.state == "scored":
        raise ValueError(f"{entry.id} is scored (an outcome of {entry.outcome:g}) and cannot be voided")
    if entry.state == "void":
        return ledger, entry
    ledger = _appended(ledger, "void", {"id": entry.id, "reason": reason, "time": time})
    return ledger, ledger.entries[entry.id]


def check(ledger: Ledger) -> list[str]:
    """Return what is wrong with a ledger's chain, one line a finding; [] where every event is as it was written."""
    found: list[str] = []
    before, digests = "", {event.get("digest") for event in ledger.events}
    states: dict[str, str] = {}
    for place, event in enumerate(ledger.events, 1):
        name = f"event {place} ({event.get('event')} {event.get('id')})"
        if event.get("digest") != digest_of(event):
            found.append(f"{name} was changed: its digest is not that of its content")
        if event.get("ledger") != ledger.id:
            found.append(f"{name} is of another ledger, {event.get('ledger')}")
        if event.get("before") != before:
            where = "order was changed" if event.get("before") in digests else "one was removed or inserted there"
            found.append(f"{name} does not follow the event before it: the {where}")
        found += [f"{name}: {text}" for text in _out_of_turn(event, states)]
        before = str(event.get("digest", ""))
    return found


def compare(ledger: Ledger, stored: Sequence[Event], here: str = "the table", there: str = "MLflow") -> list[str]:
    """Return how the events of a ledger differ from those that another store keeps of it, one line a finding."""
    if ledger.events and not stored:
        return [f"{there} has none of the {len(ledger.events)} events of the ledger {ledger.id}"]
    counts = Counter((str(event.get("id")), str(event.get("event"))) for event in stored)
    found = [f"{name} ({kind}) is {count} times in {there}" for (name, kind), count in counts.items() if count > 1]
    own, other = ({(str(e.get("id")), str(e.get("event"))): e for e in events} for events in (ledger.events, stored))
    for (name, kind), event in own.items():
        if (name, kind) not in other:
            found.append(f"{name} ({kind}) is in {here}, not in {there}: it was removed there or inserted here")
            continue
        its = other[name, kind]
        if fields := sorted(key for key in event.keys() | its.keys() if event.get(key) != its.get(key)):
            changed = [place for place, e in ((here, event), (there, its)) if e.get("digest") != digest_of(e)]
            where = f"; it was changed in {' and '.join(changed)}" if changed else ""
            found.append(f"{name} ({kind}) is not the same in {here} and {there}: {', '.join(fields)}{where}")
    for name, kind in other.keys() - own.keys():
        found.append(f"{name} ({kind}) is in {there}, not in {here}: it was removed here or inserted there")
    return found


def in_chain(name: str, events: Iterable[Event]) -> Ledger:
    """Return the ledger of events in any order: each after the one that it names, then those that follow none."""
    left, before, chain = list(events), "", []
    while after := next((event for event in left if event.get("before") == before), None):
        left.remove(after)
        chain.append(after)
        before = str(after.get("digest"))
    return Ledger(name, (*chain, *left))


def _out_of_turn(event: Mapping[str, Any], states: dict[str, str]) -> list[str]:
    """Return what no writer would have written: a second registration, the end of what is not open."""
    name, kind = str(event.get("id")), str(event.get("event"))
    state, states[name] = states.get(name), kind
    if kind == "registered":
        unread = ["it cannot be read as a forecast"] if _registered(event) is None else []
        return ["the forecast was registered before"] if state else unread
    if kind not in ("scored", "void"):
        return ["no event of a ledger"]
    return [] if state == "registered" else [f"the forecast was {state or 'never registered'}"]


def _registered(event: Mapping[str, Any]) -> Entry | None:
    """Return the entry of a registration; None where the event is none."""
    return _entry({name: event[name] for name in (*REGISTERED, *CHAIN) if name in event})


def _ended(entry: Entry, event: Mapping[str, Any]) -> Entry:
    """Return an entry as a score or its voiding leaves it; as it was where the event cannot be read."""
    values = {"ended": event.get("time"), "digest": event.get("digest"), "state": event["event"]}
    values |= {name: event[name] for name in ("reason", *SCORED) if name in event}
    return _entry({**entry.__dict__, **values}) or entry


def _entry(values: Mapping[str, Any]) -> Entry | None:
    try:
        return ENTRY.validate_python(values)
    except ValidationError:
        return None


def _check(forecast: Entry) -> None:
    numbers = [forecast.flops, forecast.value, forecast.low, forecast.high, *forecast.quantiles]
    if not all(math.isfinite(number) for number in numbers if number is not None):
        raise ValueError(f"a forecast of {forecast.target} at {forecast.flops:g} FLOPs is no finite number")
    for values in (forecast.quantiles, forecast.plain_quantiles):
        if values and (len(values) != len(LEVELS) or list(values) != sorted(values)):
            raise ValueError(f"quantiles of a forecast are {len(LEVELS)} rising numbers")
