"""Laws along the frontier: the best cost at a budget as a function of compute.

A cost is log dev loss or minus log return, so the same forms serve both. With x = ln(C / C_ref):
  power       cost = a - g x                        L = A C^-g;      R = A C^g
  saturating  cost = ln(e^f + e^(a - g x))          L = E + A C^-g;  R = 1 / (1/R_max + 1/(A C^g)), bounded by R_max
  limited     the same with a known floor f: a return bounded by an expert's or the game's largest
  broken      cost = a - g x - d w softplus((x - b)/w), w = ln 10 / 4: exponent g before the break, g + d after it
              (Caballero et al., arXiv 2210.14891, one break of fixed sharpness)
A budget whose best cell is no measurement of what is best there, but a bound (isoflop.bounds), asks only that the law
be no worse than it.

Legend: B budgets, O origins (subsets of the budgets), R draws, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from playscale.scaling.bound import TOO_FAR, UNBOUNDED, Bound, bound, with_ends
from playscale.scaling.cells import FitError
from playscale.scaling.levenberg import minimise

BREAK_WIDTH = np.log(10.0) / 4
# Of the exponent's logarithm where a law levels off: what the optimiser may try.
GAMMA = (-12.0, 3.0)
# A term beside a floor that changes by less than a thousandth over all budgets is a constant; one that falls by more
# than a factor 100 from one budget to the next is a step. The data do not tell its exponent from one further out.
CONSTANT, STEP = 1e-3, np.log(100.0)
# Of the residual of a floor above the lowest cost, beside those of the budgets, which weigh 1.
FLOOR_WEIGHT = 10.0

Curve = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Form:
    """One shape of law. curve: (theta [R, P], x [n]) -> (cost [R, n], d cost / d theta [R, n, P])."""

    name: str
    size: int
    budgets: int  # how many budgets it takes at least
    curve: Curve
    starts: Callable[[np.ndarray, np.ndarray], np.ndarray]
    floor: float | None = None  # of the cost, where it is known


def _power(theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, g = theta[:, :1], theta[:, 1:2]
    return a - g * x, np.stack(np.broadcast_arrays(np.ones_like(a), -x + 0 * a), axis=2)


def _saturating(theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    floor, a, g = theta[:, :1], theta[:, 1:2], np.exp(np.clip(theta[:, 2:3], *GAMMA))
    falling = a - g * x
    cost = np.logaddexp(floor, falling)
    share = np.exp(np.minimum(falling - cost, 0))
    return cost, np.stack([1 - share, share, -share * g * x], axis=2)


def _broken(theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, g, d, b = (theta[:, i : i + 1] for i in range(4))
    u = (x - b) / BREAK_WIDTH
    soft = np.logaddexp(0, u)
    on = np.exp(u - soft)
    cost = a - g * x - d * BREAK_WIDTH * soft
    return cost, np.stack([np.ones_like(u), np.broadcast_to(-x, u.shape), -BREAK_WIDTH * soft, d * on], axis=2)


def _line(x: np.ndarray, cost: np.ndarray) -> tuple[float, float]:
    sxx = float(np.sum((x - x.mean()) ** 2))
    slope = float(np.sum((x - x.mean()) * (cost - cost.mean()))) / sxx
    return float(cost.mean() - slope * x.mean()), -slope


def _power_starts(x: np.ndarray, cost: np.ndarray) -> np.ndarray:
    return np.array([_line(x, cost)])


def _saturating_starts(x: np.ndarray, cost: np.ndarray) -> np.ndarray:
    starts = []
    for share in (0.01, 0.3, 0.6, 0.9, 0.99):
        floor = cost.min() + np.log(share)
        a, g = _line(x, cost + np.log1p(-np.exp(np.minimum(floor - cost, -1e-3))))
        starts.append([floor, a, np.log(max(g, 1e-3))])
    return np.array(starts)


def _broken_starts(x: np.ndarray, cost: np.ndarray) -> np.ndarray:
    a, g = _line(x, cost)
    return np.array([[a, g, change * g, at] for change in (-0.6, 0.6) for at in np.quantile(x, (0.25, 0.5, 0.75))])


POWER = Form("power", 2, 2, _power, _power_starts)
SATURATING = Form("saturating", 3, 4, _saturating, _saturating_starts)
BROKEN = Form("broken", 4, 8, _broken, _broken_starts)
FORMS = (POWER, SATURATING, BROKEN)


def limited(name: str, floor: float) -> Form:
    """Return the saturating law with a known floor: for a return, minus the logarithm of the largest possible."""

    def curve(theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cost, jacobian = _saturating(np.insert(theta, 0, floor, axis=1), x)
        return cost, jacobian[:, :, 1:]

    def starts(x: np.ndarray, cost: np.ndarray) -> np.ndarray:
        below = cost + np.log(np.maximum(1 - np.exp(np.minimum(floor - cost, 0)), 1e-3))
        a, g = _line(x, below)
        return np.array([[a, np.log(max(g, 1e-3))], [a, np.log(0.3)]])

    return Form(name, 2, 3, curve, starts, floor)


@dataclass(frozen=True, eq=False)
class FrontierLaw:
    """One form fitted to a frontier, and draws of what else it could be.

    theta [P]; draws [R, P] and scatter [R] (standard deviation of one budget's cost about the law) or None where no
    degrees of freedom are left; noise: measurement error of a typical best cell; reference: FLOPs at x = 0.
    """

    form: Form
    theta: np.ndarray
    reference: float
    residuals: np.ndarray
    sd: float
    degrees: int
    noise: float
    draws: np.ndarray | None
    scatter: np.ndarray | None
    first: float
    last: float

    def cost(self, flops: np.ndarray | float) -> np.ndarray:
        """Return the cost [m] at each budget."""
        return self.form.curve(self.theta[None], np.log(np.atleast_1d(flops) / self.reference))[0][0]

    def drawn(self, flops: np.ndarray | float) -> np.ndarray | None:
        """Return the draws [R, m] of the cost at each budget, without scatter or measurement; None without draws."""
        if self.draws is None:
            return None
        return self.form.curve(self.draws, np.log(np.atleast_1d(flops) / self.reference))[0]

    @property
    def rss(self) -> float:
        """Return the residual sum of squares about the law."""
        return float(np.sum(self.residuals**2))

    def predict(self, flops: np.ndarray, rng: np.random.Generator, noise: float | None = None) -> np.ndarray | None:
        """Draw [R, m] what would be measured at each budget: the law's uncertainty, its scatter, the measurement.

        One draw has one error at all budgets, so that bands are smooth; each budget's interval is the same for it.
        flops: [m], or [R, m], those of each draw.
        """
        mean = self.drawn(flops)
        if mean is None or self.scatter is None:
            return None
        sd = np.maximum(self.scatter, self.noise if noise is None else noise)
        return mean + (sd * rng.standard_normal(len(sd)))[:, None]


def fit_law(
    form: Form, flops: np.ndarray, cost: np.ndarray, noise: np.ndarray, rng: np.random.Generator, replicates: int,
    extra: tuple[float, int] = (0.0, 0),
) -> FrontierLaw:  # fmt: skip
    """Fit a form to all budgets. Raises FitError with fewer of them than the form takes."""
    if len(flops) < form.budgets:
        raise FitError(f"the {form.name} law needs at least {form.budgets} budgets; there are {len(flops)}")
    return fit_laws(form, flops, cost, noise, np.ones((1, len(flops)), dtype=bool), rng, replicates, extra)[0]


def fit_laws(
    form: Form, flops: np.ndarray, cost: np.ndarray, noise: np.ndarray, seen: np.ndarray, rng: np.random.Generator,
    replicates: int, extra: tuple[float, int] = (0.0, 0), bound: np.ndarray | None = None,
) -> list[FrontierLaw]:  # fmt: skip
    """Fit a form by least squares to each subset seen [O, B] of the frontier, all of them at once.

    flops, cost [B] (or cost [O, B]): the best of each budget; noise [B]: its measurement error; bound [O, B]: where the
    cost is a bound.

    Draws: the scatter s about the law has RSS / s^2 ~ chi^2(B - P); each draw takes s from it, adds noise of
    max(s, measurement) to the fitted costs and fits again. For a line this gives exactly the t-based intervals; for the
    other forms it is the same idea. extra: RSS and degrees of freedom of the cells about their parabolas, pooled in
    unless the law scatters significantly more (F test, 5 %).
    """
    reference = float(np.exp(np.mean(np.log(flops))))
    x = np.log(flops / reference)
    cost = np.broadcast_to(cost, seen.shape)
    limit = np.zeros_like(seen) if bound is None else bound & seen
    valued = seen & ~limit
    theta = _best(form, x, cost, seen, limit)
    fitted = form.curve(theta, x)[0]
    residuals = np.where(valued, cost - fitted, 0.0)
    pooled = [_pooled(float(r @ r), int(m.sum()) - form.size, extra) for r, m in zip(residuals, valued, strict=True)]
    degrees = np.array([d for _, d in pooled])
    sd = np.sqrt(np.array([rss for rss, _ in pooled]) / np.maximum(degrees, 1)) * (degrees > 0)
    drawn = np.flatnonzero(degrees > 0) if replicates > 0 else np.zeros(0, dtype=int)
    chi = rng.chisquare(np.maximum(degrees, 1)[:, None], (len(seen), replicates))
    scatter = sd[:, None] * np.sqrt(np.maximum(degrees, 1)[:, None] / np.maximum(chi, 1e-12))
    spread = np.maximum(scatter[drawn][:, :, None], noise)
    centre = np.where(limit, cost, fitted)[drawn]
    again = centre[:, None] + spread * rng.standard_normal((len(drawn), replicates, len(x)))
    draws = _refit(form, x, again, theta[drawn], seen[drawn], limit[drawn])
    where = {int(origin): i for i, origin in enumerate(drawn)}
    return [
        FrontierLaw(
            form, theta[o], reference, residuals[o][valued[o]], float(sd[o]), int(degrees[o]),
            float(np.median(noise[m])), draws[where[o]] if o in where else None, scatter[o] if o in where else None,
            float(flops[m].min()), float(flops[m].max()),
        )
        for o, m in enumerate(seen)
    ]  # fmt: skip


def _pooled(rss: float, degrees: int, extra: tuple[float, int]) -> tuple[float, int]:
    if degrees <= 0 or extra[1] <= 0 or extra[0] <= 0:
        return rss, degrees
    ratio = (rss / degrees) / (extra[0] / extra[1])
    if ratio > stats.f.ppf(0.95, degrees, extra[1]):
        return rss, degrees
    return rss + extra[0], degrees + extra[1]


def _best(form: Form, x: np.ndarray, cost: np.ndarray, seen: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Return the best minimum [O, P] of all starts, for each subset."""
    starts = [form.starts(x[mask], own[mask]) for mask, own in zip(seen & ~limit, cost, strict=True)]
    origin = np.repeat(np.arange(len(seen)), [len(own) for own in starts])
    theta, value = _solve(form, x, cost[origin], seen[origin], limit[origin], np.concatenate(starts))
    order = np.lexsort((value, origin))
    return theta[order[np.searchsorted(origin[order], np.arange(len(seen)))]]


def _refit(
    form: Form, x: np.ndarray, cost: np.ndarray, theta: np.ndarray, seen: np.ndarray, limit: np.ndarray
) -> np.ndarray:
    """Refit to each cost [O, R, B], from theta [O, P] and from a floor near the data; return [O, R, P]."""
    origins, replicates = cost.shape[:2]
    mask, bound = np.repeat(seen, replicates, axis=0), np.repeat(limit, replicates, axis=0)
    flat = cost.reshape(-1, len(x))
    found, value = _solve(form, x, flat, mask, bound, np.repeat(theta, replicates, axis=0))
    if form is SATURATING:
        felt = theta.copy()
        felt[:, 0] = [c.mean(axis=0)[m].min() + np.log(0.5) for c, m in zip(cost, seen & ~limit, strict=True)]
        other, other_value = _solve(form, x, flat, mask, bound, np.repeat(felt, replicates, axis=0))
        found = np.where((other_value < value)[:, None], other, found)
    return found.reshape(origins, replicates, form.size)


def _solve(
    form: Form, x: np.ndarray, cost: np.ndarray, seen: np.ndarray, limit: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    lowest = np.min(cost, axis=1, where=seen, initial=np.inf)

    def residuals(theta: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fitted, jacobian = form.curve(theta, x)
        off = fitted - cost[rows]
        counts = seen[rows] & ~(limit[rows] & (off < 0))
        off, jacobian = off * counts, jacobian * counts[:, :, None]
        return _below(theta, lowest[rows], off, jacobian) if form is SATURATING else (off, jacobian)

    return minimise(residuals, start)


def _below(
    theta: np.ndarray, lowest: np.ndarray, off: np.ndarray, jacobian: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add a residual that keeps the floor below the lowest cost [A]: what was measured lies above it."""
    excess = theta[:, 0] - lowest
    slope = np.zeros((len(theta), 1, theta.shape[1]))
    slope[:, 0, 0] = FLOOR_WEIGHT * (excess > 0)
    more = FLOOR_WEIGHT * np.maximum(excess, 0)[:, None]
    return np.concatenate([off, more], axis=1), np.concatenate([jacobian, slope], axis=1)


def parameters(law: FrontierLaw, target: str, offset: float = 0.0) -> dict[str, Bound]:
    """Return named parameters in the target's units; C in FLOPs; offset: that of the returns.

    dev_loss: A, gamma (and E, 0 where no floor shows); return_mean: A, gamma (and R_max, None where no ceiling shows;
    not where it is given); broken: also gamma_after and C_break.
    """
    every = law.theta[None] if law.draws is None else np.concatenate([law.theta[None], law.draws])
    shift = np.log(law.reference)
    sign = 1.0 if target == "dev_loss" else -1.0
    named: dict[str, Bound] = {}
    with np.errstate(over="ignore", under="ignore"):
        levels_off = law.form is SATURATING or law.form.floor is not None
        a, g = (every[:, -2], np.exp(np.clip(every[:, -1], *GAMMA))) if levels_off else (every[:, 0], every[:, 1])
        named["gamma"] = bound(g, *_felt(law)) if levels_off else bound(g)
        if named["gamma"].reason is None:
            named["A"] = bound(np.exp(sign * (a + g * shift)))
        else:  # the coefficient, at one FLOP, is where the exponent puts it
            named["A"] = Bound(float(np.exp(sign * (a[0] + g[0] * shift))), None, None, UNBOUNDED)
        if law.form is SATURATING:
            seen = float(law.cost(np.array([law.first, law.last])).min())
            named["E" if sign > 0 else "R_max"] = floor_of(every[:, 0], seen, sign, offset)
        if law.form is BROKEN:
            named |= {"gamma_after": bound(g + every[:, 2]), "C_break": bound(np.exp(every[:, 3] + shift))}
    return {name: named[name] for name in ("A", "gamma", *list(named)[2:])}


def _felt(law: FrontierLaw) -> tuple[float, float]:
    """Return the exponents beyond which a term beside a floor is a constant, or a step between two budgets."""
    decay = np.log(law.last / law.first)
    return CONSTANT / decay, STEP * (len(law.residuals) - 1) / decay


def floor_of(log_floor: np.ndarray, seen: float, sign: float, offset: float = 0.0) -> Bound:
    """Return E (sign 1; 0 where no floor shows) or R_max (sign -1) from its cost, fitted and drawn [1 + R].

    seen: the least cost that was measured; offset: that of the returns.
    """
    none = log_floor < seen - TOO_FAR
    if sign > 0:
        value, low, high, _ = bound(np.where(none, 0.0, np.exp(log_floor)), 0.0)
        if high is None and len(log_floor) > 1:
            high = float(np.exp(seen - TOO_FAR))
        return with_ends(value or 0.0, low, high) if len(log_floor) > 1 else Bound(value or 0.0, None, None)
    return bound(offset + np.where(none, np.inf, np.exp(-log_floor)))
