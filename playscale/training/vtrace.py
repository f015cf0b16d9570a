"""V-trace: off-policy corrected value targets and advantages (Espeholt et al., IMPALA, arXiv 1802.01561, section 4.1).

T unroll, B batch (columns).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class VTrace(NamedTuple):
    """targets v_s [T, B] of the value function; advantages rho_s (r_s + gamma_s v_{s+1} - V(x_s)) [T, B] of the policy
    gradient. Without gradients.
    """

    targets: Tensor
    advantages: Tensor


@torch.no_grad()
def vtrace(
    log_rhos: Tensor,
    discounts: Tensor,
    rewards: Tensor,
    values: Tensor,
    bootstrap: Tensor,
    valid: Tensor,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
) -> VTrace:
    """Targets and advantages of an unroll.

    log_rhos: log pi(a|x) - log mu(a|x); discounts: gamma, 0 where the episode terminated with this action; rewards;
    values: V(x_s); valid: whether an action was taken; all [T, B]. bootstrap: V(x_T) [B].

    A step that is not valid is the last observation of an episode: its value is its target, and whoever was truncated
    just before bootstraps from it. Its own discount must be 0, as the next step belongs to another episode.
    """
    rhos = log_rhos.exp()
    clipped = rhos.clamp(max=rho_bar) * valid
    following = torch.cat((values[1:], bootstrap[None]))
    deltas = clipped * (rewards + discounts * following - values)
    corrections = discounted_sums(deltas, discounts * rhos.clamp(max=c_bar))
    targets = values + corrections
    following = torch.cat((targets[1:], bootstrap[None]))
    return VTrace(targets, clipped * (rewards + discounts * following - values))


def discounted_sums(terms: Tensor, factors: Tensor) -> Tensor:
    """The y [T, B] with y_t = terms_t + factors_t y_{t+1} and y_T = 0, in log2(T) steps: spans double each time."""
    span = 1
    while span < len(terms):
        later = (0, 0, 0, span)
        terms = terms + factors * F.pad(terms[span:], later)
        factors = factors * F.pad(factors[span:], later)
        span *= 2
    return terms
