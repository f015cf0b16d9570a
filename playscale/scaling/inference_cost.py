"""The best size when inference counts: the least loss at a training plus inference compute.

Sardana et al. 2023, "Beyond Chinchilla-Optimal" (arXiv 2401.00448), who ask for the least compute that reaches a loss:
the same curve, read the other way. A sample costs a third of its training FLOPs at inference, since a backward pass
costs twice the forward pass (`playscale.agents.flops`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from playscale.scaling.bound import TOO_FAR, with_ends
from playscale.scaling.cells import Target
from playscale.scaling.lowest import lowest
from playscale.scaling.parametric import Parametric
from playscale.scaling.powerlaw import central
from playscale.scaling.surface import WHOLE
from playscale.scaling.target_fit import TargetFit
from playscale.scaling.warning import Code, Warned

# FLOPs of the forward pass of a sample over those of training on it.
FORWARD_SHARE = 1 / 3
NONE_AFFORDED = "inference alone costs more than the budget at every size trained"


@dataclass(frozen=True)
class WithInference:
    """The best size of a budget that pays for training and for `inference_samples` samples of inference.

    params, samples: by the law of params and samples, no smaller than the smallest size trained; with the 95 % interval
    of the size. value, low, high, reason: as of a Forecast. plain_params: the best size of the whole budget where
    training alone counts; plain_samples, plain_value: what inference leaves it to train on, and what that gives; None
    where nothing is left. params_note: as of a Forecast. All else None where no size can be afforded, as `reason` says.
    """

    target: Target
    flops: float
    inference_samples: float
    params: float | None
    params_low: float | None
    params_high: float | None
    samples: float | None
    training_flops: float | None
    inference_flops: float | None
    value: float | None
    low: float | None
    high: float | None
    reason: str | None
    plain_params: float
    plain_samples: float | None
    plain_value: float | None
    params_note: str | None


def with_inference(
    targets: Mapping[Target, TargetFit], flops: Sequence[float], inference: Sequence[float], seed: int
) -> list[WithInference]:
    """Return the best size of each target, budget and number of inference samples; none without a law of N and D."""
    rows = []
    for target, result in targets.items():
        rng = np.random.default_rng([seed, 17, len(target)])
        law = result.surface.laws[WHOLE] if result.surface and not result.cells.flat else None
        for budget in flops if isinstance(law, Parametric) else ():
            assert isinstance(law, Parametric)
            rows += [row for samples in inference if (row := _row(result, law, budget, samples, rng)) is not None]
    return rows


def no_inference(
    targets: Mapping[Target, TargetFit], inference: Sequence[float], rows: Sequence[WithInference]
) -> list[Warned]:
    """Warn of each target for which inference was given, but that has no rows."""
    text = "no best size with inference: it takes a law of params and samples whose compute grows with both"
    found = {row.target for row in rows}
    return [Warned(Code.TOO_FEW, f"{target}: {text}") for target in targets if inference and target not in found]


def _row(
    result: TargetFit, law: Parametric, flops: float, inference: float, rng: np.random.Generator
) -> WithInference | None:
    plain = law.optimum(flops)
    if plain is None:
        return None
    k0, k1, k2 = law.compute
    # A sample's FLOPs are those at the best data of the budget: they depend on it only where k2 is not 1.
    per_sample = FORWARD_SHARE * np.exp(k0 + (k2 - 1) * np.log(plain[1]))

    def samples_at(log_params: np.ndarray) -> np.ndarray:
        """Return ln D of what inference leaves of the budget; -inf where it leaves nothing."""
        left = flops - inference * per_sample * np.exp(k1 * log_params)
        with np.errstate(divide="ignore"):
            return (np.log(np.maximum(left, 0.0)) - k0 - k1 * log_params) / k2

    def cost(log_params: np.ndarray) -> np.ndarray:
        data = samples_at(log_params)
        return np.where(data > -np.inf, law.costs(log_params, np.maximum(data, 0.0)), np.inf)

    smallest, largest = (law.centre[0] + end for end in law.sizes)
    log_params, costs = lowest(cost, smallest, max(largest, float(np.log(plain[0]))))
    rest = float(samples_at(np.log(plain[:1]))[0])
    value_of = result.forecaster.value
    plain_row: tuple[float, float | None, float | None] = (plain[0], None, None)
    if rest > -np.inf:
        plain_cost = max(float(law.costs(np.log(plain[:1]), np.array([rest]))[0, 0]), result.choice.floor)
        plain_row = (plain[0], float(np.exp(rest)), value_of(plain_cost))
    if not np.isfinite(costs[0]):
        return WithInference(
            result.cells.target, flops, inference, None, None, None, None, None, None, None, None, None,
            NONE_AFFORDED, *plain_row, None,
        )  # fmt: skip
    params = float(np.exp(log_params[0]))
    wider = result.surface.widening if result.surface else 1.0
    drawn = costs[1:] + law.error(rng, result.forecaster.noise)
    found = central(costs[0] + wider * (drawn - costs[0]))
    best = max(float(costs[0]), result.choice.floor)
    ends = sorted((max(min(found[0], best), result.choice.floor), max(found[1], best)), key=value_of)
    low, high = (value_of(end) if abs(end - best) < TOO_FAR else None for end in ends)
    spent = inference * per_sample * float(np.exp(k1 * log_params[0]))
    samples = float(np.exp(samples_at(log_params[:1])[0]))
    smallest, largest = central(np.exp(log_params[1:]))
    return WithInference(
        result.cells.target, flops, inference, params, smallest, largest, samples, flops - spent, spent,
        value_of(best), low, high, with_ends(value_of(best), low, high).reason, *plain_row,
        result.forecaster.note(params),
    )  # fmt: skip
