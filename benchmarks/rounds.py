"""Two sides measured alternately, so that other load on the machine affects both.

A side is a function that works for a moment and returns its rate then, in units a second. The machine's speed
drifts over minutes (other tenants, temperature), so the figure to trust is the ratio of two rates of the same round:
the ratio quoted is the median of the rounds' ratios, not the ratio of the medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .bench import Row

Side = Callable[[], float]


def alternate(sides: Mapping[str, Side], rounds: int) -> dict[str, list[float]]:
    """Run every side once a round, in an order that is reversed every round; return the results by side and round."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            measured[name].append(sides[name]())
    return measured


def row(name: str, unit: str, ours: Sequence[float], peer: Sequence[float] | None = None, **detail: Any) -> Row:
    """Return the row of a benchmark from its rounds: medians, the median ratio, and the spread of the rounds."""
    if peer is None:
        return Row(name, unit, statistics.median(ours), None, None, spread(ours), {"rounds": list(ours), **detail})
    ratios = [one / other for one, other in zip(ours, peer, strict=True)]
    detail = {"rounds": list(ours), "peer_rounds": list(peer), **detail}
    return Row(
        name,
        unit,
        statistics.median(ours),
        statistics.median(peer),
        statistics.median(ratios),
        spread(ratios),
        {"ours_spread": spread(ours), "peer_spread": spread(peer), **detail},
    )


def compare(name: str, unit: str, ours: Side, peer: Side | None, rounds: int, **detail: Any) -> Row:
    """Measure ours and, where there is one, the peer alternately; see `row`."""
    measured = alternate({"ours": ours} | ({"peer": peer} if peer else {}), rounds)
    return row(name, unit, measured["ours"], measured.get("peer"), **detail)


def spread(values: Sequence[float]) -> float:
    """Return the spread of the rounds: (largest - smallest) / median."""
    return (max(values) - min(values)) / statistics.median(values)


def rate(step: Callable[[], float], seconds: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return units a second: `step` does some work and returns its units; repeated for at least `seconds`.

    `clock` time.process_time counts this process's own seconds of processor time (all its threads) instead.
    """
    done, start = 0.0, clock()
    while True:
        done += step()
        elapsed = clock() - start
        if elapsed >= seconds:
            return done / elapsed
