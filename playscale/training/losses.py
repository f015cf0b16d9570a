"""The losses: cross-entropy for cloning; policy gradient with V-trace, value, entropy and teacher for IMPALA.

T unroll, B batch, A actions. V-trace: off-policy corrected value targets and advantages (Espeholt et al., arXiv
1802.01561, section 4.1).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def bc_loss(logits: Tensor, action: Tensor, valid: Tensor) -> Tensor:
    """Return the mean cross-entropy (nats) of logits [T, B, A] on the expert's action [T, B] over the valid [T, B]."""
    loss = F.cross_entropy(logits.flatten(0, 1), action.flatten(), reduction="none")
    weight = valid.flatten().to(loss.dtype)
    return (loss * weight).sum() / weight.sum()


class VTrace(NamedTuple):
    """Value targets v_s and advantages rho_s (r_s + gamma_s v_{s+1} - V(x_s)) of the policy gradient, [T, B] each."""

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
    """Return the targets and advantages of an unroll, without gradients.

    log_rhos: log pi(a|x) - log mu(a|x); discounts: gamma, 0 where the episode terminated with this action; rewards;
    values: V(x_s); valid: whether an action was taken; all [T, B]. bootstrap: V(x_T) [B].

    A step that is not valid is the last observation of an episode: its value is its target, and a step that was
    truncated just before bootstraps from it. Its own discount must be 0, as the next step is of another episode.
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
    """Return y [T, B] with y_t = terms_t + factors_t y_{t+1} and y_T = 0, in log2(T) steps: spans double each time."""
    span = 1
    while span < len(terms):
        later = (0, 0, 0, span)
        terms = terms + factors * F.pad(terms[span:], later)
        factors = factors * F.pad(factors[span:], later)
        span *= 2
    return terms


class Costs(NamedTuple):
    """Weights of the losses."""

    policy: float
    baseline: float
    entropy: float
    teacher: float


class Trajectory(NamedTuple):
    """Actions and their results, [T, B] each; `log_prob` is log mu(a|x) of the policy that acted."""

    action: Tensor
    log_prob: Tensor
    reward: Tensor
    discount: Tensor
    valid: Tensor


class Losses(NamedTuple):
    """Means over valid steps (scalars). entropy is the policy's, in nats; teacher is KL(teacher || policy), in nats."""

    policy: Tensor
    baseline: Tensor
    entropy: Tensor
    teacher: Tensor

    def total(self, costs: Costs) -> Tensor:
        return (
            costs.policy * self.policy
            + costs.baseline * self.baseline
            - costs.entropy * self.entropy
            + costs.teacher * self.teacher
        )


def actor_critic_losses(
    logits: Tensor,
    values: Tensor,
    bootstrap: Tensor,
    trajectory: Trajectory,
    teacher_logits: Tensor | None,
    rho_bar: float,
    c_bar: float,
) -> Losses:
    """Return the losses of an unroll: logits [T, B, A], values [T, B], bootstrap [B], teacher_logits [T, B, A].

    The value loss is half the squared error to the V-trace target. Kickstarting's pull (Schmitt et al., arXiv
    1803.03835) is the cross-entropy of the policy under the teacher, here less the teacher's own entropy: a KL.
    """
    log_policy = logits.log_softmax(-1)
    log_prob = log_policy.gather(-1, trajectory.action[..., None]).squeeze(-1)
    targets, advantages = vtrace(
        (log_prob - trajectory.log_prob).detach(),
        trajectory.discount,
        trajectory.reward,
        values.detach(),
        bootstrap.detach(),
        trajectory.valid,
        rho_bar,
        c_bar,
    )
    weight = trajectory.valid / trajectory.valid.sum().clamp(min=1)
    policy = -(advantages * log_prob * weight).sum()
    baseline = 0.5 * ((targets - values).square() * weight).sum()
    entropy = -((log_policy.exp() * log_policy).sum(-1) * weight).sum()
    teacher = logits.new_zeros(())
    if teacher_logits is not None:
        log_teacher = teacher_logits.log_softmax(-1)
        teacher = ((log_teacher.exp() * (log_teacher - log_policy)).sum(-1) * weight).sum()
    return Losses(policy, baseline, entropy, teacher)
