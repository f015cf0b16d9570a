"""The worth of a corpus: the best of a budget on so many unique samples, and what more passes and more games buy.

By the law of repeated data (`playscale.scaling.repetition`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from playscale.scaling.bound import TOO_FAR, with_ends
from playscale.scaling.cells import SIGN, Target
from playscale.scaling.lowest import lowest
from playscale.scaling.numbers import number
from playscale.scaling.powerlaw import central
from playscale.scaling.repetition import Repetition
from playscale.scaling.target_fit import TargetFit
from playscale.scaling.warning import Code, Warned

PASSES = (1, 2, 4, 8, 16, 32, 64)
BEYOND = 1.05  # times the most passes of any cell, from which a number of passes was not measured


@dataclass(frozen=True)
class Limited:
    """The best size and data of a budget where there are only `corpus_samples` unique samples.

    params_low, params_high: 95 % interval of the size. value, low, high, reason: as of a Forecast. fresh_params,
    fresh_samples, fresh_value: the same where there are samples without end. fresh_gain, twice_gain: the share of the
    loss that goes, or by which the return (above its offset) rises, with samples without end, with twice the corpus;
    with 95 % intervals. note: that such a size, or so many passes, were not measured.
    """

    target: Target
    corpus_samples: float
    flops: float
    params: float
    params_low: float
    params_high: float
    samples: float
    epochs: float
    value: float
    low: float | None
    high: float | None
    reason: str | None
    fresh_params: float
    fresh_samples: float
    fresh_value: float
    fresh_gain: float
    fresh_gain_low: float
    fresh_gain_high: float
    twice_gain: float
    twice_gain_low: float
    twice_gain_high: float
    note: str | None


@dataclass(frozen=True)
class CorpusPasses:
    """The forecast of a size after so many passes over a corpus. worth: D' / U, the corpora seen once that it equals.

    params: the best size of the largest budget on this corpus.
    """

    target: Target
    corpus_samples: float
    params: float
    epochs: float
    value: float
    low: float | None
    high: float | None
    reason: str | None
    worth: float


def corpora(
    targets: Mapping[Target, TargetFit], flops: Sequence[float], given: Sequence[float], seed: int
) -> tuple[list[Limited], list[CorpusPasses]]:
    """Return what each corpus is worth at each budget and after each number of passes, where the law is known.

    Without a corpus given that is the largest of the table whose data were seen again.
    """
    limited: list[Limited] = []
    passes: list[CorpusPasses] = []
    for target, result in targets.items():
        law, rng = result.repetition, np.random.default_rng([seed, 18, len(target)])
        if law is None:
            continue
        for corpus in given or [law.largest_corpus]:
            found = [row for budget in flops if (row := _limited(result, law, corpus, budget, rng)) is not None]
            limited += found
            if found:
                size = max(found, key=lambda row: row.flops).params
                passes += [_passes(result, law, corpus, size, float(times), rng) for times in PASSES]
    return limited, passes


def no_corpora(targets: Mapping[Target, TargetFit], given: Sequence[float]) -> list[Warned]:
    """Warn of each target for which corpora were given, but that has no law of repeated data."""
    why = "no data of this table were seen again (columns epochs and corpus_samples)"
    return [
        Warned(Code.TOO_FEW, f"{target}: no best size on a limited corpus: {result.not_repeated or why}")
        for target, result in targets.items()
        if given and result.repetition is None
    ]


def _limited(
    result: TargetFit, law: Repetition, corpus: float, flops: float, rng: np.random.Generator
) -> Limited | None:
    k0, k1, k2 = law.near.compute
    if not (k1 > 0 and k2 > 0):
        return None
    first, last = (law.near.centre[0] + end for end in law.near.sizes)
    last += max(np.log(flops / law.near.largest), 0.0) / k1

    def samples_at(log_params: np.ndarray) -> np.ndarray:
        return (np.log(flops) - k0 - k1 * log_params) / k2

    def best(unique: float) -> tuple[np.ndarray, np.ndarray]:
        def cost(log_params: np.ndarray) -> np.ndarray:
            data = samples_at(log_params)
            fresh = np.minimum(data, np.log(unique))
            return law.cost(log_params, fresh, np.exp(data - fresh))

        return lowest(cost, first, last)

    (size, cost), (fresh_size, fresh_cost), (_, twice_cost) = best(corpus), best(np.inf), best(2 * corpus)
    params, samples, fresh = (float(np.exp(v[0])) for v in (size, samples_at(size), fresh_size))
    epochs = max(samples / corpus, 1.0)
    notes = [result.forecaster.note(params), _not_measured(law, epochs)]
    target, fresh_samples = result.cells.target, float(np.exp(samples_at(fresh_size[:1])[0]))
    value, low, high, reason = _forecast(result, cost, law.error(rng, result.forecaster.noise))
    return Limited(
        target, corpus, flops, params, *central(np.exp(size[1:])), samples, epochs, value, low, high, reason,
        fresh, fresh_samples, _value(result, fresh_cost[0]),
        *_gain(target, cost - fresh_cost), *_gain(target, cost - twice_cost), "; ".join(filter(None, notes)) or None,
    )  # fmt: skip


def _passes(
    result: TargetFit, law: Repetition, corpus: float, params: float, passes: float, rng: np.random.Generator
) -> CorpusPasses:
    cost = law.cost(np.log([params]), np.log([corpus]), np.array([passes]))[:, 0]
    forecast = _forecast(result, cost, law.error(rng, result.forecaster.noise))
    worth = float(law.worth(np.array([passes]))[0, 0])
    return CorpusPasses(result.cells.target, corpus, params, passes, *forecast, worth)


def _forecast(
    result: TargetFit, cost: np.ndarray, error: np.ndarray
) -> tuple[float, float | None, float | None, str | None]:
    """Return the value of a cost [1 + R] and its 95 % prediction interval."""
    floor = result.choice.floor
    best = max(float(cost[0]), floor)
    wider = result.surface.widening if result.surface else 1.0
    low, high = central(best + wider * (cost[1:] + error - best))
    ends = sorted((max(min(low, best), floor), max(high, best)), key=lambda end: SIGN[result.cells.target] * end)
    first, last = (_value(result, end) if abs(end - best) < TOO_FAR else None for end in ends)
    return _value(result, best), first, last, with_ends(_value(result, best), first, last).reason


def _value(result: TargetFit, cost: float) -> float:
    return result.forecaster.value(max(float(cost), result.choice.floor))


def _gain(target: Target, fall: np.ndarray) -> tuple[float, float, float]:
    """Return what a fall of the cost [1 + R] is as a share of the loss, or of the return, and its 95 % interval."""
    share = -np.expm1(-fall) if target == "dev_loss" else np.expm1(fall)
    return (float(share[0]), *central(share[1:]))


def _not_measured(law: Repetition, passes: float) -> str | None:
    if passes <= BEYOND * law.passes:
        return None
    return f"not measured: up to {number(law.passes, 2)} passes over the data were fitted"
